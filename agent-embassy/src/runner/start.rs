//! From power-on to a node that runs: flash, randomness, what was kept, and the join key.
//!
//! Nothing here gives up. What cannot be done is said, and tried again after a while.

use core::{cell::RefCell, mem::MaybeUninit, pin::pin};

use embassy_time::{Duration, Timer};
use embedded_storage_async::nor_flash::NorFlash;
use weft_core::{
    control::{JoinKey, record::Capacity},
    node::{Identity, Node, NodeConfig, NodeTables},
    time::Instant,
};

use crate::{
    Config, MTU,
    apart::apart,
    clock::{self, WALL},
    crypto::ChipCrypto,
    event::Problem,
    flash::{FlashError, OpenError, Report, Setting, Store},
    fmt::{info, warning},
    random::{Entropy, Random},
    state::{ChipNode, Mesh, Shared},
    tables::{ChipStorage, STAGED},
};

/// Between two attempts at what needs a person.
const RETRY: Duration = Duration::from_secs(30);
/// From so many handshake messages a second on, after a burst that greets every peer, senders have to prove their
/// addresses: a handshake takes a chip up to half a second.
const LOAD: (u32, u32) = (2, 32);
/// What this node says that it runs on.
const SYSTEM: &str = "embassy";

/// The region of flash cannot be used. Returns when to try again.
pub(super) async fn no_flash(error: OpenError, shared: &Shared) {
    warning!("the flash region cannot be used: {}", error);
    shared.board.set_problem(Some(Problem::Flash));
    Timer::after(RETRY).await;
}

/// Says what opening the region found and did.
#[inline(never)]
pub(super) fn log_report(report: Report) {
    if report.formatted {
        info!("the flash region is new and was formatted");
    }
    if report.journal_lost {
        warning!("the journal of the flash region was damaged; what else was kept is still there");
    }
    if report.provisioned {
        info!("took the provisioning page");
    }
    if let Some(error) = report.refused {
        warning!(
            "the provisioning page cannot be taken ({}): write it again, with the tool of this firmware's version",
            error
        );
    }
}

/// Begins the randomness of this start, once there is enough to begin with.
pub(super) async fn randomness<F: NorFlash, E: Entropy>(
    store: &mut Store<F>,
    entropy: &mut E,
    shared: &Shared,
) -> Random {
    loop {
        match Random::start(store, entropy).await {
            Ok(random) => {
                info!("boot {}", random.boots());
                return random;
            }
            Err(error) => warning!("no keys can be made: {}", error),
        }
        shared.board.set_problem(Some(Problem::NoEntropy));
        Timer::after(RETRY).await;
    }
}

/// Makes core's node where it stays.
#[inline(never)]
pub(super) fn node(
    shared: &'static Shared,
    tables: NodeTables<ChipStorage>,
    place: &'static mut MaybeUninit<ChipNode>,
    peers: usize,
    mut rng: Random,
) -> &'static RefCell<Mesh> {
    let capacity = Capacity { peers: u32::try_from(peers).ok(), routes: None };
    let config =
        NodeConfig { os: SYSTEM, agent: env!("CARGO_PKG_VERSION"), capacity: Some(capacity), ..NodeConfig::default() };
    let node = place.write(Node::new(config, tables, &mut rng));
    let device = node.device_mut();
    device.set_mtu(MTU);
    device.set_max_staged(STAGED);
    device.set_load_limit(LOAD.0, LOAD.1);
    shared.mesh.get_or_init(|| RefCell::new(Mesh { node, rng }))
}

/// Gives the node what flash kept of it.
#[expect(
    clippy::await_holding_refcell_ref,
    reason = "nothing else of the task runs yet, and the handle only tries to borrow"
)]
pub(super) async fn restore<F: NorFlash>(
    store: &mut Store<F>,
    mesh: &RefCell<Mesh>,
    config: &Config<'_>,
) -> Result<(), FlashError> {
    let now = clock::now();
    let mesh = &mut *mesh.borrow_mut();
    let mut room = [0; 64];
    let kept = match config.hostname {
        "" => store.setting(Setting::Hostname, &mut room).await?,
        given => Some(given.as_bytes()),
    };
    let hostname = kept.and_then(|name| core::str::from_utf8(name).ok()).unwrap_or_default();
    mesh.node.set_hostname(hostname, now, &mut mesh.rng);
    for name in config.pinned {
        if !mesh.node.pin(name) {
            warning!("{} cannot be pinned: it is no name, or too many are", name);
        }
    }
    apart(pin!(restore_member(store, mesh, now))).await?;
    apart(pin!(take_key(store, mesh, config, now))).await?;
    mesh.node.start(now, WALL, &mut mesh.rng);
    Ok(())
}

/// Who the node is, and its peers.
async fn restore_member<F: NorFlash>(store: &mut Store<F>, mesh: &mut Mesh, now: Instant) -> Result<(), FlashError> {
    let Some(identity) = store.identity().await? else { return Ok(()) };
    mesh.node.restore_identity(identity, now);
    let whole = store.restore_netmap(mesh.node, now).await?;
    store.restore_recent_peers(mesh.node, now).await?;
    info!("restored {} peers, netmap whole: {}", mesh.node.netmap().len(), whole);
    Ok(())
}

/// Joins with the key of the provisioning page or of the firmware, if there is one that is to be used.
async fn take_key<F: NorFlash>(
    store: &mut Store<F>,
    mesh: &mut Mesh,
    config: &Config<'_>,
    now: Instant,
) -> Result<(), FlashError> {
    let given = match store.join_key().await? {
        Some(key) => Some(key),
        None if mesh.node.netmap().own().is_none() => build_key(config.join_key, mesh.node),
        None => None,
    };
    if let Some(key) = given {
        info!("joining with a join key");
        mesh.node.join(&key, now, &mut mesh.rng);
    }
    Ok(())
}

/// The join key that the firmware gave, where the node does not know it yet.
#[inline(never)]
pub(super) fn build_key(text: Option<&str>, node: &Node<ChipStorage, ChipCrypto>) -> Option<JoinKey> {
    let key: JoinKey = text?.trim().parse().map_err(|error| warning!("the join key is not usable: {}", error)).ok()?;
    let is_new = |identity: &Identity| identity.join_secret.as_ref() != Some(key.secret());
    node.identity().is_none_or(is_new).then_some(key)
}

/// What keeps the node from joining.
#[inline(never)]
pub(super) fn problem(config: &Config<'_>, mesh: &Mesh) -> Option<Problem> {
    match (mesh.node.identity(), config.join_key) {
        (Some(_), _) => None,
        (None, Some(_)) => Some(Problem::JoinKeyUnreadable),
        (None, None) => Some(Problem::NoJoinKey),
    }
}
