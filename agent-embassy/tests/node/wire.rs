//! An Ethernet cable between two stacks.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    task::{Context, Waker},
};

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};

/// Frames on their way in one direction.
#[derive(Default)]
struct Direction {
    frames: VecDeque<Vec<u8>>,
    reader: Option<Waker>,
}

/// The cable.
#[derive(Clone, Default)]
pub(crate) struct Cable(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    directions: [Direction; 2],
    unplugged: bool,
}

impl Cable {
    /// One of its ends.
    pub(crate) fn end(&self, number: u8) -> End {
        End { cable: self.clone(), number: number.into(), mac: [2, 0, 0, 0, 0, number] }
    }

    /// Pulls the plug, or puts it in again.
    pub(crate) fn plug(&self, plugged: bool) {
        let mut inner = self.0.borrow_mut();
        inner.unplugged = !plugged;
        for direction in &mut inner.directions {
            direction.frames.clear();
            direction.reader.take().into_iter().for_each(Waker::wake);
        }
    }
}

/// An end of the cable, as a network driver.
pub(crate) struct End {
    cable: Cable,
    number: usize,
    mac: [u8; 6],
}

pub(crate) struct Frame(Vec<u8>);

pub(crate) struct Room<'a>(&'a Cable, usize);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, take: F) -> R {
        take(&mut self.0)
    }
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, give: F) -> R {
        let mut frame = vec![0; len];
        let given = give(&mut frame);
        let mut inner = self.0.0.borrow_mut();
        if !inner.unplugged {
            let direction = &mut inner.directions[self.1];
            direction.frames.push_back(frame);
            direction.reader.take().into_iter().for_each(Waker::wake);
        }
        given
    }
}

impl Driver for End {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Frame, Room<'_>)> {
        let frame = {
            let direction = &mut self.cable.0.borrow_mut().directions[1 - self.number];
            direction.reader = Some(cx.waker().clone());
            direction.frames.pop_front()?
        };
        Some((Frame(frame), Room(&self.cable, self.number)))
    }

    fn transmit(&mut self, _: &mut Context<'_>) -> Option<Room<'_>> {
        Some(Room(&self.cable, self.number))
    }

    fn link_state(&mut self, cx: &mut Context<'_>) -> LinkState {
        let mut inner = self.cable.0.borrow_mut();
        inner.directions[1 - self.number].reader = Some(cx.waker().clone());
        if inner.unplugged { LinkState::Down } else { LinkState::Up }
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = 1_514;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.mac)
    }
}
