//! Who publishes to a topic and receives it.

use martlet_broker::{
    RefusalCause, RetainedAtSubscribe, RetainedEnd, RetainedEnded, UnmatchedTopic, WillNotice,
};

use super::{
    Facts, NOBODY, NOW, WRONG_PASSWORD, barred, connected, expect, facts, judge, rules, run,
};
use crate::cause::Cause;
use crate::event_kind::EventKind;
use crate::explain::Outcome;
use crate::presence::{AbsentWill, NamedInTopic, NamedStanding, WillBeside};
use crate::store::StoreState;
use crate::why::OwnNameRule;
use crate::why::State;
use crate::why::topic::{Retained, Subscriber, TopicSilence};

#[test]
fn a_topic_is_followed_from_the_rules_to_who_is_subscribed() {
    let mut facts = facts(Some("d/d2/telemetry"));
    facts.asked.session = Some(connected());
    facts.asked.rules = rules(Outcome::Refused, Outcome::Refused);
    expect(
        &judge(&facts),
        Cause::NotPermitted,
        State::Connected,
        "d/d1/telemetry",
    );
    if let Some(rules) = &mut facts.asked.rules {
        rules.own_name_publish = Some(OwnNameRule {
            rule: "device type sensor rule 1".to_owned(),
            filter: "d/d1/telemetry".to_owned(),
            other_name: "d2".to_owned(),
        });
    }
    expect(
        &judge(&facts),
        Cause::WrongTopic,
        State::Connected,
        "instead of \"d2\"",
    );
    facts.asked.rules = rules(Outcome::Permitted, Outcome::Refused);
    facts.topic.subscribers = Some(Vec::new());
    expect(
        &judge(&facts),
        Cause::SubscriberAbsent,
        State::Connected,
        "nobody is subscribed",
    );
    let subscriber = |connected| Subscriber {
        client_id: "app".to_owned(),
        filter: "d/#".to_owned(),
        qos: 0,
        connected,
        end_session: None,
        backlog: None,
        drops: Vec::new(),
    };
    facts.topic.subscribers = Some(vec![subscriber(false)]);
    expect(
        &judge(&facts),
        Cause::SubscriberAbsent,
        State::Connected,
        "none is connected",
    );
    // It is no fault: the messages come.
    facts.topic.subscribers = Some(vec![subscriber(true)]);
    let diagnosis = judge(&facts);
    let expected = "to which 1 client is subscribed";
    expect(&diagnosis, Cause::NothingWrong, State::Connected, expected);
    assert_eq!(diagnosis.also[0].cause, Cause::QosDowngraded);
}

#[test]
fn a_receiver_is_told_what_keeps_messages_from_it() {
    let mut facts = facts(Some("d/d2/telemetry"));
    let mut session = connected();
    session.subscriptions = vec![("d/+/telemetry".to_owned(), 0)];
    facts.asked.session = Some(session);
    facts.asked.rules = rules(Outcome::Refused, Outcome::Permitted);
    let diagnosis = judge(&facts);
    let expected = "it is subscribed to d/d2/telemetry";
    expect(&diagnosis, Cause::NothingWrong, State::Connected, expected);
    assert_eq!(diagnosis.also[0].cause, Cause::QosDowngraded);
    assert!(!diagnosis.wrong);
    facts.asked.rules = rules(Outcome::Permitted, Outcome::Refused);
    expect(
        &judge(&facts),
        Cause::NotPermitted,
        State::Connected,
        "may not read",
    );
    if let Some(session) = &mut facts.asked.session {
        session.subscriptions[0].1 = 1;
    }
    facts.asked.rules = rules(Outcome::Permitted, Outcome::Permitted);
    let mut full = run(
        EventKind::Dropped,
        "queue_full",
        "the queue was full",
        30,
        1_000,
    );
    full.last.topic = Some("d/d2/telemetry".to_owned());
    facts.asked.runs = vec![full];
    expect(
        &judge(&facts),
        Cause::QueueFull,
        State::Connected,
        "the queue was full",
    );
}

