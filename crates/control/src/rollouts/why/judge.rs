//! Findings about rollouts.

use super::facts::{DeviceRollout, DeviceStuck, NamedRollout, RolloutFacts, RolloutStanding};
use crate::cause::{Bearing, Cause};
use crate::why::{Asked, ENDED_RECENTLY_MS, Finding, Findings, uncapitalized};

/// Time that a device has to answer before that is reported.
const ANSWERS_WITHIN_MS: u64 = 30_000;

/// Adds findings about the rollouts for a device, and about the one in the question.
pub(super) fn judge(facts: &RolloutFacts, asked: &Asked, findings: &mut Findings) {
    for one in &facts.rollouts {
        let (bearing, finding) = of_device(asked, one);
        findings.add_as(bearing, finding);
    }
    for one in &facts.not_for_device {
        one.judge(Cause::RolloutWaits, asked, findings);
    }
    if let Some(named) = &facts.named {
        findings.add_named(of_rollout(named));
    }
}

// Table: what is reported of each way to be stuck.
fn of_device(asked: &Asked, one: &DeviceRollout) -> (Bearing, Finding) {
    let what = format!("the rollout {} of {}", one.id, one.firmware);
    let why = uncapitalized(&one.why);
    let is_late = asked.now_ms.saturating_sub(one.since_ms) >= ANSWERS_WITHIN_MS;
    let exactly = report_exactly(&one.version);
    let (bearing, cause, sentence, remedy) = match one.stuck {
        DeviceStuck::NotStarted => (
            Bearing::Aside,
            Cause::RolloutPaused,
            format!("{what} has not been started, so the device is not offered the firmware"),
            "start the rollout",
        ),
        DeviceStuck::Paused => (
            Bearing::Present,
            Cause::RolloutPaused,
            format!("{what} is paused, so the device is not offered the firmware: {why}"),
            "see why devices of the rollout are stuck (martlet rollout devices), then resume it",
        ),
        DeviceStuck::InTurn => (
            Bearing::Aside,
            Cause::RolloutWaits,
            format!("{what} has not ended for the device: {why}"),
            "wait; to see the devices of the rollout, run",
        ),
        // Why it is not connected is reported first.
        DeviceStuck::Absent => (
            Bearing::Aside,
            Cause::RolloutWaits,
            format!("{what} waits for the device: {why}"),
            "have the device connect; to see the devices of the rollout, run",
        ),
        DeviceStuck::NotSubscribed => (
            Bearing::Present,
            Cause::RolloutWaits,
            format!("{what} waits for the device: {why}"),
            "have the device subscribe to that topic with QoS 1; to see the devices of the \
             rollout, run",
        ),
        DeviceStuck::NoAnswer => (
            match is_late {
                true => Bearing::Present,
                false => Bearing::Aside,
            },
            Cause::RolloutWaits,
            format!("{what} waits for the device: {why}"),
            "see why the program of the device does not answer the command; to see the devices of \
             the rollout, run",
        ),
        DeviceStuck::VersionDiffers => (
            Bearing::Present,
            Cause::RolloutWaits,
            format!("{what} waits for the device: {why}"),
            &*exactly,
        ),
        DeviceStuck::Silent => (
            Bearing::Present,
            Cause::RolloutWaits,
            format!("{what} no longer waits for the device: {why}"),
            "see what the device does, then offer it the firmware again (martlet rollout retry); \
             to see the devices of the rollout, run",
        ),
        DeviceStuck::Failed => (
            Bearing::Present,
            Cause::RolloutFailed,
            format!("{what} has failed for the device: {why}"),
            "fix the error that the device reported, then offer it the firmware again (martlet \
             rollout retry); to see the devices of the rollout, run",
        ),
        DeviceStuck::WrongType => (
            Bearing::Present,
            Cause::RolloutFailed,
            format!("{what} has skipped the device: {why}"),
            "correct the type of the device (martlet device set --type) or that of the firmware, \
             and begin another rollout; to see the devices of the rollout, run",
        ),
        DeviceStuck::Disabled => (
            Bearing::Present,
            Cause::RolloutFailed,
            format!("{what} has skipped the device: {why}"),
            "activate the device, and begin another rollout (martlet rollout start); to see the \
             devices of the rollout, run",
        ),
        DeviceStuck::Cancelled => (
            Bearing::Present,
            Cause::RolloutFailed,
            format!("{what} has ended without the device: {why}"),
            "begin another rollout (martlet rollout start); to see the devices of the rollout, run",
        ),
        DeviceStuck::HasVersion => (
            Bearing::Aside,
            Cause::NothingWrong,
            format!("{what} has skipped the device: {why}"),
            "if the device does not run that version, correct what it reports; to see the devices \
             of the rollout, run",
        ),
    };
    let is_over = one.ended_ms > 0 && asked.now_ms.saturating_sub(one.ended_ms) > ENDED_RECENTLY_MS;
    let bearing = match bearing {
        Bearing::Present if is_over => Bearing::Over,
        // It is reported before refusals and losses since then.
        Bearing::Present
            if one.ended_ms > 0 && is_of_rollout(one.stuck) && asked.question.topic.is_none() =>
        {
            Bearing::Topic
        }
        // While the device is away, that is the cause.
        Bearing::Present if !asked.is_connected && !is_of_rollout(one.stuck) => Bearing::Remark,
        bearing => bearing,
    };
    let mut finding = Finding::new(cause, sentence)
        .since(one.since_ms)
        .remedy(remedy)
        .command(&one.command);
    if one.ended_ms == 0 {
        // The present state is reported before what was lost.
        finding.last_ms = Some(asked.now_ms);
    }
    (bearing, finding)
}

