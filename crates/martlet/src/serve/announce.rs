//! Messages of a started node: its listeners, its data directory, who may connect, insecure files,
//! and the next commands.

use std::sync::Arc;

use martlet_broker::ListenerPolicy;
use martlet_control::Control;
use martlet_control::backup::STORE;
use martlet_control::text::typed;
use martlet_reactor::{Descriptors, Durability, ListenerConfig};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::data_dir;
use super::http::HttpAt;
use super::open_files::connections_line;
use super::setup_link::{OPEN_HERE, SetupLink};
use super::standard::json_line;
use crate::cmd::node_options::for_node;
use crate::cmd::print::out;
use crate::config::{self, LogFormat, NodeConfig};

/// Name of the warning about files that other users of the machine can change or read.
const EXPOSED: &str = "exposed files";
/// Name of the warning about passwords that are too short.
const WEAK_PASSWORDS: &str = "weak passwords";

/// Name of the warning about databases, and receivers of messages, that are not used.
const UNUSED_ADDRESSES: &str = "unused addresses";
/// Name of the warning about rules that give no client any rights.
const LOCKED_OUT: &str = "locked out";

/// Logs how the node is set up, and prints its listeners, who may connect and the next commands.
/// Warnings are only in the log, once each.
pub(super) fn announce(
    node: &NodeConfig,
    effective: &config::Effective,
    control: &Control,
    http: &[HttpAt],
    setup: Option<&SetupLink>,
    is_unclaimed: bool,
    descriptors: &Descriptors,
) {
    warn_of_files(effective, node, control);
    warn_of_http(control, http);
    warn_of_data(node, control);
    if node.anonymous_beyond_loopback {
        control.health.warn(
            "listeners that other machines can reach accept clients without credentials."
                .to_owned(),
        );
    }
    let mut facts = http_facts(http, is_unclaimed);
    facts.push(connections_line(
        node,
        control.info.connections_max,
        descriptors,
    ));
    facts.extend(data_facts(node));
    let files = effective.files.iter();
    facts.extend(files.map(|file| format!("configuration from {}", file.display())));
    facts.extend(effective.notes.iter().cloned());
    for fact in facts {
        info!("{fact}");
    }
    tell_warnings(effective, node, control, setup);
    let text = match node.log.format {
        LogFormat::Text => banner(node, effective, control, http, setup),
        LogFormat::Json => format!("{}\n", json_banner(node, effective, control, http, setup)),
    };
    out!("{text}");
    info!(
        listeners = control.info.listeners.join(", "),
        threads = node.threads,
        connections_max = control.info.connections_max,
        "ready"
    );
}

/// Logs the warnings of health that are not in the log yet, and that nobody administers the node.
fn tell_warnings(
    effective: &config::Effective,
    node: &NodeConfig,
    control: &Control,
    setup: Option<&SetupLink>,
) {
    let warnings = control.health.unlogged();
    let logged = node.warnings.iter().map(|warning| format!("{warning}."));
    let unused = format!("{}.", effective.unused_addresses.join("; "));
    let logged: Vec<String> = logged.chain([unused]).collect();
    // The line about the link contains the same.
    let is_said =
        |warning: &&String| logged.contains(warning) || setup.is_some() && *warning == OPEN_HERE;
    for warning in warnings.iter().filter(|warning| !is_said(warning)) {
        warn!("{}", for_node(warning));
    }
    if let Some(setup) = setup {
        let open = match warnings.iter().any(|warning| warning == OPEN_HERE) {
            true => ", and the HTTP listeners are open to all users of this machine",
            false => "",
        };
        let mut listeners = node.listeners.iter();
        let closes = listeners
            .any(|listener| listener.policy.allow_anonymous && !listener.policy.authenticate)
            && !effective.settings().mqtt.allow_anonymous;
        let then = match closes {
            true => ". As soon as there is one, MQTT clients need credentials too",
            false => "",
        };
        warn!(
            "no administrator yet{open}. To create one, open the link in {} once, within an \
             hour{then}",
            setup.place()
        );
    }
}

/// Text for a person who has started the node.
fn banner(
    node: &NodeConfig,
    effective: &config::Effective,
    control: &Control,
    http: &[HttpAt],
    setup: Option<&SetupLink>,
) -> String {
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
    if let Some(access) = access(node, &opens_to_others(node)) {
        text.push_str(&format!("  {access}\n"));
    }
    if let Some(setup) = setup {
        text.push_str(&setup.lines());
    }
    text.push_str(&next_lines(node, effective, control));
    text
}

/// Returns the banner as one line of JSON.
fn json_banner(
    node: &NodeConfig,
    effective: &config::Effective,
    control: &Control,
    http: &[HttpAt],
    setup: Option<&SetupLink>,
) -> Value {
    let next = next_lines(node, effective, control);
    let next: Vec<&str> = next.lines().map(str::trim).collect();
    let more = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "listeners": control.info.listeners,
        "http": http.iter().map(|at| &at.url).collect::<Vec<_>>(),
        "access": access(node, &opens_to_others(node)),
        "setup": setup.map(|setup| setup.lines().trim().to_owned()),
        "next": next,
    });
    let mut line = json_line("INFO", "started");
    if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
        line.extend(more);
    }
    line
}

