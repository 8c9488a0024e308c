//! The driver of the inner network: few packet buffers, in which packets are sealed and opened in place.

use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState};

use crate::{MTU, state::Shared};

/// The driver of the inner network, for `embassy_net::new`.
pub struct Device {
    shared: &'static Shared,
}

impl core::fmt::Debug for Device {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Device(..)")
    }
}

impl Device {
    pub(crate) const fn new(shared: &'static Shared) -> Self {
        Self { shared }
    }
}

impl Driver for Device {
    type RxToken<'a> = RxToken;
    type TxToken<'a> = TxToken;

    fn receive(&mut self, _cx: &mut Context<'_>) -> Option<(RxToken, TxToken)> {
        None
    }

    fn transmit(&mut self, _cx: &mut Context<'_>) -> Option<TxToken> {
        None
    }

    fn link_state(&mut self, _cx: &mut Context<'_>) -> LinkState {
        if self.shared.status.get().address.is_some() { LinkState::Up } else { LinkState::Down }
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = MTU;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ip
    }
}

/// A packet for the inner stack.
#[derive(Debug)]
pub struct RxToken(());

impl embassy_net_driver::RxToken for RxToken {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, take: F) -> R {
        take(&mut [])
    }
}

/// Room for a packet of the inner stack.
#[derive(Debug)]
pub struct TxToken(());

impl embassy_net_driver::TxToken for TxToken {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, _len: usize, give: F) -> R {
        give(&mut [])
    }
}
