//! Martlet's core: the **shard**, a pure state machine that knows MQTT and nothing else.
//!
//! It has no sockets, no clocks, no threads, no random source, no disk and no log of its own. It
//! takes *events* (bytes arrived, time passed, a record became durable, a batch came from another
//! shard) and gives back *effects* (write these bytes, append this record, send that batch). So a
//! whole broker runs in one thread under a seed, and each behaviour is tested without waiting.
//!
//! # Layout
//!
//! The words of the interface import nothing above them (`cargo xtask tidy` checks it):
//!
//! * `effect`, `command`, `event`: the three closed lists: requests to the reactor, orders of
//!   operators, news for observers; `report`: answers to commands; `record`: what is persisted
//! * `message`: the Application Message; `connect_request`: a client on its way in;
//!   `authentication`: requests to authenticate clients
//! * `screening`: a request to check a message before it is routed, and the answer
//! * `part::interface`, `share::message`, `share::ticket`: events for parts and share groups
//! * `connected_client`: a client as its connection, messages and events know it
//! * `event_head`: the client of an event;
//!   `event_interest`: which are wanted; `event_text`: their names, cut; `shortened`: names cut
//! * the crate `permission`: who a client is, what it may do, why it was refused
//! * `limits`, `counters`, `timer`, `work`: what bounds, counts and times it all
//! * `id`, `hash`, `time`, `gauge`, `flags`: names, times and bytes that are counted
//!
//! What a shard does:
//!
//! * [`Shard`] (`shard`): all state one core owns; `shard::calls`: the calls that bring events in;
//!   `shard::settle`, `shard::put_off`: what is done after them, and over turns. The methods of
//!   `Shard` have floors: see ARCHITECTURE.md
//! * `node`: what shards share, reached through the [`Node`] trait only
//! * `lobby`, `connect`, `connection`: from an accepted socket to a session; its bytes;
//!   `lobby_memory`: what connections hold before that; `authenticate`, `exchange`: the wait for an
//!   answer about the client, and AUTH
//! * `session`: Session State: `inbound` (what a client publishes), `outbound`, `in_flight`,
//!   `sending`, `acknowledge` (what it is sent), `queue`, `packet_ids`
//! * `part`: what consumes messages inside the process, a session without a Network Connection
//! * `subscribe`, `topic_tree`, `interest`, `route`, `routing`: subscribers of a topic; `outgoing`:
//!   its packets; `fan_out`: a message for more receivers than one turn can serve
//! * `share`, `retained`, `will`: Shared Subscriptions, retained messages, Wills
//! * `operate`: commands that take several turns; `restore`: bringing a shard back
//! * `screen`: messages that the control plane looks at before they are routed
//! * `review`: new rules and revocations, applied to all sessions over turns
//! * `notify`: which events are reported, and to which observers
//! * `tenant_counts`, `tenant_share`: how many sessions and connections a tenant has, and may have
//! * `user_sessions`: how many sessions a user has
//! * `active_devices`: which devices have published
//! * `recent_topics`: what is remembered of some topics; `unmatched`: topics of messages that
//!   nobody was subscribed to; `retained_ends`: those whose retained message was taken away
//! * `rate`, `losses`: messages beyond a rate, and messages lost
//! * `memory`, `memory_account`, `memory_use`, `pressure`: what memory is used for, and relief when
//!   it is short
//! * `arena`, `place_table`, `split_map`: tables; `leftovers`: what is left in a shard, for tests
#![forbid(unsafe_code)]

mod active_devices;
mod arena;
mod authenticate;
mod authentication;
mod command;
mod connect;
mod connect_request;
mod connected_client;
mod connection;
mod counters;
mod effect;
mod event;
mod event_head;
mod event_interest;
mod event_text;
mod exchange;
mod fan_out;
mod flags;
mod gauge;
mod hash;
mod id;
mod interest;
mod leftovers;
mod limits;
mod lobby;
mod lobby_memory;
mod losses;
mod memory;
mod memory_account;
mod memory_use;
mod message;
mod node;
mod notify;
mod operate;
mod outgoing;
mod part;
mod place_table;
mod pressure;
mod rate;
mod recent_topics;
mod record;
mod report;
mod restore;
mod retained;
mod retained_ends;
mod review;
mod route;
mod routing;
mod run;
mod screen;
mod screening;
mod session;
mod shard;
mod share;
mod shortened;
mod split_map;
mod subscribe;
mod tenant_counts;
mod tenant_share;
mod time;
mod timer;
mod topic_tree;
mod unmatched;
mod user_sessions;
mod will;
mod work;

use martlet_fault as fault;

