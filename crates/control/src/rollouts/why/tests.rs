//! Verdicts on rollouts.

use super::*;
use crate::why::tests::{NOW, connected, expect, facts};
use crate::why::{Case, Diagnosis, State};

#[test]
fn a_rollout_is_told_by_its_id() {
    for (state, troubled, cause, expected) in [
        (
            RolloutState::Planned,
            0,
            Cause::RolloutPaused,
            "has not been started",
        ),
        (
            RolloutState::Paused(PauseReason::ByHand),
            0,
            Cause::RolloutPaused,
            "is paused: ",
        ),
        (
            RolloutState::Running,
            1,
            Cause::RolloutWaits,
            "some of its devices do not",
        ),
        (RolloutState::Running, 0, Cause::NothingWrong, "is running"),
        (
            RolloutState::Succeeded,
            0,
            Cause::NothingWrong,
            "has succeeded",
        ),
        (
            RolloutState::Failed,
            0,
            Cause::RolloutFailed,
            "has ended: failed",
        ),
    ] {
        let named = RolloutFacts {
            named: Some(NamedRollout {
                id: "r".to_owned(),
                firmware: "pump 2".to_owned(),
                state,
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
    let rollout = |kind, ago_ms| DeviceRollout {
        id: "r".to_owned(),
        firmware: "pump 2".to_owned(),
        version: "2".to_owned(),
        kind,
        why: "The device waits.".to_owned(),
        since_ms: NOW - ago_ms,
        ended_ms: 0,
        command: Some("martlet rollout devices r".to_owned().into()),
    };
    for (kind, ago_ms, cause) in [
        (CauseKind::NotSubscribed, 0, Cause::RolloutWaits),
        (CauseKind::NoAnswer, 0, Cause::NothingWrong),
        (CauseKind::NoAnswer, 60_000, Cause::RolloutWaits),
        (CauseKind::RolloutPaused, 0, Cause::RolloutPaused),
        (CauseKind::NextTurn, 60_000, Cause::NothingWrong),
        (CauseKind::VersionDiffers, 0, Cause::RolloutWaits),
        (CauseKind::DeviceFailed, 0, Cause::RolloutFailed),
        (CauseKind::WrongType, 0, Cause::RolloutFailed),
        (CauseKind::Cancelled, 0, Cause::RolloutFailed),
        (CauseKind::HasVersion, 0, Cause::NothingWrong),
    ] {
        let diagnosis = of_device(rollout(kind, ago_ms));
        expect(&diagnosis, cause, State::Connected, "");
    }
    let ended = DeviceRollout {
        ended_ms: NOW - 2 * 3_600_000,
        ..rollout(CauseKind::Cancelled, 2 * 3_600_000)
    };
    let diagnosis = of_device(ended);
    expect(&diagnosis, Cause::NothingWrong, State::Connected, "");
    assert_eq!(diagnosis.also[0].cause, Cause::RolloutFailed);
}
