//! What a shard can be told by those who operate the node.

use std::sync::Arc;

use martlet_codec::ReasonCode;

use crate::authenticate::Revocation;
use crate::id::TenantId;
use crate::permission::RuleBook;

/// A command; answers come as [`Report`](crate::Report)s that carry the same `request`.
#[derive(Debug, Clone)]
pub enum Command {
    /// Report this shard's counters and gauges.
    Snapshot {
        /// Named again by the answer.
        request: u64,
    },
    /// Report the sessions of this shard, connected or not.
    Clients {
        /// Named again by the answer.
        request: u64,
        /// At most this many.
        limit: usize,
    },
    /// Report which topics are in use, and by whom.
    Traffic {
        /// Named again by the answer.
        request: u64,
        /// At most this many uses.
        limit: usize,
    },
    /// Report what the client of this identifier may do, if it is connected here.
    SessionRules {
        /// Named again by the answer.
        request: u64,
        /// Which client.
        client_id: String,
    },
    /// Publish statistics below `$SYS/`, retained, QoS 0. Sent to one shard only.
    PublishSys(Vec<SysTopic>),
    /// End the connection of a client, if it is connected here.
    Disconnect {
        /// Whose client.
        tenant: TenantId,
        /// Which client.
        client_id: String,
        /// What v5 clients are told.
        reason: ReasonCode,
    },
    /// Credentials are taken back: all connections by them end with 0x87, and who is being
    /// authenticated by them is not let in.
    Revoke(Arc<[Revocation]>),
    /// From now on rules are looked up here, for all sessions and all who connect, but those whose
    /// rules are their own.
    SetRules(Arc<dyn RuleBook>),
    /// The same with a book that says something else than the one before of these users alone.
    SetRulesOf {
        /// What it says now.
        book: Arc<dyn RuleBook>,
        /// Whose rules are looked up again; sorted.
        users: Arc<[Arc<str>]>,
    },
    /// The node stops: accept nobody, send v5 clients DISCONNECT 0x8B and close all connections.
    /// Wills are kept back, since the clients are not lost, the server is.
    Shutdown,
}

/// One value published below `$SYS/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysTopic {
    /// The Topic Name, such as `$SYS/broker/uptime`.
    pub topic: String,
    /// The value as text.
    pub payload: String,
}
