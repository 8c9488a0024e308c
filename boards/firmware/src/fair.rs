//! A driver that lets the other tasks run under a flood.
//!
//! The network stack takes frames from its driver until there are none. On a wire that brings them faster than they can be
//! looked at it would never return, and nothing else on the chip would run.

use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState};

/// Frames that are taken at a time.
const TURN: u8 = 8;

/// `D`, that says "no more" after eight frames and asks to be called again.
#[derive(Debug)]
pub struct Fair<D> {
    driver: D,
    taken: u8,
}

impl<D> Fair<D> {
    /// Wraps `driver`.
    pub const fn new(driver: D) -> Self {
        Self { driver, taken: 0 }
    }
}

impl<D: Driver> Driver for Fair<D> {
    type RxToken<'a>
        = D::RxToken<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = D::TxToken<'a>
    where
        Self: 'a;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        if self.taken == TURN {
            self.taken = 0;
            cx.waker().wake_by_ref();
            return None;
        }
        let Self { driver, taken } = self;
        let tokens = driver.receive(cx);
        *taken = if tokens.is_some() { *taken + 1 } else { 0 };
        tokens
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Self::TxToken<'_>> {
        self.driver.transmit(cx)
    }

    fn link_state(&mut self, cx: &mut Context<'_>) -> LinkState {
        self.driver.link_state(cx)
    }

    fn capabilities(&self) -> Capabilities {
        self.driver.capabilities()
    }

    fn hardware_address(&self) -> HardwareAddress {
        self.driver.hardware_address()
    }
}
