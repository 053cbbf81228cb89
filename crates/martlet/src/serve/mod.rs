//! `martlet serve`: wires the layers together, tells people what it does, and stops in order.
//!
//! * `stages`: the start in stages, each of which needs what the one before has made
//! * `reactor`: starting the reactors
//! * `shards`, `events`, `store`: what the control plane has to do with the reactors
//! * `presence`, `integrations`, `iotflow`: other parts of the node
//! * `http`, `admin_socket`, `connection_slots`: listeners of the API
//! * `reload`, `signals`: what happens while it runs

mod accept_failures;
mod activity;
pub(crate) mod admin_socket;
mod announce;
mod assignment;
mod authentication;
mod commands;
mod connection_slots;
pub(crate) mod data_dir;
mod event_archive;
mod events;
mod facts;
mod firmware;
mod http;
mod http_at;
mod integrations;
mod iotflow;
mod log;
mod log_text;
mod memory;
mod microservice;
mod notify;
mod open_files;
mod options;
mod panel_broker;
mod presence;
mod program_name;
mod reactor;
mod reload;
mod rotated_file;
mod rules;
mod setup_link;
mod shards;
mod signals;
mod stages;
mod stalling;
mod standard;
mod store;
mod tables_in_use;
mod telemetry;
mod topic_memory;
mod twins;

pub(crate) use data_dir::{claim as claim_data_dir, give_files_to_owner_of};
pub(crate) use log::check_log_file;
pub(crate) use options::ConfigOptions;
pub(crate) use program_name::program_name;
pub(crate) use store::{check_restored, claim_store, claim_store_to_read};

use std::process::ExitCode;

use anyhow::Context as _;
use martlet_control::backup::STORE;
use martlet_reactor::Durability;
use tracing::warn;

use crate::cmd::errors::error_text;
use crate::cmd::print::errln;
use crate::config::{self, NodeConfig};
use signals::Signals;
use tables_in_use::identity_of_tables;

/// Runs a node until it is told to stop.
pub(crate) fn run(options: &ConfigOptions) -> ExitCode {
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("martlet: {}", error_text(&error));
            ExitCode::FAILURE
        }
    }
}

/// Looks for what [`run`] would refuse, as far as that can be seen without starting: the ports are
/// not tried, and what the store holds is not read.
///
/// # Errors
/// What a node would end with.
pub(crate) fn check(node: &NodeConfig) -> anyhow::Result<()> {
    log::filter(node)?;
    check_log_file(node)?;
    admin_socket::check(&node.data_dir)?;
    data_dir::check(&node.data_dir)?;
    if node.durability != Durability::Memory {
        check_restored(&node.data_dir)?;
        data_dir::check_store(&node.data_dir.join(STORE))?;
    }
    Ok(())
}

fn serve(options: &ConfigOptions) -> anyhow::Result<()> {
    // Before anything slow: a signal without a handler ends the process.
    let signals = Signals::handle()?;
    let effective = options.load()?;
    let node = config::resolve(&effective)?;
    let log = log::start(&node)?;
    for warning in effective.warnings.iter().chain(&node.warnings) {
        warn!("{warning}");
    }
    keep_pages_small();
    // Before anything is made in a directory that will not do.
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
    let outcome = runtime.block_on(stages::run(&node, &effective, options, &log, &signals));
    let outcome = outcome.map_err(|error| open_files::explained(error, node.threads));
    // What still runs there waits for clients that are gone.
    runtime.shutdown_background();
    drop(lock);
    outcome
}

/// The allocator asks for huge pages, so that one idle connection more may cost 2 MiB. Many small
/// things are held for long here: with small pages a broker takes about half the memory, and its
/// CPU time does not change measurably.
fn keep_pages_small() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay on");
    }
}
