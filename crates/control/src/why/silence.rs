//! Silent publishers: the device in the question, or one that the topic names.

use super::Finding;
use super::arrival::may_read;
use super::facts::{Facts, NamedInTopic, NamedStanding};
use super::found::{Bearing, Found, is_connected};
use super::side::is_subscribed;
use crate::cause::Cause;
use crate::rfc3339;

/// Time after which the tables have the last message of a device.
const NOTED_MS: u64 = 60_000;

/// The clients that the topic names are not connected, and one that is subscribed gets nothing.
pub(super) fn publisher_absent(facts: &Facts, found: &mut Found) {
    let named = &facts.named_in_topic;
    let is_there = |one: &NamedInTopic| matches!(one.standing, NamedStanding::Connected { .. });
    if !is_connected(facts) || !is_subscribed(facts) || !may_read(facts) {
        return;
    }
    let first = named.iter().find(|one| one.is_device).or(named.first());
    let first = first.filter(|_| !named.iter().any(is_there));
    // A topic of Wills is one that a client publishes to when it goes.
    let is_of_will = |one: &&NamedInTopic| {
        let mut absent = facts.absent.iter();
        absent.any(|absent| absent.client_id == one.client_id)
    };
    let Some(first) = first.filter(|one| !is_of_will(one)) else {
        return;
    };
    let who = who(first);
    let finding = match first.standing {
        NamedStanding::Connected { .. } => return,
        NamedStanding::NeverConnected => {
            let sentence = format!("{who}, named in the topic, has never connected");
            Finding::new(Cause::PublisherAbsent, sentence)
        }
        NamedStanding::Away(since_ms) => {
            let sentence = format!("{who}, named in the topic, is not connected");
            let mut finding = Finding::new(Cause::PublisherAbsent, sentence);
            finding.since_ms = since_ms;
            finding
        }
    };
    let mut finding = finding.remedy(
        "if it should publish to the topic, find out why it is not \
         connected",
    );
    finding.command.clone_from(&first.command);
    found.push((Bearing::Remark, finding));
}

fn who(one: &NamedInTopic) -> String {
    let what = match one.is_device {
        true => "device",
        false => "client",
    };
    format!("the {what} {}", one.client_id)
}

/// What a connected client published last, in words that follow a sentence; of one that is
/// subscribed to the topic, the same of the device that the topic names.
pub(super) fn last_publish(facts: &Facts) -> String {
    if is_subscribed(facts) {
        let mut named = facts.named_in_topic.iter();
        let words = named.find_map(|one| {
            let NamedStanding::Connected {
                since_ms,
                has_published,
            } = one.standing
            else {
                return None;
            };
            let words = words(facts, (since_ms, has_published), one.last_message_ms)?;
            Some(format!("; {}, named in the topic, {words}", who(one)))
        });
        return words.unwrap_or_default();
    }
    let session = facts.session.as_ref();
    let words = session.and_then(|session| {
        let connection = (session.since_ms?, session.has_published);
        words(facts, connection, facts.last_message_ms)
    });
    words.map_or_else(String::new, |words| format!("; it {words}"))
}

/// Since when a device is connected, and whether it has published since; and when it last did.
fn words(
    facts: &Facts,
    (since_ms, has_published): (u64, Option<bool>),
    last_ms: Option<u64>,
) -> Option<String> {
    let last_ms = last_ms.filter(|last_ms| *last_ms >= since_ms);
    match (has_published?, last_ms) {
        (false, None) => Some(format!(
            "has published nothing since it connected on {}",
            rfc3339::in_words(since_ms)
        )),
        (_, Some(last_ms)) if facts.now_ms.saturating_sub(last_ms) >= NOTED_MS => {
            Some(format!("published last on {}", rfc3339::in_words(last_ms)))
        }
        _ => None,
    }
}
