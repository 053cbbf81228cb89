//! Verdicts on what parts of the node do: rules, rollouts, integrations, the store.

use super::{NOW, connected, expect, facts, run};
use crate::cause::Cause;
use crate::rules::MissingMember;
use crate::why::facts::{
    DeviceRollout, DeviceStuck, Facts, GroupMissing, Integration, NamedRollout, NamedRule,
    Presence, RolloutStanding,
};
use crate::why::{State, judge};
use martlet_broker::EventKind;

fn rule(messages: u64, matched: u64) -> NamedRule {
    NamedRule {
        name: "hot".to_owned(),
        topics: vec!["plant/+/temperature".to_owned()],
        is_on: true,
        is_in_force: true,
        messages,
        matched,
        switch_on: "martlet rule on hot".to_owned(),
        show: "martlet rule show hot".to_owned(),
        ..NamedRule::default()
    }
}

fn with_topic(rule: NamedRule, topic: Option<&str>) -> Facts {
    Facts {
        named_rule: Some(rule),
        ..facts(topic)
    }
}

#[test]
fn a_rule_is_told_by_its_name() {
    let off = NamedRule {
        is_on: false,
        ..rule(0, 0)
    };
    let failing = NamedRule {
        errors: 2,
        last_error: Some("no number".to_owned()),
        ..rule(2, 0)
    };
    let missing = NamedRule {
        missing: 3,
        missing_member: Some(MissingMember {
            name: "temp".to_owned(),
            topic: "plant/7/temperature".to_owned(),
            others: vec!["Temp".to_owned(), "unit".to_owned()],
        }),
        ..rule(3, 0)
    };
    let stopped = NamedRule {
        stopped: 2,
        stopped_by: Some("dedupe".to_owned()),
        ..rule(0, 0)
    };
    let near = "plant/7/temprature";
    for (rule, topic, cause, expected) in [
        (off, None, Cause::RuleOff, "the rule hot is off"),
        (
            rule(0, 0),
            None,
            Cause::RuleUnmatched,
            "has looked at no message",
        ),
        (
            stopped,
            None,
            Cause::RuleUnmatched,
            "the rule dedupe has stopped 2 messages before",
        ),
        (
            rule(0, 0),
            Some(near),
            Cause::RuleUnmatched,
            "level 3 is \"temperature\"",
        ),
        (
            rule(3, 0),
            None,
            Cause::RuleUnmatched,
            "looked at 3 messages",
        ),
        (
            missing,
            None,
            Cause::RuleUnmatched,
            "in all of them the field temp, which it names, is missing, last on plant/7/temperature; the \
             payload has Temp",
        ),
        (
            failing,
            None,
            Cause::RuleFailing,
            "has failed 2 times: no number",
        ),
        (
            rule(3, 1),
            None,
            Cause::NothingWrong,
            "its condition was true for 1 of them",
        ),
    ] {
        let diagnosis = judge(&with_topic(rule, topic));
        expect(&diagnosis, cause, State::NoClient, expected);
        assert_eq!(diagnosis.wrong, cause != Cause::NothingWrong);
    }
}

#[test]
fn a_client_with_the_name_of_a_rule_comes_first() {
    let off = NamedRule {
        is_on: false,
        ..rule(0, 0)
    };
    let facts = Facts {
        session: Some(connected()),
        registered_as: Some("device".to_owned()),
        ..with_topic(off, None)
    };
    let diagnosis = judge(&facts);
    expect(
        &diagnosis,
        Cause::NothingWrong,
        State::Connected,
        "it is connected",
    );
    assert!(
        diagnosis.also.iter().any(|one| one.cause == Cause::RuleOff),
        "{diagnosis:#?}"
    );
}

#[test]
fn a_rollout_is_told_by_its_id() {
    for (standing, troubled, cause, expected) in [
        (
            RolloutStanding::Planned,
            0,
            Cause::RolloutPaused,
            "has not been started",
        ),
        (
            RolloutStanding::Paused("why"),
            0,
            Cause::RolloutPaused,
            "is paused: why",
        ),
        (
            RolloutStanding::Running,
            1,
            Cause::RolloutWaits,
            "some of its devices do not",
        ),
        (
            RolloutStanding::Running,
            0,
            Cause::NothingWrong,
            "is running",
        ),
        (
            RolloutStanding::Succeeded,
            0,
            Cause::NothingWrong,
            "has succeeded",
        ),
        (
            RolloutStanding::Ended("failed"),
            0,
            Cause::RolloutFailed,
            "has ended: failed",
        ),
    ] {
        let facts = Facts {
            named_rollout: Some(NamedRollout {
                id: "r".to_owned(),
                firmware: "pump 2".to_owned(),
                standing,
                devices: "devices: 1 waiting".to_owned(),
                troubled,
                skipped: None,
                held_up_by: None,
                go_on: "martlet rollout resume r".to_owned(),
                list: "martlet rollout devices r".to_owned(),
            }),
            ..facts(None)
        };
        expect(&judge(&facts), cause, State::NoClient, expected);
    }
}

