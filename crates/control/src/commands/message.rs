//! Topics and payloads of commands, and what devices answer.

use martlet_broker::{Message, NewMessage};
use martlet_codec::{PublishProperties, QoS};
use martlet_registry::{Command, CommandAnswer, CommandOutcome, IOTFLOW, NewCommand};
use martlet_text_file::without_bom;
use serde_json::{Value, json};

use crate::iotflow::Catalogue;
use crate::rfc3339;
use crate::wall_clock::unsigned;

/// Where devices of other types than `iotflow` have their topics.
const NATIVE: &str = "d";
/// Behind a device's topics: where it answers, and where it asks for its commands.
const ANSWER: &str = "status/command";
const ASK: &str = "status/command/pending";

/// The topic of a command.
pub fn topic_of(catalogue: &Catalogue, command: &Command) -> String {
    topic_of_kind(
        catalogue,
        &command.device,
        &command.device_type,
        &command.kind,
    )
}

/// The topic of commands of this kind to a device, by its id and type.
pub(super) fn topic_of_kind(
    catalogue: &Catalogue,
    device: &str,
    device_type: &str,
    kind: &str,
) -> String {
    let topics = device_topics(catalogue, device, device_type);
    format!("{topics}/commands/{kind}")
}

/// First levels of the topics of a device, by its id and type.
fn device_topics(catalogue: &Catalogue, device: &str, device_type: &str) -> String {
    match device_type == IOTFLOW {
        true => catalogue.topic(&format!("devices/{device}")),
        false => format!("{NATIVE}/{device}"),
    }
}

/// The topic on which a device, by its id and type, answers commands.
pub(super) fn answer_topic(catalogue: &Catalogue, device: &str, device_type: &str) -> String {
    format!("{}/{ANSWER}", device_topics(catalogue, device, device_type))
}

/// The message of a command; none if its time is over.
pub(super) fn message_of(
    catalogue: &Catalogue,
    command: &Command,
    now_ms: i64,
) -> Option<NewMessage> {
    let left_ms = u64::try_from(command.expires_ms - now_ms).ok();
    let left_ms = left_ms.filter(|left_ms| *left_ms > 0)?;
    let left_secs = u32::try_from(left_ms.div_ceil(1000)).unwrap_or(u32::MAX);
    let answers = answer_topic(catalogue, &command.device, &command.device_type);
    Some(NewMessage {
        topic: topic_of(catalogue, command).into(),
        payload: payload(command).to_string().into_bytes().into(),
        qos: QoS::from_bits(command.qos).unwrap_or(QoS::ExactlyOnce),
        retain: false,
        payload_is_utf8: Some(true),
        message_expiry_secs: Some(left_secs),
        content_type: Some("application/json".into()),
        response_topic: Some(answers.into()),
        correlation_data: Some(command.id.clone().into_bytes().into()),
        user_properties: Vec::new(),
        hops: command.hops,
    })
}

fn payload(command: &Command) -> Value {
    let time = |ms: i64| rfc3339::text(unsigned(ms));
    // They were read before they were written to the tables.
    let parameters: Value = serde_json::from_str(&command.parameters).unwrap_or(Value::Null);
    match command.device_type == IOTFLOW {
        true => json!({
            "command": command.name,
            "parameters": parameters,
            "timestamp": time(command.created_ms),
            "command_id": command.id,
            "source": "iotflow_api",
        }),
        false => json!({
            "id": command.id,
            "command": command.name,
            "parameters": parameters,
            "expires_at": time(command.expires_ms),
        }),
    }
}

/// The message of a command on the topic of a fleet, for clients that subscribe to that alone.
/// It is not retained, so that a client that connects later does not carry out an old command.
pub(super) fn fleet_message(
    catalogue: &Catalogue,
    group: &str,
    id: &str,
    new: &NewCommand,
    now_ms: u64,
) -> NewMessage {
    let parameters: Value = serde_json::from_str(&new.parameters).unwrap_or(Value::Null);
    let payload = json!({
        "command": new.name,
        "parameters": parameters,
        "timestamp": rfc3339::text(now_ms),
        "command_id": id,
        "group_id": group,
        "source": "iotflow_api",
    });
    let time_secs = u32::try_from(new.time_ms / 1000).unwrap_or(u32::MAX);
    NewMessage {
        topic: fleet_topic(catalogue, group).into(),
        payload: payload.to_string().into_bytes().into(),
        qos: QoS::from_bits(new.qos.unwrap_or(2)).unwrap_or(QoS::ExactlyOnce),
        payload_is_utf8: Some(true),
        message_expiry_secs: Some(time_secs),
        content_type: Some("application/json".into()),
        correlation_data: Some(id.to_owned().into_bytes().into()),
        ..NewMessage::default()
    }
}

/// The topic of commands to a fleet.
pub fn fleet_topic(catalogue: &Catalogue, group: &str) -> String {
    catalogue.topic(&format!("fleet/commands/{group}"))
}

/// Topic Filters of reports of devices about commands.
pub(super) fn filters(catalogue: &Catalogue) -> [String; 3] {
    [
        format!("{NATIVE}/+/{ANSWER}/#"),
        catalogue.topic(&format!("devices/+/{ANSWER}/#")),
        catalogue.topic("devices/+/commands/+/response"),
    ]
}

