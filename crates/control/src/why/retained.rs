//! Why a client that is subscribed gets no retained message.

use martlet_broker::{RetainedAtSubscribe, RetainedEnd, RetainedEnded};

use super::Finding;
use super::arrival::may_read;
use super::facts::{Facts, Retained, Session};
use super::found::{Bearing, Found};
use super::side::matching;
use crate::cause::Cause;
use crate::rfc3339;

/// Time for which the end of a retained message is why a client gets none.
const ENDED_MS: u64 = 24 * 60 * 60 * 1000;

/// Levels of topics for commands, as is usual.
const COMMANDS: [&str; 13] = [
    "action", "actions", "cmd", "cmds", "cmnd", "command", "commands", "control", "do", "request",
    "requests", "rpc", "set",
];

/// What there is to find of the retained messages of the topic, or Topic Filter, that was asked
/// about.
pub(super) fn retained(facts: &Facts, found: &mut Found) {
    let (Some(topic), Some(retained)) = (&facts.question.topic, &facts.retained) else {
        return;
    };
    if let Retained::Kept {
        topic,
        at_ms,
        past_will: Some(past),
        ..
    } = retained
        && !facts.question.is_about_filter()
        && past.0 == facts.client_id
    {
        found.push((Bearing::Topic, past_will_of(topic, *at_ms, past)));
        return;
    }
    let Some(session) = facts.session.as_ref().filter(|session| session.connected) else {
        return;
    };
    let own = matching(session, topic);
    let own: Vec<&str> = own.iter().map(|(filter, _)| *filter).collect();
    if own.is_empty() || !may_read(facts) {
        return;
    }
    // What came later was sent to it as it came.
    let is_before = |at_ms: u64| session.since_ms.is_some_and(|since_ms| at_ms < since_ms);
    match retained {
        Retained::Kept {
            topic,
            at_ms,
            remove,
            past_will,
        } => match not_sent(session, topic, &own) {
            Some(finding) if is_before(*at_ms) => found.push((Bearing::Topic, finding)),
            Some(_) => {}
            None if facts.question.is_about_filter() => {}
            None if past_will.is_some() => {
                let past = past_will.iter();
                let past = past.map(|past| past_will_of(topic, *at_ms, past));
                found.extend(past.map(|finding| (Bearing::Topic, finding)));
            }
            None => {
                let bearing = match is_for_commands(topic) {
                    true => Bearing::Topic,
                    false => Bearing::Aside,
                };
                found.push((bearing, sent_again(topic, *at_ms, remove)));
            }
        },
        Retained::Ended(one) if is_before(one.at_ms) => {
            let is_recent = facts.now_ms.saturating_sub(one.at_ms) <= ENDED_MS;
            // A command is deleted on purpose, so that it is not sent again.
            let bearing = match is_recent && !is_for_commands(&one.topic) {
                true => Bearing::Topic,
                false => Bearing::Aside,
            };
            found.push((bearing, taken_away(one)));
        }
        Retained::Ended(_) => {}
    }
}

fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// The remedy of a message of the topic, once.
fn is_for_commands(topic: &str) -> bool {
    let mut levels = topic.split('/');
    levels.any(|level| {
        let level = level.to_ascii_lowercase();
        COMMANDS.contains(&&*level)
    })
}

/// The retained message is the Will of a client that is connected again: that and since when.
fn past_will_of(topic: &str, at_ms: u64, (client_id, since_ms): &(String, u64)) -> Finding {
    let sentence = format!(
        "the retained message of {topic} is the Will of {client_id}, published on {}; {client_id} \
         is connected again since {}, and nothing was retained there since",
        rfc3339::in_words(at_ms),
        rfc3339::in_words(*since_ms)
    );
    Finding::new(Cause::WillRetained, sentence)
        .since(at_ms)
        .remedy(format!(
            "have {client_id} publish its state to {topic} with RETAIN after each connect"
        ))
}

/// The retained message is sent at each subscribe, also if the client has had it.
fn sent_again(topic: &str, at_ms: u64, remove: &str) -> Finding {
    let sentence = format!(
        "{topic} has a retained message, kept since {}: it is sent to the client at each \
         subscribe, so after each reconnect",
        rfc3339::in_words(at_ms)
    );
    Finding::new(Cause::RetainedAgain, sentence)
        .since(at_ms)
        .remedy(
            "if such messages should have an effect only once, publish them without RETAIN, and \
             delete this one; to delete it, run",
        )
        .command(remove)
}

/// The retained message was not sent for any of its subscriptions.
fn not_sent(session: &Session, topic: &str, own: &[&str]) -> Option<Finding> {
    let plain = own.iter().find(|filter| !is_shared(filter));
    let Some(plain) = plain else {
        let filter = own.first()?;
        let sentence = format!(
            "{topic} has a retained message, and it is subscribed by {filter}: a Shared \
             Subscription gets no retained messages"
        );
        let finding = Finding::new(Cause::NoRetained, sentence);
        return Some(finding.remedy(format!(
            "have the client subscribe to {topic} without $share to get the retained message"
        )));
    };
    let at_subscribe = |filter: &str| {
        let mut all = session.without_retained.iter();
        let found = all.find(|(of, _)| of == filter);
        found.map_or(RetainedAtSubscribe::Sent, |(_, why)| *why)
    };
    let mut all = own.iter().filter(|filter| !is_shared(filter));
    if all.any(|filter| at_subscribe(filter) == RetainedAtSubscribe::Sent) {
        return None;
    }
    let why = match at_subscribe(plain) {
        RetainedAtSubscribe::NotNew => {
            "it was subscribed already when it subscribed with Retain Handling 1, so its session \
             got no retained message again"
        }
        _ => "it subscribed with Retain Handling 2, which requests no retained messages",
    };
    let sentence = format!("{topic} has a retained message, and it did not get it: {why}");
    let finding = Finding::new(Cause::NoRetained, sentence);
    Some(finding.remedy(format!(
        "have the client subscribe to {plain} with Retain Handling 0"
    )))
}

/// There is no retained message any more.
fn taken_away(one: &RetainedEnded) -> Finding {
    let topic = &one.topic;
    let at = rfc3339::in_words(one.at_ms);
    let (sentence, remedy) = match (one.end, &one.client_id) {
        (RetainedEnd::Cleared, client_id) => {
            let who = client_id
                .as_deref()
                .unwrap_or("an operator or a client whose session has ended");
            let sentence = format!(
                "{topic} no longer has a retained message: {who} cleared it on {at}, with a \
                 message with RETAIN and an empty payload"
            );
            let remedy = format!(
                "publish the message to {topic} with RETAIN again; see why {who} publishes an \
                 empty payload"
            );
            (sentence, remedy)
        }
        (RetainedEnd::Expired, client_id) => {
            let of = client_id
                .as_deref()
                .map(|client_id| format!(" of {client_id}"));
            let sentence = format!(
                "{topic} no longer has a retained message: that{} expired on {at}, at its Message \
                 Expiry Interval",
                of.unwrap_or_default()
            );
            let remedy = format!(
                "publish the message to {topic} with RETAIN again, with a longer Message Expiry \
                 Interval or with none"
            );
            (sentence, remedy)
        }
    };
    Finding::new(Cause::NoRetained, sentence)
        .since(one.at_ms)
        .remedy(remedy)
}
