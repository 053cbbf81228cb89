//! Rollouts of firmware that wait for a device, or that it waits for.

use super::Finding;
use super::facts::{DeviceRollout, DeviceStuck, Facts};
use super::found::{Bearing, ENDED_RECENTLY_MS, Found, is_connected, uncapitalized};
use crate::cause::Cause;

/// Time that a device has to answer before that is reported.
const ANSWERS_WITHIN_MS: u64 = 30_000;

pub(super) fn rollouts(facts: &Facts, found: &mut Found) {
    found.extend(facts.rollouts.iter().map(|one| of_device(facts, one)));
}

// Table: what is reported of each way to be stuck.
fn of_device(facts: &Facts, one: &DeviceRollout) -> (Bearing, Finding) {
    let what = format!("the rollout {} of {}", one.id, one.firmware);
    let why = uncapitalized(&one.why);
    let is_late = facts.now_ms.saturating_sub(one.since_ms) >= ANSWERS_WITHIN_MS;
    let exactly = report_exactly(&one.version);
    let (bearing, cause, sentence, remedy) = match one.stuck {
        DeviceStuck::NotStarted => (
            Bearing::Aside,
            Cause::RolloutPaused,
            format!("{what} has not been started, so the device is not offered the firmware"),
            "start the rollout",
        ),
        DeviceStuck::Paused => (
            Bearing::Happened,
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
            Bearing::Happened,
            Cause::RolloutWaits,
            format!("{what} waits for the device: {why}"),
            "have the device subscribe to that topic with QoS 1; to see the devices of the \
             rollout, run",
        ),
        DeviceStuck::NoAnswer => (
            match is_late {
                true => Bearing::Happened,
                false => Bearing::Aside,
            },
            Cause::RolloutWaits,
            format!("{what} waits for the device: {why}"),
            "see why the program of the device does not answer the command; to see the devices of \
             the rollout, run",
        ),
        DeviceStuck::VersionDiffers => (
            Bearing::Happened,
            Cause::RolloutWaits,
            format!("{what} waits for the device: {why}"),
            &*exactly,
        ),
        DeviceStuck::Silent => (
            Bearing::Happened,
            Cause::RolloutWaits,
            format!("{what} no longer waits for the device: {why}"),
            "see what the device does, then offer it the firmware again (martlet rollout retry); \
             to see the devices of the rollout, run",
        ),
        DeviceStuck::Failed => (
            Bearing::Happened,
            Cause::RolloutFailed,
            format!("{what} has failed for the device: {why}"),
            "fix the error that the device reported, then offer it the firmware again (martlet \
             rollout retry); to see the devices of the rollout, run",
        ),
        DeviceStuck::WrongType => (
            Bearing::Happened,
            Cause::RolloutFailed,
            format!("{what} has skipped the device: {why}"),
            "correct the type of the device (martlet device set --type) or that of the firmware, \
             and begin another rollout; to see the devices of the rollout, run",
        ),
        DeviceStuck::Disabled => (
            Bearing::Happened,
            Cause::RolloutFailed,
            format!("{what} has skipped the device: {why}"),
            "activate the device, and begin another rollout (martlet rollout start); to see the \
             devices of the rollout, run",
        ),
        DeviceStuck::Cancelled => (
            Bearing::Happened,
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
    let is_over = one.ended_ms > 0 && facts.now_ms.saturating_sub(one.ended_ms) > ENDED_RECENTLY_MS;
    let bearing = match bearing {
        Bearing::Happened if is_over => Bearing::Over,
        // It is reported before refusals and losses since then.
        Bearing::Happened
            if one.ended_ms > 0 && is_of_rollout(one.stuck) && facts.question.topic.is_none() =>
        {
            Bearing::Topic
        }
        // While the device is away, that is the cause.
        Bearing::Happened if !is_connected(facts) && !is_of_rollout(one.stuck) => Bearing::Remark,
        bearing => bearing,
    };
    let mut finding = Finding::new(cause, sentence)
        .since(one.since_ms)
        .remedy(remedy)
        .command(&one.command);
    if one.ended_ms == 0 {
        // The present state is reported before what was lost.
        finding.last_ms = Some(facts.now_ms);
    }
    (bearing, finding)
}

/// What to do about a device that reports nearly this version.
pub(super) fn report_exactly(version: &str) -> String {
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
