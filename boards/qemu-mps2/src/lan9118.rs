//! Driver of the SMSC LAN9118 Ethernet controller, frame by frame through its FIFOs.

use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState};
use embassy_sync::waitqueue::AtomicWaker;
use static_cell::ConstStaticCell;

use crate::mmio::ETHERNET;

const RX_DATA: usize = 0x00;
const TX_DATA: usize = 0x20;
const RX_STATUS: usize = 0x40;
const TX_STATUS: usize = 0x48;
const IRQ_CFG: usize = 0x54;
const INT_STS: usize = 0x58;
const INT_EN: usize = 0x5c;
const BYTE_TEST: usize = 0x64;
const FIFO_INT: usize = 0x68;
const TX_CFG: usize = 0x70;
const HW_CFG: usize = 0x74;
const RX_FIFO_INF: usize = 0x7c;
const TX_FIFO_INF: usize = 0x80;
const MAC_CSR_CMD: usize = 0xa4;
const MAC_CSR_DATA: usize = 0xa8;

const HW_CFG_RESET: u32 = 1;
/// 5 KiB of transmit FIFO, and a bit that has to be one.
const HW_CFG_FIFO: u32 = 5 << 16 | 1 << 20;
/// Interrupt output on, active high, push-pull.
const IRQ_CFG_ON: u32 = 1 << 8 | 1 << 4 | 1;
/// Interrupt at the first frame received.
const FIFO_INT_FIRST: u32 = 0x4800_0000;
const TX_CFG_ON: u32 = 1 << 1;
/// A frame was received.
const INT_RX: u32 = 1 << 3;
const CSR_BUSY: u32 = 1 << 31;
const CSR_READ: u32 = 1 << 30;
const MAC_CR: u32 = 1;
const MAC_ADDRH: u32 = 2;
const MAC_ADDRL: u32 = 3;
/// Receive, transmit, full duplex.
const MAC_CR_ON: u32 = 1 << 2 | 1 << 3 | 1 << 20;
const RX_STATUS_ERROR: u32 = 1 << 15;
/// First and last segment of a frame.
const TX_COMMAND_WHOLE: u32 = 1 << 13 | 1 << 12;

/// Bytes of the longest frame, its checksum left out.
const FRAME_LEN: usize = 1_514;
/// Bytes of a frame's checksum.
const FCS_LEN: usize = 4;
/// A frame in whole words.
const BUFFER_LEN: usize = (FRAME_LEN + FCS_LEN).next_multiple_of(4);

static WAKER: AtomicWaker = AtomicWaker::new();

/// The controller.
#[derive(Debug)]
pub(crate) struct Lan9118 {
    mac: [u8; 6],
    rx: &'static mut [u8; BUFFER_LEN],
    tx: &'static mut [u8; BUFFER_LEN],
}

/// There is no LAN9118 where the machine has one.
#[derive(Debug, defmt::Format)]
pub(crate) struct Absent;

impl Lan9118 {
    /// Resets the controller and starts it under the address that the host gave it. To be called once.
    pub(crate) fn start() -> Result<Self, Absent> {
        static BUFFERS: ConstStaticCell<[[u8; BUFFER_LEN]; 2]> = ConstStaticCell::new([[0; BUFFER_LEN]; 2]);
        if ETHERNET.read(BYTE_TEST) != 0x8765_4321 {
            return Err(Absent);
        }
        let [[a, b, c, d], [e, f, ..]] = [MAC_ADDRL, MAC_ADDRH].map(|register| mac_read(register).to_le_bytes());
        let mac = [a, b, c, d, e, f];
        ETHERNET.write(HW_CFG, HW_CFG_RESET);
        while ETHERNET.read(HW_CFG) & HW_CFG_RESET != 0 {}
        ETHERNET.write(HW_CFG, HW_CFG_FIFO);
        mac_write(MAC_ADDRL, u32::from_le_bytes([a, b, c, d]));
        mac_write(MAC_ADDRH, u32::from_le_bytes([e, f, 0, 0]));
        mac_write(MAC_CR, MAC_CR_ON);
        ETHERNET.write(TX_CFG, TX_CFG_ON);
        ETHERNET.write(FIFO_INT, FIFO_INT_FIRST);
        ETHERNET.write(INT_STS, u32::MAX);
        ETHERNET.write(IRQ_CFG, IRQ_CFG_ON);
        ETHERNET.write(INT_EN, INT_RX);
        let [rx, tx] = BUFFERS.take();
        Ok(Self { mac, rx, tx })
    }

