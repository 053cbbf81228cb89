//! Prints events, one per line.

use std::io::IsTerminal as _;
use std::ops::ControlFlow;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use martlet_control::text::printable;
use serde_json::Value;

use super::options::EventsOptions;
use crate::cmd::print::out;

/// Prints a limited number of events.
pub(super) struct Printer {
    json: bool,
    colours: bool,
    /// Whether lines begin with the date.
    dated: bool,
    /// Number of events still to be printed.
    left: u64,
}

impl Printer {
    pub(super) fn new(options: &EventsOptions) -> Self {
        let no_colours = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            json: options.admin.json,
            colours: !no_colours && std::io::stdout().is_terminal(),
            dated: options.archive,
            left: options.count.unwrap_or(u64::MAX),
        }
    }

    /// Prints an event. Breaks when the number is reached, or the output is closed.
    pub(super) fn print(&mut self, event: &Value, json: &str) -> ControlFlow<()> {
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

/// Fields that are printed separately.
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

/// The time of an event.
pub(super) fn at(event: &Value) -> Option<Timestamp> {
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
}
