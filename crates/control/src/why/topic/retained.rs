//! Why a client that is subscribed gets no retained message.

use martlet_broker::{RetainedAtSubscribe, RetainedEnd, RetainedEnded, RetainedInfo, TenantId};

use super::facts::{LEVELS_MAX, Retained, TopicFacts};
use crate::cause::{Bearing, Cause};
use crate::control::{Control, ControlError};
use crate::remedy::Command;
use crate::rfc3339;
use crate::why::Finding;
use crate::why::asked::Asked;
use crate::why::session::Session;

/// Time for which the end of a retained message is why a client gets none.
const ENDED_MS: u64 = 24 * 60 * 60 * 1000;

/// Levels of topics for commands, as is usual.
const COMMANDS: [&str; 13] = [
    "action", "actions", "cmd", "cmds", "cmnd", "command", "commands", "control", "do", "request",
    "requests", "rpc", "set",
];

/// Findings about the retained messages of the topic, or Topic Filter, that was asked
/// about.
pub(super) fn retained(asked: &Asked, facts: &TopicFacts) -> Option<(Bearing, Finding)> {
    let is_filter = asked.question.is_about_filter();
    if let Some(Retained::Kept {
        topic,
        at_ms,
        past_will: Some(past),
        ..
    }) = &facts.retained
        && !is_filter
        && past.0 == asked.client_id
    {
        return Some((Bearing::Topic, past_will_of(topic, *at_ms, &past.0, past.1)));
    }
    let session = asked.session.as_ref().filter(|session| session.connected)?;
    let own = session.matching(asked.question.topic.as_deref()?);
    let own: Vec<&str> = own.iter().map(|(filter, _)| *filter).collect();
    if own.is_empty() || !asked.may_read() {
        return None;
    }
    // What came later was sent to it as it came.
    let is_before = |at_ms: u64| session.since_ms.is_some_and(|since_ms| at_ms < since_ms);
    match facts.retained.as_ref()? {
        Retained::Kept {
            topic,
            at_ms,
            remove,
            past_will,
        } => match (not_sent(session, topic, &own), past_will) {
            (Some(finding), _) => is_before(*at_ms).then_some((Bearing::Topic, finding)),
            (None, _) if is_filter => None,
            (None, Some(past)) => {
                let (client_id, since_ms) = past;
                let finding = past_will_of(topic, *at_ms, client_id, *since_ms);
                Some((Bearing::Topic, finding))
            }
            (None, None) => {
                let bearing = match is_for_commands(topic) {
                    true => Bearing::Topic,
                    false => Bearing::Aside,
                };
                Some((bearing, sent_again(topic, *at_ms, remove)))
            }
        },
        Retained::Ended(one) => {
            let is_recent = asked.now_ms.saturating_sub(one.at_ms) <= ENDED_MS;
            // A command is deleted on purpose, so that it is not sent again.
            let bearing = match is_recent && !is_for_commands(&one.topic) {
                true => Bearing::Topic,
                false => Bearing::Aside,
            };
            is_before(one.at_ms).then(|| (bearing, taken_away(one)))
        }
    }
}

fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// A level of the topic is one of those of commands.
fn is_for_commands(topic: &str) -> bool {
    let mut levels = topic.split('/');
    levels.any(|level| {
        let level = level.to_ascii_lowercase();
        COMMANDS.contains(&&*level)
    })
}

/// The retained message is the Will of a client that is connected again: that and since when.
fn past_will_of(topic: &str, at_ms: u64, client_id: &str, since_ms: u64) -> Finding {
    let sentence = format!(
        "the retained message of {topic} is the Will of {client_id}, published on {}; {client_id} \
         is connected again since {}, and nothing was retained there since",
        rfc3339::in_words(at_ms),
        rfc3339::in_words(since_ms)
    );
    Finding::new(Cause::WillRetained, sentence)
        .since(at_ms)
        .remedy(format!(
            "have {client_id} publish its state to {topic} with RETAIN after each connect"
        ))
}

/// The retained message is sent at each subscribe, also if the client has had it.
fn sent_again(topic: &str, at_ms: u64, remove: &Option<Command>) -> Finding {
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
    let client_id = one.client_id.as_deref();
    let (why, and) = match one.end {
        RetainedEnd::Cleared => {
            let who = client_id.unwrap_or("an operator or a client whose session has ended");
            (
                format!(
                    "{who} cleared it on {at}, with a message with RETAIN and an empty payload"
                ),
                format!("; see why {who} publishes an empty payload"),
            )
        }
        RetainedEnd::Expired => {
            let of = client_id.map_or_else(String::new, |client_id| format!(" of {client_id}"));
            (
                format!("that{of} expired on {at}, at its Message Expiry Interval"),
                ", with a longer Message Expiry Interval or with none".to_owned(),
            )
        }
    };
    let sentence = format!("{topic} no longer has a retained message: {why}");
    let remedy = format!("publish the message to {topic} with RETAIN again{and}");
    Finding::new(Cause::NoRetained, sentence)
        .since(one.at_ms)
        .remedy(remedy)
}

impl Control {
    /// The client whose Will this retained message is, if it is connected again, and since when. It
    /// is the client of the question, or one that the topic names.
    pub(super) async fn past_will(
        &self,
        tenant: TenantId,
        client_id: &str,
        retained: &RetainedInfo,
    ) -> Result<Option<(String, u64)>, ControlError> {
        let levels = retained.topic.split('/').take(LEVELS_MAX);
        let names = std::iter::once(client_id).chain(levels);
        for name in names.filter(|name| !name.is_empty()) {
            if self.presence.past_will_of(tenant, name).as_deref() != Some(&*retained.topic) {
                continue;
            }
            let Some(session) = self.client(tenant, name, 0).await? else {
                continue;
            };
            // It mostly comes with the same Will again.
            let is_it = session.will.as_ref().is_some_and(|will| {
                will.retain
                    && will.topic == retained.topic
                    && will.payload_bytes == retained.payload_bytes
            });
            let since_ms = session.info.connected_at_ms;
            if is_it && session.info.connected && retained.received_wall_ms <= since_ms {
                return Ok(Some((name.to_owned(), since_ms)));
            }
        }
        Ok(None)
    }
}
