//! Who a client is, what it may do, and why it was refused: the words that the broker, the sources
//! of credentials and the tables share. Pure values: no sessions, sockets, tables or clock.
//!
//! Rules are compiled once into a tree of topic levels, so that a thousand of them cost no more
//! than the levels of one topic. Whatever their source writes them in, they come here in one form:
//! the first that matches decides, and where none does, the default of the source. A rule may
//! name the client by `%c` and its user by `%u`, so that one set serves a whole fleet.
//!
//! * `rules`: what is allowed; `actions`: what a client wants; `own`: topics of the node;
//!   `names`: what `%c` and `%u` stand for
//! * `identity`: who a client is, and by which credential; `tenant`, `book`: whose rules apply
//! * `refusal`: why something is refused or ended; `decision`: limits that decide;
//!   `transport_fault`: what goes wrong below MQTT
//! * `revocation`: credentials that are taken back
#![forbid(unsafe_code)]

mod actions;
mod book;
mod decision;
mod identity;
mod names;
mod own;
mod refusal;
mod revocation;
mod rules;
mod tenant;
mod transport_fault;

pub use actions::Actions;
pub use book::{Realm, RuleBook};
pub use decision::{Limit, ReachedLimit};
pub use identity::{CredentialMark, Identity, Proof, Screens, Voucher};
pub use names::Names;
pub use own::{
    EVENTS, IS_NODE, NODES_WITH_BRIDGES, TO_BRIDGES, may_publish, node_may_publish,
    part_may_publish,
};
pub use refusal::{Audience, LockoutScope, PasswordSource, Refusal, RefusalCause, UserSources};
pub use revocation::{Revocation, RevocationReason, RevokedClients};
pub use rules::{Rule, RuleDecision, Rules, RulesError};
pub use tenant::TenantId;
pub use transport_fault::{ProxyFault, TlsFault, WebSocketFault};
