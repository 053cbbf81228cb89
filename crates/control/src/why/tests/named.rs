//! Verdicts on integrations and names that are reported beside a topic that was asked about.

use martlet_broker::{DropReason, LossTimes};

use super::{NOW, connected, expect, facts};
use crate::cause::Cause;
use crate::why::State;
use crate::why::facts::{Facts, Integration, NotDelivering, Presence, Subscriber};
use crate::why::judge::judge;

#[test]
fn what_is_dropped_for_the_lanes_of_an_integration_is_told_by_its_name() {
    let at = LossTimes {
        first_ms: NOW - 2_000,
        last_ms: NOW - 1_000,
    };
    let lane = |number: u32| Subscriber {
        client_id: format!("$integration/file/drop@{number}"),
        filter: "drop/#".to_owned(),
        qos: 1,
        connected: true,
        end_session: String::new(),
        backlog: None,
        drops: vec![(DropReason::QueueFull, 80, at)],
    };
    let paused = Integration {
        name: "file/drop".to_owned(),
        takes_topic: true,
        why: Some(NotDelivering::Paused {
            command: "martlet integration resume file/drop".to_owned(),
        }),
        ..Integration::default()
    };
    let mut facts = Facts {
        session: Some(connected()),
        subscribers: Some(vec![lane(0), lane(1)]),
        integrations: vec![paused],
        ..facts(Some("drop/1"))
    };
    let expected =
        "the integration file/drop is paused, and its queue is full (max_bytes): 160 messages";
    let diagnosis = judge(&facts);
    expect(
        &diagnosis,
        Cause::IntegrationPaused,
        State::Connected,
        expected,
    );
    let command = diagnosis.finding.command.unwrap_or_default();
    assert_eq!(command, "martlet integration resume file/drop");
    facts.integrations.clear();
    let expected = "for the integration file/drop: the queue of the integration";
    expect(&judge(&facts), Cause::QueueFull, State::Connected, expected);
}

#[test]
fn an_integration_whose_messages_are_old_falls_behind() {
    let with_topic = |age_ms: u64| Facts {
        integrations: vec![Integration {
            name: "webhook/slow".to_owned(),
            is_own: true,
            waiting: Some(2),
            delivered: 4,
            oldest_ms: Some(NOW - age_ms),
            ..Integration::default()
        }],
        ..facts(None)
    };
    let well = judge(&with_topic(3_000));
    assert!(
        !well.wrong
            && well
                .finding
                .sentence
                .ends_with("2 wait, the oldest for 3 s")
    );
    let slow = judge(&with_topic(14_000));
    let expected = "falls behind: 2 messages wait, the oldest for 14 s";
    assert!(
        slow.wrong && slow.finding.sentence.contains(expected),
        "{slow:#?}"
    );
}

#[test]
fn who_was_connected_when_a_backup_was_made_is_away() {
    let facts = Facts {
        registered_as: Some("device".to_owned()),
        presence: Some(Presence {
            online: true,
            last_seen_ms: NOW - 60_000,
            ..Presence::default()
        }),
        ..facts(None)
    };
    let diagnosis = judge(&facts);
    let expected = "when the backup was made";
    expect(&diagnosis, Cause::Away, State::Away, expected);
    assert!(diagnosis.wrong);
}
