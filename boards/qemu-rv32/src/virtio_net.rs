//! Driver of virtio's network device, without a heap: the queues and the frames are static.

#![allow(unsafe_code)]

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering},
    task::Context,
};

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState};
use embassy_sync::waitqueue::AtomicWaker;
use static_cell::{ConstStaticCell, StaticCell};
use virtio_drivers::{
    BufferDirection, Hal, PAGE_SIZE, PhysAddr,
    device::net::VirtIONetRaw,
    transport::{
        DeviceType, Transport,
        mmio::{MmioTransport, VirtIOHeader},
    },
};

use crate::mmio::{VIRTIO_SLOTS, virtio};

/// Descriptors of a queue; a power of two.
const QUEUE_LEN: usize = 8;
/// Frames that wait for this node at most. The device drops further ones.
const RX_FRAMES: usize = 4;
/// Bytes of the longest frame.
const FRAME_LEN: usize = 1_514;
/// A frame with virtio's header, which is 12 bytes.
const BUFFER_LEN: usize = 1_536;
/// Pages of both queues.
const QUEUE_PAGES: usize = 4;
/// Why and whether the device interrupts, and the acknowledgement of it.
const INTERRUPT_STATUS: usize = 0x60;
const INTERRUPT_ACK: usize = 0x64;

type Device = VirtIONetRaw<Memory, MmioTransport<'static>, QUEUE_LEN>;

static WAKER: AtomicWaker = AtomicWaker::new();
/// The slot of the device.
static SLOT: AtomicUsize = AtomicUsize::new(0);

#[repr(C, align(4096))]
struct Pages([[u8; PAGE_SIZE]; QUEUE_PAGES]);

/// Memory for the queues, handed out once and never taken back.
struct Memory;

// SAFETY: `dma_alloc` hands out zeroed pages of a static that nobody else has, aligned and each once; the machine has no MMU and its
// devices see memory as the processor does, so that every address is its own physical address.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        static PAGES: ConstStaticCell<Pages> = ConstStaticCell::new(Pages([[0; PAGE_SIZE]; QUEUE_PAGES]));
        static FIRST: AtomicUsize = AtomicUsize::new(0);
        static USED: AtomicUsize = AtomicUsize::new(0);
        if let Some(pages) = PAGES.try_take() {
            FIRST.store(pages.0.as_mut_ptr() as usize, Ordering::Relaxed);
        }
        // One hart, and never called by an interrupt: a load and a store are enough.
        let used = USED.load(Ordering::Relaxed);
        assert!(used + pages <= QUEUE_PAGES, "the queues need more pages than were kept for them");
        USED.store(used + pages, Ordering::Relaxed);
        let address = FIRST.load(Ordering::Relaxed) + used * PAGE_SIZE;
        (address as PhysAddr, NonNull::new(address as *mut u8).expect("a static is not at zero"))
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::new(address as usize as *mut u8).expect("no device is at zero")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr() as usize as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// The buffers of frames. The device writes to `rx` while they are in its queue.
struct Buffers {
    rx: [[u8; BUFFER_LEN]; RX_FRAMES],
    /// The frame that the network stack looks at.
    taken: [u8; BUFFER_LEN],
    tx: [u8; BUFFER_LEN],
}

/// The network device.
pub(crate) struct VirtioNet {
    device: &'static mut Device,
    buffers: &'static mut Buffers,
    /// By buffer of `rx`, the queue's token while the device has it.
    tokens: [Option<u16>; RX_FRAMES],
    /// While the device has `tx`: the queue's token, and how many bytes of it.
    sending: Option<(u16, usize)>,
}

/// The machine has no virtio network device, or it did not start.
#[derive(Debug, defmt::Format)]
pub(crate) struct Absent;

