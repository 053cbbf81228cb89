//! `martlet rule`: rules about messages of a running node.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use martlet_control::text::printable;
use serde_json::{Map, Value, json};

use crate::cmd::admin::{AdminOptions, NodeRefusal, ask, ask_with, finish_as};
use crate::cmd::columns::columns;
use crate::cmd::node_options::TeamOption;
use crate::cmd::print::errln;
use crate::cmd::query::encoded;
use crate::config::regular_file;

/// Additional time limit of a request that attaches a rule or tries it on many messages.
const LONGER: Duration = Duration::from_secs(20);

/// Arguments of `martlet rule`.
#[derive(Args, Debug)]
pub(crate) struct RuleCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List rules
    #[command(alias = "list")]
    Ls(ListOptions),
    /// Show a rule
    Show(NameOptions),
    /// Add or replace a rule
    Add(AddOptions),
    /// Remove a rule that was added through the API
    Rm(NameOptions),
    /// Switch a rule on
    On(NameOptions),
    /// Switch a rule off
    Off(NameOptions),
    /// Test a rule on messages: show its actions, but do not execute them
    Test(TestOptions),
}

#[derive(Args, Debug)]
struct ListOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
}

#[derive(Args, Debug)]
struct NameOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
    /// Name of the rule
    name: String,
}

#[derive(Args, Debug)]
struct AddOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
    /// Name of the rule
    name: String,
    /// File with the rule, as JSON or TOML; -: standard input
    file: PathBuf,
}

#[derive(Args, Debug)]
struct TestOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
    /// Name of a rule, or a file with one, as JSON or TOML
    rule: String,
    /// Use messages of the message log, or with --device its stored telemetry, that are not older
    /// than this: 30s, 15m, 1h, 7d
    #[arg(long, value_name = "TIME", required_unless_present = "messages")]
    since: Option<String>,
    /// Device whose stored telemetry is used
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// File with messages, one JSON object a line, with topic and payload or payload_json; -:
    /// standard input
    #[arg(long, value_name = "FILE", conflicts_with = "since")]
    messages: Option<PathBuf>,
}

/// Runs `martlet rule`.
pub(crate) fn run(command: &RuleCommand) -> ExitCode {
    match &command.action {
        Action::Ls(options) => finish_as(options.admin.json, list(options)),
        Action::Show(options) => finish_as(options.admin.json, show(options)),
        Action::Add(options) => finish_as(options.admin.json, add(options)),
        Action::Rm(options) => finish_as(options.admin.json, remove(options)),
        Action::On(options) => finish_as(options.admin.json, switch(options, true)),
        Action::Off(options) => finish_as(options.admin.json, switch(options, false)),
        Action::Test(options) => finish_as(options.admin.json, test(options)),
    }
}

fn target(path: &str, of: &TeamOption) -> String {
    let team = of.team.as_deref();
    let team = team.map_or_else(String::new, |team| format!("?team={}", encoded(team)));
    format!("/api/v1/rules{path}{team}")
}

fn of_name(options: &NameOptions) -> String {
    target(&format!("/{}", encoded(&options.name)), &options.of)
}

/// Sends a request with a JSON body, and returns the node's response.
pub(crate) fn ask_with_body(
    data_dir: &Path,
    method: &str,
    target: &str,
    body: &Value,
) -> anyhow::Result<String> {
    ask_with(data_dir, method, target, &body.to_string(), LONGER)
}

/// A value as text.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn list(options: &ListOptions) -> anyhow::Result<String> {
    let body = ask(
        &options.admin.node.data_dir()?,
        "GET",
        &target("", &options.of),
    )?;
    if options.admin.json {
        return Ok(body);
    }
    let all: Value = serde_json::from_str(&body).context("reading the answer")?;
    let rows = all["items"].as_array().into_iter().flatten().map(|one| {
        let counts = &one["counts"];
        let state = match (one["enabled"] == true, counts.is_null()) {
            (false, _) => "off",
            (true, false) => "on",
            (true, true) => "not in force",
        };
        [
            text(&one["name"]),
            state.to_owned(),
            text(&one["origin"]),
            text(&counts["messages"]),
            text(&counts["matched"]),
            text(&counts["errors"]),
            text(&counts["last_error"]),
        ]
    });
    let headers = [
        "RULE",
        "STATE",
        "ORIGIN",
        ">MESSAGES",
        ">MATCHED",
        ">ERRORS",
        "LAST-ERROR",
    ];
    Ok(columns(headers, rows, "There are no rules."))
}

fn pretty(body: &str) -> anyhow::Result<String> {
    let value: Value = serde_json::from_str(body).context("reading the answer")?;
    Ok(format!("{}\n", serde_json::to_string_pretty(&value)?))
}

fn show(options: &NameOptions) -> anyhow::Result<String> {
    let body = ask(&options.admin.node.data_dir()?, "GET", &of_name(options))?;
    match options.admin.json {
        true => Ok(body),
        false => pretty(&body),
    }
}

