//! Tests of what happened to a session and its messages.

use martlet_broker::{DropReason, Limit, LossTimes, ReachedLimit, RefusalCause};
use martlet_codec::ReasonCode;

use super::barred;
use super::topic::facts_of_refused_topic;
use super::{NOW, connected, expect, facts, judge, rules, run};
use crate::cause::Cause;
use crate::event_kind::EventKind;
use crate::explain::Outcome;
use crate::journal::WordedRemedy;
use crate::store::StoreState;
use crate::why::Finding;
use crate::why::Session;
use crate::why::{Diagnosis, Evidence, State};

#[test]
fn who_goes_again_and_again_is_told_why() {
    let mut facts = facts(None);
    facts.asked.session = Some(connected());
    let silent = run(
        EventKind::Disconnected,
        "KeepAliveTimeout",
        (RefusalCause::KeepAlive, "keep alive"),
        4,
        1_000,
    );
    facts.asked.runs = vec![silent];
    let reason = ReasonCode::KeepAliveTimeout.name();
    facts.asked.runs[0].last.reason = Some(reason.to_owned());
    facts.asked.runs[0].cause = Some(Cause::KeepAlive);
    expect(
        &judge(&facts),
        Cause::KeepAlive,
        State::Connected,
        "4 times",
    );
    facts.asked.runs[0].cause = Some(Cause::TakenOver);
    expect(
        &judge(&facts),
        Cause::TakenOver,
        State::Connected,
        "same Client Identifier",
    );
    // Once is what a client does that comes again by another network.
    facts.asked.runs[0].count = 1;
    facts.asked.runs[0].cause = Some(Cause::KeepAlive);
    expect(
        &judge(&facts),
        Cause::NothingWrong,
        State::Connected,
        "nothing of it",
    );
}

#[test]
fn what_is_old_or_weighs_less_is_told_beside_it() {
    let mut facts = facts(None);
    facts.asked.session = Some(connected());
    let refused = run(
        EventKind::PublishRefused,
        "NotAuthorized",
        "no rule permits it",
        1,
        20 * 60 * 1000,
    );
    facts.asked.runs = vec![refused];
    let diagnosis = judge(&facts);
    expect(
        &diagnosis,
        Cause::NothingWrong,
        State::Connected,
        "nothing of it",
    );
    assert_eq!(diagnosis.evidence.len(), 1);
    facts.node.store = Some(StoreState {
        failing: Some((1, "no space left".to_owned())),
        ..StoreState::default()
    });
    facts.asked.runs[0].last.at_ms = NOW;
    let diagnosis = judge(&facts);
    expect(
        &diagnosis,
        Cause::StoreFailing,
        State::Connected,
        "no space left",
    );
    assert_eq!(diagnosis.also.len(), 1);
}

#[test]
fn a_queue_that_has_drained_is_not_full_and_its_losses_are_told() {
    let mut facts = facts(None);
    let limit = Limit::QueuedMessages;
    let full = ReachedLimit { limit, value: 5 };
    let mut session = connected();
    session.queued = 5;
    session.drops = vec![(DropReason::QueueFull, 30)];
    session.queue_full = Some(full);
    facts.asked.session = Some(session);
    let mut dropped = run(EventKind::Dropped, "queue_full", &*full.words(), 30, 2_000);
    dropped.last.topic = Some("t".to_owned());
    let mut begun = run(EventKind::QueueFull, "", "5 messages wait", 1, 2_000);
    begun.cause = Some(Cause::QueueFull);
    facts.asked.runs = vec![begun, dropped];
    let diagnosis = judge(&facts);
    let all = |diagnosis: &Diagnosis| {
        let also = diagnosis.also.iter().map(|one| one.sentence.clone());
        let all: Vec<String> = [diagnosis.finding.sentence.clone()]
            .into_iter()
            .chain(also)
            .collect();
        all.join("\n")
    };
    let text = all(&diagnosis);
    assert!(
        text.contains("its queue is full, 5 messages wait"),
        "{text}"
    );
    assert!(text.contains("(limits.queued_messages = 5)"), "{text}");
    if let Some(session) = &mut facts.asked.session {
        (session.queued, session.queue_full) = (0, None);
    }
    let diagnosis = judge(&facts);
    let lost = "30 messages for it were dropped: the queue has the maximum number of messages";
    expect(&diagnosis, Cause::QueueFull, State::Connected, lost);
    let text = all(&diagnosis);
    assert!(
        !text.contains("is full") && text.contains("; there is room again"),
        "{text}"
    );
    assert_eq!(diagnosis.finding.count, Some(30));
    assert_eq!(diagnosis.finding.since_ms, Some(NOW - 62_000));
    assert_eq!(diagnosis.finding.last_ms, Some(NOW - 2_000));
    // What the journal has forgotten is told by number, since when the session counts it.
    facts.asked.runs.clear();
    let at = LossTimes {
        first_ms: NOW - 90_000,
        last_ms: NOW - 2_000,
    };
    if let Some(session) = &mut facts.asked.session {
        session.dropped_at = vec![at];
    }
    let diagnosis = judge(&facts);
    assert_eq!(diagnosis.finding.since_ms, Some(NOW - 90_000));
    assert!(
        diagnosis.finding.sentence.starts_with("30 messages"),
        "{diagnosis:#?}"
    );
}

