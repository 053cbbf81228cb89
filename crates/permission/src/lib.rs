//! Identity and rights of clients, and causes of refusals: the types that the broker, the sources
//! of credentials and the tables share. Pure values: no sessions, sockets, tables or clock.
//!
//! Rules are compiled once into a tree of topic levels, so a check among a thousand rules costs no
//! more than the levels of one topic. All sources convert their rules to one form: the first
//! matching rule decides, and if none matches, the default of the source. A rule may contain the
//! client by `%c` and its user by `%u`, so that one set serves a whole fleet.
//!
//! * `rules`: what is allowed; `actions`: what clients do; `own`: topics of the node; `names`:
//!   values of `%c` and `%u`
//! * `identity`: who a client is, and by which credential; `tenant`, `book`: whose rules apply
//! * `refusal`: why something is refused or ended; `decision`: limits that cause it;
//!   `transport_fault`: faults below MQTT
//! * `revocation`: credentials that are revoked
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
mod share;
mod tenant;
mod transport_fault;

pub use actions::Actions;
pub use book::{Realm, RuleBook};
pub use decision::{Limit, ReachedLimit};
pub use identity::{CredentialMark, Identity, Proof, Screens, Voucher};
pub use names::Names;
pub use own::{
    EVENTS, IS_NODE, NODES_WITH_BRIDGES, TO_BRIDGES, may_publish, node_may_publish,
    part_may_publish, shared_filter, why_own,
};
pub use refusal::{
    Audience, CauseText, LockoutScope, PasswordSource, Refusal, RefusalCause, UserSources,
};
pub use revocation::{Revocation, RevocationReason, RevokedClients};
pub use rules::{Rule, RuleDecision, Rules, RulesError};
pub use share::{Share, Uses};
pub use tenant::TenantId;
pub use transport_fault::{ProxyFault, TlsFault, WebSocketFault};