#[test]
fn what_was_refused_of_another_topic_is_told_beside_what_was_asked() {
    let mut facts = facts(Some("d/d1/telemetry"));
    facts.asked.session = Some(connected());
    facts.asked.rules = rules(Outcome::Permitted, Outcome::Refused);
    let mut refused = run(
        EventKind::PublishRefused,
        "Not authorized",
        "no rule",
        3,
        1_000,
    );
    refused.last.topic = Some("d/d1/other".to_owned());
    facts.asked.runs = vec![refused.clone()];
    let diagnosis = judge(&facts);
    let expected = "nothing on that topic was refused";
    expect(&diagnosis, Cause::NothingWrong, State::Connected, expected);
    assert_eq!(diagnosis.also.len(), 1, "{diagnosis:#?}");
    assert!(diagnosis.also[0].sentence.contains("d/d1/other"));
    // What is wrong with the topic leads.
    facts.topic.subscribers = Some(Vec::new());
    let diagnosis = judge(&facts);
    let expected = "nobody is subscribed";
    expect(
        &diagnosis,
        Cause::SubscriberAbsent,
        State::Connected,
        expected,
    );
    // Without a topic it is what is wrong, and so is what is of the topic.
    facts.asked.question.topic = None;
    let expected = "d/d1/other";
    expect(
        &judge(&facts),
        Cause::NotPermitted,
        State::Connected,
        expected,
    );
    facts.asked.question.topic = Some("d/d1/other".to_owned());
    facts.asked.rules = rules(Outcome::Permitted, Outcome::Permitted);
    expect(
        &judge(&facts),
        Cause::NotPermitted,
        State::Connected,
        expected,
    );
}

#[test]
fn where_the_rule_has_to_be_is_named() {
    let mut facts = facts(Some("d/d2/telemetry"));
    facts.asked.session = Some(connected());
    facts.asked.rules = rules(Outcome::Refused, Outcome::Refused);
    let finding = judge(&facts).finding;
    let remedy = finding.remedy.unwrap_or_default();
    assert!(
        remedy.contains("the device type sensor; or have"),
        "{remedy}"
    );
    let command = finding.command.as_deref();
    let expected = "martlet device type allow sensor 'topic write a'";
    assert_eq!(command, Some(expected));
}

#[test]
fn what_the_rules_permit_meanwhile_is_wrong_no_more() {
    let mut facts = facts(None);
    facts.asked.session = Some(connected());
    let mut refused = run(
        EventKind::PublishRefused,
        "Not authorized",
        "no rule",
        3,
        1_000,
    );
    refused.last.topic = Some("d/d1/other".to_owned());
    refused.last.command = Some("martlet role allow r".to_owned().into());
    refused.last.seq = 7;
    facts.asked.runs = vec![refused];
    let expected = "its publish to d/d1/other was refused";
    expect(
        &judge(&facts),
        Cause::NotPermitted,
        State::Connected,
        expected,
    );
    facts.asked.permitted_now = vec![7];
    let diagnosis = judge(&facts);
    let expected = "nothing is wrong now";
    expect(&diagnosis, Cause::NothingWrong, State::Connected, expected);
    let also = &diagnosis.also[0];
    assert!(
        also.sentence.ends_with("the rules permit it now"),
        "{also:#?}"
    );
    assert_eq!((&also.remedy, &also.command), (&None, &None));
}

#[test]
fn of_an_unknown_name_it_is_not_told_what_it_may_publish() {
    let mut facts = facts(Some("a/b"));
    facts.asked.rules = rules(Outcome::Permitted, Outcome::Permitted);
    facts.topic.subscribers = Some(Vec::new());
    let diagnosis = judge(&facts);
    let text = "d1 is unknown";
    expect(&diagnosis, Cause::NobodyKnown, State::NeverSeen, text);
    assert!(diagnosis.also.is_empty(), "{diagnosis:#?}");
}

