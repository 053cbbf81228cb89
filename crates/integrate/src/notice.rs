//! A message as a notification for people: title, text and priority. Alarms are JSON objects on
//! the topic of alerts; for any other message the topic is the title.

use serde::Deserialize;

use crate::sink_message::SinkMessage;

/// Maximum bytes of a text.
const TEXT_BYTES_MAX: usize = 4_000;
/// Maximum characters of a title.
const TITLE_MAX: usize = 200;

/// A notification for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) title: String,
    pub(crate) text: String,
    /// From 1 to 5, as in ntfy; 3 is the default.
    pub(crate) priority: u8,
    /// Tags as in ntfy: names of emojis and words, separated by commas.
    pub(crate) tags: String,
}

/// The fields of an alarm that are shown.
#[derive(Deserialize)]
struct Alarm {
    change: String,
    name: String,
    severity: String,
    message: String,
    device: Option<String>,
    raised_at: String,
    changed_at: String,
    changed_by: Option<String>,
}

impl Notice {
    /// The notification of a message.
    pub(crate) fn of(message: &SinkMessage) -> Self {
        match serde_json::from_slice::<Alarm>(message.payload()) {
            Ok(alarm) => Self::of_alarm(&alarm),
            Err(_) => Self {
                title: line(message.topic()),
                text: shortened(&String::from_utf8_lossy(message.payload())),
                priority: 3,
                tags: String::new(),
            },
        }
    }

    fn of_alarm(alarm: &Alarm) -> Self {
        let is_over = alarm.change == "cleared";
        let device = alarm.device.as_deref();
        let device = device.map_or_else(String::new, |id| format!(" {id}"));
        let by = alarm.changed_by.as_deref();
        let by = by.map_or_else(String::new, |by| format!(" by {by}"));
        let mut text = format!(
            "{}\nSeverity: {}\nRaised at {}",
            alarm.message, alarm.severity, alarm.raised_at
        );
        if alarm.change != "raised" {
            let (change, at) = (capital(&alarm.change), &alarm.changed_at);
            text.push_str(&format!("\n{change} at {at}"));
        }
        text.push_str(&format!("{by}\n"));
        let (priority, sign) = match alarm.severity.as_str() {
            _ if is_over => (2, "white_check_mark"),
            "critical" => (5, "rotating_light"),
            "major" => (4, "warning"),
            "minor" | "warning" => (3, "warning"),
            _ => (2, "information_source"),
        };
        Self {
            title: line(&format!("[{}] {}{device}", alarm.change, alarm.name)),
            text: shortened(&text),
            priority,
            tags: match sign == alarm.severity {
                true => sign.to_owned(),
                false => format!("{sign},{}", alarm.severity),
            },
        }
    }

    /// As ntfy headers.
    pub(crate) fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("title", ascii(&self.title)),
            ("priority", self.priority.to_string()),
        ];
        if !self.tags.is_empty() {
            headers.push(("tags", ascii(&self.tags)));
        }
        headers
    }
}

/// One line without control characters, which could end a header.
fn line(text: &str) -> String {
    let kept = text.chars().filter(|sign| !sign.is_control());
    kept.take(TITLE_MAX).collect()
}

/// Headers must be ASCII.
fn ascii(text: &str) -> String {
    let kept = text.chars();
    kept.map(|sign| if sign.is_ascii() { sign } else { '?' })
        .collect()
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn capital(text: &str) -> String {
    let mut signs = text.chars();
    let first = signs.next().map(|sign| sign.to_ascii_uppercase());
    first.into_iter().chain(signs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_has_a_title_and_a_priority() {
        let alarm =
            br#"{"change":"raised","name":"hot","severity":"critical","message":"It is hot",
            "device":"p\u00fc\n","raised_at":"T","changed_at":"T","changed_by":null,"more":1}"#;
        let notice = Notice::of(&SinkMessage::example("iotflow/system/alarms", alarm));
        assert_eq!(notice.title, "[raised] hot p\u{fc}");
        assert!(notice.text.starts_with("It is hot\n"), "{}", notice.text);
        let headers = notice.headers();
        assert_eq!(headers[0], ("title", "[raised] hot p?".to_owned()));
        assert_eq!(headers[1].1, "5");
        let other = Notice::of(&SinkMessage::example("a/b", b"on"));
        assert_eq!((&*other.title, &*other.text), ("a/b", "on"));
    }
}
