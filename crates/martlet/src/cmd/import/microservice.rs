//! Imports webhooks and messages from the database of the MQTT microservice. Messages are written
//! to the tables. Webhooks are added to the running node, which encrypts the values of their
//! headers.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use martlet_api::microservice_webhook;
use martlet_codec::TopicName;
use martlet_control::integrations::{AddedKind, AllowedNetworks, IntegrationMaker as _};
use martlet_control::secrets::check_secret_value;
use martlet_control::telemetry::has_valid_offset;
use martlet_control::use_cases::ImportMessages;
use martlet_registry::{
    LoggedMessage, MicroserviceMessage, MicroserviceWebhook, microservice_contents, wait,
};
use serde_json::{Map, Value, json};

use super::databases::DatabaseOptions;
use super::report::{Outcome, Report, Skipped};
use crate::cmd::admin::{NodeRefusal, ask, ask_with};
use crate::cmd::errors::error_text;
use crate::cmd::node_options::NodeOptions;
use crate::cmd::query::encoded;
use crate::cmd::tables;
use crate::config::{self, MadeIntegrations};

/// Most messages that are imported, the newest ones: the default limit of the message log.
const MESSAGES_MAX: u32 = 100_000;
/// Number of messages per transaction.
const MESSAGES_AT_ONCE: usize = 1_000;
/// Additional time limit of a request to the node.
const LONGER: Duration = Duration::from_secs(10);

/// Imports webhooks and messages.
pub(super) fn import(options: &DatabaseOptions) -> anyhow::Result<Report> {
    let location = options.location(&["DB_PATH"], Some("mqtt-messages.db"))?;
    let found = wait(microservice_contents(&location, MESSAGES_MAX))?;
    let mut report = Report::new(location.to_string(), options.dry_run);
    let mut skipped = Skipped::new("messages");
    for row in found.unreadable {
        match row.what {
            "message" => skipped.add(format!("message {}: {}", row.id, row.why)),
            what => report.add(what, &row.id, Outcome::Skipped, &row.why),
        }
    }
    add_messages(&mut report, options, found.messages, skipped)?;
    let left = found.messages_there - i64::from(MESSAGES_MAX);
    if left > 0 {
        report.leave(vec![("messages", left)]);
    }
    let mut there = HashSet::new();
    for webhook in &found.webhooks {
        let added = added(&options.on.node, options.dry_run, webhook, &there);
        let (outcome, why) = match added {
            Ok(outcome) => (outcome, String::new()),
            Err(why) => (Outcome::Skipped, why),
        };
        if outcome == Outcome::Imported {
            there.insert(&*webhook.id);
        }
        report.add("webhook", &webhook.id, outcome, &why);
    }
    Ok(report)
}

/// Adds one line to the report for all messages.
fn add_messages(
    report: &mut Report,
    options: &DatabaseOptions,
    found: Vec<MicroserviceMessage>,
    mut skipped: Skipped,
) -> anyhow::Result<()> {
    let mut messages: Vec<LoggedMessage> = Vec::with_capacity(found.len());
    for message in found {
        let place = format!("message {} ({})", message.id, message.place);
        match logged(message) {
            Ok(message) => messages.push(message),
            Err(why) => skipped.add(format!("{place}: {why}")),
        }
    }
    let count = messages.len() as u64;
    let mut stored = count;
    if count > 0 {
        stored = 0;
        tables::with_or_dry_run(&options.on.node, options.dry_run, async |open| {
            for some in messages.chunks(MESSAGES_AT_ONCE) {
                let messages = some.to_vec();
                stored += open.run(ImportMessages { messages }).await?;
            }
            Ok(())
        })?;
    }
    if stored > 0 {
        let why = "the node drops those that messages.kept_days and messages.kept do not keep";
        report.add_many("messages", stored, Outcome::Imported, why);
    }
    if stored < count {
        report.add_many("messages", count - stored, Outcome::Exists, "");
    }
    if let Some(note) = skipped.note() {
        let count = u64::try_from(skipped.count()).unwrap_or(0);
        report.add_many("messages", count, Outcome::Skipped, &note);
    }
    Ok(())
}

/// A message in the form of the message log, or the reason why it is invalid.
fn logged(message: MicroserviceMessage) -> Result<LoggedMessage, String> {
    let (topic, qos) = (message.topic, message.qos);
    TopicName::new(&topic).map_err(|error| format!("its topic: {error}"))?;
    let qos = u8::try_from(qos).ok().filter(|qos| *qos <= 2);
    let qos = qos.ok_or_else(|| format!("its QoS is {}", message.qos))?;
    // If a message has no time, its id contains one.
    let (time, received_ms) = match message.time.trim() {
        "" => ("none", ms_of_id(&message.id)),
        time => (time, ms_of(time)),
    };
    Ok(LoggedMessage {
        id: message.id,
        tenant: 0,
        received_ms: received_ms.ok_or_else(|| format!("its time cannot be read: {time}"))?,
        topic,
        payload: message.payload,
        qos,
        retain: message.retained,
        confirmed: message.confirmed,
    })
}

