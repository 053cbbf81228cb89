//! The topics of `[[bridges]]`. All notations are converted to lines in Mosquitto's format.

use martlet_codec::QoS;
use martlet_integrate::bridge::{DEFAULT_QOS, Direction, TopicRule};
use toml::de::{DeTable, DeValue};

use super::nearest::{nearest, nearest_of};
use martlet_settings::Takes;

/// Converts a topic of a bridge to a line, `FILTER DIRECTION QOS LOCAL_PREFIX REMOTE_PREFIX`.
///
/// # Errors
/// The fault of the topic.
pub(super) fn topic_line(topic: &DeValue<'_>) -> Result<String, String> {
    match topic {
        DeValue::Table(entries) => line_of_table(entries),
        DeValue::String(text) => TopicRule::parse(text, DEFAULT_QOS).map(|_| text.to_string()),
        _ => Err(format!("expected {}", Takes::Topics.expectation(false))),
    }
}

fn line_of_table(entries: &DeTable<'_>) -> Result<String, String> {
    const KEYS: &[&str] = &[
        "filter",
        "direction",
        "qos",
        "local_prefix",
        "remote_prefix",
    ];
    let mut rule = TopicRule {
        filter: "".into(),
        direction: Direction::Out,
        qos: DEFAULT_QOS,
        local_prefix: "".into(),
        remote_prefix: "".into(),
    };
    for (key, value) in entries {
        let name = &**key.get_ref();
        match (name, value.get_ref()) {
            ("filter", DeValue::String(text)) => rule.filter = (**text).into(),
            ("local_prefix", DeValue::String(text)) => rule.local_prefix = (**text).into(),
            ("remote_prefix", DeValue::String(text)) => rule.remote_prefix = (**text).into(),
            ("direction", DeValue::String(word)) => {
                rule.direction = Direction::of(word)
                    .ok_or_else(|| format!("direction is {word:?}, expected out, in or both"))?;
            }
            ("qos", DeValue::Integer(number)) => {
                rule.qos = number
                    .as_str()
                    .parse()
                    .ok()
                    .and_then(QoS::from_bits)
                    .ok_or_else(|| format!("qos is {}, expected 0, 1 or 2", number.as_str()))?;
            }
            (name, _) if KEYS.contains(&name) => {
                let expected = if name == "qos" {
                    "0, 1 or 2"
                } else {
                    "text in quotes"
                };
                return Err(format!("{name} is of another type, expected {expected}"));
            }
            (name, _) => {
                let hint = nearest(&nearest_of(KEYS.iter().copied(), name));
                return Err(format!("{name} is not a key of a topic{hint}"));
            }
        }
    }
    checked_line(&rule)
}

/// Converts a topic of a bridge to a line that parses to the same rule.
///
/// # Errors
/// The fault of the topic.
pub(super) fn checked_line(rule: &TopicRule) -> Result<String, String> {
    let texts = [&rule.filter, &rule.local_prefix, &rule.remote_prefix];
    if texts.iter().any(|text| text.contains('"')) {
        return Err("a topic contains a quote, which a bridge cannot transfer".to_owned());
    }
    let line = rule.to_string();
    TopicRule::parse(&line, DEFAULT_QOS).map(|_| line)
}
