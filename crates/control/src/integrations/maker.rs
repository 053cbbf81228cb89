//! Interface that makes integrations of settings.

use futures_util::future::BoxFuture;
use martlet_integrate::{ConfiguredSink, bridge, webhook};
use serde_json::{Map, Value};

/// Kinds of integrations that may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddedKind {
    /// A bridge to another broker.
    Bridge,
    /// A webhook.
    Webhook,
}

impl AddedKind {
    const ALL: [Self; 2] = [Self::Bridge, Self::Webhook];

    /// Name of the kind, as integrations have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => bridge::NAME,
            Self::Webhook => webhook::NAME,
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Why settings are unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unusable {
    /// The unusable setting; none: the error is not about a single one.
    pub key: Option<String>,
    /// Error, without values that may be secret.
    pub why: String,
}

/// Makes integrations of their settings. The program implements it: it knows the configuration.
pub trait IntegrationMaker: Send + Sync + 'static {
    /// An integration of this kind and name, `NAME` or `TEAM/NAME`, for the messages of the team of
    /// this id; empty: the common tenant. `sees_node`: whether the caller may let the node read
    /// files.
    ///
    /// # Errors
    /// A setting is unknown or unusable.
    fn make(
        &self,
        kind: AddedKind,
        name: &str,
        team: &str,
        settings: &Map<String, Value>,
        sees_node: bool,
    ) -> Result<ConfiguredSink, Unusable>;

    /// Checks what the tables may get. What they have already is not checked by this: it goes on.
    ///
    /// # Errors
    /// A setting is secret and stands there in clear, or no connection to it would be permitted.
    fn check_new(&self, _kind: AddedKind, _settings: &Map<String, Value>) -> Result<(), Unusable> {
        Ok(())
    }

    /// Checks the names in the URL of these settings by the addresses that they have now.
    ///
    /// # Errors
    /// No connection to one of them would be permitted.
    fn check_names<'a>(
        &'a self,
        _settings: &'a Map<String, Value>,
    ) -> BoxFuture<'a, Result<(), Unusable>> {
        Box::pin(async { Ok(()) })
    }

    /// Bytes of a queue, where its size is not given.
    fn queue_bytes(&self) -> u64;
}