#[test]
fn a_refused_publish_of_who_is_subscribed_to_the_topic_too_is_told() {
    let mut facts = facts(Some("d/d1/telemetry"));
    let mut session = connected();
    session.subscriptions = vec![("d/#".to_owned(), 1)];
    facts.asked.session = Some(session);
    facts.asked.rules = rules(Outcome::Refused, Outcome::Permitted);
    let mut refused = run(
        EventKind::PublishRefused,
        "Not authorized",
        "no rule",
        3,
        1_000,
    );
    refused.last.topic = facts.asked.question.topic.clone();
    facts.asked.runs = vec![refused];
    let expected = "its publish to d/d1/telemetry was refused";
    expect(
        &judge(&facts),
        Cause::NotPermitted,
        State::Connected,
        expected,
    );
}

pub(super) fn facts_of_refused_topic() -> Facts {
    let mut facts = facts(Some("d/d1/x"));
    facts.asked.session = Some(connected());
    facts.asked.rules = rules(Outcome::Refused, Outcome::Refused);
    if let Some(rules) = &mut facts.asked.rules {
        rules.remedy_publish.command = None;
    }
    let mut refused = run(
        EventKind::PublishRefused,
        "Not authorized",
        "no rule",
        3,
        1_000,
    );
    refused.last.topic = Some("d/d1/x".to_owned());
    facts.asked.runs = vec![refused];
    facts
}

#[test]
fn a_full_store_is_named_to_who_waits_for_it_and_to_who_hears_nothing() {
    let mut facts = facts(None);
    facts.asked.session = Some(connected());
    facts.node.store = Some(StoreState {
        low: Some("the message store has reached limits.store_bytes".to_owned()),
        is_at_limit: true,
        ..StoreState::default()
    });
    let (full, is_there) = (Cause::StoreFull, State::Connected);
    let expected =
        "messages with QoS 1 and 2 wait, from all publishers: the message store has reached";
    expect(&judge(&facts), full, is_there, expected);
    if let Some(session) = &mut facts.asked.session {
        session.waits_for_store = true;
    }
    let diagnosis = judge(&facts);
    let expected = "its publishes wait: the message store has reached limits.store_bytes";
    expect(&diagnosis, full, is_there, expected);
    let remedy = diagnosis.finding.remedy.unwrap_or_default();
    assert!(remedy.contains("raise limits.store_bytes"), "{remedy}");
    facts.node.store = Some(StoreState {
        at_share: [facts.asked.question.tenant].into(),
        ..StoreState::default()
    });
    let diagnosis = judge(&facts);
    let expected = "its publishes wait: the stored messages of the team have its share";
    expect(&diagnosis, full, is_there, expected);
    let remedy = diagnosis.finding.remedy.unwrap_or_default();
    assert!(remedy.contains("limits.team_percent"), "{remedy}");
    facts.node.store = Some(StoreState {
        behind: true,
        ..StoreState::default()
    });
    let expected = "the disk is too slow";
    expect(&judge(&facts), Cause::StoreSlow, is_there, expected);
    // The reason of an absent client is how it left, not the store.
    facts.asked.session = None;
    facts.asked.runs = vec![run(
        EventKind::Disconnected,
        "Success",
        "it said goodbye",
        1,
        10,
    )];
    let expected = "it is not connected";
    expect(&judge(&facts), Cause::Away, State::Away, expected);
}

#[test]
fn what_holds_now_comes_before_what_happened() {
    let mut facts = facts(None);
    let wrong = (WRONG_PASSWORD, "the password is not that of the registry");
    facts.asked.runs = vec![run(
        EventKind::Refused,
        "BadUserNameOrPassword",
        wrong,
        1,
        1_000,
    )];
    facts.asked.standing = Some(barred(RefusalCause::UserDisabled, "user d1 is disabled"));
    let diagnosis = judge(&facts);
    expect(&diagnosis, Cause::Disabled, State::Refused, "is disabled");
    assert_eq!(diagnosis.also[0].cause, Cause::WrongPassword);
    // It was refused for that too: since when is told.
    let disabled = (RefusalCause::UserDisabled, "user d1 is disabled");
    facts
        .runs
        .push(run(EventKind::Refused, "NotAuthorized", disabled, 3, 500));
    let diagnosis = judge(&facts);
    expect(&diagnosis, Cause::Disabled, State::Refused, "is disabled");
    assert_eq!(diagnosis.finding.count, Some(3));
    facts.asked.runs.pop();
    facts.asked.standing = Some(barred(
        NOBODY,
        "no user of that name exists (looked up in: x)",
    ));
    expect(
        &judge(&facts),
        Cause::UnknownName,
        State::Refused,
        "no user of that name",
    );
}

