//! `martlet serve`: connects the layers, prints what the node does, and stops in order.
//!
//! * `stages`: the start in stages, each of which needs the results of the previous one
//! * `reactor`: starts the reactors
//! * `shards`, `events`, `store`: connections between the control plane and the reactors
//! * `parts`, `presence`, `integrations`: other parts of the node
//! * `http`, `admin_socket`, `connection_slots`: listeners of the API
//! * `reload`, `signals`: events while the node runs

mod accept_failures;
pub(crate) mod admin_socket;
mod announce;
mod authentication;
mod connection_slots;
pub(crate) mod data_dir;
mod events;
mod facts;
mod http;
mod integrations;
mod log;
mod log_flood;
mod log_text;
mod memory;
mod microservice;
mod open_files;
mod options;
mod panel_broker;
mod parts;
mod presence;
mod reactor;
mod reload;
mod rotated_file;
mod setup_link;
mod shards;
mod signals;
mod stages;
mod stalling;
mod standard;
mod store;

pub(crate) use announce::{access, program_name};
pub(crate) use data_dir::{claim as claim_data_dir, give_files_to_owner_of};
pub(crate) use log::check_log_file;
pub(crate) use options::ConfigOptions;
pub(crate) use store::{check_restored, claim_store, claim_store_to_read};

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use martlet_control::backup::STORE;
use martlet_reactor::Durability;
use tracing::warn;

use crate::cmd::errors::error_text;
use crate::cmd::node_options::for_node;
use crate::config::{self, LogFormat, NodeConfig};
use authentication::identity_of_tables;
use options::{format_of_environment, format_of_set};
use reload::Configured;
use signals::Signals;
use standard::print_error;

/// Runs a node until it is stopped.
pub(crate) fn run(options: &ConfigOptions) -> ExitCode {
    let Err(error) = serve(options) else {
        return ExitCode::SUCCESS;
    };
    let text = error_text(&error);
    let is_json = match log::format() {
        Some(format) => format == LogFormat::Json,
        None => options.asks_for_json(),
    };
    let message = format!("martlet: {text}");
    print_error(&message, is_json);
    ExitCode::FAILURE
}

/// Prints what is wrong with these arguments in JSON if they are those of a node whose log has that
/// form. None: it is to be printed as text.
pub(crate) fn refuse_in_json(args: &[OsString], error: &clap::Error) -> Option<ExitCode> {
    let mut args = args.iter().skip(1).filter_map(|arg| arg.to_str());
    if args.next() != Some("serve") || !error.use_stderr() {
        return None;
    }
    let args: Vec<&str> = args.collect();
    let values_of = |option: &str| {
        let behind = args.windows(2).filter(move |pair| pair[0] == option);
        let inside = args
            .iter()
            .filter_map(move |arg| arg.strip_prefix(option)?.strip_prefix('='));
        let all = behind.map(|pair| pair[1]).chain(inside);
        all.collect::<Vec<_>>()
    };
    let format = values_of("--log-format")
        .last()
        .map(|text| (*text).to_owned());
    let format = format.or_else(|| format_of_set(values_of("--set").into_iter()));
    let format = format.or_else(format_of_environment);
    (format.as_deref() == Some("json")).then(|| {
        print_error(error.to_string().trim_end(), true);
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

/// Checks for errors of [`run`], as far as possible without starting: ports are not opened, and the
/// store's contents are not read.
///
/// # Errors
/// The error with which a node would end.
pub(crate) fn check(node: &NodeConfig) -> anyhow::Result<()> {
    log::filter(&node.log)?;
    check_log_file(&node.log)?;
    admin_socket::check(&node.data_dir)?;
    data_dir::check(&node.data_dir)?;
    if node.durability != Durability::Memory {
        check_restored(&node.data_dir)?;
        data_dir::check_store(&node.data_dir.join(STORE))?;
    }
    Ok(())
}

fn serve(options: &ConfigOptions) -> anyhow::Result<()> {
    // Before any slow operation: a signal without a handler ends the process.
    let signals = Signals::handle()?;
    let mut effective = options.load()?;
    let log = log::start(&config::log_settings(&effective)?)?;
    if config::wait_for_database(&effective)? {
        // What the database contains decides about warnings.
        effective = options.load()?;
    }
    for warning in effective.warnings.iter().chain(&effective.unused_addresses) {
        warn!("{}", for_node(warning));
    }
    let node = config::resolve(&effective)?;
    for warning in &node.warnings {
        warn!("{}", for_node(warning));
    }
    keep_pages_small();
    // Before anything is created in an unsuitable directory.
    admin_socket::check(&node.data_dir)?;
    let lock = data_dir::claim(&node.data_dir)?;
    if node.user_configuration.tables_unasked.is_none() {
        let identity = identity_of_tables(&node);
        let expected =
            config::expect_noted_tables(&node.data_dir, &node.tables.location, identity.as_deref());
        expected.map_err(anyhow::Error::msg)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("martlet-control")
        .enable_all()
        .build()
        .context("cannot start the control plane")
        .map_err(|error| open_files::explained(error, node.threads))?;
    let of = Configured {
        node: &node,
        effective: &effective,
        options,
    };
    let outcome = runtime.block_on(stages::run(of, &log, &signals));
    let outcome = outcome.map_err(|error| open_files::explained(error, node.threads));
    // Remaining tasks wait for clients that have disconnected.
    runtime.shutdown_background();
    drop(lock);
    outcome
}

/// Disables huge pages. The allocator requests them, so one more idle connection might cost 2 MiB.
/// Many small objects are kept for a long time here: with small pages a broker takes about half the
/// memory, without a measurable change of its CPU time.
fn keep_pages_small() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay on");
    }
}
