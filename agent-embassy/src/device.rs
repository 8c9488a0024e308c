//! The driver of the inner network. Knows nothing of peers: it hands packets to the task and takes them from it.

use core::{fmt, task::Context};

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState};
use weft_core::wireguard::Outgoing;

use crate::{MTU, state::Shared};

/// The driver of the inner network, for `embassy_net::new`.
pub struct Device {
    shared: &'static Shared,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(RxToken, TxToken)> {
        self.shared.inner_waker.borrow_mut().register(cx.waker());
        // A packet is only taken in where there is room for its answer.
        let ready = !self.shared.inbound.borrow().is_empty() && !self.shared.outbound.borrow().is_full();
        ready.then_some((RxToken(self.shared), TxToken(self.shared)))
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<TxToken> {
        self.shared.inner_waker.borrow_mut().register(cx.waker());
        let ready = !self.shared.outbound.borrow().is_full();
        ready.then_some(TxToken(self.shared))
    }

    fn link_state(&mut self, cx: &mut Context<'_>) -> LinkState {
        self.shared.inner_waker.borrow_mut().register(cx.waker());
        match self.shared.board.address.get() {
            Some(_) => LinkState::Up,
            None => LinkState::Down,
        }
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
pub struct RxToken(&'static Shared);

impl fmt::Debug for RxToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RxToken")
    }
}

impl embassy_net_driver::RxToken for RxToken {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, take: F) -> R {
        let mut inbound = self.0.inbound.borrow_mut();
        let taken = take(inbound.front().map(|packet| packet.inner()).unwrap_or_default());
        inbound.pop();
        // There is room for the next datagram.
        self.0.kick();
        taken
    }
}

/// Room for a packet of the inner stack.
pub struct TxToken(&'static Shared);

impl fmt::Debug for TxToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TxToken")
    }
}

impl embassy_net_driver::TxToken for TxToken {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, give: F) -> R {
        let mut outbound = self.0.outbound.borrow_mut();
        let given = match outbound.free() {
            Some(packet) => {
                packet.set(Outgoing::HEAD_ROOM, len);
                give(packet.inner())
            }
            // Tokens are given out only where there is a buffer.
            None => give(&mut []),
        };
        outbound.push();
        self.0.kick();
        given
    }
}
