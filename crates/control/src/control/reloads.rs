//! Requests to read files again, and their results.

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// Files and tables that are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOf {
    /// All files that may change while the node runs.
    Everything,
    /// Changes in the tables of users and devices.
    SharedRegistry,
}

/// A request to reload files, which waits for the result.
#[derive(Debug)]
pub struct ReloadRequest {
    pub(super) of: ReloadOf,
    pub(super) answer: oneshot::Sender<Result<Reloaded, String>>,
}

impl ReloadRequest {
    /// Parts that are reloaded.
    pub fn of(&self) -> ReloadOf {
        self.of
    }

    /// Reports them.
    pub fn answer(self, outcome: Result<Reloaded, String>) {
        // They may have given up.
        let _ = self.answer.send(outcome);
    }
}

/// Result of reading the files again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reloaded {
    /// Parts that have changed since they were last read: files, keys of the configuration,
    /// `tables`. Empty: nothing has.
    #[serde(default)]
    pub changed: Vec<String>,
    /// Listeners with certificates that were read again.
    pub certificates: usize,
    /// Users whose credentials are not valid any more. Clients with a certificate on a revocation
    /// list are not counted.
    pub revoked: usize,
    /// Parts that have changed and are in force from the next start on.
    pub needs_restart: Vec<String>,
    /// Keys of the configuration that were changed and now have the values of the start again.
    #[serde(default)]
    pub as_at_start: Vec<String>,
    /// Listeners that are configured and not open before the next start, or open until then and not
    /// configured any more, each in words.
    #[serde(default)]
    pub listeners: Vec<String>,
}
