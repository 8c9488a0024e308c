//! The one task of a node.

use embassy_net::Stack;

use crate::{Config, random::Entropy, state::Shared};

/// The node's task; see [`run`](Self::run).
pub struct Runner<'d, F, E> {
    shared: &'static Shared,
    config: Config<'d>,
    outer: Stack<'d>,
    flash: F,
    entropy: E,
}

impl<F, E> core::fmt::Debug for Runner<'_, F, E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Runner").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<'d, F, E> Runner<'d, F, E>
where
    F: embedded_storage_async::nor_flash::NorFlash,
    E: Entropy,
{
    pub(crate) const fn new(
        shared: &'static Shared,
        config: Config<'d>,
        outer: Stack<'d>,
        flash: F,
        entropy: E,
    ) -> Self {
        Self { shared, config, outer, flash, entropy }
    }

    /// Runs the node for ever. `inner` is the stack over [`Device`](crate::Device); its address is set here once the
    /// server assigns one.
    pub async fn run(self, inner: Stack<'_>) -> ! {
        let _ = (self.shared, self.config, self.outer, self.flash, self.entropy, inner);
        core::future::pending().await
    }
}
