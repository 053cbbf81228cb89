//! Outcome of a rule for the last message on the topic that was asked about.

use serde_json::Value;

use super::facts::{NamedRule, devices_in_words, unmatched};
use crate::rfc3339;
use crate::rules::{LastOnTopic, TopicResult};
use crate::text::{is_called_secret, printable};
use crate::why::{Asked, Finding};

/// Letters of a value that are shown.
const VALUE_MAX: usize = 40;
/// Members of a payload that are shown.
const MEMBERS_MAX: usize = 4;

/// Why the rule did nothing for the last message on that topic; none: it did something, or no
/// message of the topic is remembered.
pub(super) fn on_topic(asked: &Asked, rule: &NamedRule) -> Option<Finding> {
    let topic = asked.question.topic.as_deref()?;
    let last = rule.on_topic.as_ref()?;
    let name = &rule.name;
    let message = format!(
        "the last message on {topic} ({})",
        rfc3339::in_words(last.at_ms)
    );
    let (sentence, remedy) = match &last.result {
        TopicResult::Matched | TopicResult::Failed => return None,
        TopicResult::Unmatched => {
            let condition = rule.definition.when.as_deref().unwrap_or_default();
            let sentence = format!(
                "the condition of the rule {name} was false for {message}{}; the condition is {}",
                values_in_words(condition, last),
                printable(condition)
            );
            (
                sentence,
                "correct the condition (when), or what is published",
            )
        }
        TopicResult::Missing(field) => {
            let lacks = missing_field(field);
            let (has, remedy) = match is_previous(field) {
                true => (String::new(), "publish another message"),
                false => (
                    payload_has(field, &members_of(&last.payload)),
                    "correct the rule, or what is published",
                ),
            };
            let sentence = format!("{message} lacks {lacks}, which the rule {name} names{has}");
            (sentence, remedy)
        }
        TopicResult::OtherDevice => {
            let devices = devices_in_words(&rule.definition);
            let devices = devices.as_deref().unwrap_or("other devices");
            let sentence =
                format!("{message} is not of {devices}, and the rule {name} ignores all others");
            (sentence, OTHER_DEVICE)
        }
    };
    Some(unmatched(rule, sentence, remedy).since(last.at_ms))
}

/// Remedy for messages of other devices than those that a rule looks at.
pub(super) const OTHER_DEVICE: &str = "correct the rule, or the type or tags of the device; a \
                                       message belongs to the device that publishes it, unless \
                                       `device` of the rule names another";

/// A failure of the rule is not of the topic that was asked about.
pub(super) fn failed_elsewhere(asked: &Asked, rule: &NamedRule) -> bool {
    // The topic of the message whose action failed is not known.
    let of = rule.counts.failed_topic.as_deref();
    let topic = asked.question.topic.as_deref();
    topic.is_some() && of.is_some() && rule.on_topic.is_some() && of != topic
}

/// Names of the members of a payload; none if it is no object.
fn members_of(payload: &[u8]) -> Vec<String> {
    match serde_json::from_slice(payload) {
        Ok(Value::Object(members)) => members.into_iter().map(|(name, _)| name).collect(),
        _ => Vec::new(),
    }
}

/// The values of a payload that a condition names, as the end of a sentence.
fn values_in_words(condition: &str, last: &LastOnTopic) -> String {
    let Ok(payload) = serde_json::from_slice::<Value>(&last.payload) else {
        return String::new();
    };
    let words: Vec<&str> = condition
        .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .collect();
    let named = match payload {
        Value::Object(members) => {
            let members = members.into_iter();
            let named = members.filter(|(name, _)| words.contains(&&**name));
            named
                .filter_map(|(name, value)| value_in_words(&name, &value))
                .take(MEMBERS_MAX)
                .collect()
        }
        payload => Vec::from_iter(value_in_words("the payload", &payload)),
    };
    match named.is_empty() {
        true => String::new(),
        false => format!(": {}", named.join(", ")),
    }
}

fn value_in_words(name: &str, value: &Value) -> Option<String> {
    if value.is_object() || value.is_array() {
        return None;
    }
    let value = match is_called_secret(name) {
        true => "***".to_owned(),
        false => value.to_string(),
    };
    let shown: String = value.chars().take(VALUE_MAX).collect();
    let more = if shown.len() < value.len() { "…" } else { "" };
    Some(format!(
        "{} is {}{more}",
        printable(name),
        printable(&shown)
    ))
}

/// Whether a field is a value of the message before, which the first message does not have.
pub(super) fn is_previous(field: &str) -> bool {
    field.split('.').next() == Some("previous")
}

/// A field that is missing.
pub(super) fn missing_field(field: &str) -> String {
    match is_previous(field) {
        true => format!("the field {field} (there was no earlier message)"),
        false => format!("the field {field}"),
    }
}

/// The member of a payload whose name is nearly that of a missing one, else some of them, as the
/// end of a sentence.
pub(super) fn payload_has(missing: &str, others: &[String]) -> String {
    let found = nearest_or_some(missing, others);
    found.map_or_else(String::new, |found| format!("; the payload has {found}"))
}

/// The name that is nearly the missing one, else some of them; none: there are none.
pub(super) fn nearest_or_some(missing: &str, others: &[String]) -> Option<String> {
    // The member `temp` of `payload.temp`, or the whole name of a value such as `previous`.
    let last = missing.rsplit('.').next().unwrap_or(missing).to_lowercase();
    let is_near = |other: &String| {
        let other = other.to_lowercase();
        let distance = strsim::osa_distance(&last, &other);
        let is_longer = last.len() >= 3 && other.starts_with(&last);
        let is_shorter = other.len() >= 3 && last.starts_with(&other);
        (distance <= 2 || is_longer || is_shorter).then_some(distance)
    };
    let near = others
        .iter()
        .filter_map(|other| Some((is_near(other)?, other)));
    if let Some((_, other)) = near.min() {
        return Some(printable(other));
    }
    let shown: Vec<String> = others
        .iter()
        .take(MEMBERS_MAX)
        .map(|one| printable(one))
        .collect();
    let more = if others.len() > shown.len() {
        ", …"
    } else {
        ""
    };
    (!shown.is_empty()).then(|| format!("{}{more}", shown.join(", ")))
}
