//! The one task of a node: starts it from flash, then runs its parts side by side.
//!
//! | module | holds |
//! |---|---|
//! | `start` | from power-on to a node that runs |
//! | `engine` | what never waits: datagrams, inner packets, handshakes, deadlines, events |
//! | `datagrams` | the UDP socket |
//! | `inbox` | handshake messages that wait to be computed |
//! | `control` | the connection to the control server |
//! | `keeper` | what is written to flash |
//! | `wants` | what these want of each other |

mod control;
mod datagrams;
mod engine;
mod inbox;
mod keeper;
mod start;
mod wants;

use core::{future::poll_fn, pin::pin};

use embassy_futures::join::join4;
use embassy_net::{Stack, udp::PacketMetadata};
use embassy_time::{Duration, Instant, Timer};
use embedded_storage_async::nor_flash::NorFlash;
use zeroize::Zeroizing;

use self::{control::Control, datagrams::Datagrams, engine::Engine, keeper::Keeper, wants::Wants};
use crate::{
    Config,
    apart::apart,
    event::Problem,
    flash::Store,
    fmt::warning,
    random::Entropy,
    state::{Parts, UDP_PACKETS},
};

/// Noise of the board is mixed in so often.
const RESEED: Duration = Duration::from_secs(600);
/// Between two attempts to read flash.
const RETRY: Duration = Duration::from_secs(10);

/// The node's task; see [`run`](Self::run).
pub struct Runner<'d, F, E> {
    pub(crate) parts: Parts,
    pub(crate) peers: usize,
    pub(crate) config: Config<'d>,
    pub(crate) outer: Stack<'d>,
    pub(crate) flash: F,
    pub(crate) entropy: E,
}

impl<F, E> core::fmt::Debug for Runner<'_, F, E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Runner").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<F: NorFlash, E: Entropy> Runner<'_, F, E> {
    /// Runs the node for ever. `inner` is the stack over [`Device`](crate::Device); its address is set here once the
    /// server assigns one.
    pub async fn run(self, inner: Stack<'_>) -> ! {
        let Self { parts: Parts { shared, tables, sockets, node }, peers, config, outer, mut flash, mut entropy } =
            self;
        let mut store = loop {
            let error = {
                // Not a result of the future, which would stay on this function's stack for ever.
                let mut opened = None;
                let outcome = apart(pin!(Store::open_in(&mut opened, &mut flash))).await;
                if let Some(store) = opened {
                    break store;
                }
                outcome.err()
            };
            if let Some(error) = error {
                start::no_flash(error, shared).await;
            }
        };
        start::log_report(store.report());
        let random = apart(pin!(start::randomness(&mut store, &mut entropy, shared))).await;
        let mesh = start::node(shared, tables, node, peers, random);
        loop {
            let restored = apart(pin!(start::restore(&mut store, mesh, &config))).await;
            let Err(error) = restored else { break };
            // A node that began anew would lose its place in the mesh.
            warning!("what flash keeps of the node cannot be read: {}", error);
            shared.board.set_problem(Some(Problem::Flash));
            Timer::after(RETRY).await;
        }
        let problem = start::problem(&config, &mesh.borrow());
        shared.board.set_problem(problem);

        let wants = Wants::default();
        wants.scrub.set(store.owes_scrub());
        let (mut receive, mut transmit) = ([PacketMetadata::EMPTY; UDP_PACKETS], [PacketMetadata::EMPTY; UDP_PACKETS]);
        let datagrams = Datagrams::new(outer, config.port, &mut sockets.udp, &mut receive, &mut transmit);
        let mut engine = Engine::new(shared, mesh, &wants, [outer, inner], datagrams, &config);
        let control = Control { shared, mesh, wants: &wants, outer };
        let mut keeper = Keeper { shared, mesh, wants: &wants, store: &mut store, spaced_at: [Instant::MIN; 2] };
        let reseed = async {
            loop {
                Timer::after(RESEED).await;
                let mut noise = Zeroizing::new([0; 32]);
                entropy.sample(&mut noise).await;
                mesh.borrow_mut().rng.mix(&noise);
            }
        };
        // The engine first: it takes in what woke the task.
        let engine = poll_fn(|cx| engine.turn(cx));
        let (control, keeper) = (pin!(control.run(&mut sockets.tcp)), pin!(keeper.run()));
        match join4(engine, apart(control), apart(keeper), apart(pin!(reseed))).await.0 {}
    }
}