/// Sets warnings in health about insecure files of the configuration: files that other users can
/// change, secrets that they can read, passwords that are too short, rules that give no client any
/// rights, and databases and receivers that are named and not used. Withdraws earlier warnings.
/// Returns all warnings.
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
        (UNUSED_ADDRESSES, &effective.unused_addresses),
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

/// Where the pages of the API are, and which requests need a key, and from where.
fn http_facts(http: &[HttpAt], is_unclaimed: bool) -> Vec<String> {
    let pages = http.first();
    let pages = pages.map(|at| format!("the API and its pages on {}/docs/", at.url));
    let access = http.iter().filter_map(|at| http_access(at, is_unclaimed));
    pages.into_iter().chain(access).collect()
}

/// Which of the compatible requests need a key at this listener, and from where.
fn http_access(at: &HttpAt, is_unclaimed: bool) -> Option<String> {
    let systems = at.routes.compat.iter();
    let documented: Vec<&str> = systems
        .flat_map(|system| system.documented_requests())
        .copied()
        .collect();
    if documented.is_empty() {
        return None;
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
    Some(format!("{}: {access}{open}", at.url))
}

/// Sets warnings in health about the HTTP listeners.
fn warn_of_http(control: &Control, http: &[HttpAt]) {
    let is_far = |at: &&HttpAt| !at.address.ip().is_loopback();
    if let Some(at) = http.iter().find(is_far) {
        control.health.warn(format!(
            "health and metrics can be read from other machines, by every client that reaches \
             {}; from there the API requires a key or a session.",
            at.url
        ));
    }
    let plain = http
        .iter()
        .filter(is_far)
        .find(|at| at.url.starts_with("http:"));
    if let Some(at) = plain {
        control.health.warn(format!(
            "API keys, passwords, sessions and the secrets of new devices can be read on their way \
             to {}, which has no TLS: use https:// or a proxy that does.",
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
        control.health.warn(format!(
            "http.open_routes permits all clients to use {routes}."
        ));
    }
}

/// The data directory, the guarantee of an acknowledgement, and the tables.
fn data_facts(node: &NodeConfig) -> [String; 2] {
    let data_dir = node.data_dir.display();
    let data = match node.durability {
        Durability::Sync => format!("data in {data_dir}, synced before it is acknowledged"),
        Durability::Interval { ms } => format!(
            "data in {data_dir}, synced every {ms} ms: a power cut may lose the last {ms} ms"
        ),
        Durability::Memory => "all data in memory: a restart loses them".to_owned(),
    };
    let location = &node.tables.location;
    let tables = match &node.user_configuration.tables_unasked {
        None => format!("users and devices in {location}"),
        Some(why) => format!("users and devices in {location}, which is not used: {why}"),
    };
    [data, tables]
}

/// Sets warnings in health about the data directory.
fn warn_of_data(node: &NodeConfig, control: &Control) {
    let warn = |warning: &str| control.health.warn(format!("{warning}."));
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
}

/// Which clients may connect, and how others may. `to_others`: how MQTT is opened to clients on
/// other machines.
pub(crate) fn access(node: &NodeConfig, to_others: &str) -> Option<String> {
    if node.listeners.is_empty() {
        return Some("no MQTT listeners: mqtt.enabled is false".to_owned());
    }
    let all = || node.listeners.iter().map(|listener| &listener.policy);
    let is_open = |policy: &&Arc<ListenerPolicy>| policy.allow_anonymous;
    if all().all(|policy| !policy.allow_anonymous) {
        return Some("clients need credentials".to_owned());
    }
    let open = all().filter(is_open).filter(|policy| policy.authenticate);
    let open: Vec<&str> = open.map(|policy| &*policy.name).collect();
    match (&node.policy, node.anonymous_beyond_loopback) {
        (Some(_), _) if !open.is_empty() => Some(format!(
            "clients without credentials are accepted at {}",
            open.join(", ")
        )),
        (_, true) => None,
        _ => Some(format!(
            "MQTT is open to every client on this machine, closed to all others; to open it to \
             them: {to_others}"
        )),
    }
}

/// How MQTT is opened to clients on other machines.
fn opens_to_others(node: &NodeConfig) -> String {
    let mut ports = node.listeners.iter().filter_map(|listener| {
        let port = listener.address.socket()?.port();
        (port > 0).then_some(port)
    });
    let (program, port) = (program_name(), ports.next().unwrap_or(1883));
    format!("{program} init, or --listen mqtt://0.0.0.0:{port}")
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

/// The name by which the program was called: printed command lines must work even if it is not in
/// the search path.
pub(crate) fn program_name() -> String {
    std::env::args()
        .next()
        .unwrap_or_else(|| "martlet".to_owned())
}
