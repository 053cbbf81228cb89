//! Which Wills were published, wait, or were discarded.

use martlet_broker::{EventKind, WillNotice};

use super::Finding;
use super::facts::{Absent, AbsentWill, Facts};
use super::found::{Bearing, Found};
use crate::cause::Cause;
use crate::rfc3339;

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
pub(super) fn of_others(facts: &Facts, found: &mut Found) {
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
