//! `martlet logs`: what happened to clients recently, a line each, from the running node's journal.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use martlet_control::journal::{Entry, Page};
use martlet_control::text::printable;

use crate::cmd::admin::{AdminOptions, ask, encoded};
use crate::cmd::print::{errln, out};

/// Arguments of `martlet logs`.
#[derive(Args, Debug)]
pub(crate) struct LogsOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Only lines about this client or user
    #[arg(value_name = "CLIENT|USER")]
    client: Option<String>,
    /// Only what was refused or lost
    #[arg(long, short = 't')]
    trouble: bool,
    /// Show the last N lines
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    lines: usize,
    /// Continue with new lines, until interrupted
    #[arg(long, short = 'f')]
    follow: bool,
}

/// How long the node is asked to wait for more.
const WAIT_SECS: u64 = 5;

/// `martlet logs`.
pub(crate) fn run(options: &LogsOptions) -> ExitCode {
    match show(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("martlet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show(options: &LogsOptions) -> anyhow::Result<()> {
    let data_dir = options.admin.node.data_dir()?;
    let mut filter = String::new();
    if let Some(client) = &options.client {
        filter.push_str(&format!("&client={}", encoded(client)));
    }
    if options.trouble {
        filter.push_str("&trouble=true");
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

/// False: nobody reads any more.
fn print(options: &LogsOptions, page: &Page) -> anyhow::Result<bool> {
    let out = std::io::stdout();
    let colours =
        std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && out.is_terminal();
    let mut text = String::new();
    if page.gone > 0 && !options.admin.json {
        text.push_str(&format!("({} more are not kept any more)\n", page.gone));
    }
    for entry in &page.events {
        if options.admin.json {
            text.push_str(&serde_json::to_string(entry)?);
            text.push('\n');
        } else {
            text.push_str(&line(entry, colours));
        }
    }
    Ok(out!("{text}"))
}

/// `09:14:03 publish refused: sensor-7 (10.0.0.7:4242) to a/b: why. To mend it: …`
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
        entry.what,
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
        (Some(why), _) => text.push_str(&format!(": {}", printable(why))),
        (None, Some(reason)) => text.push_str(&format!(": {}", printable(reason))),
        (None, None) => {}
    }
    if let Some(mend) = &entry.mend {
        text.push_str(&format!(". To mend it: {}", printable(mend)));
        // It ends the line, and can be printed as it is.
        if let Some(command) = &entry.command {
            text.push_str(&format!(": {command}"));
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_where_why_and_what_to_do() {
        let entry = Entry {
            what: "publish refused".to_owned(),
            client_id: "sensor\u{1b}7".to_owned(),
            user_name: Some("site".to_owned()),
            address: Some("10.0.0.7:4242".to_owned()),
            topic: Some("a/b".to_owned()),
            why: Some("no rule permits it".to_owned()),
            mend: Some("permit it".to_owned()),
            ..Entry::default()
        };
        let said = line(&entry, false);
        let rest = "publish refused: sensor\\u{1b}7, user site (10.0.0.7:4242), a/b: no rule permits \
                    it. To mend it: permit it\n";
        assert!(said.ends_with(rest), "{said}");
    }
}
