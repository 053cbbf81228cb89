//! How many sessions there are, when they end, and clients that do not acknowledge or publish.

use martlet_broker::{GroupDetail, Limit, RefusalCause, UnmatchedTopic};

use super::{Facts, NOW, connected, expect, facts, judge, of_client, run};
use crate::cause::Cause;
use crate::event_kind::EventKind;
use crate::why::Session;
use crate::why::State;
use crate::why::session::Backlog;
use crate::why::topic::Subscriber;

/// A client that is one more than the type of its device permits.
fn one_too_many(ago_ms: u64) -> Facts {
    let why = (
        RefusalCause::Limit(Limit::UserSessions),
        "as many as permitted",
    );
    let mut refused = run(EventKind::Refused, "Quota exceeded", why, 1, ago_ms);
    refused.last.limit = Some(Limit::UserSessions.option().to_owned());
    {
        let mut of = facts(None);
        of.asked.runs = vec![refused];
        of
    }
}

#[test]
fn a_client_that_is_one_too_many_is_told_though_others_are_connected() {
    let there = {
        let mut of = facts(None);
        of.asked.session = Some(connected());
        of
    };
    let mut both = of_client("d1", facts(None));
    both.clients = vec![
        of_client("d1-1", there),
        of_client("d1-2", one_too_many(1_000)),
    ];
    let expected = "client d1-2 is refused: as many as permitted";
    expect(
        &judge(&both),
        Cause::LimitReached,
        State::Connected,
        expected,
    );
    // Long ago that was no fault of now.
    both.clients[1] = of_client("d1-2", one_too_many(3_600_000));
    let diagnosis = judge(&both);
    expect(
        &diagnosis,
        Cause::NothingWrong,
        State::Connected,
        "1 of its 2 clients",
    );
    assert_eq!(diagnosis.also[0].cause, Cause::LimitReached);
}

/// A client whose session is kept for 10 s came back, a while after a message came. It went
/// `gone_ms` before that message.
fn missed(gone_ms: u64) -> Facts {
    let missed_ms = NOW - 6_000;
    {
        let mut of = facts(Some("a/1"));
        of.asked.session = Some(Session {
            subscriptions: vec![("a/1".to_owned(), 1)],
            session_expiry_secs: 10,
            ..connected()
        });
        of.asked.runs = vec![
            run(
                EventKind::Disconnected,
                "Success",
                (RefusalCause::Goodbye, "the client sent DISCONNECT"),
                1,
                6_000 + gone_ms,
            ),
            run(EventKind::Connected, "", "", 1, 5_000),
        ];
        of.asked.unmatched = vec![UnmatchedTopic {
            reached_all: false,
            topic: "a/1".into(),
            client_id: Some("other".into()),
            count: 1,
            first_ms: missed_ms,
            last_ms: missed_ms,
            is_forbidden: false,
        }];
        of.topic.session_expiry_max_secs = u32::MAX;
        of
    }
}

#[test]
fn who_ended_a_session_is_told_of_what_it_has_missed() {
    let is_there = State::Connected;
    let mut facts = missed(20_000);
    let expected = "arrived after its session had ended, and was not retained: its session ends 10 s \
                after its connection";
    let diagnosis = judge(&facts);
    expect(&diagnosis, Cause::SessionEnded, is_there, expected);
    let remedy = diagnosis.finding.remedy.unwrap_or_default();
    assert!(
        remedy.contains("longer Session Expiry Interval"),
        "{remedy}"
    );
    facts.topic.session_expiry_max_secs = 10;
    let diagnosis = judge(&facts);
    let expected = "10 s after its connection (limits.session_expiry_max_secs";
    expect(&diagnosis, Cause::SessionEnded, is_there, expected);
    let remedy = diagnosis.finding.remedy.unwrap_or_default();
    let raise = "raise limits.session_expiry_max_secs";
    assert!(remedy.contains(raise), "{remedy}");
    // With Clean Start it would have no longer session by that.
    facts
        .session
        .iter_mut()
        .for_each(|session| session.clean_start = true);
    let remedy = remedy_of_not_retained(&facts);
    assert!(
        !remedy.contains(raise) && remedy.contains("Clean Start 0"),
        "{remedy}"
    );
    // While its session lived it had no subscription.
    let mut facts = missed(5_000);
    facts.topic.session_expiry_max_secs = 10;
    let remedy = remedy_of_not_retained(&facts);
    assert!(
        remedy.contains(raise) && !remedy.contains("Clean Start 0"),
        "{remedy}"
    );
}

