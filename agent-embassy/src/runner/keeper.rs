//! What of the node is written to flash, and when.
//!
//! The identity at once, since the server must not hear of a secret that a reset would lose; netmap and recent peers
//! rarely, since the server sends them again and flash wears.

use core::{cell::RefCell, future::poll_fn, task::Poll};

use embassy_futures::yield_now;
use embassy_time::{Duration, Instant, Timer};
use embedded_storage_async::nor_flash::NorFlash;

use weft_core::node::Identity;

use super::wants::Wants;
use crate::{
    event::Problem,
    flash::{FlashError, Store},
    fmt::warning,
    state::{Mesh, Shared},
};

/// The netmap and the recent peers are written so often on an average,
const SPACING: Duration = Duration::from_secs(60);
/// and so often at once, since much changes when a node joins.
const BURST: u32 = 5;
/// After a failure.
const RETRY: Duration = Duration::from_secs(10);

/// When something may be written again.
fn not_before(spaced_at: Instant) -> Instant {
    spaced_at.checked_sub(SPACING * (BURST - 1)).unwrap_or(Instant::MIN)
}

/// What is to be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Job {
    Identity,
    Scrub,
    Netmap,
    Recent,
}

/// The keeper.
pub(super) struct Keeper<'a, F: NorFlash> {
    pub(super) shared: &'static Shared,
    pub(super) mesh: &'static RefCell<Mesh>,
    pub(super) wants: &'a Wants,
    pub(super) store: &'a mut Store<F>,
    /// When all that was written of netmap and recent peers is spaced out.
    pub(super) spaced_at: [Instant; 2],
}

impl<F: NorFlash> Keeper<'_, F> {
    /// Writes what is to be kept, for ever.
    pub(super) async fn run(&mut self) -> ! {
        loop {
            let job = poll_fn(|cx| {
                let now = Instant::now();
                let [netmap, recent] = self.spaced_at.map(not_before);
                let wants = &self.wants;
                let job = match () {
                    () if wants.keep_identity.get() => Job::Identity,
                    () if wants.scrub.get() => Job::Scrub,
                    () if wants.keep_netmap.get() && (netmap <= now || wants.keep_removal.get()) => Job::Netmap,
                    () if wants.keep_recent.get() && recent <= now => Job::Recent,
                    () => {
                        let later = [(&wants.keep_netmap, netmap), (&wants.keep_recent, recent)];
                        let due = later.iter().filter(|(wanted, _)| wanted.get()).map(|(_, due)| *due).min();
                        if let Some(due) = due {
                            crate::clock::wake_at(weft_core::time::Instant::from_micros(due.as_micros()), cx);
                        }
                        return Poll::Pending;
                    }
                };
                Poll::Ready(job)
            })
            .await;
            match self.write(job).await {
                Ok(()) => {
                    if self.shared.board.status().problem == Some(Problem::Flash) {
                        self.shared.board.set_problem(None);
                    }
                }
                Err(error) => {
                    warning!("cannot write to flash: {}", error);
                    self.shared.board.set_problem(Some(Problem::Flash));
                    Timer::after(RETRY).await;
                }
            }
            self.shared.kick();
            yield_now().await;
        }
    }

    async fn write(&mut self, job: Job) -> Result<(), FlashError> {
        let Self { mesh, wants, store, spaced_at, .. } = self;
        let [netmap, recent] = spaced_at;
        // A wish is taken back where it is fulfilled. What is wished meanwhile stays.
        let (wish, written) = match job {
            Job::Identity => {
                wants.keep_identity.set(false);
                let lend = |take: &mut dyn FnMut(&Identity)| {
                    if let Some(identity) = mesh.borrow().node.identity() {
                        take(identity);
                    }
                };
                let written = store.keep_identity_of(&lend).await;
                if written.is_ok() && !wants.keep_identity.get() {
                    mesh.borrow_mut().node.identity_kept();
                    wants.scrub.set(store.owes_scrub());
                }
                (&wants.keep_identity, written)
            }
            Job::Scrub => {
                wants.scrub.set(false);
                let written = store.scrub().await.map(|more| wants.scrub.set(more));
                (&wants.scrub, written)
            }
            Job::Netmap => {
                wants.keep_netmap.set(false);
                wants.keep_removal.set(false);
                *netmap = (*netmap).max(Instant::now()) + SPACING;
                let records = |cursor: &mut usize, out: &mut [u8]| mesh.borrow().node.netmap_record(cursor, out);
                (&wants.keep_netmap, store.keep_netmap(&records).await)
            }
            Job::Recent => {
                wants.keep_recent.set(false);
                *recent = (*recent).max(Instant::now()) + SPACING;
                let encode = |out: &mut [u8]| mesh.borrow().node.recent_peers(out);
                (&wants.keep_recent, store.keep_recent_peers(&encode).await)
            }
        };
        if written.is_err() {
            wish.set(true);
        }
        written
    }
}
