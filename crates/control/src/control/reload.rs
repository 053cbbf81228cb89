//! Reading files again while the node runs.

use tokio::sync::oneshot;

use super::Control;
use super::reloads::{ReloadOf, ReloadRequest, Reloaded};

impl Control {
    /// Has the files read again that may change while the node runs.
    ///
    /// # Errors
    /// What is wrong with which of them; then nothing has changed.
    pub async fn reload(&self, of: ReloadOf) -> Result<Reloaded, String> {
        let (answer, outcome) = oneshot::channel();
        let stopping = || "the node is stopping".to_owned();
        self.reloads
            .send(ReloadRequest { of, answer })
            .map_err(|_| stopping())?;
        outcome.await.unwrap_or_else(|_| Err(stopping()))
    }
}
