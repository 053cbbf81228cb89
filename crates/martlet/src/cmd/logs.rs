//! `martlet logs`: recent events of clients, one per line, from the running node's journal.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use martlet_control::journal::{Entry, Page};
use martlet_control::log_lines::LogLine;
use martlet_control::text::printable;
use serde::Deserialize;
use serde_json::Value;

use crate::cmd::admin::{AdminOptions, ask};
use crate::cmd::errors::error_text;
use crate::cmd::node_options::{for_node, json_for_node};
use crate::cmd::print::{errln, out};
use crate::cmd::query::encoded;

/// Arguments of `martlet logs`.
#[derive(Args, Debug)]
pub(crate) struct LogsOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Only lines about this client or user
    #[arg(value_name = "CLIENT|USER")]
    client: Option<String>,
    /// Only lines about this client or user: the option as the API names it
    #[arg(
        long = "client",
        value_name = "CLIENT|USER",
        hide = true,
        conflicts_with = "client"
    )]
    by_client: Option<String>,
    /// Only refusals and losses
    #[arg(long, short = 't')]
    trouble: bool,
    /// Only lines that contain this text
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Show the log of the node instead of events of clients: lines of this level or a more severe
    /// one. error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
    /// Show the last N lines
    #[arg(
        long,
        short = 'n',
        alias = "limit",
        value_name = "N",
        default_value_t = 50
    )]
    lines: usize,
    /// Continue with new lines, until interrupted
    #[arg(long, short = 'f')]
    follow: bool,
}

/// How long the node may wait for further entries, in seconds.
const WAIT_SECS: u64 = 5;

/// Interval of requests for lines of the node's own log.
const LOG_EVERY: Duration = Duration::from_millis(500);

/// `martlet logs`.
pub(crate) fn run(options: &LogsOptions) -> ExitCode {
    match show(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("martlet: {}", error_text(&error));
            ExitCode::FAILURE
        }
    }
}

fn show(options: &LogsOptions) -> anyhow::Result<()> {
    let data_dir = options.admin.node.data_dir()?;
    let mut filter = String::new();
    if let Some(client) = options.client.as_ref().or(options.by_client.as_ref()) {
        filter.push_str(&format!("&client={}", encoded(client)));
    }
    if options.trouble {
        filter.push_str("&trouble=true");
    }
    if let Some(level) = &options.level {
        return show_log(options, &data_dir, level, filter);
    }
    let mut query = format!("tail={}{filter}", options.lines);
    loop {
        let body = ask(&data_dir, "GET", &format!("/api/v1/events?{query}"))?;
        let page: Page = serde_json::from_str(&body)?;
        if !print(options, &page)? || !options.follow {
            return Ok(());
        }
        query = format!("from={}&wait_secs={WAIT_SECS}{filter}", page.next);
    }
}

/// Prints the lines of the node's own log.
fn show_log(
    options: &LogsOptions,
    data_dir: &Path,
    level: &str,
    mut filter: String,
) -> anyhow::Result<()> {
    filter.push_str(&format!("&level={}", encoded(level)));
    if let Some(text) = &options.search {
        filter.push_str(&format!("&search={}", encoded(text)));
    }
    let mut query = format!("limit={}{filter}", options.lines);
    loop {
        let page: LogPage =
            serde_json::from_str(&ask(data_dir, "GET", &format!("/api/v1/logs?{query}"))?)?;
        let mut text = String::new();
        for line in &page.items {
            match options.admin.json {
                true => text.push_str(&format!("{}\n", serde_json::to_string(line)?)),
                false => text.push_str(&log_line(line)),
            }
        }
        if !out!("{text}") || !options.follow {
            return Ok(());
        }
        if page.items.is_empty() {
            std::thread::sleep(LOG_EVERY);
        }
        query = format!("after={}{filter}", page.next);
    }
}

/// A page of `/logs`.
#[derive(Deserialize)]
struct LogPage {
    items: Vec<LogLine>,
    next: u64,
}

