//! Verdicts on integrations.

use martlet_integrate::BroughtTopics;

use super::facts::Twice;
use super::*;
use crate::cause::{Bearing, Cause};
use crate::remedy::Command;
use crate::why::Session;
use crate::why::tests::{Facts, NOW, connected, expect, facts};
use crate::why::{Case, Diagnosis, State};

fn own(name: &str) -> Integration {
    Integration {
        name: name.to_owned(),
        is_own: true,
        ..Integration::default()
    }
}

fn diagnosis(client: Facts, one: Integration, is_awaited: bool) -> Diagnosis {
    let is_integration = one.is_own;
    let client = {
        let mut of = client;
        of.asked.is_integration = is_integration;
        of
    };
    let facts = IntegrationFacts {
        all: vec![one],
        is_awaited,
        ..IntegrationFacts::default()
    };
    Case::of(client)
        .with_client::<Integrations>(facts)
        .diagnosis()
}

#[test]
fn an_integration_takes_no_messages_of_a_topic_that_its_filters_miss() {
    let one = Integration {
        filters: vec!["plant/+/state".into()],
        ..own("file/audit")
    };
    let client = {
        let mut of = facts(Some("plant/1/status"));
        of.asked.session = Some(connected());
        of
    };
    let expected = "its filter is plant/+/state; plant/+/state does not match: level 3";
    let found = diagnosis(client, one, false);
    expect(&found, Cause::NotSubscribed, State::Connected, expected);
}

#[test]
fn what_is_dropped_for_an_integration_is_told_by_its_name() {
    let at = LossTimes {
        first_ms: NOW - 2_000,
        last_ms: NOW - 1_000,
    };
    let delivers = Integration {
        name: "file/drop".to_owned(),
        takes_topic: true,
        drops: vec![(DropReason::QueueFull, 160, at)],
        ..Integration::default()
    };
    let command = Some(Command::from(
        "martlet integration resume file/drop".to_owned(),
    ));
    let paused = Integration {
        why: Some(NotDelivering {
            state: Halt::Paused,
            why: String::new(),
            tries: None,
            remedy: "resume the integration",
            command: command.clone(),
        }),
        ..delivers.clone()
    };
    let client = || {
        let mut of = facts(Some("drop/1"));
        of.asked.session = Some(connected());
        of
    };
    let expected =
        "the integration file/drop is paused, and its queue is full (max_bytes): 160 messages";
    let found = diagnosis(client(), paused, false);
    expect(&found, Cause::IntegrationPaused, State::Connected, expected);
    assert_eq!(found.finding.command, command);
    let expected = "for the integration file/drop: the queue of the integration";
    let found = diagnosis(client(), delivers, false);
    expect(&found, Cause::QueueFull, State::Connected, expected);
}

#[test]
fn an_integration_whose_messages_are_old_falls_behind() {
    let with_age = |age_ms: u64| {
        let one = Integration {
            waiting: Some(2),
            delivered: 4,
            oldest_ms: Some(NOW - age_ms),
            ..own("webhook/slow")
        };
        diagnosis(facts(None), one, false)
    };
    let (well, slow) = (with_age(3_000), with_age(14_000));
    let expected = "2 wait, the oldest for 3 s";
    assert!(!well.wrong && well.finding.sentence.ends_with(expected));
    let expected = "falls behind: 2 messages wait, the oldest for 14 s";
    assert!(
        slow.wrong && slow.finding.sentence.contains(expected),
        "{slow:#?}"
    );
}

#[test]
fn a_bridge_carries_a_topic_the_other_way() {
    let brought = |filter: &str| BroughtTopics {
        filter: filter.into(),
        ..BroughtTopics::default()
    };
    let bridge = |takes_topic, brings: &[&str], is_awaited| {
        let one = Integration {
            takes_topic,
            brings: brings.iter().map(|filter| brought(filter)).collect(),
            ..own("bridge/up")
        };
        diagnosis(facts(Some("up/1")), one, is_awaited).finding
    };
    let found = bridge(false, &["up/#"], false);
    assert!(
        found.sentence.contains("(direction in), and sends none"),
        "{found:#?}"
    );
    // A message that is not waited for here is sent.
    assert_eq!(bridge(true, &[], false).cause, Cause::NothingWrong);
    let found = bridge(true, &[], true);
    assert!(
        found.sentence.contains("(direction out), and brings none"),
        "{found:#?}"
    );
    assert_eq!(bridge(true, &["up/#"], true).cause, Cause::NothingWrong);
}