impl VirtioNet {
    /// Finds the device, starts it, and tells the slot that it is in. To be called once.
    pub(crate) fn start() -> Result<(Self, usize), Absent> {
        static DEVICE: StaticCell<Device> = StaticCell::new();
        static BUFFERS: ConstStaticCell<Buffers> = ConstStaticCell::new(Buffers {
            rx: [[0; BUFFER_LEN]; RX_FRAMES],
            taken: [0; BUFFER_LEN],
            tx: [0; BUFFER_LEN],
        });
        let (slot, transport) =
            (0..VIRTIO_SLOTS).find_map(|slot| network_device(slot).map(|t| (slot, t))).ok_or(Absent)?;
        let device = DEVICE.init(Device::new(transport).map_err(|_| Absent)?);
        let buffers = BUFFERS.take();
        let mut tokens = [None; RX_FRAMES];
        for (token, buffer) in tokens.iter_mut().zip(&mut buffers.rx) {
            // SAFETY: the buffer is static and is not touched until `receive_complete` took it back.
            *token = unsafe { device.receive_begin(buffer) }.ok();
        }
        device.enable_interrupts();
        SLOT.store(slot, Ordering::Relaxed);
        Ok((Self { device, buffers, tokens, sending: None }, slot))
    }

    /// Whether the frame before was sent. Where it was not, the task is woken when it is.
    fn may_send(&mut self, cx: &Context<'_>) -> bool {
        let Some((token, len)) = self.sending else { return true };
        if self.device.poll_transmit() != Some(token) {
            WAKER.register(cx.waker());
            // One that was sent before the line above has no interrupt to come.
            if self.device.poll_transmit() != Some(token) {
                return false;
            }
        }
        // SAFETY: this is the frame that the token was given for, where it was then and unchanged: no token to send was made since.
        let _ = unsafe { self.device.transmit_complete(token, &self.buffers.tx[..len]) };
        self.sending = None;
        true
    }
}

fn network_device(slot: usize) -> Option<MmioTransport<'static>> {
    let block = virtio(slot);
    let header = NonNull::new(block.address() as *mut VirtIOHeader)?;
    // SAFETY: the block is a virtio slot, which the machine always has, and no other code makes a transport of it.
    let transport = unsafe { MmioTransport::new(header, block.len()) }.ok()?;
    (transport.device_type() == DeviceType::Network).then_some(transport)
}

/// The device has an interrupt.
pub(crate) fn on_interrupt() {
    let block = virtio(SLOT.load(Ordering::Relaxed));
    block.write(INTERRUPT_ACK, block.read(INTERRUPT_STATUS));
    WAKER.wake();
}

/// A frame that was received.
pub(crate) struct RxToken<'a>(&'a mut [u8]);

/// Room for a frame to send.
pub(crate) struct TxToken<'a> {
    device: &'a mut Device,
    buffer: &'a mut [u8; BUFFER_LEN],
    sending: &'a mut Option<(u16, usize)>,
}

impl embassy_net_driver::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

impl embassy_net_driver::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let Self { device, buffer, sending } = self;
        let header = device.fill_buffer_header(buffer).unwrap_or_default();
        let filled = fill(&mut buffer[header..header + len]);
        // SAFETY: the buffer is static, and stays unchanged until `may_send` took it back: before that no further token to send is
        // made.
        let token = unsafe { device.transmit_begin(&buffer[..header + len]) };
        *sending = token.ok().map(|token| (token, header + len));
        filled
    }
}

impl Driver for VirtioNet {
    type RxToken<'a> = RxToken<'a>;
    type TxToken<'a> = TxToken<'a>;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(RxToken<'_>, TxToken<'_>)> {
        if !self.may_send(cx) {
            return None;
        }
        let Self { device, buffers: Buffers { rx, taken, tx }, tokens, sending } = self;
        if device.poll_receive().is_none() {
            WAKER.register(cx.waker());
        }
        let token = device.poll_receive()?;
        let (slot, buffer) = tokens.iter_mut().zip(rx).find(|(slot, _)| **slot == Some(token))?;
        // SAFETY: the buffer is the one that this token was given for.
        let (header, len) = unsafe { device.receive_complete(token, buffer) }.ok()?;
        taken[..len].copy_from_slice(&buffer[header..header + len]);
        // SAFETY: as in `start`: the frame was copied out, and the buffer is the device's again.
        *slot = unsafe { device.receive_begin(buffer) }.ok();
        Some((RxToken(&mut taken[..len]), TxToken { device, buffer: tx, sending }))
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<TxToken<'_>> {
        let may_send = self.may_send(cx);
        may_send.then_some(TxToken { device: self.device, buffer: &mut self.buffers.tx, sending: &mut self.sending })
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
        HardwareAddress::Ethernet(self.device.mac_address())
    }
}