/// `2026-11-22 09:14:03.123 warn connection refused client_id=c why=…`
fn log_line(line: &LogLine) -> String {
    let at: Option<Timestamp> = line.at.parse().ok();
    let at = at.unwrap_or(Timestamp::UNIX_EPOCH);
    let at = at.to_zoned(TimeZone::system());
    let mut text = format!(
        "{} {:<5} {}",
        at.strftime("%Y-%m-%d %H:%M:%S%.3f"),
        line.level,
        line.text
    );
    for (name, value) in &line.fields {
        match value {
            Value::String(value) => text.push_str(&format!(" {name}={value}")),
            value => text.push_str(&format!(" {name}={value}")),
        }
    }
    format!("{}\n", printable(&text))
}

/// Prints a page. Returns false if standard output is closed.
fn print(options: &LogsOptions, page: &Page) -> anyhow::Result<bool> {
    let out = std::io::stdout();
    let colours =
        std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && out.is_terminal();
    let mut text = String::new();
    if page.gone > 0 && !options.admin.json {
        text.push_str(&format!("({} more are no longer kept)\n", page.gone));
    }
    for entry in &page.items {
        let shown = match options.admin.json {
            true => format!("{}\n", json_for_node(&serde_json::to_string(entry)?)),
            false => line(entry, colours),
        };
        if options
            .search
            .as_ref()
            .is_none_or(|wanted| shown.contains(wanted))
        {
            text.push_str(&shown);
        }
    }
    Ok(out!("{text}"))
}

/// `09:14:03 publish refused: sensor-7 (10.0.0.7:4242) to a/b: why. Remedy: …`
fn line(entry: &Entry, colours: bool) -> String {
    let millis = i64::try_from(entry.at_ms).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
    let at = at.to_zoned(TimeZone::system());
    let (on, off) = match (colours, entry.is_trouble()) {
        (true, true) => ("\x1b[31m", "\x1b[0m"),
        (true, false) => ("\x1b[2m", "\x1b[0m"),
        (false, _) => ("", ""),
    };
    let mut text = format!(
        "{} {on}{}{off}: {}",
        at.strftime("%Y-%m-%d %H:%M:%S%.3f"),
        entry.what_name(),
        match entry.client_id.as_str() {
            "" => "a client without a name".to_owned(),
            client_id => printable(client_id),
        }
    );
    if let Some(user) = &entry.user_name {
        let word = if entry.claimed {
            "claims to be user"
        } else {
            "user"
        };
        text.push_str(&format!(", {word} {}", printable(user)));
    }
    if let Some(address) = &entry.address {
        text.push_str(&format!(" ({address})"));
    }
    if let Some(topic) = entry.topic.as_ref().filter(|topic| !topic.is_empty()) {
        text.push_str(&format!(", {}", printable(topic)));
    }
    match (&entry.why, &entry.reason) {
        // The cause is a sentence with a full stop; here more text may follow.
        (Some(why), _) => {
            text.push_str(&format!(": {}", printable(why.trim_end_matches('.'))));
        }
        (None, Some(reason)) => text.push_str(&format!(": {}", printable(reason))),
        (None, None) => {}
    }
    if let Some(remedy) = &entry.remedy {
        text.push_str(&format!(". Remedy: {}", printable(&for_node(remedy))));
        // It is last in the line, and safe to print.
        if let Some(command) = &entry.command {
            text.push_str(&format!(": {command}"));
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use martlet_control::event_kind::EventKind;

    use super::*;

    #[test]
    fn a_line_says_who_where_why_and_what_to_do() {
        let entry = Entry {
            client_id: "sensor\u{1b}7".to_owned(),
            user_name: Some("site".to_owned()),
            address: Some("10.0.0.7:4242".to_owned()),
            topic: Some("a/b".to_owned()),
            why: Some("no rule permits it".to_owned()),
            remedy: Some("permit it".to_owned()),
            ..Entry::new(EventKind::PublishRefused)
        };
        let said = line(&entry, false);
        let rest = "publish refused: sensor\\u{1b}7, user site (10.0.0.7:4242), a/b: no rule permits \
                    it. Remedy: permit it\n";
        assert!(said.ends_with(rest), "{said}");
    }
}
