//! Who publishes nothing, and whose connections end again and again.

use martlet_broker::RefusalCause;

use super::{Facts, NOW, connected, expect, facts, judge, rules, run};
use crate::cause::Cause;
use crate::event_kind::EventKind;
use crate::explain::Outcome;
use crate::presence::{NamedInTopic, NamedStanding};
use crate::why::State;

fn subscriber() -> Facts {
    let mut facts = facts(Some("d/p2/state"));
    let mut session = connected();
    session.subscriptions = vec![("d/+/state".to_owned(), 1)];
    facts.asked.session = Some(session);
    facts.asked.rules = rules(Outcome::Permitted, Outcome::Permitted);
    facts
}

fn named(client_id: &str, standing: NamedStanding) -> NamedInTopic {
    NamedInTopic {
        client_id: client_id.to_owned(),
        is_device: true,
        standing,
        is_own: false,
        will: None,
        last_message_ms: None,
        command: Some(format!("martlet why {client_id}").into()),
    }
}

#[test]
fn a_subscriber_is_told_that_the_device_of_the_topic_is_not_there() {
    let mut facts = subscriber();
    facts.silence.named = vec![named("p2", NamedStanding::Away(Some(NOW - 9_000)))];
    let diagnosis = judge(&facts);
    let expected = "the device p2, named in the topic, is not connected";
    expect(
        &diagnosis,
        Cause::PublisherAbsent,
        State::Connected,
        expected,
    );
    assert_eq!(diagnosis.finding.since_ms, Some(NOW - 9_000));
    let command = diagnosis.finding.command.as_deref();
    assert_eq!(command, Some("martlet why p2"));
    // Another client of the topic is there, and may publish to it.
    let there = NamedStanding::Connected {
        since_ms: NOW - 5_000,
        has_published: Some(true),
    };
    facts.silence.named.push(named("gw", there));
    let diagnosis = judge(&facts);
    assert!(!diagnosis.wrong, "{diagnosis:?}");
    // What the client itself lacks is reported first.
    facts.silence.named.pop();
    facts.asked.rules = rules(Outcome::Permitted, Outcome::Refused);
    assert_eq!(judge(&facts).finding.cause, Cause::NotPermitted);
}

#[test]
fn a_device_that_published_long_ago_is_told_so() {
    let mut facts = facts(None);
    facts.asked.session = Some(connected());
    facts.silence.last_message_ms = Some(NOW - 400_000);
    let sentence = |facts: &Facts| judge(facts).finding.sentence;
    assert!(sentence(&facts).ends_with("lost recently"), "not known");
    let session = |since_ms: u64, has_published| {
        let mut session = connected();
        (session.since_ms, session.has_published) = (Some(since_ms), Some(has_published));
        Some(session)
    };
    facts.asked.session = session(NOW - 5_000, false);
    assert!(sentence(&facts).contains("it has published nothing since it connected on "));
    // The tables do not have the last seconds.
    facts.asked.session = session(NOW - 5_000, true);
    assert!(sentence(&facts).ends_with("lost recently"));
    facts.asked.session = session(NOW - 500_000, true);
    assert!(sentence(&facts).contains("; it published last on "));
    facts.silence.last_message_ms = Some(NOW - 20_000);
    assert!(sentence(&facts).ends_with("lost recently"));
}

#[test]
fn connections_that_break_now_and_then_are_no_fault() {
    let broke = |count, over_ms| {
        let mut facts = facts(None);
        facts.asked.session = Some(connected());
        let closed = (RefusalCause::ClosedByClient, "the connection was closed");
        let mut run = run(EventKind::Disconnected, "x", closed, count, 1_000);
        run.since_ms = run.last.at_ms - over_ms;
        facts.asked.runs = vec![run];
        judge(&facts).finding.cause
    };
    assert_eq!(broke(8, 600_000), Cause::Unstable);
    assert_eq!(broke(8, 10 * 3_600_000), Cause::NothingWrong);
    assert_eq!(broke(2, 1_000), Cause::NothingWrong);
}
