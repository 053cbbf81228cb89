//! Integrations: deliver messages of the node to other systems, and take messages from them.
//!
//! * `part`: a part of the node, for use by a task
//! * `source`: the interface of systems that messages come from
//! * `sink`: the interface of systems that take messages
//! * `sink_message`: a message in the form for sinks, and its publisher
//! * `outcome`: result of a delivery
//! * `feed`: the messages of one call of a sink
//! * `caught`: panics of sinks
//! * `runner`: the task of one sink: batches, retries, dead letters, pause, drain, stop
//! * `dead_letters`: messages that a sink has refused
//! * `host`, `host_future`: the interface of a runner to the node, and its asynchronous results
//! * `input_memory`: memory for data from other systems
//! * `secret`: secrets of other systems, and settings that refer to them
//! * `masking`: replaces secrets in texts that are shown or stored
//! * `each`: delivers a batch one message at a time
//! * `sink_state`: state that a sink keeps between deliveries, such as a connection
//! * `networks`, `target`: addresses that integrations may connect to, and those of a target
//! * `via`: the nodes that a message has passed
//! * `words`: texts of errors of other crates, and counts
//! * `kind`, `kinds`: a kind of integration with its configuration keys; all kinds
//! * `common_keys`: keys that kinds have in common; `given`: keys that may be missing
//! * `configured_sink`: a configured sink, ready to be started
//! * `json`: a message as JSON
//! * `notice`: a message as a notification for people
//! * `file`: a sink that appends to a file
//! * `http`: requests to one URL over kept connections
//! * `webhook`: a sink that sends HTTP requests
//! * `email`: a sink that sends mails
//! * `bridge`: other brokers, in both directions
//! * `nats`: a sink that publishes to JetStream, and a source that consumes from it
#![forbid(unsafe_code)]

pub mod bridge;
mod caught;
mod common_keys;
mod configured_sink;
mod dead_letters;
mod each;
pub mod email;
mod feed;
pub mod file;
mod given;
mod host;
mod host_future;
mod http;
mod incoming;
mod input_memory;
pub mod json;
mod kind;
mod kinds;
mod lanes;
mod masking;
pub mod nats;
mod networks;
mod notice;
mod order;
mod outcome;
mod part;
mod runner;
mod secret;
mod sink;
mod sink_message;
mod sink_state;
mod source;
mod target;
mod via;
pub mod webhook;
mod words;

/// The owner of the words of this crate, see [`martlet_settings::Setting`].
pub(crate) struct Here;

pub use bridge::{BrokerAddresses, Brokers, BroughtTopics, ConnectionError, NamedConnection};
pub use caught::{apart, catch, end_thread, is_caught};
pub use common_keys::check_name;
pub use configured_sink::ConfiguredSink;
pub use dead_letters::{DeadLetter, DeadLetterHead, DeadLetterStore, StoredLetter};
pub use each::OneByOne;
pub use feed::{SinkMessages, Ticket};
pub use given::{required, template};
pub use host::{Host, PartSession, RequestTrouble, Response, SavedState};
pub use host_future::HostFuture;
pub use http::{HttpRequest, HttpTarget, NoAnswer};
pub use input_memory::{InputMemory, MemoryLender};
pub use kind::{Kind, MakeIntegration, Surroundings};
pub use kinds::KINDS;
pub use lanes::{LaneEvent, Lanes, Token};
pub use masking::SecretTexts;
pub use networks::AllowedNetworks;
pub use order::Order;
pub use outcome::{Attempt, Outcome};
pub use part::Part;
pub use runner::{
    ALL_TENANTS, Activity, Backoff, CLIENT_IDS, Clock, Command, CommandError, Counts, Failure,
    Handle, MAX_ATTEMPTS, OnReject, Runner, Settings, State, ToldCommand, is_for_good,
    name_of_team, own_name,
};
pub use secret::{
    SecretCheck, SecretTrouble, SecretValue, SecretValues, Secrets, SecretsReceiver, Template,
};
pub use sink::{AccessRefused, Sink};
pub use sink_message::{Publisher, SinkMessage, by_publisher};
pub use sink_state::SinkState;
pub use source::{MessageSource, SourceAnswer, SourceMessage, What};
pub use target::Target;
pub use words::{counted, error_words, not_permitted};