fn subscribed(filter: &str) -> Facts {
    let mut facts = facts(Some("state/1"));
    facts.asked.client_id = "d1".to_owned();
    let mut session = connected();
    session.subscriptions = vec![(filter.to_owned(), 1)];
    facts.asked.session = Some(session);
    facts.asked.rules = rules(Outcome::Permitted, Outcome::Permitted);
    facts
}

fn kept(ago_ms: u64) -> Option<Retained> {
    Some(Retained::Kept {
        topic: "state/1".to_owned(),
        at_ms: NOW - ago_ms,
        remove: None,
        past_will: None,
    })
}

#[test]
fn a_retained_message_that_was_not_sent_is_told_with_why() {
    let (none, is_there) = (Cause::NoRetained, State::Connected);
    let mut shared = subscribed("$share/crew/state/1");
    shared.topic.retained = kept(60_000);
    let expected = "a Shared Subscription gets no retained messages";
    expect(&judge(&shared), none, is_there, expected);
    let mut facts = subscribed("state/#");
    facts.topic.retained = kept(60_000);
    let well = (Cause::NothingWrong, "it is subscribed to state/1");
    expect(&judge(&facts), well.0, is_there, well.1);
    let without = |facts: &mut Facts, why| {
        if let Some(session) = &mut facts.asked.session {
            session.without_retained = vec![("state/#".to_owned(), why)];
        }
    };
    without(&mut facts, RetainedAtSubscribe::NotWanted);
    let expected = "Retain Handling 2";
    expect(&judge(&facts), none, is_there, expected);
    without(&mut facts, RetainedAtSubscribe::NotNew);
    let expected = "Retain Handling 1";
    expect(&judge(&facts), none, is_there, expected);
    // It came to it as it was published.
    facts.topic.retained = kept(1_000);
    expect(&judge(&facts), well.0, is_there, well.1);
}

#[test]
fn a_retained_message_that_was_taken_away_is_told() {
    let mut facts = subscribed("state/#");
    let mut ended = |end, ago_ms: u64| {
        facts.topic.retained = Some(Retained::Ended(RetainedEnded {
            topic: "state/1".into(),
            end,
            at_ms: NOW - ago_ms,
            client_id: Some("console".into()),
        }));
        judge(&facts)
    };
    let (none, is_there) = (Cause::NoRetained, State::Connected);
    let diagnosis = ended(RetainedEnd::Cleared, 60_000);
    expect(&diagnosis, none, is_there, "console cleared it on");
    let diagnosis = ended(RetainedEnd::Expired, 60_000);
    let expected = "that of console expired on";
    expect(&diagnosis, none, is_there, expected);
    // It got that.
    let diagnosis = ended(RetainedEnd::Cleared, 1_000);
    let expected = "it is subscribed to state/1";
    expect(&diagnosis, Cause::NothingWrong, is_there, expected);
    assert!(diagnosis.also.is_empty(), "{diagnosis:#?}");
}

