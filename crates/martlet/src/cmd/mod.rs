//! The subcommands, one module each, and what the MQTT clients among them share.
//!
//! Responsible for nothing itself.

pub(crate) mod acl;
pub(crate) mod admin;
pub(crate) mod argv;
pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod cert;
pub(crate) mod client;
mod client_environment;
mod client_run;
pub(crate) mod completions;
pub(crate) mod config_cmd;
pub(crate) mod device;
pub(crate) mod exit;
mod format;
pub(crate) mod import;
pub(crate) mod init;
mod json;
pub(crate) mod logs;
pub(crate) mod man;
mod message_source;
mod mqtt_options;
mod node_options;
mod packet_log;
pub(crate) mod passwd;
pub(crate) mod people;
mod print;
mod prompt;
mod property;
pub(crate) mod pub_;
mod random;
pub(crate) mod retained;
pub(crate) mod role;
pub(crate) mod rr;
mod scram;
pub(crate) mod stop;
pub(crate) mod store_cmd;
pub(crate) mod sub;
mod tables;
mod tls_options;
mod url;
pub(crate) mod user;
pub(crate) mod why;
