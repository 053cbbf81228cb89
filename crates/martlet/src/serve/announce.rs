//! Messages of a started node: its listeners, its data directory, who may connect, insecure files,
//! and the next commands.

use std::sync::Arc;

use martlet_broker::ListenerPolicy;
use martlet_control::Control;
use martlet_control::backup::STORE;
use martlet_control::text::typed;
use martlet_reactor::{Descriptors, Durability, ListenerConfig};
use tracing::{info, warn};

use super::data_dir;
use super::http_at::HttpAt;
use super::open_files::connections_line;
use super::program_name::program_name;
use super::setup_link::{OPEN_HERE, SetupLink};
use crate::cmd::print::out;
use crate::config::{self, NodeConfig};

/// Name of the warning about files that other users of the machine can change or read.
const EXPOSED: &str = "exposed files";
/// Name of the warning about passwords that are too short.
const WEAK_PASSWORDS: &str = "weak passwords";

/// Name of the warning about rules that give no client any rights.
const LOCKED_OUT: &str = "locked out";

/// Prints listeners, data directory and next commands.
pub(super) fn announce(
    node: &NodeConfig,
    effective: &config::Effective,
    control: &Control,
    http: &[HttpAt],
    setup: Option<&SetupLink>,
    is_unclaimed: bool,
    descriptors: &Descriptors,
) {
    let mut text = format!("martlet {}\n", env!("CARGO_PKG_VERSION"));
    for url in &control.info.listeners {
        text.push_str(&format!("  listening on {url}\n"));
    }
    for url in &node.skipped {
        text.push_str(&format!(
            "  not on {url}: this machine has no such addresses\n"
        ));
    }
    for at in http {
        text.push_str(&format!("  health and metrics on {}\n", at.url));
    }
    if let Some(at) = http.first() {
        text.push_str(&format!("  the API and its pages on {}/docs/\n", at.url));
    }
    for at in http {
        text.push_str(&access_line(at, is_unclaimed));
    }
    text.push_str(&connections_line(
        node,
        control.info.connections_max,
        descriptors,
    ));
    text.push_str(&durability_lines(node, control));
    for file in &effective.files {
        text.push_str(&format!("  configuration from {}\n", file.display()));
    }
    for note in &effective.notes {
        text.push_str(&format!("  {note}\n"));
    }
    for warning in warn_of_files(effective, node, control) {
        text.push_str(&format!("  warning: {warning}\n"));
    }
    text.push_str(&http_lines(control, http));
    if node.anonymous_beyond_loopback {
        let warning = "listeners that other machines can reach accept clients without credentials";
        text.push_str(&format!("  warning: {warning}\n"));
        control.health.warn(format!("{warning}."));
    }
    text.push_str(&access_lines(node));
    if let Some(setup) = setup {
        text.push_str(&setup.lines());
    }
    text.push_str(&next_lines(node, effective, control));
    out!("{text}");
    let warnings = control.health.report().warnings;
    // The line about the link contains the same.
    let is_said = |warning: &&String| setup.is_none() || *warning != OPEN_HERE;
    for warning in warnings.iter().filter(is_said) {
        warn!("{warning}");
    }
    if let Some(setup) = setup {
        let open = match warnings.iter().any(|warning| warning == OPEN_HERE) {
            true => ", and the HTTP listeners are open to all users of this machine",
            false => "",
        };
        warn!(
            "no administrator yet{open}. To create one, open the link in {} once, within an hour. \
             As soon as an administrator exists, MQTT clients need credentials too, unless \
             mqtt.allow_anonymous is true",
            setup.place()
        );
    }
    info!(
        listeners = control.info.listeners.join(", "),
        threads = node.threads,
        connections_max = control.info.connections_max,
        "ready"
    );
}

/// Sets warnings in health about insecure files of the configuration: files that other users can
/// change, secrets that they can read, passwords that are too short, and rules that give no client
/// any rights. Withdraws earlier warnings. Returns all warnings.
pub(super) fn warn_of_files(
    effective: &config::Effective,
    node: &NodeConfig,
    control: &Control,
) -> Vec<String> {
    let exposed = config::exposed_files(effective);
    let all = [
        (EXPOSED, &exposed),
        (WEAK_PASSWORDS, &node.weak_passwords),
        (LOCKED_OUT, &node.locked_out),
    ];
    for (name, warnings) in all {
        match warnings.is_empty() {
            true => control.health.withdraw(name),
            false => control
                .health
                .warn_as(name, format!("{}.", warnings.join("; "))),
        }
    }
    all.into_iter()
        .flat_map(|(_, warnings)| warnings.clone())
        .collect()
}

/// Which of the compatible requests need a key at this listener, and from where.
fn access_line(at: &HttpAt, is_unclaimed: bool) -> String {
    let systems = at.routes.compat.iter();
    let documented: Vec<&str> = systems
        .flat_map(|system| system.documented_requests())
        .copied()
        .collect();
    if documented.is_empty() {
        return String::new();
    }
    let access = match (is_unclaimed, at.address.ip().is_loopback()) {
        (false, _) => format!(
            "{} need a key or a session (X-API-Key: KEY), from every machine",
            documented.join(", ")
        ),
        (true, true) => "until there is an administrator or an API key, programs on this machine \
                         need no key"
            .to_owned(),
        (true, false) => "until there is an administrator or an API key, programs on this machine \
                          need no key; those on other machines need one (X-API-Key: KEY)"
            .to_owned(),
    };
    let open = match at.routes.open_routes.as_slice() {
        [] => String::new(),
        routes => format!("; without one all clients may use {}", routes.join(", ")),
    };
    format!("  {}: {access}{open}\n", at.url)
}

