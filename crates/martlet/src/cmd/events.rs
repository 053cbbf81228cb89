//! `martlet events`: what happens to clients, a line each, as it happens, or from the archive.

mod archive;

use std::io::IsTerminal as _;
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use martlet_broker::EventKind;
use martlet_control::telemetry::has_valid_offset;
use martlet_control::text::printable;
use serde_json::Value;

use crate::cmd::admin::{AdminOptions, encoded, follow};
use crate::cmd::errors::error_text;
use crate::cmd::print::{errln, out};

/// Arguments of `martlet events`.
#[derive(Args, Debug)]
pub(crate) struct EventsOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Only events of this client
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    /// Only events of this kind, repeatable: connected, refused, disconnected, subscribed,
    /// published, delivered, dropped, packet, … or all [default: what happens to clients, not to
    /// messages]
    #[arg(
        long = "type",
        visible_alias = "kind",
        alias = "kinds",
        short = 'k',
        value_name = "KIND",
        value_delimiter = ','
    )]
    kinds: Vec<String>,
    /// Also each message that was dropped because its session has ended; else there is one event
    /// with their number
    #[arg(long)]
    each: bool,
    /// Also messages with a topic that this Topic Filter matches
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
    /// Only events of clients of this team, by id or name, which has a tenant of its own [default:
    /// all teams]
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// Only what was refused or lost
    #[arg(long, short = 't')]
    trouble: bool,
    /// Begin at this time, as far as events are kept: 10m, 2h, 7d, or a time as
    /// 2026-11-21T14:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Print events that are kept in files (events.archive_kinds), and exit. Without a running node
    /// the files of the data directory are read [default for --since: 24h]
    #[arg(long, conflicts_with_all = ["trouble", "each"])]
    archive: bool,
    /// End before this time, written as that of --since
    #[arg(long, value_name = "TIME", requires = "archive")]
    until: Option<String>,
    /// Exit after this number of events
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
}

/// Events about messages: there may be very many of them, and they are built only while there is a
/// reader.
const OF_MESSAGES: &[EventKind] = &[
    EventKind::Published,
    EventKind::Delivered,
    EventKind::Packet,
];

/// Messages one by one that `dropped` counts together.
const EACH: EventKind = EventKind::DroppedMessage;

/// More than the node keeps.
const ALL_KEPT: usize = 1_000_000;

/// Runs the command.
pub(crate) fn run(options: &EventsOptions) -> ExitCode {
    match show(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = error_text(&error);
            errln!("martlet: {}", printable(&error));
            ExitCode::FAILURE
        }
    }
}

fn show(options: &EventsOptions) -> anyhow::Result<()> {
    let mut printer = Printer::new(options);
    if options.archive {
        return archive::show(options, &mut printer);
    }
    let data_dir = options.admin.node.data_dir()?;
    let since = options.since.as_deref().map(moment).transpose()?;
    let target = target(options);
    let ended = follow(&data_dir, &target, |json| {
        let Ok(event) = serde_json::from_str::<Value>(json) else {
            return ControlFlow::Continue(());
        };
        // Those that tell of losses have no time.
        if at(&event).is_some_and(|at| since.is_some_and(|since| at < since)) {
            return ControlFlow::Continue(());
        }
        printer.print(&event, json)
    })?;
    match ended {
        true => anyhow::bail!("the node has ended the stream"),
        false => Ok(()),
    }
}

/// Prints events, as many as are asked for.
struct Printer {
    json: bool,
    colours: bool,
    /// Lines begin with the date too.
    dated: bool,
    /// How many are still to be printed.
    left: u64,
}

