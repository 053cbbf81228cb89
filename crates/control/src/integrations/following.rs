//! Tasks that follow an integration.

use std::time::Duration;

use tokio::task::JoinHandle;

/// Maximum time to notify a runner that it may try again.
pub(super) const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Following(pub(super) JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}
