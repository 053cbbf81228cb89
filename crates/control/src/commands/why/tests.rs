//! Verdicts on commands.

use martlet_registry::CommandState;

use super::*;
use crate::cause::Cause;
use crate::event_kind::EventKind;
use crate::misread::Misread;
use crate::why::tests::{NOW, connected, expect, facts, run};
use crate::why::{Case, Diagnosis, State};

const TOPIC: &str = "d/d1/commands/control";
const ANSWERS: &str = "d/d1/status/command";

fn command(id: &str, state: CommandState) -> DeviceCommand {
    let at = |states: &[CommandState]| match states.contains(&state) {
        true => NOW - 60_000,
        false => 0,
    };
    use CommandState::{Acknowledged, Delivered, Expired, Failed, Sent, Succeeded};
    DeviceCommand {
        id: id.to_owned(),
        name: "open".to_owned(),
        device: "d1".to_owned(),
        state,
        result: String::new(),
        progress: None,
        is_of_rollout: false,
        topic: TOPIC.to_owned(),
        answers: ANSWERS.to_owned(),
        created_ms: NOW - 90_000,
        expires_ms: NOW,
        sent_ms: at(&[Sent, Delivered, Acknowledged, Succeeded, Failed]),
        delivered_ms: at(&[Delivered, Acknowledged, Succeeded, Failed]),
        acknowledged_ms: at(&[Acknowledged, Succeeded, Failed]),
        finished_ms: at(&[Succeeded, Failed, Expired]),
        misread: None,
        reach: Reach {
            is_connected: true,
            gone_ms: None,
            subscriptions: vec![("d/d1/commands/+".to_owned(), 1)],
        },
        cancel: Some(format!("martlet command cancel --device d1 {id}").into()),
        retry: Some(format!("martlet command retry --device d1 {id}").into()),
        show: Some(format!("martlet command show --device d1 {id}").into()),
        why: Some("martlet why d1".to_owned().into()),
    }
}

fn of(commands: Vec<DeviceCommand>) -> Diagnosis {
    let mut client = facts(None);
    client.session = Some(connected());
    let facts = CommandFacts {
        commands,
        ..CommandFacts::default()
    };
    Case::of(client).with::<Commands>(facts).diagnosis()
}

#[test]
fn each_way_to_be_stuck_is_told() {
    use CommandState::{Acknowledged, Delivered, Expired, Failed, Pending, Sent};
    let subscribed = |filter: &str, qos| Reach {
        subscriptions: vec![(filter.to_owned(), qos)],
        ..command("c", Pending).reach
    };
    let of_result = |state, result: &str| DeviceCommand {
        result: result.to_owned(),
        ..command("c", state)
    };
    let misread = Some(Misread {
        at_ms: NOW,
        why: "the payload is not JSON".to_owned(),
    });
    let (waits, failed) = (Cause::CommandWaits, Cause::CommandFailed);
    for (command, cause, expected) in [
        (
            DeviceCommand {
                reach: subscribed("d/d1/command/+", 1),
                ..command("c", Pending)
            },
            waits,
            "not subscribed to d/d1/commands/control; d/d1/command/+ does not match",
        ),
        (
            DeviceCommand {
                reach: subscribed("d/#", 0),
                ..command("c", Sent)
            },
            waits,
            "with QoS 0",
        ),
        (
            command("c", Sent),
            waits,
            "has not acknowledged the message",
        ),
        (command("c", Delivered), waits, "has not answered"),
        (
            DeviceCommand {
                misread,
                ..command("c", Delivered)
            },
            failed,
            "the answer is for no command: the payload is not JSON",
        ),
        (
            of_result(Delivered, "an answer of the device is not understood: x"),
            failed,
            "is not understood: x",
        ),
        (
            of_result(Failed, "Valve stuck"),
            failed,
            "the device reported a failure with the result: Valve stuck",
        ),
        (command("c", Expired), failed, "it was never sent"),
        (command("c", Acknowledged), Cause::NothingWrong, ""),
        (
            DeviceCommand {
                expires_ms: NOW - 1_000,
                ..command("c", Acknowledged)
            },
            waits,
            "has not reported its end; an acknowledged command does not expire",
        ),
    ] {
        let of_device = of(vec![command.clone()]);
        expect(&of_device, cause, State::Connected, expected);
        let by_id = CommandFacts {
            named: Some(NamedCommand::One(Box::new(command))),
            ..CommandFacts::default()
        };
        let by_id = Case::of(facts(None)).with::<Commands>(by_id).diagnosis();
        expect(&by_id, cause, State::NoClient, expected);
    }
}

#[test]
fn the_latest_command_of_a_name_says_how_it_stands() {
    use CommandState::{Failed, Pending, Succeeded};
    let later = command("later", Succeeded);
    let diagnosis = of(vec![later.clone(), command("c", Failed)]);
    expect(&diagnosis, Cause::NothingWrong, State::Connected, "");
    let [late] = &*diagnosis.also else {
        panic!("{diagnosis:#?}");
    };
    let expected = "the command open (later) to d1 waited in the queue for 30 s, until the device";
    assert!(late.sentence.starts_with(expected), "{late:#?}");
    let in_time = DeviceCommand {
        created_ms: NOW - 61_000,
        ..later
    };
    assert_eq!(of(vec![in_time]).also, []);
    // Those that wait for one reason are reported once.
    let waiting = |id: &str| DeviceCommand {
        reach: Reach {
            is_connected: true,
            ..Reach::default()
        },
        ..command(id, Pending)
    };
    let diagnosis = of(vec![waiting("one"), waiting("two")]);
    let expected = "the command open (one) to d1 and 1 other wait";
    expect(&diagnosis, Cause::CommandWaits, State::Connected, expected);
    assert_eq!(diagnosis.also, []);
}

#[test]
fn what_was_refused_is_the_cause_of_a_command_that_waits() {
    let mut refused = run(EventKind::PublishRefused, "Not authorized", "no rule", 1, 9);
    refused.last.topic = Some(ANSWERS.to_owned());
    let mut client = facts(None);
    (client.session, client.runs) = (Some(connected()), vec![refused]);
    let waiting = CommandFacts {
        commands: vec![command("c", CommandState::Delivered)],
        ..CommandFacts::default()
    };
    let diagnosis = Case::of(client).with::<Commands>(waiting).diagnosis();
    assert_ne!(diagnosis.finding.cause, Cause::CommandWaits);
    assert!(
        diagnosis
            .also
            .iter()
            .any(|one| one.cause == Cause::CommandWaits)
    );
}

#[test]
fn the_command_of_a_rollout_stands_behind_the_rollout() {
    for (is_of_rollout, cause) in [(true, Cause::NothingWrong), (false, Cause::CommandWaits)] {
        let overdue = DeviceCommand {
            is_of_rollout,
            name: "update".to_owned(),
            expires_ms: NOW - 1_000,
            ..command("c", CommandState::Acknowledged)
        };
        let diagnosis = of(vec![overdue]);
        expect(&diagnosis, cause, State::Connected, "");
        let mut also = diagnosis.also.iter();
        let is_beside = also.any(|one| one.cause == Cause::CommandWaits);
        assert_eq!(is_beside, is_of_rollout, "{diagnosis:#?}");
    }
}
