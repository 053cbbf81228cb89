//! Verdicts on commands and on configurations that were pushed.

use martlet_broker::EventKind;
use martlet_registry::CommandState;

use super::{NOW, connected, expect, facts, run};
use crate::cause::Cause;
use crate::misread::Misread;
use crate::why::facts::{DeviceCommand, DeviceTwin, Facts, NamedCommand, Reach};
use crate::why::{State, judge};

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
        cancel: format!("martlet command cancel --device d1 {id}"),
        retry: format!("martlet command retry --device d1 {id}"),
        show: format!("martlet command show --device d1 {id}"),
    }
}

fn of(commands: Vec<DeviceCommand>) -> Facts {
    Facts {
        session: Some(connected()),
        commands,
        ..facts(None)
    }
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
        expect(&judge(&of_device), cause, State::Connected, expected);
        let by_id = Facts {
            named_command: Some(NamedCommand::One(Box::new(command))),
            ..facts(None)
        };
        expect(&judge(&by_id), cause, State::NoClient, expected);
    }
}

#[test]
fn the_latest_command_of_a_name_says_how_it_stands() {
    use CommandState::{Failed, Pending, Succeeded};
    let later = command("later", Succeeded);
    let facts = of(vec![later, command("c", Failed)]);
    expect(&judge(&facts), Cause::NothingWrong, State::Connected, "");
    // Those that wait for one reason are reported once.
    let waiting = |id: &str| DeviceCommand {
        reach: Reach {
            is_connected: true,
            ..Reach::default()
        },
        ..command(id, Pending)
    };
    let facts = of(vec![waiting("one"), waiting("two")]);
    let diagnosis = judge(&facts);
    let expected = "the command open (one) to d1 and 1 other wait";
    expect(&diagnosis, Cause::CommandWaits, State::Connected, expected);
    assert_eq!(diagnosis.also, []);
}

#[test]
fn what_was_refused_is_the_cause_of_a_command_that_waits() {
    let mut refused = run(EventKind::PublishRefused, "Not authorized", "no rule", 1, 9);
    refused.last.topic = Some(ANSWERS.to_owned());
    let facts = Facts {
        runs: vec![refused],
        ..of(vec![command("c", CommandState::Delivered)])
    };
    let diagnosis = judge(&facts);
    assert_ne!(diagnosis.finding.cause, Cause::CommandWaits);
    assert!(
        diagnosis
            .also
            .iter()
            .any(|one| one.cause == Cause::CommandWaits)
    );
}

#[test]
fn a_configuration_that_was_not_reported_is_told() {
    let twin = |desired_ago_ms, reported_ms| DeviceTwin {
        version: 2,
        desired_ms: NOW - desired_ago_ms,
        reported_ms,
        missing: vec!["interval".to_owned()],
        topic: "d/d1/config".to_owned(),
        reports: "d/d1/twin/reported".to_owned(),
        ..DeviceTwin::default()
    };
    let wrong = Cause::ConfigurationNotReported;
    let with = |filter: &str, twin| {
        let mut session = connected();
        session.subscriptions = vec![(filter.to_owned(), 1)];
        Facts {
            session: Some(session),
            twin: Some(twin),
            ..facts(None)
        }
    };
    for (facts, cause, expected) in [
        (
            with("d/d1/conf", twin(0, 0)),
            wrong,
            "is not subscribed to d/d1/config",
        ),
        (with("d/d1/#", twin(0, 0)), Cause::NothingWrong, ""),
        (
            with("d/d1/#", twin(60_000, 0)),
            wrong,
            "has reported nothing since",
        ),
        (with("d/d1/#", twin(9, NOW)), wrong, "has other values"),
    ] {
        expect(&judge(&facts), cause, State::Connected, expected);
    }
}