#[test]
fn a_connection_that_began_after_the_refusal_is_not_another_one() {
    let mut facts = facts(None);
    let wrong = (RefusalCause::WrongSecret, "wrong credential for device d1");
    facts.asked.runs = vec![
        run(EventKind::Refused, "BadUserNameOrPassword", wrong, 3, 9_000),
        run(EventKind::Connected, "", "", 1, 5_000),
        run(
            EventKind::Disconnected,
            "Success",
            "the client sent DISCONNECT",
            1,
            1_000,
        ),
    ];
    let diagnosis = judge(&facts);
    expect(&diagnosis, Cause::Away, State::Away, "it is not connected");
    let is_claimed = |one: &Finding| one.sentence.contains("connection of its own");
    assert!(!diagnosis.also.iter().any(is_claimed), "{diagnosis:#?}");
    // It was connected while the other one tried.
    facts.asked.runs[1].last.at_ms = NOW - 10_000;
    let diagnosis = judge(&facts);
    assert!(diagnosis.also.iter().any(is_claimed), "{diagnosis:#?}");
}

#[test]
fn a_remedy_is_that_of_the_finding_and_of_no_other_event() {
    let mut facts = facts(None);
    facts.asked.registered_as = Some("device".to_owned());
    facts.asked.standing = Some(barred(
        RefusalCause::DeviceInactive,
        "device d1 is inactive",
    ));
    facts.admission.standing_remedy = Some(WordedRemedy {
        text: "activate the device".to_owned(),
        command: Some("martlet device set --status=active d1".to_owned().into()),
    });
    // Another refusal of the same kind, for another name.
    let other = (RefusalCause::DeviceInactive, "device d2 is inactive");
    let mut refused = run(EventKind::Refused, "NotAuthorized", other, 1, 1_000);
    refused.last.command = Some("martlet device set --status=active d2".to_owned().into());
    facts.asked.runs = vec![refused, run(EventKind::Connected, "", "", 1, 500)];
    let finding = judge(&facts).finding;
    let expected = "martlet device set --status=active d1";
    assert_eq!(finding.command.as_deref(), Some(expected), "{finding:#?}");
    // Nor has what the rules say of one topic the command of an event.
    let mut facts = facts_of_refused_topic();
    facts.asked.runs[0].last.command = Some("martlet role allow other".to_owned().into());
    assert_eq!(judge(&facts).finding.command, None);
}

#[test]
fn losses_are_told_with_their_own_time() {
    let mut facts = facts(Some("big"));
    let mut session = connected();
    session.subscriptions = vec![("big".to_owned(), 0)];
    session.drops = vec![(DropReason::OutputFull, 2_614)];
    session.dropped_at = vec![LossTimes {
        first_ms: NOW - 4_000,
        last_ms: NOW - 1_000,
    }];
    facts.asked.session = Some(session);
    facts.asked.rules = rules(Outcome::Permitted, Outcome::Permitted);
    let diagnosis = judge(&facts);
    let expected = "2614 messages for it were dropped";
    expect(&diagnosis, Cause::SlowReader, State::Connected, expected);
    assert_eq!(diagnosis.finding.since_ms, Some(NOW - 4_000));
    assert_eq!(diagnosis.also[0].cause, Cause::QosDowngraded);
    // Long ago it is reported beside.
    if let Some(session) = &mut facts.asked.session {
        session.dropped_at[0].last_ms = NOW - 3_600_000;
    }
    let diagnosis = judge(&facts);
    let expected = "nothing is wrong now";
    expect(&diagnosis, Cause::NothingWrong, State::Connected, expected);
    assert_eq!(diagnosis.also[0].cause, Cause::SlowReader);
}

#[test]
fn a_silent_client_with_keep_alive_0_may_be_gone() {
    let mut facts = facts(None);
    let last_ms = NOW - 120_000;
    let silent = Session {
        keep_alive_secs: 0,
        last_packet_ms: Some(last_ms),
        ..connected()
    };
    facts.asked.session = Some(silent.clone());
    let diagnosis = judge(&facts);
    let says = "its Keep Alive is 0";
    expect(&diagnosis, Cause::NoKeepAlive, State::Connected, says);
    assert_eq!(diagnosis.finding.since_ms, Some(last_ms));
    let is_last_packet = |one: &&Evidence| one.text == "its last packet arrived";
    let evidence = diagnosis.evidence.iter().find(is_last_packet);
    assert_eq!(evidence.expect("it is shown").at_ms, last_ms);
    assert!(diagnosis.finding.sentence.contains("TCP"));
    // TCP has no part in a connection within the machine.
    facts.asked.session = Some(Session {
        listener: "unix:///run/mqtt.sock".to_owned(),
        ..silent.clone()
    });
    let diagnosis = judge(&facts);
    expect(&diagnosis, Cause::NoKeepAlive, State::Connected, says);
    assert!(!diagnosis.finding.sentence.contains("TCP"));
    // One that has sent something just now, and one that has to send something every 60 s.
    for other in [
        Session {
            last_packet_ms: Some(NOW - 1_000),
            ..silent.clone()
        },
        Session {
            keep_alive_secs: 60,
            ..silent
        },
    ] {
        facts.asked.session = Some(other);
        let diagnosis = judge(&facts);
        let well = "nothing of it";
        expect(&diagnosis, Cause::NothingWrong, State::Connected, well);
    }
}