/// Returns the advice to a connected client that subscribed after a message.
fn remedy_of_not_retained(facts: &Facts) -> String {
    let diagnosis = judge(facts);
    let expected = "arrived before it subscribed";
    expect(&diagnosis, Cause::NotRetained, State::Connected, expected);
    diagnosis.finding.remedy.unwrap_or_default()
}

fn group(queued: usize) -> GroupDetail {
    GroupDetail {
        filter: "$share/g/a/#".into(),
        queued,
        waiting_since_ms: None,
        drops: Vec::new(),
        queue_full: None,
    }
}

#[test]
fn a_member_of_a_share_group_that_takes_no_more_is_told() {
    let mut facts = facts(None);
    let lazy = |full_ms: u64| {
        Some(Session {
            in_flight: 2,
            full_since_ms: Some(NOW - full_ms),
            subscriptions: vec![("$share/g/a/#".to_owned(), 1)],
            ..connected()
        })
    };
    facts.sessions.groups = vec![group(0)];
    // It may be busy with them.
    facts.asked.session = lazy(1_000);
    let is_there = State::Connected;
    expect(&judge(&facts), Cause::NothingWrong, is_there, "");
    facts.asked.session = lazy(10_000);
    let expected =
        "which is its maximum at one time, so its share group $share/g/a/# sends it no more";
    let diagnosis = judge(&facts);
    expect(&diagnosis, Cause::SlowReader, is_there, expected);
    assert!(
        !diagnosis.finding.sentence.contains("wait"),
        "{diagnosis:#?}"
    );
    facts.sessions.groups = vec![group(3)];
    let expected = "3 messages wait in the group";
    expect(&judge(&facts), Cause::SlowReader, is_there, expected);
    // The group has no messages of this topic.
    facts.asked.question.topic = Some("b/1".to_owned());
    let diagnosis = judge(&facts);
    assert_ne!(diagnosis.finding.cause, Cause::SlowReader, "{diagnosis:#?}");
    // Without a group nothing goes elsewhere, and nothing waits.
    facts.asked.question.topic = None;
    facts.sessions.groups = Vec::new();
    expect(&judge(&facts), Cause::NothingWrong, is_there, "");
}

#[test]
fn who_publishes_is_told_which_subscriber_does_not_acknowledge() {
    let mut facts = facts(Some("a/1"));
    facts.asked.session = Some(connected());
    let subscriber = |since_ms: u64| Subscriber {
        client_id: "lazy".to_owned(),
        filter: "$share/g/a/#".to_owned(),
        qos: 1,
        connected: true,
        end_session: None,
        backlog: Some(Backlog {
            sent: 2,
            waiting: 3,
            since_ms: NOW - since_ms,
        }),
        drops: Vec::new(),
    };
    facts.topic.subscribers = Some(vec![subscriber(1_000)]);
    assert_ne!(judge(&facts).finding.cause, Cause::SlowReader);
    facts.topic.subscribers = Some(vec![subscriber(10_000)]);
    let expected =
        "lazy, which is subscribed to a/1 (by $share/g/a/#), has not acknowledged 2 of the";
    expect(
        &judge(&facts),
        Cause::SlowReader,
        State::Connected,
        expected,
    );
}
