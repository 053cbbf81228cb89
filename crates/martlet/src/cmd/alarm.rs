//! `martlet alarm`: alarms of a running node.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use martlet_control::text::printable;
use serde_json::{Value, json};

use crate::cmd::admin::{AdminOptions, ask, finish_as};
use crate::cmd::columns::columns;
use crate::cmd::node_options::TeamOption;
use crate::cmd::query::{encoded, with_query};
use crate::cmd::rule::{ask_with_body, secs_of, text};

/// Arguments of `martlet alarm`.
#[derive(Args, Debug)]
pub(crate) struct AlarmCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List alarms that are not cleared
    #[command(alias = "list")]
    Ls(ListOptions),
    /// Acknowledge an alarm: show that somebody works on it
    Ack(NumberOptions),
    /// Silence an alarm for a time
    Shelve(ShelveOptions),
    /// Unshelve an alarm before the time ends
    Unshelve(NumberOptions),
    /// Clear an alarm
    Clear(NumberOptions),
}

#[derive(Args, Debug)]
struct ListOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
    /// Also list cleared alarms
    #[arg(long)]
    all: bool,
    /// Only alarms in these states, with commas between them: active, acknowledged, shelved,
    /// cleared [default: all but cleared]
    #[arg(long, value_name = "STATES", conflicts_with = "all")]
    state: Option<String>,
    /// Only alarms of this device
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Only alarms with this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// List the newest N, at most 1000
    #[arg(long, value_name = "N", default_value_t = 1000,
        value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// Minimum severity: info, warning, minor, major, critical
    #[arg(long, value_name = "WORD")]
    severity: Option<String>,
}

#[derive(Args, Debug)]
struct NumberOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Number of the alarm
    id: String,
}

#[derive(Args, Debug)]
struct ShelveOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Number of the alarm
    id: String,
    /// Duration: 30s, 15m, 1h, 7d
    #[arg(long = "for", value_name = "TIME", default_value = "1h")]
    time: String,
}

/// Runs `martlet alarm`.
pub(crate) fn run(command: &AlarmCommand) -> ExitCode {
    let order = |options: &NumberOptions, word: &str| {
        let done = order(&options.admin, &options.id, word, &json!({}));
        finish_as(options.admin.json, done)
    };
    match &command.action {
        Action::Ls(options) => finish_as(options.admin.json, list(options)),
        Action::Ack(options) => order(options, "acknowledge"),
        Action::Unshelve(options) => order(options, "unshelve"),
        Action::Clear(options) => order(options, "clear"),
        Action::Shelve(options) => finish_as(options.admin.json, shelve(options)),
    }
}

fn list(options: &ListOptions) -> anyhow::Result<String> {
    let all = options.all.then_some("active,acknowledged,shelved,cleared");
    let limit = options.limit.to_string();
    let filters = [
        ("limit", Some(&*limit)),
        ("state", options.state.as_deref().or(all)),
        ("severity", options.severity.as_deref()),
        ("device", options.device.as_deref()),
        ("name", options.name.as_deref()),
        ("team", options.of.team.as_deref()),
    ];
    let target = with_query("/api/v1/alarms", &filters);
    let body = ask(&options.admin.node.data_dir()?, "GET", &target)?;
    if options.admin.json {
        return Ok(body);
    }
    let all: Value = serde_json::from_str(&body).context("reading the answer")?;
    let rows = all["items"].as_array().into_iter().flatten().map(|one| {
        let of = |key: &str| printable(&text(&one[key])).to_string();
        let row = [
            "id",
            "severity",
            "state",
            "name",
            "subject",
            "raised_at",
            "message",
        ];
        row.map(of)
    });
    let headers = [
        "ID", "SEVERITY", "STATE", "NAME", "SUBJECT", "RAISED", "MESSAGE",
    ];
    Ok(columns(headers, rows, "There are no alarms."))
}

fn order(admin: &AdminOptions, id: &str, word: &str, body: &Value) -> anyhow::Result<String> {
    let target = format!("/api/v1/alarms/{}/{word}", encoded(id));
    let body = ask_with_body(&admin.node.data_dir()?, "POST", &target, body)?;
    if admin.json {
        return Ok(body);
    }
    let alarm: Value = serde_json::from_str(&body).context("reading the answer")?;
    let (name, state) = (text(&alarm["name"]), text(&alarm["state"]));
    Ok(format!(
        "The alarm {id}, {}, is {state}.\n",
        printable(&name)
    ))
}

fn shelve(options: &ShelveOptions) -> anyhow::Result<String> {
    let body = json!({ "secs": secs_of(&options.time)? });
    order(&options.admin, &options.id, "shelve", &body)
}