#[test]
fn dead_letters_of_a_client_are_told_without_a_topic() {
    let letters = |ago_ms: u64| {
        let one = Integration {
            name: "webhook/crm".to_owned(),
            refused: 3,
            dead_letters: 3,
            own_letters: Some(OwnLetters {
                count: 1,
                last_ms: NOW - ago_ms,
                reason: "the target answered 400".to_owned(),
            }),
            ..Integration::default()
        };
        let client = {
            let mut of = facts(None);
            of.asked.session = Some(connected());
            of
        };
        diagnosis(client, one, false)
    };
    let expected =
        "webhook/crm refused 1 message from it or about it: it is a dead letter; its reason";
    let found = letters(1_000);
    let cause = Cause::IntegrationFailing;
    expect(&found, cause, State::Connected, expected);
    let old = letters(24 * 60 * 60 * 1_000);
    expect(&old, Cause::NothingWrong, State::Connected, "");
    assert!(
        old.also.iter().any(|one| one.sentence.contains(expected)),
        "{old:#?}"
    );
}

#[test]
fn two_bridges_that_carry_the_same_are_told() {
    let twice = |is_own, comes_in| Twice {
        bridges: ["bridge/b1".to_owned(), "bridge/b2".to_owned()],
        is_own,
        comes_in,
        topics: "plant/1".to_owned(),
        broker: "hq:1883".to_owned(),
        show: None,
    };
    let of = |twice, filters: &[&str]| {
        let mut client = facts(Some("plant/1"));
        client.asked.session = Some(Session {
            subscriptions: filters
                .iter()
                .map(|filter| ((*filter).to_owned(), 1))
                .collect(),
            ..connected()
        });
        let facts = IntegrationFacts {
            twice: vec![twice],
            ..IntegrationFacts::default()
        };
        let case = Case::of(client).with_client::<Integrations>(facts);
        case.diagnosis()
    };
    let expected =
        "bridge/b1 and bridge/b2 both bring plant/1 from hq:1883: each message comes twice";
    let found = of(twice(false, true), &["plant/#"]);
    expect(&found, Cause::ComesTwice, State::Connected, expected);
    let sent = of(twice(false, false), &["plant/#"]);
    expect(&sent, Cause::NothingWrong, State::Connected, "");
    assert!(
        sent.also[0]
            .sentence
            .contains("both send plant/1 to hq:1883"),
        "{sent:#?}"
    );
    let found = of(twice(true, false), &[]);
    expect(
        &found,
        Cause::ComesTwice,
        State::Connected,
        "comes twice there",
    );
}

/// Returns the diagnosis of an integration whose session has lost these.
fn lost(drops: &[(DropReason, u64)], at: &[(u64, u64)]) -> Diagnosis {
    let at = at.iter().map(|(first_ms, last_ms)| LossTimes {
        first_ms: NOW - first_ms,
        last_ms: NOW - last_ms,
    });
    let session = Session {
        drops: drops.to_vec(),
        dropped_at: at.collect(),
        ..connected()
    };
    let client = {
        let mut of = facts(None);
        of.asked.session = Some(session);
        of
    };
    diagnosis(client, own("file/audit"), false)
}

#[test]
fn losses_are_told_with_their_times() {
    let drops = [(DropReason::QueueFull, 7), (DropReason::TooOld, 1)];
    let found = lost(&drops, &[(600, 100), (400, 400)]).finding;
    assert_eq!((found.cause, found.count), (Cause::QueueFull, Some(7)));
    assert_eq!(
        (found.since_ms, found.last_ms),
        (Some(NOW - 600), Some(NOW - 100))
    );
    let expected = "7 messages for the integration file/audit were dropped: ";
    assert!(found.sentence.starts_with(expected), "{found:?}");
    let asked = Asked {
        now_ms: NOW,
        ..Asked::default()
    };
    let long_ago = LossTimes {
        first_ms: 1,
        last_ms: 1,
    };
    assert_eq!(asked.bearing_of_loss(long_ago), Bearing::Over);
}

#[test]
fn what_the_target_refused_is_told_as_dead_letters_alone() {
    let found = lost(&[(DropReason::RefusedByReceiver, 3)], &[(500, 100)]);
    assert_eq!(
        (found.finding.cause, found.also),
        (Cause::NothingWrong, Vec::new())
    );
}
