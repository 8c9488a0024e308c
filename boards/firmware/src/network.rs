//! One type for the drivers of both networks, so that the image holds the network stack's loop once.

use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};

/// The driver of the board's own network, or of the mesh.
#[derive(Debug)]
pub(crate) enum Network<B, M> {
    Board(B),
    Mesh(M),
}

impl<B: Driver, M: Driver> Driver for Network<B, M> {
    type RxToken<'a>
        = Network<B::RxToken<'a>, M::RxToken<'a>>
    where
        Self: 'a;
    type TxToken<'a>
        = Network<B::TxToken<'a>, M::TxToken<'a>>
    where
        Self: 'a;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        match self {
            Self::Board(driver) => driver.receive(cx).map(|(rx, tx)| (Network::Board(rx), Network::Board(tx))),
            Self::Mesh(driver) => driver.receive(cx).map(|(rx, tx)| (Network::Mesh(rx), Network::Mesh(tx))),
        }
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Self::TxToken<'_>> {
        match self {
            Self::Board(driver) => driver.transmit(cx).map(Network::Board),
            Self::Mesh(driver) => driver.transmit(cx).map(Network::Mesh),
        }
    }

    fn link_state(&mut self, cx: &mut Context<'_>) -> LinkState {
        match self {
            Self::Board(driver) => driver.link_state(cx),
            Self::Mesh(driver) => driver.link_state(cx),
        }
    }

    fn capabilities(&self) -> Capabilities {
        match self {
            Self::Board(driver) => driver.capabilities(),
            Self::Mesh(driver) => driver.capabilities(),
        }
    }

    fn hardware_address(&self) -> HardwareAddress {
        match self {
            Self::Board(driver) => driver.hardware_address(),
            Self::Mesh(driver) => driver.hardware_address(),
        }
    }
}

impl<B: RxToken, M: RxToken> RxToken for Network<B, M> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, take: F) -> R {
        match self {
            Self::Board(token) => token.consume(take),
            Self::Mesh(token) => token.consume(take),
        }
    }
}

impl<B: TxToken, M: TxToken> TxToken for Network<B, M> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, give: F) -> R {
        match self {
            Self::Board(token) => token.consume(len, give),
            Self::Mesh(token) => token.consume(len, give),
        }
    }
}
