//! Everything of a node that is static.

use core::{
    cell::{OnceCell, RefCell},
    mem::MaybeUninit,
};

use embassy_sync::waitqueue::WakerRegistration;
use weft_core::{
    control::MAX_NODE_OUTPUT,
    node::{Node, NodeTables},
};

use crate::{
    board::Board,
    crypto::ChipCrypto,
    packets::{DATAGRAM_LEN, INBOUND, OUTBOUND, Ring},
    random::Random,
    tables::{ChipStorage, Tables},
};

/// Datagrams of peers that the outer stack may hold until the node has time for them.
const UDP_RECEIVE: usize = 2 * DATAGRAM_LEN;
/// Datagrams to peers that the outer stack has not sent yet: a full one, or handshakes.
const UDP_TRANSMIT: usize = DATAGRAM_LEN;
/// Datagrams in either direction, whatever their length.
pub(crate) const UDP_PACKETS: usize = 5;
/// Bytes of the control server in flight. Frames are put together by core.
const TCP_RECEIVE: usize = 536;
/// A whole frame for the control server: it is written where it is sent from.
const TCP_TRANSMIT: usize = MAX_NODE_OUTPUT;

/// A node's tables and buffers, for a `static`: `ConstStaticCell<State>`. `PEERS` is a power of two.
///
/// A new one is nothing but zeros, so that it takes no flash.
#[expect(missing_debug_implementations, reason = "holds keys and inner packets")]
pub struct State<const PEERS: usize = 16> {
    tables: Tables<PEERS>,
    sockets: SocketBuffers,
    /// The node is made where it stays: it is too large for the stack.
    node: MaybeUninit<ChipNode>,
    shared: Shared,
}

/// The parts of a state, for those who use them.
pub(crate) struct Parts {
    pub(crate) shared: &'static Shared,
    pub(crate) tables: NodeTables<ChipStorage>,
    pub(crate) sockets: &'static mut SocketBuffers,
    pub(crate) node: &'static mut MaybeUninit<ChipNode>,
}

/// Buffers of the outer sockets.
pub(crate) struct SocketBuffers {
    pub(crate) udp: UdpBuffers,
    pub(crate) tcp: TcpBuffers,
}

/// Buffers of the socket for peers.
pub(crate) struct UdpBuffers {
    pub(crate) receive: [u8; UDP_RECEIVE],
    pub(crate) transmit: [u8; UDP_TRANSMIT],
}

/// Buffers of the connection to the control server.
pub(crate) struct TcpBuffers {
    pub(crate) receive: [u8; TCP_RECEIVE],
    pub(crate) transmit: [u8; TCP_TRANSMIT],
}

/// Core's node.
pub(crate) type ChipNode = Node<ChipStorage, ChipCrypto>;

/// Core's node with its source of randomness.
pub(crate) struct Mesh {
    pub(crate) node: &'static mut ChipNode,
    pub(crate) rng: Random,
}

/// What handle, driver and task share.
pub(crate) struct Shared {
    /// From the moment that there is randomness.
    pub(crate) mesh: OnceCell<RefCell<Mesh>>,
    pub(crate) inbound: RefCell<Ring<INBOUND>>,
    pub(crate) outbound: RefCell<Ring<OUTBOUND>>,
    pub(crate) board: Board,
    /// The inner stack.
    pub(crate) inner_waker: RefCell<WakerRegistration>,
    /// The node's task.
    pub(crate) task_waker: RefCell<WakerRegistration>,
}

impl Shared {
    /// Has the node's task look again.
    pub(crate) fn kick(&self) {
        self.task_waker.borrow_mut().wake();
    }

    /// Has the inner stack look again.
    pub(crate) fn wake_inner(&self) {
        self.inner_waker.borrow_mut().wake();
    }
}

impl<const PEERS: usize> State<PEERS> {
    /// Before [`new`](crate::new) fills it.
    pub const fn new() -> Self {
        const { assert!(PEERS.is_power_of_two(), "PEERS is a power of two") };
        Self {
            tables: Tables::new(),
            sockets: SocketBuffers {
                udp: UdpBuffers { receive: [0; UDP_RECEIVE], transmit: [0; UDP_TRANSMIT] },
                tcp: TcpBuffers { receive: [0; TCP_RECEIVE], transmit: [0; TCP_TRANSMIT] },
            },
            node: MaybeUninit::uninit(),
            shared: Shared {
                mesh: OnceCell::new(),
                inbound: RefCell::new(Ring::new()),
                outbound: RefCell::new(Ring::new()),
                board: Board::new(),
                inner_waker: RefCell::new(WakerRegistration::new()),
                task_waker: RefCell::new(WakerRegistration::new()),
            },
        }
    }

    pub(crate) fn split(&'static mut self) -> Parts {
        Parts { shared: &self.shared, tables: self.tables.lend(), sockets: &mut self.sockets, node: &mut self.node }
    }
}

impl<const PEERS: usize> Default for State<PEERS> {
    fn default() -> Self {
        Self::new()
    }
}