/// Parses a time in the formats that Go writes to SQLite: `2026-03-01 12:00:00.5+00:00`,
/// `2026-03-01T12:00:00Z`, or `2026-03-01 12:00:00.5 +0000 UTC m=+0.1`. Without an offset it is
/// UTC.
fn ms_of(text: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    let (first, second) = (words.next()?, words.next());
    let offset = words.next().filter(|word| word.starts_with(['+', '-']));
    let mut whole = first.to_owned();
    if let Some(time) = second {
        whole = format!("{first}T{time}{}", offset.unwrap_or_default());
    }
    if !has_valid_offset(&whole) {
        return None;
    }
    let parsed = whole.parse::<Timestamp>();
    let parsed = parsed.or_else(|_| format!("{whole}Z").parse::<Timestamp>());
    u64::try_from(parsed.ok()?.as_millisecond()).ok()
}

/// Ids are nanoseconds since the Unix epoch.
fn ms_of_id(id: &str) -> Option<u64> {
    Some(id.parse::<u64>().ok()? / 1_000_000)
}

/// Adds a webhook to the running node, unless it is among those that are there. A dry run only
/// checks its settings.
fn added(
    node: &NodeOptions,
    dry_run: bool,
    found: &MicroserviceWebhook,
    there: &HashSet<&str>,
) -> Result<Outcome, String> {
    let headers: Value = match found.headers.trim() {
        "" => json!({}),
        text => serde_json::from_str(text).map_err(|_| "its headers are not JSON".to_owned())?,
    };
    // The microservice wrote 0 for its documented default.
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
    martlet_integrate::check_name(&found.id)?;
    if there.contains(&*found.id) {
        return Ok(Outcome::Exists);
    }
    let target = format!("/api/v1/webhooks/{}", encoded(&found.id));
    let in_words = |error: anyhow::Error| error_text(&error);
    let data_dir = &node.data_dir().map_err(in_words)?;
    let asked = |done: anyhow::Result<String>| {
        done.map_err(|error| {
            // Its settings are in the database, not options of the command.
            let of_row = NodeRefusal::of(&error).and_then(NodeRefusal::in_file);
            of_row.unwrap_or_else(|| in_words(error))
        })
    };
    match ask(data_dir, "GET", &target) {
        Ok(_) => return Ok(Outcome::Exists),
        Err(error) if NodeRefusal::of(&error).is_some_and(|why| why.status() == 404) => {}
        Err(error) => return Err(in_words(error)),
    }
    for (_, value) in &made.secrets {
        check_secret_value(value).map_err(|error| error.to_string())?;
    }
    if dry_run {
        check(node, &found.id, &made.settings)?;
        return Ok(Outcome::Imported);
    }
    for (name, value) in made.secrets {
        let secret = format!("/api/v1/secrets/{}", encoded(&name));
        let body = json!({ "value": value.expose() }).to_string();
        asked(ask_with(data_dir, "PUT", &secret, &body, LONGER))?;
    }
    let body = Value::Object(made.settings).to_string();
    asked(ask_with(data_dir, "PUT", &target, &body, LONGER))?;
    Ok(Outcome::Imported)
}

/// Private networks that the running node permits for integrations.
fn allowed_by_node(data_dir: &Path) -> anyhow::Result<AllowedNetworks> {
    let answer: Value = serde_json::from_str(&ask(data_dir, "GET", "/api/v1/config")?)?;
    let values = answer["values"].as_array().into_iter().flatten();
    let mut values = values.filter(|one| one["key"] == "integrations.allow_private");
    let networks = values.next().map_or(&Value::Null, |one| &one["value"]);
    let of_list = networks.as_array().into_iter().flatten();
    let texts = of_list.chain([networks]).filter_map(Value::as_str);
    let texts = texts.flat_map(|text| text.split(',')).map(str::trim);
    AllowedNetworks::parse(texts.filter(|text| !text.is_empty()))
        .map_err(|text| anyhow::anyhow!("integrations.allow_private of the node has {text:?}"))
}

/// Checks the settings of a webhook as the running node does.
fn check(node: &NodeOptions, id: &str, settings: &Map<String, Value>) -> Result<(), String> {
    let in_words = |error: anyhow::Error| error_text(&error);
    let resolved = node.load().map_err(in_words)?;
    let resolved = config::resolve(&resolved).map_err(|error| error.to_string())?;
    // The node may have another configuration than this command.
    let data_dir = node.data_dir().map_err(in_words)?;
    let allowed = allowed_by_node(&data_dir).map_err(in_words)?;
    let maker = MadeIntegrations {
        data_dir: resolved.data_dir,
        allowed,
        queue_bytes: u64::MAX,
    };
    // In the order of the node, so that the first error is the same.
    let made = maker.make(AddedKind::Webhook, id, "", settings, true);
    let checked = made.and_then(|_| maker.check_new(AddedKind::Webhook, settings));
    checked.map_err(|unusable| match unusable.key {
        Some(key) => format!("{key}: {}", unusable.why),
        None => unusable.why,
    })
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
        for text in [
            "",
            "yesterday",
            "bad",
            "2026-03-01 12:00:00+25:00",
            "1969-12-31 12:00:00",
        ] {
            assert_eq!(ms_of(text), None, "{text}");
        }
        assert_eq!(ms_of_id("1772366400500000000"), expected);
    }
}
