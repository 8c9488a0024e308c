//! What a node keeps in its region of flash.
//!
//! | pages | hold |
//! |---|---|
//! | 0 | the [provisioning page](crate::provision), erased once it was taken |
//! | 1, 2 | the journal of erases, which also says in which format the region is |
//! | from 3 | a map of `sequential-storage`, whose pages are used in turn |
//!
//! In the map, one item each: the node's identity, every record of its netmap, the recent peers, the seed (twice) with
//! the boot counter, what a provisioning page gave, and the firmware's own settings.
//!
//! Every write is compared first: what is unchanged is not written again. Power may fail at any moment: an item then has
//! its old or its new content. A region that was never formatted is formatted; one of a later format is refused and left as it
//! is. Knows nothing of time and of connections; when to keep what, the runner decides.

mod import;
mod item;
mod journal;
mod netmap;
mod scrub;
mod seed;
mod store;

pub use item::Setting;
pub use netmap::Records;
pub(crate) use seed::Seed;
pub use store::{FlashError, Lend, OpenError, Report, Store};
