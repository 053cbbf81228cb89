//! Verdicts on rules.

use super::*;
use crate::cause::Cause;
use crate::rules::{MissingMember, RuleCounts};
use crate::why::tests::{Facts, NOW, connected, expect, facts};
use crate::why::{Case, Diagnosis, State};

fn counts(messages: u64, matched: u64) -> RuleCounts {
    RuleCounts {
        messages,
        matched,
        ..RuleCounts::default()
    }
}

fn with(counts: RuleCounts) -> NamedRule {
    NamedRule {
        name: "hot".to_owned(),
        definition: Definition {
            topics: vec!["plant/+/temperature".to_owned()],
            ..Definition::default()
        },
        is_in_force: true,
        counts,
        switch_on: Some("martlet rule on hot".to_owned().into()),
        show: Some("martlet rule show hot".to_owned().into()),
        ..NamedRule::default()
    }
}

fn rule(messages: u64, matched: u64) -> NamedRule {
    with(counts(messages, matched))
}

fn off() -> NamedRule {
    let mut off = rule(0, 0);
    off.definition.enabled = Some(false);
    off
}

fn of_rule(rule: NamedRule, client: Facts) -> Diagnosis {
    let facts = RuleFacts {
        named: Some(rule),
        ..RuleFacts::default()
    };
    Case::of(client).with::<Rules>(facts).diagnosis()
}

#[test]
fn a_rule_is_told_by_its_name() {
    let failing = with(RuleCounts {
        errors: 2,
        last_error: Some("no number".to_owned()),
        ..counts(2, 0)
    });
    let missing = with(RuleCounts {
        missing: 3,
        missing_member: Some(MissingMember {
            name: "temp".to_owned(),
            topic: "plant/7/temperature".to_owned(),
            others: vec!["Temp".to_owned(), "unit".to_owned()],
        }),
        ..counts(3, 0)
    });
    let stopped = with(RuleCounts {
        stopped: 2,
        stopped_by: Some("dedupe".to_owned()),
        ..counts(0, 0)
    });
    let near = "plant/7/temprature";
    for (rule, topic, cause, expected) in [
        (off(), None, Cause::RuleOff, "the rule hot is off"),
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
        let diagnosis = of_rule(rule, facts(topic));
        expect(&diagnosis, cause, State::NoClient, expected);
        assert_eq!(diagnosis.wrong, cause != Cause::NothingWrong);
    }
}

#[test]
fn a_client_with_the_name_of_a_rule_comes_first() {
    let client = {
        let mut of = facts(None);
        of.asked.session = Some(connected());
        of.asked.registered_as = Some("device".to_owned());
        of
    };
    let diagnosis = of_rule(off(), client);
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
fn an_alarm_that_was_raised_once_is_no_fault() {
    let alarm = RuleAlarm {
        name: "hot".to_owned(),
        subject: "d7".to_owned(),
        raised_ms: NOW - 5_000,
        ..RuleAlarm::default()
    };
    let mut rule = NamedRule {
        alarms: vec![alarm],
        ..rule(1, 1)
    };
    assert!(!of_rule(rule.clone(), facts(None)).wrong);
    rule.counts.matched = 2;
    let expected = "is active since";
    expect(
        &of_rule(rule, facts(None)),
        Cause::AlarmSilent,
        State::NoClient,
        expected,
    );
}