#[test]
fn a_rollout_waits_for_a_device_that_is_connected() {
    let rollout = |stuck, ago_ms| DeviceRollout {
        id: "r".to_owned(),
        firmware: "pump 2".to_owned(),
        version: "2".to_owned(),
        stuck,
        why: "The device waits.".to_owned(),
        since_ms: NOW - ago_ms,
        ended_ms: 0,
        command: "martlet rollout devices r".to_owned(),
    };
    for (stuck, ago_ms, cause) in [
        (DeviceStuck::NotSubscribed, 0, Cause::RolloutWaits),
        (DeviceStuck::NoAnswer, 0, Cause::NothingWrong),
        (DeviceStuck::NoAnswer, 60_000, Cause::RolloutWaits),
        (DeviceStuck::Paused, 0, Cause::RolloutPaused),
        (DeviceStuck::InTurn, 60_000, Cause::NothingWrong),
        (DeviceStuck::VersionDiffers, 0, Cause::RolloutWaits),
        (DeviceStuck::Failed, 0, Cause::RolloutFailed),
        (DeviceStuck::WrongType, 0, Cause::RolloutFailed),
        (DeviceStuck::Cancelled, 0, Cause::RolloutFailed),
        (DeviceStuck::HasVersion, 0, Cause::NothingWrong),
    ] {
        let facts = Facts {
            session: Some(connected()),
            rollouts: vec![rollout(stuck, ago_ms)],
            ..facts(None)
        };
        expect(&judge(&facts), cause, State::Connected, "");
    }
    let ended = DeviceRollout {
        ended_ms: NOW - 2 * 3_600_000,
        ..rollout(DeviceStuck::Cancelled, 2 * 3_600_000)
    };
    let facts = Facts {
        session: Some(connected()),
        rollouts: vec![ended],
        ..facts(None)
    };
    let diagnosis = judge(&facts);
    expect(&diagnosis, Cause::NothingWrong, State::Connected, "");
    assert_eq!(diagnosis.also[0].cause, Cause::RolloutFailed);
}

#[test]
fn an_integration_takes_no_messages_of_a_topic_that_its_filters_miss() {
    let facts = Facts {
        integrations: vec![Integration {
            name: "file/audit".to_owned(),
            is_own: true,
            filters: vec!["plant/+/state".to_owned()],
            ..Integration::default()
        }],
        session: Some(connected()),
        ..facts(Some("plant/1/status"))
    };
    let expected = "its filter is plant/+/state; plant/+/state does not match: level 3";
    expect(
        &judge(&facts),
        Cause::NotSubscribed,
        State::Connected,
        expected,
    );
}

#[test]
fn a_device_that_left_a_group_is_told_so() {
    let mut refused = run(
        EventKind::PublishRefused,
        "Not authorized",
        "no rule",
        1,
        1_000,
    );
    refused.last.command = Some("martlet group member add hall d1".to_owned());
    let facts = Facts {
        session: Some(connected()),
        runs: vec![refused.clone()],
        groups_missing: vec![GroupMissing {
            name: "hall".to_owned(),
            command: refused.last.command,
            left_ms: Some(NOW),
            ..GroupMissing::default()
        }],
        ..facts(None)
    };
    let expected = "it left the group hall, whose rules permit that";
    expect(
        &judge(&facts),
        Cause::NotPermitted,
        State::Connected,
        expected,
    );
}

#[test]
fn a_start_has_made_a_node_forget_what_it_kept_in_memory() {
    let facts = |since_ms, started_ms| Facts {
        in_memory_since: Some(started_ms),
        registered_as: Some("device".to_owned()),
        presence: Some(Presence {
            since_ms,
            last_seen_ms: since_ms,
            ..Presence::default()
        }),
        ..facts(None)
    };
    let expected = "keeps messages in memory only";
    let diagnosis = judge(&facts(NOW - 9_000, NOW - 5_000));
    expect(&diagnosis, Cause::KeptInMemory, State::Away, expected);
    let diagnosis = judge(&facts(NOW - 5_000, NOW - 9_000));
    expect(&diagnosis, Cause::Away, State::Away, "");
}