    /// Takes a frame out of the FIFO; `None` where it was damaged or too long.
    fn take_frame(&mut self) -> Option<usize> {
        let status = ETHERNET.read(RX_STATUS);
        let length = (status >> 16 & 0x3fff) as usize;
        let mut words = self.rx.chunks_exact_mut(4);
        for _ in 0..length.div_ceil(4) {
            let word = ETHERNET.read(RX_DATA);
            if let Some(room) = words.next() {
                room.copy_from_slice(&word.to_le_bytes());
            }
        }
        let length = length.checked_sub(FCS_LEN)?;
        (status & RX_STATUS_ERROR == 0 && length <= FRAME_LEN).then_some(length)
    }
}

/// The controller has an interrupt. It stays masked until the FIFO was emptied.
pub(crate) fn on_interrupt() {
    ETHERNET.write(INT_EN, 0);
    WAKER.wake();
}

fn frames_waiting() -> bool {
    ETHERNET.read(RX_FIFO_INF) >> 16 & 0xff != 0
}

fn mac_read(register: u32) -> u32 {
    ETHERNET.write(MAC_CSR_CMD, CSR_BUSY | CSR_READ | register);
    while ETHERNET.read(MAC_CSR_CMD) & CSR_BUSY != 0 {}
    ETHERNET.read(MAC_CSR_DATA)
}

fn mac_write(register: u32, value: u32) {
    ETHERNET.write(MAC_CSR_DATA, value);
    ETHERNET.write(MAC_CSR_CMD, CSR_BUSY | register);
    while ETHERNET.read(MAC_CSR_CMD) & CSR_BUSY != 0 {}
}

/// A frame that was received.
pub(crate) struct RxToken<'a>(&'a mut [u8]);

/// Room for a frame to send.
pub(crate) struct TxToken<'a>(&'a mut [u8; BUFFER_LEN]);

impl embassy_net_driver::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

impl embassy_net_driver::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let filled = fill(&mut self.0[..len]);
        ETHERNET.write(TX_DATA, TX_COMMAND_WHOLE | len as u32);
        ETHERNET.write(TX_DATA, len as u32);
        for word in self.0.chunks_exact(4).take(len.div_ceil(4)) {
            ETHERNET.write(TX_DATA, u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        }
        // QEMU has sent the frame by now. Its status is taken out, or the status FIFO fills up.
        while ETHERNET.read(TX_FIFO_INF) >> 16 & 0xff != 0 {
            ETHERNET.read(TX_STATUS);
        }
        filled
    }
}

impl Driver for Lan9118 {
    type RxToken<'a> = RxToken<'a>;
    type TxToken<'a> = TxToken<'a>;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(RxToken<'_>, TxToken<'_>)> {
        let length = loop {
            if !frames_waiting() {
                WAKER.register(cx.waker());
                ETHERNET.write(INT_STS, INT_RX);
                ETHERNET.write(INT_EN, INT_RX);
                // One that came before the line above has no interrupt to come.
                if !frames_waiting() {
                    return None;
                }
            }
            if let Some(length) = self.take_frame() {
                break length;
            }
        };
        Some((RxToken(&mut self.rx[..length]), TxToken(self.tx)))
    }

    fn transmit(&mut self, _: &mut Context<'_>) -> Option<TxToken<'_>> {
        Some(TxToken(self.tx))
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME_LEN;
        capabilities.max_burst_size = Some(1);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.mac)
    }
}
