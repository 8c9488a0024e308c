//! What a server does now and then: ephemeral nodes go, old removals are forgotten, last-seen times are stored.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior};

use super::ServerConfig;
use crate::{
    directory::Directory,
    store::{
        networks::CompactTombstones,
        nodes::{RemoveEphemeral, StoreLastSeen},
    },
};

/// How often last-seen times are stored.
const LAST_SEEN_INTERVAL: Duration = Duration::from_secs(60);
/// How often old removals are looked for.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(3_600);

pub(super) async fn run(directory: Arc<Directory>, config: ServerConfig) {
    let mut ticks = tokio::time::interval(config.housekeeping_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_seen_due = Instant::now() + LAST_SEEN_INTERVAL;
    let mut compaction_due = Instant::now();
    loop {
        let now = ticks.tick().await;
        remove_ephemeral(&directory, config.ephemeral_grace).await;
        if now >= last_seen_due {
            last_seen_due = now + LAST_SEEN_INTERVAL;
            save_last_seen(&directory).await;
        }
        if now >= compaction_due {
            compaction_due = now + COMPACTION_INTERVAL;
            if let Err(refusal) = directory.change(CompactTombstones).await {
                tracing::warn!("old removals cannot be forgotten: {refusal}");
            }
        }
    }
}

async fn remove_ephemeral(directory: &Directory, grace: Duration) {
    let limit = directory.now().saturating_sub(grace.as_secs());
    let gone = directory.network().ephemeral_gone_since(limit);
    for id in gone {
        if let Err(refusal) = directory.change(RemoveEphemeral { id }).await {
            tracing::warn!("the ephemeral node {} cannot be removed: {refusal}", id.0);
        }
    }
}

/// Stores when nodes went offline.
pub(super) async fn save_last_seen(directory: &Directory) {
    let seen = directory.network().take_unsaved_last_seen();
    if !seen.is_empty()
        && let Err(refusal) = directory.change(StoreLastSeen { seen }).await
    {
        tracing::warn!("last-seen times cannot be stored: {refusal}");
    }
}