pub use arena::Arena;
pub use authentication::{
    Authenticated, Authentication, Claim, ExchangeState, LoginWaiter, Password, Step,
};
pub use command::{
    ClientQuery, Command, NewMessage, NewSubscription, RetainedQuery, Search, SubscriptionQuery,
    SysTopic,
};
pub use connect_request::{ConnectingClient, Guest, Peer};
pub use connected_client::{ConnectedClient, ConnectedFlags, SharedClient, UserName};
pub use counters::{Accounting, Counters, DROP_REASONS, DropReason, Metric, MetricKind};
pub use effect::{
    ConnectionEffect, Effects, LostMessage, PageOf, QueueOwner, QueueRead, ReadMessage, ReadPage,
    ShardMessage,
};
pub use event::{DeliveredMessage, Event, EventNotice, PublishedMessage, WillNotice};
pub use event_head::{EventHead, UserRef};
pub use event_interest::{EventGroup, EventInterest, Traced};
pub use event_text::shorten_why;
pub use gauge::MemoryGauge;
pub use hash::{ClientKey, owner};
pub use id::{
    ConnectionId, MessageId, RecordNumber, SessionAddress, SessionEpoch, SessionId, ShardId,
    SubscriptionIds, first_number, lane_name, lane_of, shard_of, start_of,
};
pub use interest::{
    EPOCH_BUCKETS, EpochKey, EpochScope, Epochs, Interest, InterestClass, InterestedShards,
    SHARDS_MAX,
};
pub use limits::{
    Discovery, LimitRow, Limits, ListenerPolicy, QueueFull, RateExceeded, Settings, counted_as,
};
pub use lobby::is_assigned_client_id;
pub use martlet_permission::{
    Actions, Audience, CauseText, CredentialMark, EVENTS, IS_NODE, Identity, Limit, LockoutScope,
    NODES_WITH_BRIDGES, Names, PasswordSource, Proof, ProxyFault, ReachedLimit, Realm, Refusal,
    RefusalCause, Revocation, RevocationReason, RevokedClients, Rule, RuleBook, RuleDecision,
    Rules, RulesError, Screens, Share, TO_BRIDGES, TenantId, TlsFault, UserSources, Uses, Voucher,
    WebSocketFault, may_publish, shared_filter,
};
pub use memory_use::{Growth, MemoryUse, ShardMemory, subscriptions_part};
pub use message::{
    Contents, HOPS_MAX, MESSAGE_OVERHEAD, Message, MessageHead, Publication, StoredMessage,
};
pub use node::{Cx, MemoryPressure, Node};
pub use operate::step::PAGE_BYTES;
pub use part::holds::Hold;
pub use part::{
    Delivery, LaneOrder, LaneTerms, OnFull, PartCall, PartEvent, PartId, PartIdentity, PartLine,
    PartOutcome, PartOutlet, PartPublish, PartQueueLimits, PartQueueState, PartReach, PartRefusal,
    PartSpec, PartSubscription, PartTerms, Receipt, ReceiptOutcome, Settlement,
};
pub use place_table::PlaceTable;
pub use record::{
    EnqueuedAs, EntryRecord, MessageRecord, RECORD_VERSION, RETAINED_COPIES, Record, SHARED_COPIES,
    SessionOwner, SessionRecord, StoredWill, SubscriptionRecord,
};
pub use report::{
    ActiveDevices, Answer, ClientDetail, ClientInfo, ClientPage, ConnectionDetail, DeleteOutcome,
    DeliveryState, GroupDetail, InFlightMessage, LossTimes, Published, QueuedMessage, Report,
    RetainedAtSubscribe, RetainedEnd, RetainedEnded, RetainedInfo, RetainedPage, SessionRules,
    SubscriptionInfo, SubscriptionPage, TenantUse, TopicUse, UnmatchedTopic, WillInfo,
};
pub use retained::{Page, Retained, RetainedChange};
pub use run::Run;
pub use screening::{Screened, Screening, ScreeningKind};
pub use session::queue::{Apart, StoredEntry};
pub use shard::{Shard, StoreState, TransportEnd};
pub use share::message::{Member, MemberReceipt, Reads, RulesVersion, ShareMessage};
pub use share::ticket::{GroupAddress, GroupId, ShareOutcome, ShareTicket};
pub use shortened::{
    NAME_BYTES_MAX, WHY_BYTES_MAX, is_of_name, is_shortened, matches_shown, shortened,
};
pub use tenant_counts::{TenantCounts, TenantPool};
pub use time::Now;
pub use user_sessions::UserSessions;
pub use work::WorkLimits;
