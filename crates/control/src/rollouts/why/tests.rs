//! Verdicts on rollouts.

use super::*;
use crate::cause::Cause;
use crate::why::tests::{NOW, connected, expect, facts};
use crate::why::{Case, Diagnosis, State};

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
        let named = RolloutFacts {
            named: Some(NamedRollout {
                id: "r".to_owned(),
                firmware: "pump 2".to_owned(),
                standing,
                devices: "devices: 1 waiting".to_owned(),
                troubled,
                skipped: None,
                held_up_by: None,
                go_on: Some("martlet rollout resume r".to_owned().into()),
                list: Some("martlet rollout devices r".to_owned().into()),
            }),
            ..RolloutFacts::default()
        };
        let diagnosis = Case::of(facts(None)).with::<Rollouts>(named).diagnosis();
        expect(&diagnosis, cause, State::NoClient, expected);
    }
}

fn of_device(rollout: DeviceRollout) -> Diagnosis {
    let mut client = facts(None);
    client.session = Some(connected());
    let facts = RolloutFacts {
        rollouts: vec![rollout],
        ..RolloutFacts::default()
    };
    Case::of(client).with::<Rollouts>(facts).diagnosis()
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
        command: Some("martlet rollout devices r".to_owned().into()),
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
        let diagnosis = of_device(rollout(stuck, ago_ms));
        expect(&diagnosis, cause, State::Connected, "");
    }
    let ended = DeviceRollout {
        ended_ms: NOW - 2 * 3_600_000,
        ..rollout(DeviceStuck::Cancelled, 2 * 3_600_000)
    };
    let diagnosis = of_device(ended);
    expect(&diagnosis, Cause::NothingWrong, State::Connected, "");
    assert_eq!(diagnosis.also[0].cause, Cause::RolloutFailed);
}
