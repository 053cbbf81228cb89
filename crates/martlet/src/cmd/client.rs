//! `martlet client` and `martlet session`: show and end the clients of a running node.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use martlet_api::{ClientDetailView, ClientView, SubscriptionView};
use martlet_codec::TopicName;
use martlet_control::text::printable;
use serde::Deserialize;

use crate::cmd::admin::{AdminOptions, ask, clients_text, finish_as, pages};
use crate::cmd::columns::{columns, left_out};
use crate::cmd::listing;
use crate::cmd::node_options::TeamOption;
use crate::cmd::query::encoded;

/// Arguments of `martlet client`.
#[derive(Args, Debug)]
pub(crate) struct ClientCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List clients, connected or not
    #[command(alias = "list")]
    Ls(ListOptions),
    /// Show a client: connection, queue, messages in flight, subscriptions, losses
    Show(NamedOptions),
    /// End the connection of a client; its session stays, and it may reconnect
    Kick(NamedOptions),
    /// Forget the verified login of a client: its next login is checked again, also by the HTTP
    /// hook
    Forget(ForgetOptions),
    /// List subscriptions: of a client, or those that match a topic
    Subscriptions(SubscriptionOptions),
}

#[derive(Args, Debug)]
pub(crate) struct ListOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
    /// Only clients with this text in Client Identifier, user name or address. Integrations are
    /// listed if it begins with `$`
    #[arg(value_name = "TEXT")]
    search: Option<String>,
    /// Only clients of this user
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only connected clients
    #[arg(long)]
    connected: bool,
    /// Only clients that are not connected
    #[arg(long, conflicts_with = "connected")]
    away: bool,
    /// Print at most this many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
}

#[derive(Args, Debug)]
pub(crate) struct NamedOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
    /// Client Identifier
    #[arg(value_name = "CLIENT")]
    client_id: String,
}

#[derive(Args, Debug)]
struct ForgetOptions {
    #[command(flatten)]
    named: NamedOptions,
    /// User name that the client logs in with [default: the Client Identifier]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

#[derive(Deserialize)]
struct Forgotten {
    forgotten: usize,
}

#[derive(Args, Debug)]
struct SubscriptionOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
    /// Client Identifier [default: of all clients]
    #[arg(value_name = "CLIENT")]
    client_id: Option<String>,
    /// Only subscriptions that match this Topic Name: the receivers of a message
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Only subscriptions with exactly this Topic Filter
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Only subscriptions with this ShareName
    #[arg(long, value_name = "NAME")]
    share: Option<String>,
    /// Print at most this many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
}

/// Arguments of `martlet session`.
#[derive(Args, Debug)]
pub(crate) struct SessionCommand {
    #[command(subcommand)]
    action: SessionAction,
}

#[derive(Subcommand, Debug)]
enum SessionAction {
    /// List sessions, with a connection or without
    #[command(alias = "list")]
    Ls(ListOptions),
    /// End a session, with its subscriptions and its queued messages
    Rm(NamedOptions),
}

/// Runs `martlet client`.
pub(crate) fn run(command: &ClientCommand) -> ExitCode {
    match &command.action {
        Action::Ls(options) => run_list(options),
        Action::Show(options) => finish_as(options.admin.json, show(options)),
        Action::Kick(options) => finish_as(
            options.admin.json,
            delete(options, "clients", "its connection is ended"),
        ),
        Action::Forget(options) => finish_as(options.named.admin.json, forget(options)),
        Action::Subscriptions(options) => finish_as(options.admin.json, subscriptions(options)),
    }
}

/// Runs `martlet clients`, an alias of `martlet client ls`.
pub(crate) fn run_list(options: &ListOptions) -> ExitCode {
    finish_as(options.admin.json, list(options, "There are no clients."))
}

/// Runs `martlet session`.
pub(crate) fn run_session(command: &SessionCommand) -> ExitCode {
    match &command.action {
        SessionAction::Ls(options) => {
            finish_as(options.admin.json, list(options, "There are no sessions."))
        }
        SessionAction::Rm(options) => {
            let done = delete(options, "sessions", "its session is ended");
            finish_as(options.admin.json, done)
        }
    }
}

fn list(options: &ListOptions, none: &str) -> anyhow::Result<String> {
    let mut filters = Vec::new();
    filters.extend(options.of.filter());
    filters.extend(options.search.as_deref().map(|text| ("search", text)));
    filters.extend(options.user.as_deref().map(|user| ("user", user)));
    filters.extend(options.connected.then_some(("connected", "true")));
    filters.extend(options.away.then_some(("connected", "false")));
    let data_dir = options.admin.node.data_dir()?;
    let (clients, total): (Vec<ClientView>, u64) =
        pages(&data_dir, "/api/v1/clients", &filters, options.limit)?;
    match options.admin.json {
        true => listing::first_of(&clients, total),
        false => Ok(clients_text(&clients, total, none)),
    }
}

fn show(options: &NamedOptions) -> anyhow::Result<String> {
    let (id, query) = (encoded(&options.client_id), options.of.query());
    let target = format!("/api/v1/clients/{id}{query}");
    let body = ask(&options.admin.node.data_dir()?, "GET", &target)?;
    match options.admin.json {
        true => Ok(body),
        false => Ok(detail_text(&serde_json::from_str(&body)?)),
    }
}

