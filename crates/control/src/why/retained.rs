//! Why a client that is subscribed gets no retained message, and which Wills were published, wait,
//! or were discarded.

use martlet_broker::{
    ClientDetail, EventKind, RetainedAtSubscribe, RetainedEnd, RetainedEnded, RetainedInfo,
    TenantId, WillNotice,
};

use super::arrival::{LEVELS_MAX, may_read};
use super::facts::{Absent, AbsentWill, Facts, Retained, Session};
use super::found::{Bearing, Found};
use super::side::matching;
use super::{Finding, Question};
use crate::cause::Cause;
use crate::control::{Control, ControlError};
use crate::remedy::Command;
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

/// What to do if a Will is wanted although its client sends DISCONNECT.
const WITHOUT_DISCONNECT: &str = "if its Will should be published, have the client end its \
                                  connection without DISCONNECT, or send DISCONNECT with reason \
                                  code 0x04 (MQTT 5)";

/// Adds to a finding about the end of a connection whether its Will was published.
pub(super) fn with_will(facts: &Facts, mut finding: Finding) -> Finding {
    match &facts.will {
        Some(AbsentWill::Delayed { topic, due_ms }) => {
            let text = format!("; its Will for {topic} {}", delayed(*due_ms));
            finding.sentence.push_str(&text);
        }
        Some(AbsentWill::Gone(WillNotice {
            topic,
            is_discarded: true,
        })) => {
            let text =
                format!("; its Will for {topic} was not published: that DISCONNECT discards it");
            finding.sentence.push_str(&text);
            finding
                .remedy
                .get_or_insert_with(|| WITHOUT_DISCONNECT.to_owned());
        }
        Some(AbsentWill::Gone(WillNotice { topic, .. })) if !was_refused(facts, topic) => {
            let text = format!("; its Will was published to {topic}");
            finding.sentence.push_str(&text);
        }
        _ => {}
    }
    finding
}

/// Its Will was refused: that is reported as a publish of its own.
fn was_refused(facts: &Facts, topic: &str) -> bool {
    facts.runs.iter().any(|run| {
        run.last.what == EventKind::PublishRefused && run.last.topic.as_deref() == Some(topic)
    })
}

fn delayed(due_ms: Option<u64>) -> String {
    let until = "unless it connects before that";
    match due_ms {
        Some(due_ms) => {
            let at = rfc3339::in_words(due_ms);
            format!("is published on {at}, after its Will Delay Interval, {until}")
        }
        None => format!("is published after its Will Delay Interval, {until}"),
    }
}

/// Wills of other clients that go to the topic that was asked about, and were not published.
pub(super) fn wills_of_others(facts: &Facts, found: &mut Found) {
    for Absent {
        client_id,
        since_ms,
        will,
    } in &facts.absent
    {
        let (sentence, remedy) = match will {
            AbsentWill::Delayed { topic, due_ms } => (
                format!(
                    "{client_id} is not connected, and its Will for {topic} {}",
                    delayed(*due_ms)
                ),
                "wait, or have that client connect with a shorter Will Delay Interval",
            ),
            AbsentWill::Gone(WillNotice {
                topic,
                is_discarded: true,
            }) => (
                format!(
                    "{client_id} has disconnected, and its Will for {topic} was not published: it \
                     sent DISCONNECT, which discards the Will"
                ),
                "if the Will should be published, have that client end its connection without \
                 DISCONNECT, or send DISCONNECT with reason code 0x04 (MQTT 5)",
            ),
            AbsentWill::Gone(_) => continue,
        };
        let finding = Finding::new(Cause::WillNotSent, sentence);
        found.push((Bearing::Topic, finding.since(*since_ms).remedy(remedy)));
    }
}

impl Control {
    /// The Will of a client that is not connected: it waits, was published or was discarded.
    pub(super) fn will_of(
        &self,
        tenant: TenantId,
        client_id: &str,
        session: Option<&ClientDetail>,
    ) -> Option<AbsentWill> {
        if session.is_some_and(|session| session.info.connected) {
            return None;
        }
        if let Some(session) = session
            && let Some(will) = &session.will
        {
            let delay_secs = will.delay_secs.min(session.info.session_expiry_secs);
            let due_ms = session.left_ms;
            return Some(AbsentWill::Delayed {
                topic: will.topic.to_string(),
                due_ms: due_ms.map(|left_ms| left_ms + u64::from(delay_secs) * 1_000),
            });
        }
        let disconnected = self.presence.will_of(tenant, client_id)?;
        Some(AbsentWill::Gone(disconnected))
    }

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

    /// Clients that have left, whose names are in the topic that was asked about, and whose Will
    /// is, or was, for it.
    pub(super) async fn absent_of_topic(
        &self,
        question: &Question,
    ) -> Result<Vec<Absent>, ControlError> {
        let mut found = Vec::new();
        let Some(topic) = question.topic.as_deref() else {
            return Ok(found);
        };
        for level in topic.split('/').take(LEVELS_MAX) {
            if level.is_empty() || *level == *question.name {
                continue;
            }
            let session = self.client(question.tenant, level, 0).await?;
            let Some(will) = self.will_of(question.tenant, level, session.as_ref()) else {
                continue;
            };
            let of = match &will {
                AbsentWill::Delayed { topic, .. } => &**topic,
                AbsentWill::Gone(will) => &*will.topic,
            };
            let disconnected = self.presence.of(question.tenant, level);
            if of == topic
                && let Some(disconnected) = disconnected.filter(|disconnected| !disconnected.online)
            {
                found.push(Absent {
                    client_id: level.to_owned(),
                    since_ms: disconnected.since_ms,
                    will,
                });
            }
        }
        Ok(found)
    }
}
