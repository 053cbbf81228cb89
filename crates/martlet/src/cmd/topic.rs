//! `martlet topic`: lists and reads the topic memory of a running node.

use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use martlet_api::{Items, RememberedView, TopicView};
use martlet_control::text::printable;

use crate::cmd::admin::{AdminOptions, ask, finish_as, pages};
use crate::cmd::columns::{columns, left_out};
use crate::cmd::listing;
use crate::cmd::node_options::TeamOption;
use crate::cmd::query::encoded;

/// Arguments of `martlet topic`.
#[derive(Args, Debug)]
pub(crate) struct TopicCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List topics, with their rates and last messages
    #[command(alias = "list")]
    Ls(ListOptions),
    /// Print the last messages of a topic, the newest one first
    History(HistoryOptions),
}

#[derive(Args, Debug)]
struct ListOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
    /// Topic Filter; # does not match topics that begin with $
    #[arg(value_name = "FILTER", default_value = "#")]
    filter: String,
    /// Only topics that contain all of these words; in a word * matches any text, ? any character
    #[arg(long, value_name = "WORDS")]
    search: Option<String>,
    /// Print at most this many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
}

#[derive(Args, Debug)]
struct HistoryOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
    /// Topic Name
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// Print at most this many
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

/// Characters of a payload shown per line of a list.
const PAYLOAD_SHOWN: usize = 40;

/// Runs the command.
pub(crate) fn run(command: &TopicCommand) -> ExitCode {
    match &command.action {
        Action::Ls(options) => finish_as(options.admin.json, list(options)),
        Action::History(options) => finish_as(options.admin.json, history(options)),
    }
}

fn list(options: &ListOptions) -> anyhow::Result<String> {
    let mut filters = vec![("filter", options.filter.as_str())];
    filters.extend(options.of.filter());
    filters.extend(options.search.as_deref().map(|text| ("search", text)));
    let data_dir = options.admin.node.data_dir()?;
    let (all, total): (Vec<TopicView>, u64) =
        pages(&data_dir, "/api/v1/topics", &filters, options.limit)?;
    if options.admin.json {
        return listing::first_of(&all, total);
    }
    let row = |one: &TopicView| {
        [
            one.messages.to_string(),
            format!("{:.3}", one.rate),
            one.last.received_at.clone().unwrap_or_default(),
            publisher(&one.last),
            one.topic.clone(),
            payload(&one.last, PAYLOAD_SHOWN),
        ]
    };
    let headers = [
        ">MESSAGES",
        ">PER SECOND",
        "LAST",
        "PUBLISHER",
        "TOPIC",
        "PAYLOAD",
    ];
    let none = "Nothing was published on topics that the node remembers.";
    let text = columns(headers, all.iter().map(row), none);
    Ok(text + &left_out(all.len(), total))
}

fn history(options: &HistoryOptions) -> anyhow::Result<String> {
    let (topic, limit) = (encoded(&options.topic), options.limit);
    let mut target = format!("/api/v1/topics/{topic}/history?limit={limit}");
    if let Some((name, team)) = options.of.filter() {
        target.push_str(&format!("&{name}={}", encoded(team)));
    }
    let body = ask(&options.admin.node.data_dir()?, "GET", &target)?;
    if options.admin.json {
        return Ok(body);
    }
    let all: Items<RememberedView> = serde_json::from_str(&body)?;
    let row = |one: &RememberedView| {
        [
            one.received_at.clone().unwrap_or_default(),
            one.qos.to_string(),
            one.payload_bytes.to_string(),
            publisher(one),
            payload(one, usize::MAX),
        ]
    };
    let headers = ["RECEIVED", ">QOS", ">BYTES", "PUBLISHER", "PAYLOAD"];
    Ok(columns(headers, all.items.iter().map(row), ""))
}

fn publisher(message: &RememberedView) -> String {
    let publisher = message.publisher.as_ref();
    publisher.map_or_else(|| "-".to_owned(), |publisher| publisher.client_id.clone())
}

/// The payload in one line, with at most `most` characters.
fn payload(message: &RememberedView, most: usize) -> String {
    let text = match message.payload_encoding.as_str() {
        "base64" => {
            let bytes = STANDARD.decode(&message.payload).unwrap_or_default();
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        }
        _ => message.payload.clone(),
    };
    let text = printable(&text).to_string();
    let shown: String = text.chars().take(most).collect();
    match message.payload_is_whole && shown.len() == text.len() {
        true => shown,
        false => shown + "…",
    }
}