fn detail_text(found: &ClientDetailView) -> String {
    let ClientDetailView { client, .. } = found;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        text.push_str(&format!("{name:<14}{}\n", printable(&value)));
    };
    line("client", client.client_id.clone());
    line("state", state(found));
    if let Some(user) = &found.user {
        let worth = if found.user_is_proved {
            ""
        } else {
            " (not verified)"
        };
        line("user", format!("{user}{worth}"));
    }
    line("protocol", format!("MQTT {}", client.protocol));
    if let Some(connection) = &found.connection {
        let address = client.address.as_deref().unwrap_or("-");
        line(
            "connection",
            format!("from {address} by {}", connection.listener),
        );
        let waits = format!(
            "{} bytes to it, {} bytes from it",
            connection.output_bytes, connection.input_bytes
        );
        line("waiting", waits);
        line(
            "keep alive",
            keep_alive(client.keep_alive_secs, &connection.listener),
        );
        if let Some(at) = &connection.last_packet_at {
            line("last packet", at.clone());
        }
    }
    let kept = if found.durable {
        "kept"
    } else {
        "ends with its connection"
    };
    line("session", kept.to_owned());
    if let Some(will) = &found.will {
        line(
            "will",
            format!(
                "{}, QoS {}, {} bytes",
                will.topic, will.qos, will.payload_bytes
            ),
        );
    }
    line(
        "messages",
        format!("{} matched, {} delivered", client.matched, client.delivered),
    );
    line(
        "queue",
        format!("{} messages, {} bytes", client.queued, found.queued_bytes),
    );
    for message in &found.queue {
        let topic = message.topic.as_deref().unwrap_or("(in the store)");
        line(
            "",
            format!("{} QoS {}, {} bytes", topic, message.qos, message.bytes),
        );
    }
    line("in flight", client.in_flight.to_string());
    for message in &found.in_flight {
        let topic = message.topic.as_deref().unwrap_or("(in the store)");
        line(
            "",
            format!("{topic} QoS {}, {}", message.qos, message.state),
        );
    }
    line("subscriptions", client.subscriptions.to_string());
    for subscription in &found.subscriptions {
        line(
            "",
            format!("{} QoS {}", subscription.filter, subscription.qos),
        );
    }
    for lost in &found.drops {
        line("dropped", format!("{}: {}", lost.count, lost.meaning));
    }
    text
}

fn state(found: &ClientDetailView) -> String {
    match (&found.left_at, found.client.connected) {
        (_, true) => "connected".to_owned(),
        (Some(left), false) => format!("away since {left}"),
        (None, false) => "away".to_owned(),
    }
}

/// The Keep Alive of a client, and what its absence means.
fn keep_alive(secs: u16, listener: &str) -> String {
    match secs {
        0 if listener.starts_with("unix://") => {
            "none: the client is on this machine, and its connection ends with its program"
                .to_owned()
        }
        0 => "none: if its machine loses its power, only TCP shows that, about five minutes after \
              the last packet"
            .to_owned(),
        secs => format!("{secs} s"),
    }
}

fn delete(options: &NamedOptions, of: &str, done: &str) -> anyhow::Result<String> {
    let (id, query) = (encoded(&options.client_id), options.of.query());
    let target = format!("/api/v1/{of}/{id}{query}");
    ask(&options.admin.node.data_dir()?, "DELETE", &target)?;
    match options.admin.json {
        true => Ok(serde_json::json!({ "client_id": options.client_id }).to_string()),
        false => Ok(format!("{}: {done}", printable(&options.client_id))),
    }
}

fn forget(options: &ForgetOptions) -> anyhow::Result<String> {
    let ForgetOptions { named, user } = options;
    let (id, user) = (&named.client_id, user.as_ref().unwrap_or(&named.client_id));
    let team = named.of.team.as_deref();
    let team = team.map_or_else(String::new, |team| format!("&team={}", encoded(team)));
    let (user_name, client_id) = (encoded(user), encoded(id));
    let target =
        format!("/api/v1/auth/remembered?user_name={user_name}&client_id={client_id}{team}");
    let body = ask(&named.admin.node.data_dir()?, "DELETE", &target)?;
    if named.admin.json {
        return Ok(body);
    }
    let Forgotten { forgotten } = serde_json::from_str(&body).context("reading the answer")?;
    let (user, id) = (printable(user), printable(id));
    match forgotten {
        0 => anyhow::bail!(
            "no login of the user {user} with the Client Identifier {id} is remembered"
        ),
        _ => Ok(format!(
            "{id}: its login as {user} is forgotten; the next one is checked again"
        )),
    }
}

fn subscriptions(options: &SubscriptionOptions) -> anyhow::Result<String> {
    let mut filters = Vec::new();
    filters.extend(options.of.filter());
    filters.extend(options.client_id.as_deref().map(|id| ("client_id", id)));
    filters.extend(options.topic.as_deref().map(|topic| ("topic", topic)));
    filters.extend(options.filter.as_deref().map(|filter| ("filter", filter)));
    filters.extend(options.share.as_deref().map(|name| ("share_name", name)));
    if let Some(topic) = &options.topic {
        anyhow::ensure!(
            TopicName::new(topic).is_ok(),
            "--topic {topic}: expected a Topic Name, without + and #: clients with a subscription \
             that matches it are listed"
        );
    }
    let data_dir = options.admin.node.data_dir()?;
    let (all, total): (Vec<SubscriptionView>, u64) =
        pages(&data_dir, "/api/v1/subscriptions", &filters, options.limit)?;
    if options.admin.json {
        return listing::first_of(&all, total);
    }
    let row = |one: &SubscriptionView| {
        let id = one.subscription_id.map(|id| id.to_string());
        [
            one.client_id.to_string(),
            one.qos.to_string(),
            id.unwrap_or_default(),
            one.filter.to_string(),
        ]
    };
    let headers = ["CLIENT", ">QOS", ">IDENTIFIER", "FILTER"];
    let text = columns(headers, all.iter().map(row), "There are no subscriptions.");
    Ok(text + &left_out(all.len(), total))
}
