//! The interface of a runner to the node. The control plane implements it; tests use a scripted
//! one.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{
    NewMessage, PartIdentity, PartLine, PartOutlet, PartSpec, RetainedPage, RetainedQuery, TenantId,
};

use crate::dead_letters::DeadLetterStore;
use crate::host_future::HostFuture;
use crate::input_memory::InputMemory;

/// State of an integration that survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SavedState {
    /// The integration delivers.
    #[default]
    Running,
    /// An operator has paused it, at this time, milliseconds since the Unix epoch.
    Paused(u64),
    /// The integration stopped by itself, for this reason.
    Stopped(String),
}

/// A session of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartSession {
    /// Client Identifier of the session.
    pub client_id: String,
    /// Number of messages in it, including unsettled ones.
    pub messages: u64,
}

/// The response of a client to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Payload.
    pub payload: Vec<u8>,
    /// Content Type.
    pub content_type: Option<String>,
}

/// Why a request has no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestTrouble {
    /// Nobody is subscribed to its topic.
    NobodyThere,
    /// No response came in time.
    Silent,
    /// The request can never be published, for this reason.
    Refused(String),
    /// Rules forbid it, for this reason.
    Forbidden(String),
    /// The request cannot be published now, for this reason.
    Busy(String),
}

impl RequestTrouble {
    /// An HTTP status code, and the reason.
    pub fn code_and_words(self) -> (&'static str, String) {
        match self {
            Self::NobodyThere => ("404", "nobody is subscribed to its topic".to_owned()),
            Self::Silent => ("504", "no response was received in time".to_owned()),
            Self::Refused(why) => ("400", why),
            Self::Forbidden(why) => ("403", why),
            Self::Busy(why) => ("503", why),
        }
    }
}

/// The functions of the node that a runner uses.
pub trait Host: Send + Sync + 'static {
    /// Attaches a part.
    fn attach(&self, spec: PartSpec, outlet: Box<dyn PartOutlet>) -> Box<dyn PartLine>;

    /// Tenant of the team of this name; `None` if it does not exist. The empty name is the common
    /// tenant.
    fn tenant(&self, name: &str) -> Option<TenantId>;

    /// Why a team has no tenant.
    fn why_no_tenant(&self, team: &str) -> String {
        format!("there is no team {team:?} with a tenant of its own")
    }

    /// A user or device of a tenant, whose rules apply to messages that a part publishes.
    ///
    /// # Errors
    /// No user or device of this name may log in; the reason.
    fn identity(&self, tenant: TenantId, name: &str) -> Result<PartIdentity, String> {
        let _ = (tenant, name);
        Err("the node has no users and no devices".to_owned())
    }

    /// Name of the team that owns a tenant; `None`: the common tenant, or its team no longer
    /// exists.
    fn team_of(&self, tenant: TenantId) -> Option<Arc<str>>;

    /// Name of the node; unique among nodes.
    fn node(&self) -> &str {
        "node"
    }

    /// Longest packet that the node accepts, bytes: `limits.packet_bytes`. `None`: no limit.
    fn packet_bytes_max(&self) -> Option<NonZeroU32> {
        None
    }

    /// Memory for data that integrations receive from other systems.
    fn input_memory(&self) -> Arc<InputMemory> {
        Arc::default()
    }

    /// Whether a message that came over the bridge or named connection `from` came from a broker
    /// that the bridge `to` connects to.
    fn is_same_broker(&self, from: &str, to: &str) -> bool {
        let _ = (from, to);
        false
    }

    /// Resolves the names of the brokers that [`Host::is_same_broker`] compares, if not done yet.
    fn look_up_brokers(&self) -> HostFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Number of shards; a part is attached once per shard.
    fn shards(&self) -> u16;

    /// Sessions of a part in a tenant, from this run and earlier ones: under its name and as
    /// lanes; `None` if the node does not answer in time.
    fn sessions<'a>(
        &'a self,
        tenant: TenantId,
        part: &'a str,
    ) -> HostFuture<'a, Option<Vec<PartSession>>>;

    /// Retained messages; `None` if the node does not answer in time.
    fn retained<'a>(&'a self, query: &'a RetainedQuery) -> HostFuture<'a, Option<RetainedPage>> {
        let _ = query;
        Box::pin(std::future::ready(None))
    }

    /// Saved state of an integration from before the restart.
    fn saved_state<'a>(
        &'a self,
        kind: &'a str,
        name: &'a str,
    ) -> HostFuture<'a, Result<SavedState, String>>;

    /// Saves the state of an integration.
    fn save_state<'a>(
        &'a self,
        kind: &'a str,
        name: &'a str,
        state: SavedState,
    ) -> HostFuture<'a, Result<(), String>>;

    /// The store of dead letters.
    fn dead_letters(&self) -> &dyn DeadLetterStore;

    /// Publishes a request under the rules of this user or device, and waits for its response.
    fn request<'a>(
        &'a self,
        (_tenant, _publish_as): (TenantId, Option<&'a str>),
        _message: NewMessage,
        _timeout: Duration,
    ) -> HostFuture<'a, Result<Response, RequestTrouble>> {
        Box::pin(async { Err(RequestTrouble::NobodyThere) })
    }

    /// A random number, for jitter.
    fn random(&self) -> u64;

    /// Wall clock, milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
}