impl Printer {
    fn new(options: &EventsOptions) -> Self {
        let no_colours = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            json: options.admin.json,
            colours: !no_colours && std::io::stdout().is_terminal(),
            dated: options.archive,
            left: options.count.unwrap_or(u64::MAX),
        }
    }

    /// Prints an event. It breaks when there are enough, or nobody reads any more.
    fn print(&mut self, event: &Value, json: &str) -> ControlFlow<()> {
        if self.left == 0 {
            return ControlFlow::Break(());
        }
        let text = match self.json {
            true => format!("{json}\n"),
            false => line(event, self.colours, self.dated),
        };
        self.left -= 1;
        let is_read = out!("{text}");
        match (is_read, self.left) {
            (true, 1..) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}

fn target(options: &EventsOptions) -> String {
    let mut target = "/api/v1/events?".to_owned();
    let mut put = |name: &str, value: &str| {
        target.push_str(&format!("{name}={}&", encoded(value)));
    };
    let usual = || {
        let all = EventKind::ALL.iter();
        let of_clients = all.filter(|kind| options.topic.is_some() || !OF_MESSAGES.contains(kind));
        let names: Vec<&str> = of_clients
            .filter(|kind| **kind != EventKind::Packet && (**kind != EACH || options.each))
            .map(|kind| kind.name())
            .collect();
        names.join(",")
    };
    let kinds = match options.kinds.is_empty() {
        true => usual(),
        false => {
            let mut kinds = options.kinds.clone();
            kinds.extend(options.each.then(|| EACH.name().to_owned()));
            kinds.join(",")
        }
    };
    put("kinds", &kinds);
    if let Some(client) = &options.client {
        put("client", client);
    }
    if let Some(topic) = &options.topic {
        put("topic", topic);
    }
    if let Some(team) = &options.team {
        put("team", team);
    }
    if options.trouble {
        put("trouble", "true");
    }
    if options.since.is_some() {
        put("tail", &ALL_KEPT.to_string());
    }
    target.pop();
    target
}

/// Reads a time, or a duration before now.
fn moment(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>()
        && has_valid_offset(text)
    {
        return Ok(at);
    }
    let expected = || anyhow::anyhow!("{text}: expected 10m, 2h, 7d or 2026-11-21T14:00:00Z");
    // Days of 24 hours: a span of calendar days cannot be subtracted without a time zone.
    if let Some(days) = text
        .strip_suffix('d')
        .and_then(|days| days.parse::<u16>().ok())
    {
        let long = SignedDuration::from_hours(24 * i64::from(days));
        return Timestamp::now().checked_sub(long).map_err(|_| expected());
    }
    let span: Span = text.parse().map_err(|_| expected())?;
    Timestamp::now().checked_sub(span).map_err(|_| expected())
}

/// Fields that are told in words of their own.
const SAID: &[&str] = &[
    "id",
    "seq",
    "at",
    "kind",
    "client_id",
    "user_name",
    "claimed",
    "address",
    "topic",
    "filter",
    "why",
    "reason",
    "payload_encoding",
];

/// `14:03:07.512 connected     sensor-7 (site) 10.0.0.7:4242 listener=mqtt`
fn line(event: &Value, colours: bool, dated: bool) -> String {
    let text = |name: &str| event[name].as_str().map(printable);
    let kind = text("kind").unwrap_or_default();
    let is_trouble = kind.contains("refused")
        || [
            "dropped",
            "dropped_message",
            "rate_exceeded",
            "queue_full",
            "gone",
        ]
        .contains(&&*kind);
    let (on, off) = match (colours, is_trouble) {
        (true, true) => ("\x1b[31m", "\x1b[0m"),
        (true, false) => ("\x1b[2m", "\x1b[0m"),
        (false, _) => ("", ""),
    };
    let at = at(event);
    let at = at
        .unwrap_or_else(Timestamp::now)
        .to_zoned(TimeZone::system());
    let form = match dated {
        true => "%Y-%m-%d %H:%M:%S%.3f",
        false => "%H:%M:%S%.3f",
    };
    let mut line = format!("{} {on}{kind:<17}{off}", at.strftime(form));
    let mut say = |word: String| line.push_str(&format!(" {word}"));
    if let Some(client) = text("client_id").filter(|client| !client.is_empty()) {
        say(client);
    }
    if let Some(user) = text("user_name") {
        let word = if event["claimed"] == true {
            "claims "
        } else {
            ""
        };
        say(format!("({word}{user})"));
    }
    for name in ["address", "topic", "filter"] {
        if let Some(found) = text(name).filter(|found| !found.is_empty()) {
            say(found);
        }
    }
    let others = event.as_object().into_iter().flatten();
    for (name, value) in others.filter(|(name, _)| !SAID.contains(&name.as_str())) {
        match value {
            Value::String(text) => say(format!("{name}={}", printable(text))),
            Value::Bool(true) => say(name.clone()),
            Value::Bool(false) | Value::Null => {}
            value => say(format!("{name}={value}")),
        }
    }
    if let Some(why) = text("why").or_else(|| text("reason")) {
        line.push_str(&format!(": {why}"));
    }
    line.push('\n');
    line
}

/// When it was.
fn at(event: &Value) -> Option<Timestamp> {
    event["at"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_says_who_what_where_and_why() {
        let event = json!({
            "id": "r-7", "seq": 7, "at": "2023-11-14T22:13:20.123Z", "kind": "publish_refused",
            "client_id": "sensor\u{1b}7", "user_name": "site", "claimed": true,
            "address": "10.0.0.7:4242", "topic": "a/b", "qos": 1, "retain": false,
            "why": "no rule permits it", "reason": "Not authorized",
        });
        let printed = line(&event, false, false);
        let rest = ".123 publish_refused   sensor\\u{1b}7 (claims site) 10.0.0.7:4242 a/b qos=1: \
                    no rule permits it\n";
        assert!(printed.ends_with(rest), "{printed}");
    }

    #[test]
    fn a_time_is_one_or_so_long_ago() {
        let now = Timestamp::now();
        let ago = moment("10m").unwrap();
        let secs = now.as_second() - ago.as_second();
        assert!((599..=601).contains(&secs), "{secs}");
        let at = moment("2026-11-21T14:00:00Z").unwrap();
        assert_eq!(at.to_string(), "2026-11-21T14:00:00Z");
        let secs = now.as_second() - moment("2d").unwrap().as_second();
        assert!((172_799..=172_801).contains(&secs), "{secs}");
        assert!(moment("yesterday").is_err());
    }
}
