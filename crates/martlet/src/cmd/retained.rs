//! `martlet retained`: lists, reads and removes the retained messages of a running node.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use martlet_api::{Deleted, RetainedView};
use martlet_control::text::printable;

use crate::cmd::admin::{AdminOptions, ask, finish_as, pages};
use crate::cmd::columns::{columns, left_out};
use crate::cmd::listing;
use crate::cmd::node_options::TeamOption;
use crate::cmd::print::write_data;
use crate::cmd::query::encoded;

/// Arguments of `martlet retained`.
#[derive(Args, Debug)]
pub(crate) struct RetainedCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List retained messages
    #[command(alias = "list")]
    Ls(ListOptions),
    /// Print the raw payload of a retained message
    Get(GetOptions),
    /// Delete retained messages
    Rm(RemoveOptions),
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
    /// Only messages with this text in their topic
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Print at most this many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
}

#[derive(Args, Debug)]
struct GetOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
    /// Topic Name
    #[arg(value_name = "TOPIC")]
    topic: String,
}

#[derive(Args, Debug)]
struct RemoveOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
    /// Topic Filter
    #[arg(value_name = "FILTER")]
    filter: String,
    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    preview: bool,
}

/// Runs the command.
pub(crate) fn run(command: &RetainedCommand) -> ExitCode {
    match &command.action {
        Action::Ls(options) => finish_as(options.admin.json, list(options)),
        Action::Get(options) if options.admin.json => finish_as(true, read(options)),
        Action::Get(options) => match print(options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => finish_as(false, Err(error)),
        },
        Action::Rm(options) => finish_as(options.admin.json, remove(options)),
    }
}

fn list(options: &ListOptions) -> anyhow::Result<String> {
    let mut filters = vec![("filter", options.filter.as_str()), ("payload", "true")];
    filters.extend(options.of.filter());
    filters.extend(options.search.as_deref().map(|text| ("search", text)));
    let data_dir = options.admin.node.data_dir()?;
    let (all, total): (Vec<RetainedView>, u64) =
        pages(&data_dir, "/api/v1/retained", &filters, options.limit)?;
    if options.admin.json {
        return listing::first_of(&all, total);
    }
    let row = |one: &RetainedView| {
        [
            one.qos.to_string(),
            one.payload_bytes.to_string(),
            one.received_at.clone().unwrap_or_default(),
            one.topic.to_string(),
        ]
    };
    let headers = [">QOS", ">BYTES", "RECEIVED", "TOPIC"];
    let none = "There are no retained messages.";
    let text = columns(headers, all.iter().map(row), none);
    Ok(text + &left_out(all.len(), total))
}

fn read(options: &GetOptions) -> anyhow::Result<String> {
    let (topic, query) = (encoded(&options.topic), options.of.query());
    let target = format!("/api/v1/retained/{topic}{query}");
    ask(&options.admin.node.data_dir()?, "GET", &target)
}

fn print(options: &GetOptions) -> anyhow::Result<()> {
    let found: RetainedView = serde_json::from_str(&read(options)?)?;
    let payload = found.payload.unwrap_or_default();
    let bytes = match found.payload_encoding.as_deref() {
        Some("base64") => STANDARD
            .decode(payload)
            .context("the node's answer is not Base64")?,
        _ => payload.into_bytes(),
    };
    write_data(&bytes);
    Ok(())
}

fn remove(options: &RemoveOptions) -> anyhow::Result<String> {
    let (filter, preview) = (encoded(&options.filter), options.preview);
    let mut target = format!("/api/v1/retained?filter={filter}&preview={preview}");
    if let Some((name, team)) = options.of.filter() {
        target.push_str(&format!("&{name}={}", encoded(team)));
    }
    let body = ask(&options.admin.node.data_dir()?, "DELETE", &target)?;
    if options.admin.json {
        return Ok(body);
    }
    let done: Deleted = serde_json::from_str(&body)?;
    let messages = match done.count {
        0 => bail!(
            "no topic that {} matches has a retained message",
            options.filter
        ),
        1 => "1 retained message".to_owned(),
        count => format!("{count} retained messages"),
    };
    if !done.preview {
        return Ok(format!("Removed {messages}"));
    }
    let mut text = format!("{messages} would be removed\n");
    for topic in &done.topics {
        text.push_str(&format!("{}\n", printable(topic)));
    }
    if done.count > done.topics.len() as u64 {
        text.push_str("and more\n");
    }
    Ok(text)
}
