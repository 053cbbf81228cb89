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

/// Time without a packet after which a client without a Keep Alive is worth a remark.
const QUIET_MS: u64 = 60_000;

/// Nothing has come from a client with Keep Alive 0, which MQTT does not expect to send anything.
/// The times are those of `reactor::listen`, which has the system probe silent connections.
pub(super) fn without_keep_alive(facts: &Facts) -> Option<(Bearing, Finding)> {
    let session = facts.session.as_ref()?;
    let last_ms = session.last_packet_ms.filter(|_| session.connected)?;
    if session.keep_alive_secs > 0 || facts.now_ms.saturating_sub(last_ms) < QUIET_MS {
        return None;
    }
    let otherwise = match session.listener.starts_with("unix://") {
        true => "It is on this machine, and its connection ends with its program",
        false => {
            "If its machine has lost its power, TCP finds that about five minutes after the last \
             packet"
        }
    };
    let sentence = format!(
        "it has sent nothing since {}, and its Keep Alive is 0: the node cannot know by MQTT \
         whether it is still there. {otherwise}",
        rfc3339::in_words(last_ms)
    );
    let finding = Finding::new(Cause::NoKeepAlive, sentence)
        .since(last_ms)
        .remedy(
            "set a Keep Alive above 0 in the client, such as 60 s; limits.keep_alive_max_secs sets \
             one for all clients that have none",
        );
    Some((Bearing::Remark, finding))
}

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