/// A report of a device about its commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CommandMessage {
    /// The device answers the command of this id.
    Answer {
        /// The device.
        device: String,
        /// The command.
        id: String,
        /// Answer, or what was expected.
        answer: Result<CommandAnswer, &'static str>,
    },
    /// An answer that does not name its command.
    Nameless {
        /// The device.
        device: String,
        /// Text about what was expected.
        why: &'static str,
    },
    /// The device wants all commands that it has not acknowledged.
    Asks {
        /// The device.
        device: String,
    },
}

/// Reads a report of a device.
///
/// # Errors
/// What was expected.
pub(super) fn read(
    catalogue: &Catalogue,
    message: &Message,
) -> Result<CommandMessage, &'static str> {
    let topic = message.topic();
    let native = topic
        .strip_prefix(NATIVE)
        .and_then(|rest| rest.strip_prefix('/'));
    let of_iotflow = || catalogue.path_of(topic)?.strip_prefix("devices/");
    let (device, rest) = of_iotflow()
        .or(native)
        .and_then(|path| path.split_once('/'))
        .ok_or("the topic names no device")?;
    let device = device.to_owned();
    if rest == ASK {
        return Ok(CommandMessage::Asks { device });
    }
    if rest != ANSWER && !rest.ends_with("/response") {
        return Err("the topic is neither that of answers nor that of requests");
    }
    let properties = PublishProperties::from_forwarded(message.forwarded());
    let correlation = properties.ok().and_then(|found| found.correlation_data);
    let correlation = correlation.and_then(|data| std::str::from_utf8(data).ok());
    Ok(match read_answer(message.payload(), correlation) {
        Ok((id, answer)) => CommandMessage::Answer { device, id, answer },
        Err(why) => CommandMessage::Nameless { device, why },
    })
}

fn read_answer(
    payload: &[u8],
    correlation: Option<&str>,
) -> Result<(String, Result<CommandAnswer, &'static str>), &'static str> {
    let body = serde_json::from_slice::<Value>(without_bom(payload));
    let body = body.map_err(|_| "the payload is not JSON");
    let member = |name: &str| body.as_ref().ok()?.get(name)?.as_str();
    let id = member("command_id").or(member("id")).or(correlation);
    let Some(id) = id.map(str::to_owned) else {
        return Err(body
            .err()
            .unwrap_or("command_id and Correlation Data are missing"));
    };
    Ok((id, body.and_then(|body| answer_of(&body))))
}

fn answer_of(body: &Value) -> Result<CommandAnswer, &'static str> {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let outcome = text("status").and_then(outcome_of);
    let outcome = outcome.ok_or("status must be acknowledged, progress, succeeded or failed")?;
    let progress = match body.get("progress") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let percent = value
                .as_f64()
                .filter(|percent| (0.0..=100.0).contains(percent));
            Some(percent.ok_or("progress is not a number from 0 to 100")? as u8)
        }
    };
    let members = ["result", "message", "error"].map(|name| body.get(name));
    let result = match members.into_iter().flatten().next() {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    Ok(CommandAnswer {
        outcome,
        progress,
        result,
    })
}

/// How far a device is, by the words that devices use.
fn outcome_of(word: &str) -> Option<CommandOutcome> {
    match word {
        "acknowledged" | "progress" | "in_progress" | "executing" => {
            Some(CommandOutcome::Acknowledged)
        }
        "succeeded" | "success" | "completed" => Some(CommandOutcome::Succeeded),
        "failed" | "error" => Some(CommandOutcome::Failed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(outcome: CommandOutcome, progress: Option<u8>, result: &str) -> CommandAnswer {
        CommandAnswer {
            outcome,
            progress,
            result: result.to_owned(),
        }
    }

    #[test]
    fn answers_name_their_command_by_the_payload_or_correlation_data() {
        let body = br#"{"command_id":"c1","status":"progress","progress":40.6}"#;
        let progress = answer(CommandOutcome::Acknowledged, Some(40), "");
        assert_eq!(
            read_answer(body, Some("other")),
            Ok(("c1".to_owned(), Ok(progress)))
        );
        let body = br#"{"status":"completed","result":{"door":"open"}}"#;
        let done = answer(CommandOutcome::Succeeded, None, r#"{"door":"open"}"#);
        assert_eq!(
            read_answer(body, Some("c2")),
            Ok(("c2".to_owned(), Ok(done)))
        );
        assert!(read_answer(body, None).is_err());
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for wrong in ["open", "[]", r#"{"status":"succeeded"}"#] {
            assert!(read_answer(wrong.as_bytes(), None).is_err(), "{wrong}");
        }
        for wrong in [
            r#"{"command_id":"c","status":"maybe"}"#,
            r#"{"command_id":"c","status":"progress","progress":101}"#,
            r#"{"command_id":"c"}"#,
            "open",
        ] {
            let (id, answer) = read_answer(wrong.as_bytes(), Some("c")).unwrap();
            assert!(id == "c" && answer.is_err(), "{wrong}");
        }
    }
}
