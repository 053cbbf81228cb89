//! Webhooks and messages from the database of the MQTT microservice. Messages are written into the
//! tables. Webhooks are added to the running node, which seals the values of their headers.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use martlet_api::microservice_webhook;
use martlet_registry::{
    LoggedMessage, MicroserviceMessage, MicroserviceWebhook, microservice_contents, wait,
};
use serde_json::{Value, json};

use super::databases::DatabaseOptions;
use super::report::{Outcome, Report};
use crate::cmd::admin::{ask, ask_with, encoded};
use crate::cmd::tables;

/// Messages that are imported, the last ones: as many as the message log keeps by default.
const MESSAGES_MAX: u32 = 100_000;
/// Messages of one transaction.
const MESSAGES_AT_ONCE: usize = 1_000;
/// Time that a request to the node may take beside what is usual.
const LONGER: Duration = Duration::from_secs(10);

/// Imports them.
pub(super) fn import(options: &DatabaseOptions) -> anyhow::Result<Report> {
    let location = options.location(&["DB_PATH"], Some("mqtt-messages.db"))?;
    let found = wait(microservice_contents(&location, MESSAGES_MAX))?;
    let mut report = Report::new(location.to_string(), options.dry_run);
    add_messages(&mut report, options, found.messages)?;
    let left = found.messages_there - i64::from(MESSAGES_MAX);
    if left > 0 {
        report.leave(vec![("messages", left)]);
    }
    let data_dir = options.on.node.data_dir()?;
    for webhook in &found.webhooks {
        let (outcome, why) = match added(&data_dir, options.dry_run, webhook) {
            Ok(outcome) => (outcome, String::new()),
            Err(why) => (Outcome::Skipped, why),
        };
        report.add("webhook", &webhook.id, outcome, &why);
    }
    Ok(report)
}

/// One line of the report for all messages.
fn add_messages(
    report: &mut Report,
    options: &DatabaseOptions,
    found: Vec<MicroserviceMessage>,
) -> anyhow::Result<()> {
    let count = found.len() as u64;
    if count == 0 {
        return Ok(());
    }
    let messages: Vec<LoggedMessage> = found.into_iter().map(logged).collect();
    let mut stored = count;
    if !options.dry_run {
        stored = 0;
        tables::with(&options.on.node, async |registry| {
            for some in messages.chunks(MESSAGES_AT_ONCE) {
                stored += registry.log_messages(some).await?;
            }
            Ok(())
        })?;
    }
    if stored > 0 {
        let why = "the node drops those that messages.kept_days and messages.kept do not keep";
        report.add("messages", &stored.to_string(), Outcome::Imported, why);
    }
    if stored < count {
        let there = (count - stored).to_string();
        report.add("messages", &there, Outcome::Exists, "");
    }
    Ok(())
}

fn logged(message: MicroserviceMessage) -> LoggedMessage {
    let received_ms = ms_of(&message.time).or_else(|| ms_of_id(&message.id));
    LoggedMessage {
        id: message.id,
        tenant: 0,
        topic: message.topic,
        payload: message.payload,
        qos: u8::try_from(message.qos.clamp(0, 2)).unwrap_or_default(),
        retain: message.retained,
        received_ms: received_ms.unwrap_or_default(),
        confirmed: message.confirmed,
    }
}

/// A time as Go writes it into SQLite: `2026-03-01 12:00:00.5+00:00`, `2026-03-01T12:00:00Z`, or
/// `2026-03-01 12:00:00.5 +0000 UTC m=+0.1`. Without an offset it is UTC.
fn ms_of(text: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    let (first, second) = (words.next()?, words.next());
    let offset = words.next().filter(|word| word.starts_with(['+', '-']));
    let mut whole = first.to_owned();
    if let Some(time) = second {
        whole = format!("{first}T{time}{}", offset.unwrap_or_default());
    }
    let parsed = whole.parse::<Timestamp>();
    let parsed = parsed.or_else(|_| format!("{whole}Z").parse::<Timestamp>());
    u64::try_from(parsed.ok()?.as_millisecond()).ok()
}

/// Ids are nanoseconds since the Unix epoch.
fn ms_of_id(id: &str) -> Option<u64> {
    Some(id.parse::<u64>().ok()? / 1_000_000)
}

/// Adds a webhook to the running node.
fn added(data_dir: &Path, dry_run: bool, found: &MicroserviceWebhook) -> Result<Outcome, String> {
    let headers: Value = match found.headers.trim() {
        "" => json!({}),
        text => serde_json::from_str(text).map_err(|_| "its headers are no JSON".to_owned())?,
    };
    // Where the microservice wrote 0, its documented default was meant.
    let or_default = |value: i64| Some(value).filter(|value| *value > 0);
    let body = json!({
        "name": found.name,
        "url": found.url,
        "method": found.method,
        "topic_filter": found.topic_filter,
        "enabled": found.enabled,
        "headers": if headers.is_null() { json!({}) } else { headers },
        "timeout": or_default(found.timeout),
        "retry_count": found.retry_count.max(0),
        "retry_delay": or_default(found.retry_delay),
    });
    let made = microservice_webhook(&found.id, body)?;
    let target = format!("/api/v1/webhooks/{}", encoded(&found.id));
    let asked = |done: anyhow::Result<String>| done.map_err(|error| format!("{error:#}"));
    if ask(data_dir, "GET", &target).is_ok() {
        return Ok(Outcome::Exists);
    }
    if dry_run {
        return Ok(Outcome::Imported);
    }
    for (name, value) in made.secrets {
        let secret = format!("/api/v1/secrets/{}", encoded(&name));
        let body = json!({ "value": value.expose() }).to_string();
        asked(ask_with(data_dir, ("PUT", &secret), &body, LONGER))?;
    }
    let body = Value::Object(made.settings).to_string();
    asked(ask_with(data_dir, ("PUT", &target), &body, LONGER))?;
    Ok(Outcome::Imported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them() {
        let expected = Some(1_772_366_400_500);
        for text in [
            "2026-03-01 12:00:00.5+00:00",
            "2026-03-01T12:00:00.500Z",
            "2026-03-01 12:00:00.5",
            "2026-03-01 12:00:00.5 +0000 UTC m=+0.123",
            "2026-03-01 14:00:00.5+02:00",
        ] {
            assert_eq!(ms_of(text), expected, "{text}");
        }
        assert_eq!((ms_of(""), ms_of("yesterday")), (None, None));
        assert_eq!(ms_of_id("1772366400500000000"), expected);
    }
}
