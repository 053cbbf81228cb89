//! The control plane: all that may wait.
//!
//! It talks to the shards by commands and reads their reports and events; it never reaches into
//! their memory, and the data plane never waits for it. It knows no sockets of MQTT clients but
//! those of its own sessions, and no HTTP: the `api` crate asks it, the binary connects it with the
//! reactor.
//!
//! # Layout
//!
//! * [`Control`] (`control`): commands to shards and their answers
//! * `health`: alive, ready, and why not; `health_report`: all that operators should know
//! * `operate`: sessions, subscriptions and messages, looked through and changed
//! * [`integrations`]: sinks that take messages for other systems, and what those refused
//! * [`iotflow`]: the topics of IoTFlow that mean something to the node
//! * [`twins`]: values that devices are to have, and those that they report
//! * [`remedy`]: what is to be done about a problem, for programs
//! * [`request`]: a message that is published, and its response
//! * [`rules`]: rules about messages, and what follows from messages
//! * [`alarms`]: alarms, their states, and the reports of them
//! * [`message_log`]: messages that other programs read and confirm
//! * `metrics`: the Prometheus page, with the metrics of the `process`
//! * [`misread`]: messages of devices that the node could not use
//! * [`history`]: the main numbers of the last day
//! * `statistics`: the `$SYS/broker/…` topics under Mosquitto's names
//! * [`backup`]: a consistent copy of everything in one file, and its way back
//! * [`authentication`]: checks clients against the sources of credentials in their order
//! * [`csv`]: tables as text
//! * `store`: whether the message store keeps up
//! * [`feed`]: live events, for readers, and pushed to a panel
//! * [`presence`]: which clients are connected, since when, and why others disconnected
//! * [`event`]: events of the node: of its shards, and of the control plane; [`event_kind`]: the
//!   closed list of kinds
//! * [`http_cause`]: why the HTTP server refuses
//! * [`event_archive`]: events in files, for as long as is configured
//! * `event_log`: events as log lines
//! * [`event_outbox`]: events about changes of the tables, as messages
//! * [`activity`]: when devices sent something, and which are inactive
//! * `examined`: the parts of the node that [`why`] examines
//! * [`explain`]: what decides whether a client may do something
//! * [`devices`]: devices that log in with a secret or register with a provisioning key
//! * [`discovery`]: devices that register by MQTT
//! * [`commands`]: commands to devices, from their tables to the devices and back
//! * [`firmware`], [`rollouts`]: firmware for devices, and bringing it to them in waves
//! * [`facts`]: what the node was set up with
//! * [`logging`]: what is logged, while the node runs
//! * [`journal`]: what happened recently to clients, and the remedy
//! * [`why`]: why a client does not work, of the closed list of [`cause`]
//! * [`principal`]: callers and their rights
//! * [`callers`]: where that is looked up, and what a caller may change
//! * [`secrets`]: secrets of other systems
//! * [`shared_registry`]: users, devices and the rest while the node runs
//! * [`shares`]: who uses how much of what all teams share
//! * [`telemetry`]: values that devices send, stored
//! * [`use_cases`]: what callers do with devices, people, teams, groups and rules
//! * `wall_clock`: what it shows
//! * [`token_bucket`]: how fast something may be done
//! * [`topic_memory`]: what was published last, by topic
//! * [`text`]: text from outside, on terminals and in shells
#![forbid(unsafe_code)]

pub mod activity;
pub mod alarms;
pub mod authentication;
pub mod backup;
pub mod callers;
pub mod cause;
pub mod commands;
mod control;
pub mod csv;
pub mod devices;
pub mod discovery;
pub mod event;
pub mod event_archive;
mod event_fields;
pub mod event_kind;
pub mod event_log;
pub mod event_outbox;
mod event_words;
mod examined;
pub mod explain;
pub mod facts;
pub mod feed;
pub mod firmware;
pub mod health;
mod health_report;
pub mod history;
pub mod http_cause;
pub mod integrations;
pub mod iotflow;
pub mod journal;
mod lock;
mod log_limit;
pub mod log_lines;
pub mod logging;
mod memory;
pub mod message_log;
mod metrics;
pub mod misread;
mod observer;
mod operate;
pub mod presence;
pub mod principal;
mod process;
pub mod remedy;
pub(crate) mod remembered;
pub mod request;
mod restore_note;
pub mod rfc3339;
pub mod rollouts;
pub mod rules;
pub mod secrets;
pub mod shared_registry;
pub mod shared_slots;
pub mod shares;
mod statistics;
mod store;
pub mod telemetry;
pub mod text;
pub mod token_bucket;
pub mod topic_memory;
pub mod twins;
pub mod use_cases;
mod wall_clock;
pub mod why;

pub use control::{
    Control, ControlError, ControlParts, Latencies, NodeInfo, OwnTopics, ReloadOf, ReloadRequest,
    Reloaded, Shards, SilenceObserver, UserConfiguration,
};
pub use examined::ExaminedParts;
pub use health::{Health, HealthAudience, HealthReport};
pub use martlet_access::star_warning_of;
pub use memory::{CountBytes, MemoryHeld, MemoryReport, part_of_memory};
pub use metrics::MetricsFormat;
pub use restore_note::RestoreNote;
pub use statistics::SysStatistics;
pub use store::{PinnedStore, StoreSize, StoreState};