/// Warnings about the HTTP listeners.
fn http_lines(control: &Control, http: &[HttpAt]) -> String {
    let mut text = String::new();
    let mut warn = |warning: &str| {
        text.push_str(&format!("  warning: {warning}\n"));
        control.health.warn(format!("{warning}."));
    };
    let is_far = |at: &&HttpAt| !at.address.ip().is_loopback();
    if let Some(at) = http.iter().find(is_far) {
        warn(&format!(
            "health and metrics can be read from other machines, by every client that reaches \
             {}; from there the API requires a key or a session",
            at.url
        ));
    }
    let plain = http
        .iter()
        .filter(is_far)
        .find(|at| at.url.starts_with("http:"));
    if let Some(at) = plain {
        warn(&format!(
            "API keys, passwords, sessions and the secrets of new devices can be read on their way \
             to {}, which has no TLS: use https:// or a proxy that does",
            at.url
        ));
    }
    let mut open: Vec<&str> = { http.iter() }
        .flat_map(|at| at.routes.open_routes.iter().map(String::as_str))
        .collect();
    open.sort_unstable();
    open.dedup();
    if !open.is_empty() {
        let routes = open.join(", ");
        warn(&format!(
            "http.open_routes permits all clients to use {routes}"
        ));
    }
    text
}

/// The data directory, and the guarantee of an acknowledgement.
fn durability_lines(node: &NodeConfig, control: &Control) -> String {
    let data_dir = node.data_dir.display();
    let mut text = match node.durability {
        Durability::Sync => format!("  data in {data_dir}, synced before it is acknowledged\n"),
        Durability::Interval { ms } => {
            format!(
                "  data in {data_dir}, synced every {ms} ms: a power cut may lose the last \
                 {ms} ms\n"
            )
        }
        Durability::Memory => "  all data in memory: a restart loses them\n".to_owned(),
    };
    text.push_str(&match &node.user_configuration.tables_unasked {
        None => format!("  users and devices in {}\n", node.tables.location),
        Some(why) => format!(
            "  users and devices in {}, which is not used: {why}\n",
            node.tables.location
        ),
    });
    let mut warn = |warning: &str| {
        text.push_str(&format!("  warning: {warning}\n"));
        control.health.warn(format!("{warning}."));
    };
    if node.durability == Durability::Memory && node.data_dir.join(STORE).is_dir() {
        warn("the store in the data directory is not used with durability memory");
    }
    if let Some((why, remedy)) = data_dir::belongs_to_others(&node.data_dir) {
        warn(&format!(
            "the data directory {why}, who may replace its contents: run {remedy} {} to change \
             that",
            typed(&node.data_dir.display().to_string())
        ));
    }
    let store = node.data_dir.join(STORE);
    if data_dir::is_open_to_others(&store) {
        warn(&format!(
            "the store's modes are wider than 0700 and 0600, open to other users: \
             run chmod -R go= {} to change that",
            typed(&store.display().to_string())
        ));
    }
    if node.simulate_power_loss {
        warn("store.simulate_power_loss is on: a crash of the process is a power cut");
    }
    text
}

/// Describes which clients may connect.
fn access_lines(node: &NodeConfig) -> String {
    if node.listeners.is_empty() {
        return "  no MQTT listeners: mqtt.enabled is false\n".to_owned();
    }
    let all = || node.listeners.iter().map(|listener| &listener.policy);
    let is_open = |policy: &&Arc<ListenerPolicy>| policy.allow_anonymous;
    if all().all(|policy| !policy.allow_anonymous) {
        return "  clients need credentials\n".to_owned();
    }
    let open = all().filter(is_open).filter(|policy| policy.authenticate);
    let open: Vec<&str> = open.map(|policy| &*policy.name).collect();
    match (&node.policy, node.anonymous_beyond_loopback) {
        (Some(_), _) if !open.is_empty() => {
            format!(
                "  clients without credentials are accepted at {}\n",
                open.join(", ")
            )
        }
        (_, true) => String::new(),
        _ => "  MQTT is open to every client on this machine, closed to all others\n".to_owned(),
    }
}

fn next_lines(node: &NodeConfig, effective: &config::Effective, control: &Control) -> String {
    let all = || node.listeners.iter().zip(&control.info.listeners);
    let is_open =
        |listener: &ListenerConfig| listener.tls.is_none() && listener.policy.allow_anonymous;
    let is_direct = |url: &str| url.starts_with("mqtt");
    let open = all().find(|(listener, url)| is_direct(url) && is_open(listener));
    let direct = || all().find(|(_, url)| is_direct(url));
    let mut options = String::new();
    if let Some((listener, url)) = open.or_else(direct).or_else(|| all().next()) {
        options = config::way_in(effective, url);
        if !listener.policy.allow_anonymous {
            options.push_str(" -u USER -P PASSWORD");
        }
    }
    let program = program_name();
    let status = format!(
        "status --data-dir {}",
        typed(&node.data_dir.display().to_string())
    );
    if node.listeners.is_empty() {
        return format!("See how it is: {program} {status}\n");
    }
    format!(
        "Next, in two other terminals:\n  \
         {program} sub{options} -t 'hello/#' -v\n  \
         {program} pub{options} -t hello/world -m 'it works'\n\
         See how it is: {program} {status}\n"
    )
}