/// Returns the remedy for a device that reports nearly this version.
fn report_exactly(version: &str) -> String {
    format!(
        "have the firmware report exactly {version} (firmware_version in its twin or heartbeat), or \
         have the device answer the command with succeeded; to see the devices of the rollout, run"
    )
}

/// The rollout does not wait for the device, whether or not that is connected.
fn is_of_rollout(stuck: DeviceStuck) -> bool {
    matches!(
        stuck,
        DeviceStuck::Paused | DeviceStuck::Failed | DeviceStuck::WrongType | DeviceStuck::Cancelled
    )
}

/// How the rollout in the question is.
fn of_rollout(rollout: &NamedRollout) -> Finding {
    let (id, devices) = (&rollout.id, &rollout.devices);
    let what = format!("the rollout {id} of {}", rollout.firmware);
    let goes_well = match rollout.standing {
        RolloutStanding::Running => rollout.troubled == 0,
        standing => standing == RolloutStanding::Succeeded,
    };
    let held_up_by = rollout.held_up_by.as_ref();
    let held_up = held_up_by.map_or_else(String::new, |one| {
        format!("; {}: {}", one.device, uncapitalized(&one.why))
    });
    let differs = held_up_by.and_then(|one| one.version.as_deref());
    if let Some(version) = differs.filter(|_| rollout.standing == RolloutStanding::Running) {
        let sentence = format!("{what} is running ({devices}){held_up}");
        let remedy = report_exactly(version);
        return Finding::advised(Cause::RolloutWaits, sentence, &remedy, &rollout.list);
    }
    if let Some((device, why)) = rollout.skipped.as_ref().filter(|_| goes_well) {
        let why = uncapitalized(why);
        let sentence = format!("{what} has skipped devices ({devices}), such as {device}: {why}");
        let remedy = "correct that, and begin another rollout (martlet rollout start); to see why \
                      each device was skipped, run";
        return Finding::advised(Cause::RolloutFailed, sentence, remedy, &rollout.list);
    }
    match rollout.standing {
        RolloutStanding::Planned => {
            let sentence = format!("{what} has not been started ({devices})");
            Finding::advised(Cause::RolloutPaused, sentence, "start it", &rollout.go_on)
        }
        RolloutStanding::Paused(why) => {
            let sentence = format!("{what} is paused: {why} ({devices}){held_up}");
            let remedy = "see why devices are stuck, have those that failed try again (martlet rollout \
                          retry), and resume it";
            Finding::advised(Cause::RolloutPaused, sentence, remedy, &rollout.go_on)
        }
        RolloutStanding::Running if rollout.troubled > 0 => {
            let sentence = format!(
                "{what} is running, but some of its devices do not make progress \
                 ({devices}){held_up}"
            );
            let remedy = "to see why each is stuck, run";
            Finding::advised(Cause::RolloutWaits, sentence, remedy, &rollout.list)
        }
        RolloutStanding::Aborted => {
            let sentence = format!(
                "{what} was aborted, so the devices that were not updated keep their version ({devices})"
            );
            let remedy = "begin another rollout (martlet rollout start); to list the devices, run";
            Finding::advised(Cause::RolloutFailed, sentence, remedy, &rollout.list)
        }
        RolloutStanding::Running => {
            let sentence = format!("{what} is running ({devices}){held_up}");
            Finding::new(Cause::NothingWrong, sentence)
        }
        RolloutStanding::Succeeded => {
            let sentence = format!("{what} has succeeded ({devices})");
            Finding::new(Cause::NothingWrong, sentence)
        }
        RolloutStanding::Ended(word) => {
            let sentence = format!("{what} has ended: {word} ({devices})");
            let remedy = "to see why each device is stuck, run";
            Finding::advised(Cause::RolloutFailed, sentence, remedy, &rollout.list)
        }
    }
}