/// Reads a JSON or TOML file as JSON.
fn read_rule(file: &Path) -> anyhow::Result<Map<String, Value>> {
    let text = read(file)?;
    if let Ok(rule) = serde_json::from_str(&text) {
        return Ok(rule);
    }
    let rule: Map<String, Value> = toml::from_str(&text)
        .with_context(|| format!("{}: neither JSON nor TOML", file.display()))?;
    // In the form used in the configuration.
    let mut tables = match rule.get("rules") {
        Some(Value::Array(tables)) => tables.clone(),
        _ => return Ok(rule),
    };
    match (tables.pop(), tables.pop()) {
        (Some(Value::Object(mut rule)), None) => {
            rule.remove("name");
            Ok(rule)
        }
        _ => bail!("{}: expected one table [[rules]]", file.display()),
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file.as_os_str() == "-" {
        return Ok(regular_file::read_stdin_text()?);
    }
    regular_file::read_named_text(file).with_context(|| format!("cannot read {}", file.display()))
}

/// An error about a field of a rule, which is in the file and not an option.
fn in_file(error: anyhow::Error, file: &Path) -> anyhow::Error {
    match NodeRefusal::of(&error).and_then(NodeRefusal::in_file) {
        Some(words) => anyhow!("{}: {words}", file.display()),
        None => error,
    }
}

fn add(options: &AddOptions) -> anyhow::Result<String> {
    let rule = Value::Object(read_rule(&options.file)?);
    let path = format!("/{}", encoded(&options.name));
    let target = target(&path, &options.of);
    let body = ask_with_body(&options.admin.node.data_dir()?, "PUT", &target, &rule);
    let body = body.map_err(|error| in_file(error, &options.file))?;
    match options.admin.json {
        true => Ok(body),
        false => {
            let added: Value = serde_json::from_str(&body).context("reading the answer")?;
            if let Some(warning) = added["warning"].as_str() {
                errln!("Warning: {}", printable(warning));
            }
            Ok(format!("The rule {} is in force.\n", options.name))
        }
    }
}

fn remove(options: &NameOptions) -> anyhow::Result<String> {
    ask(&options.admin.node.data_dir()?, "DELETE", &of_name(options))?;
    match options.admin.json {
        true => Ok("{}\n".to_owned()),
        false => Ok(format!("The rule {} is removed.\n", options.name)),
    }
}

fn switch(options: &NameOptions, enabled: bool) -> anyhow::Result<String> {
    let change = json!({ "enabled": enabled });
    let target = of_name(options);
    let body = ask_with_body(&options.admin.node.data_dir()?, "PATCH", &target, &change)?;
    let state = if enabled { "on" } else { "off" };
    match options.admin.json {
        true => Ok(body),
        false => Ok(format!("The rule {} is {state}.\n", options.name)),
    }
}

/// Seconds of a duration such as 15m.
pub(crate) fn secs_of(text: &str) -> anyhow::Result<u64> {
    let wrong = || format!("{text:?}: expected a time such as 30s, 15m, 1h or 7d");
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let number: u64 = number.parse().with_context(wrong)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => bail!(wrong()),
    };
    Ok(number.saturating_mul(unit))
}

/// Messages, one JSON object per line.
fn messages_of(text: &str) -> anyhow::Result<Vec<Value>> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let messages = lines.map(|(at, line)| {
        serde_json::from_str(line).map_err(|error| {
            let text = error.to_string();
            // The position reported is that in the line.
            let why = text.split(" at line ").next().unwrap_or_default();
            anyhow::anyhow!("line {}, column {}: {why}", at + 1, error.column())
        })
    });
    messages.collect()
}

fn test(options: &TestOptions) -> anyhow::Result<String> {
    let mut request = match PathBuf::from(&options.rule) {
        file if options.rule == "-" || file.is_file() => {
            json!({ "definition": read_rule(&file)? })
        }
        _ => json!({ "name": options.rule }),
    };
    if let Some(file) = &options.messages {
        let messages = messages_of(&read(file)?);
        let messages = messages.with_context(|| format!("reading {}", file.display()))?;
        request["messages"] = messages.into();
    }
    if let Some(since) = &options.since {
        let history = json!({ "since_secs": secs_of(since)?, "device": options.device });
        request["history"] = history;
    }
    let target = target("/test", &options.of);
    let data_dir = options.admin.node.data_dir()?;
    let body = ask_with_body(&data_dir, "POST", &target, &request)?;
    if options.admin.json {
        return Ok(body);
    }
    let all: Value = serde_json::from_str(&body).context("reading the answer")?;
    let items = all["items"].as_array().cloned().unwrap_or_default();
    let mut lines = String::new();
    let (mut matched, mut failed) = (0, 0);
    for one in &items {
        let verdict = text(&one["verdict"]);
        matched += u32::from(verdict == "matched");
        failed += u32::from(verdict == "failed");
        let actions = one["actions"].as_array().cloned().unwrap_or_default();
        if actions.is_empty() && verdict != "failed" {
            continue;
        }
        let at = text(&one["at"]);
        lines.push_str(&format!("{at} {} {}\n", text(&one["topic"]), verdict));
        if !one["why"].is_null() {
            lines.push_str(&format!("    {}\n", text(&one["why"])));
        }
        for action in actions {
            lines.push_str(&format!("    {action}\n"));
        }
    }
    let noun = if items.len() == 1 {
        "message"
    } else {
        "messages"
    };
    lines.push_str(&format!(
        "{} {noun}, {matched} matched, {failed} failed. Nothing was done.\n",
        items.len()
    ));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(secs_of("15m").ok(), Some(900));
        assert_eq!(secs_of("7d").ok(), Some(604_800));
        for wrong in ["", "h", "5", "5y"] {
            assert!(secs_of(wrong).is_err(), "{wrong}");
        }
    }
}