#[test]
fn what_a_client_with_no_local_publishes_is_told_as_that() {
    let mut facts = subscribed("state/#");
    if let Some(session) = &mut facts.asked.session {
        session.no_local = vec!["state/#".to_owned()];
    }
    let unmatched = |client_id: &str| UnmatchedTopic {
        reached_all: false,
        topic: "state/1".into(),
        client_id: Some(client_id.into()),
        count: 2,
        first_ms: NOW - 20,
        last_ms: NOW - 10,
        is_forbidden: false,
    };
    facts.asked.unmatched = vec![unmatched("d1")];
    let is_there = State::Connected;
    let expected = "it published them itself, and its subscription to state/# has No Local";
    expect(&judge(&facts), Cause::NoLocal, is_there, expected);
    facts.asked.unmatched = vec![unmatched("other")];
    let expected =
        "2 messages that other published to state/1 arrived before it subscribed to state/#";
    expect(&judge(&facts), Cause::NotRetained, is_there, expected);
    // Commands are published again.
    facts.asked.unmatched = vec![unmatched("$commands")];
    let diagnosis = judge(&facts);
    let expected = "it is subscribed to state/1";
    expect(&diagnosis, Cause::NothingWrong, is_there, expected);
    assert_eq!(diagnosis.also[0].cause, Cause::NoLocal);
}

#[test]
fn a_will_that_was_not_published_is_told_to_who_waits_for_it_and_of_its_client() {
    let mut facts = subscribed("state/1");
    let discarded = AbsentWill::Gone(WillNotice {
        topic: "state/1".into(),
        is_discarded: true,
    });
    facts.silence.named = vec![NamedInTopic {
        client_id: "d2".to_owned(),
        is_device: false,
        standing: NamedStanding::Away(Some(NOW - 10)),
        is_own: false,
        last_message_ms: None,
        command: None,
        will: Some((discarded.clone(), NOW - 10)),
    }];
    let expected = "d2 has disconnected, and its Will for state/1 was not published";
    expect(
        &judge(&facts),
        Cause::WillNotSent,
        State::Connected,
        expected,
    );
    let disconnected = run(
        EventKind::Disconnected,
        "Success",
        (RefusalCause::Goodbye, "the client sent DISCONNECT"),
        1,
        10,
    );
    let mut facts = super::facts(None);
    facts.asked.runs = vec![disconnected];
    facts.admission.will = Some(discarded);
    let diagnosis = judge(&facts);
    let expected = "its Will for state/1 was not published: that DISCONNECT discards it";
    expect(&diagnosis, Cause::Away, State::Away, expected);
    facts.admission.will = Some(AbsentWill::Delayed {
        topic: "state/1".to_owned(),
        due_ms: Some(NOW + 5_000),
    });
    let expected = "its Will for state/1 is published on";
    expect(&judge(&facts), Cause::Away, State::Away, expected);
}

#[test]
fn a_will_with_other_capital_letters_than_the_state_is_told() {
    let beside = |is_published| {
        Some(WillBeside {
            client_id: "d9".to_owned(),
            will: "room/9/State".to_owned(),
            retained: "room/9/state".to_owned(),
            at_ms: NOW - 60_000,
            is_published,
            remove: None,
        })
    };
    let mut watcher = subscribed("room/9/state");
    watcher.asked.question.topic = Some("room/9/state".to_owned());
    watcher.silence.will_beside = beside(true);
    let expected = "d9 left its Will for room/9/State, and room/9/state has a retained message";
    let is_there = State::Connected;
    expect(&judge(&watcher), Cause::WillRetained, is_there, expected);
    let mut own = facts(None);
    own.asked.session = Some(connected());
    own.silence.will_beside = beside(false);
    let expected = "the Will will not replace that message";
    expect(&judge(&own), Cause::WillRetained, is_there, expected);
}

#[test]
fn a_topic_of_which_nothing_has_come_is_told_with_the_nearest_one() {
    let mut facts = subscribed("state/1");
    for (nearest, expected) in [
        (
            None,
            "refused or lost recently; no message of that topic has come since ",
        ),
        (
            Some("state/2"),
            "; the nearest topic that had one is state/2",
        ),
    ] {
        facts.topic.silence = Some(TopicSilence {
            since_ms: NOW - 60_000,
            nearest: nearest.map(str::to_owned),
        });
        expect(
            &judge(&facts),
            Cause::NothingWrong,
            State::Connected,
            expected,
        );
    }
}
