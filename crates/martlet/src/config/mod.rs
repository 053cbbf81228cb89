//! The configuration: default < file (TOML) < environment < command line.
//!
//! `schema` declares every key with its type, default and range, and `key!` is the macro for key
//! names. `load` merges the sources and records the source of each value. Two of the sources are
//! `seeds`, the variables of other programs, and `mosquitto`, the configuration file of that
//! broker.
//!
//! `resolve` converts the result to the settings of each layer. Parts of it are `authentication`
//! (the authentication policy), `http` (HTTP listeners and access rules), `registry` (location of
//! the tables), `database` (variables of other programs for that location), `sinks` (integrations,
//! whose kinds are in `table_kinds`), `rules` (rules about messages, read from the file by
//! `rule_table`), `kept` (messages, topics, events, firmware), `telemetry`, `log`, `data_dir`,
//! `memory` (the memory limit), `way_in` (options for clients) and `file_access` (files that other
//! users could change or read).
//!
//! `error` has the errors of a configuration, `nearest` suggests similar names, and `stars` warns
//! about filters. `addresses` parses networks, `regular_file` reads files.

/// The path of a key, such as `key!(mqtt.max_qos)`: the compiler checks that the key exists.
macro_rules! key {
    ($section:ident.$key:ident) => {{
        const _: fn(&$crate::config::Settings) = |settings| {
            let _ = &settings.$section.$key;
        };
        concat!(stringify!($section), ".", stringify!($key))
    }};
}

mod addresses;
mod authentication;
mod bridges;
mod broken;
mod data_dir;
mod database;
mod error;
#[cfg(test)]
mod fail_open_tests;
mod file_access;
mod http;
mod kept;
mod load;
mod log;
mod made;
mod memory;
pub(crate) mod mosquitto;
mod nearest;
mod registry;
pub(crate) mod regular_file;
mod resolve;
mod rule_table;
mod rules;
mod schema;
mod seeds;
mod sink_files;
mod sinks;
mod stars;
mod telemetry;
mod way_in;

pub(crate) use authentication::{
    IGNORES_TABLES, TablesRead, subscribing, tables_unasked, user_configuration,
};
pub(crate) use broken::data_dir_in;
pub(crate) use data_dir::{command_options, data_dir, options_of};
pub(crate) use database::{NAMES as DATABASE_NAMES, is_about_database, wait_for_database};
pub(crate) use error::ConfigError;
pub(crate) use file_access::{exposed_files, unreadable_files};
pub(crate) use http::{HttpConnections, HttpListener, iotflow_base};
pub(crate) use kept::MessageLogConfig;
pub(crate) use key;
pub(crate) use load::{
    Effective, FIND_NODES, HttpAddress, Imported, Overlay, SinkTable, Table, environment,
    environment_name, import_mosquitto, load, origin_of,
};
pub(crate) use log::{LogFile, LogSettings, log_settings};
pub(crate) use made::MadeIntegrations;
pub(crate) use registry::{
    expect_noted as expect_noted_tables, location, note as note_tables, noted as noted_tables,
    settings as tables_settings,
};
pub(crate) use resolve::{NodeConfig, listener_url, resolve, resolve_with};
pub(crate) use schema::{
    HttpListenerKeys, ListenerKeys, LogFormat, Settings, keys, shown, shown_of_sink,
};
pub(crate) use seeds::{
    ENDS_OF_CONNECTIONS, GENERIC as GENERIC_VARIABLES, NAMES as NAMES_OF_OTHERS,
    UNIQUE as UNIQUE_VARIABLES, Use, Variables, with_host,
};
pub(crate) use sinks::{SinksConfig, refused_targets, unusable_files as unusable_files_of_sinks};
pub(crate) use telemetry::{of as telemetry_settings, tables as telemetry_tables};
pub(crate) use way_in::way_in;
