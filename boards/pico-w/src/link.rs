//! A driver that tells another task when its link is lost.

use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState};
use embassy_sync::{blocking_mutex::raw::CriticalSectionRawMutex, signal::Signal};

/// Signalled each time the link goes down.
pub(crate) type Lost = Signal<CriticalSectionRawMutex, ()>;

/// `D`, whose lost link is told to `lost`.
pub(crate) struct Watched<D> {
    driver: D,
    lost: &'static Lost,
    last: LinkState,
}

impl<D> Watched<D> {
    /// Wraps `driver`.
    pub(crate) const fn new(driver: D, lost: &'static Lost) -> Self {
        Self { driver, lost, last: LinkState::Down }
    }
}

impl<D: Driver> Driver for Watched<D> {
    type RxToken<'a>
        = D::RxToken<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = D::TxToken<'a>
    where
        Self: 'a;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.driver.receive(cx)
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Self::TxToken<'_>> {
        self.driver.transmit(cx)
    }

    fn link_state(&mut self, cx: &mut Context<'_>) -> LinkState {
        let state = self.driver.link_state(cx);
        if self.last == LinkState::Up && state == LinkState::Down {
            self.lost.signal(());
        }
        self.last = state;
        state
    }

    fn capabilities(&self) -> Capabilities {
        self.driver.capabilities()
    }

    fn hardware_address(&self) -> HardwareAddress {
        self.driver.hardware_address()
    }
}
