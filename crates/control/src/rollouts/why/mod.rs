//! Rollouts of firmware that wait for a device, or a rollout that was asked about.

#[cfg(test)]
mod tests;

use martlet_broker::TenantId;
use martlet_registry::rollout::{DeviceState, PauseReason, RolloutState};
use martlet_registry::{PageRequest, Rollout, RolloutDevice};

use super::cause::{Facts as DeviceFacts, pause_in_words};
use super::{Cause as DeviceCause, CauseKind, Rollouts, cause_of};
use crate::cause::{Bearing, Cause};
use crate::control::{Control, ControlError};
use crate::journal::WordedRemedy;
use crate::remedy::Command;
use crate::remedy::form::{self, CommandForm};
use crate::wall_clock::{now_signed_ms, unsigned};
use crate::why::{
    Asked, ENDED_RECENTLY_MS, Examine, Finding, Findings, NotForDevice, uncapitalized,
};

/// Rollouts of a device that are reported, at most.
const TOLD: u32 = 3;
/// How long ago they may have ended, milliseconds.
const ENDED_SINCE_MS: i64 = 24 * 60 * 60 * 1000;
/// Rollouts that are looked at.
const LOOKED_AT: usize = 50;
/// Devices of one state that are looked at.
const DEVICES_MAX: usize = 100;
/// Time that a device has to answer before that is reported.
const ANSWERS_WITHIN_MS: u64 = 30_000;

/// Facts about rollouts. Times are milliseconds since the Unix epoch.
#[derive(Debug, Default)]
pub(crate) struct RolloutFacts {
    /// Rollouts of firmware for the device that have not ended, the latest first.
    rollouts: Vec<DeviceRollout>,
    /// Rollouts to groups of the device that are not for it.
    not_for_device: Vec<NotForDevice>,
    /// The rollout that was asked about.
    named: Option<NamedRollout>,
}

/// A rollout of firmware, as far as it concerns a device.
#[derive(Clone, Debug)]
pub(crate) struct DeviceRollout {
    id: String,
    /// Name and version of the firmware.
    firmware: String,
    version: String,
    /// Why the device has not installed it, and in words.
    kind: CauseKind,
    why: String,
    /// Since when the device is in its state.
    since_ms: u64,
    /// When the rollout ended; 0: it has not.
    ended_ms: u64,
    /// The command that starts or resumes the rollout, or shows its devices.
    command: Option<Command>,
}

/// A rollout that the question names.
#[derive(Clone, Debug)]
pub(crate) struct NamedRollout {
    id: String,
    /// Name and version of the firmware.
    firmware: String,
    state: RolloutState,
    /// How many of its devices are in which state, in words.
    devices: String,
    /// Devices that failed or are silent.
    troubled: u64,
    /// A device that was skipped though it does not have the version, and why.
    skipped: Option<(String, String)>,
    /// A device that has begun and does not go on by itself.
    held_up_by: Option<HeldUpBy>,
    /// The command that comes first so that it goes on.
    go_on: Option<Command>,
    /// The command that lists its devices, and why each is stuck.
    list: Option<Command>,
}

/// A device that has begun to install the firmware of a rollout, and does not go on by itself.
#[derive(Clone, Debug)]
pub(crate) struct HeldUpBy {
    device: String,
    /// Why, in words.
    why: String,
    /// The version that it should report, if it reports another one; none: it is away.
    version: Option<String>,
}

impl Examine for Rollouts {
    type Facts = RolloutFacts;

    async fn gather(&self, control: &Control, asked: &Asked) -> Result<RolloutFacts, ControlError> {
        let (name, tenant) = (asked.question.name.clone(), asked.question.tenant);
        let device = name.clone();
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                let since_ms = now_signed_ms() - ENDED_SINCE_MS;
                registry
                    .recent_rollouts_of(tenant.0, &device, since_ms, TOLD)
                    .await
            })
        });
        let team = asked.team.as_deref();
        let is_seen = |rollout: &Rollout| team.is_none_or(|team| rollout.team == team);
        let all = read.await.unwrap_or_default().into_iter();
        let all = all.filter(|(rollout, _)| is_seen(rollout));
        let mut names: Vec<String> = Vec::new();
        let found = all.filter_map(|(rollout, device)| {
            // A later one of the same firmware took its place.
            let is_latest = !names.contains(&rollout.name);
            names.push(rollout.name.clone());
            let is_open = rollout.finished_ms == 0;
            let cause = self.cause(control, &rollout, &device)?;
            let action = match cause.kind {
                // Nothing is to be done for it in this rollout.
                CauseKind::Deleted => return None,
                _ if !is_open && !is_latest => return None,
                CauseKind::NotStarted | CauseKind::RolloutPaused => {
                    goes_on_by(rollout.machine.state)
                }
                _ => form::ROLLOUT_DEVICES,
            };
            Some(DeviceRollout {
                command: control.command(action, &[&rollout.id]),
                firmware: firmware(&rollout),
                version: rollout.version,
                why: cause.text,
                since_ms: unsigned(device.device.since_ms),
                ended_ms: unsigned(rollout.finished_ms),
                id: rollout.id,
                kind: cause.kind,
            })
        });
        let rollouts: Vec<DeviceRollout> = found.collect();
        let named = match self.show(asked.visibility(), name).await {
            Ok(rollout) => Some(NamedRollout {
                skipped: self.skipped(control, &rollout, asked).await,
                held_up_by: self.held_up_by(control, &rollout, asked).await,
                ..named_rollout(control, rollout)
            }),
            Err(_) => None,
        };
        Ok(RolloutFacts {
            not_for_device: self.before_joining(control, asked, &rollouts).await,
            rollouts,
            named,
        })
    }

    fn judge(facts: &RolloutFacts, asked: &Asked, findings: &mut Findings) {
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
}

impl Rollouts {
    /// The last rollout to each group that the device joined recently, if it is from before, and is
    /// none of these.
    async fn before_joining(
        &self,
        control: &Control,
        asked: &Asked,
        own: &[DeviceRollout],
    ) -> Vec<NotForDevice> {
        let mut found = Vec::new();
        if asked.joined.is_empty() {
            return found;
        }
        let page = PageRequest::first(LOOKED_AT);
        let Ok(all) = self.list(asked.visibility(), false, page).await else {
            return found;
        };
        let since_ms = now_signed_ms() - ENDED_SINCE_MS;
        for joined in &asked.joined {
            let is_for = |rollout: &&Rollout| {
                let target: Option<Target> = serde_json::from_str(&rollout.target).ok();
                let group = target.and_then(|target| target.group);
                group.is_some_and(|group| group == joined.id || group == joined.name)
            };
            let mut rollouts = all.items.iter().filter(is_for);
            let Some(rollout) = rollouts.next() else {
                continue;
            };
            let created_ms = unsigned(rollout.created_ms);
            let is_listed = own.iter().any(|one| one.id == rollout.id);
            if rollout.created_ms < since_ms || created_ms > joined.at_ms || is_listed {
                continue;
            }
            let values = [&*joined.id, &rollout.name, &rollout.version];
            // A device is in one rollout of a firmware at a time.
            let worded = match rollout.finished_ms {
                0 => WordedRemedy::new(
                    "once the rollout has ended (martlet rollout abort ends it), begin another to \
                     the group (martlet rollout start); to see it, run",
                    control.command(form::ROLLOUT_SHOW, &[&rollout.id]),
                ),
                _ => WordedRemedy::new(
                    "begin another rollout to the group: it skips the devices that have the version",
                    control.command(form::ROLLOUT_START, &values),
                ),
            };
            found.push(NotForDevice {
                what: format!("the rollout {} of {}", rollout.id, firmware(rollout)),
                group: joined.name.clone(),
                created_ms,
                joined_ms: Some(joined.at_ms),
                worded,
            });
        }
        found
    }

    fn cause(
        &self,
        control: &Control,
        rollout: &Rollout,
        device: &RolloutDevice,
    ) -> Option<DeviceCause> {
        let presence = control.presence(TenantId(device.tenant), &device.id);
        cause_of(&DeviceFacts {
            rollout,
            device,
            connected: presence.map(|found| (found.online, found.since_ms)),
            topic: &self.topic_of(device),
        })
    }

    /// A device that the rollout has skipped though it does not have the version, and why.
    async fn skipped(
        &self,
        control: &Control,
        rollout: &Rollout,
        asked: &Asked,
    ) -> Option<(String, String)> {
        let skipped = self.in_state(control, rollout, asked, DeviceState::Skipped);
        let mut skipped = skipped.await.into_iter();
        let (id, cause) = skipped.find(|(_, cause)| cause.kind != CauseKind::HasVersion)?;
        Some((id, cause.text))
    }

    /// A device that has begun and does not go on by itself: it reports another version, else it is
    /// away since its last report.
    async fn held_up_by(
        &self,
        control: &Control,
        rollout: &Rollout,
        asked: &Asked,
    ) -> Option<HeldUpBy> {
        use DeviceState::{Delivered, Downloading, Installing, Silent};
        let mut begun = Vec::new();
        for state in [Silent, Installing, Downloading, Delivered] {
            begun.extend(self.in_state(control, rollout, asked, state).await);
        }
        let mut kinds = [CauseKind::VersionDiffers, CauseKind::NotConnected].into_iter();
        kinds.find_map(|kind| {
            let mut devices = begun.iter();
            let (device, cause) = devices.find(|(_, cause)| cause.kind == kind)?;
            Some(HeldUpBy {
                device: device.clone(),
                why: cause.text.clone(),
                version: (kind == CauseKind::VersionDiffers).then(|| rollout.version.clone()),
            })
        })
    }

    /// The first devices of a rollout that are in this state, and why each is stuck.
    async fn in_state(
        &self,
        control: &Control,
        rollout: &Rollout,
        asked: &Asked,
        state: DeviceState,
    ) -> Vec<(String, DeviceCause)> {
        if !rollout.states().contains_key(&state) {
            return Vec::new();
        }
        let (visibility, id) = (asked.visibility(), rollout.id.clone());
        let page = PageRequest::first(DEVICES_MAX);
        let devices = self.devices(control, visibility, id, Some(state), page);
        let devices = devices.await.map_or_else(|_| Vec::new(), |page| page.items);
        let stuck = devices.into_iter();
        let stuck = stuck.filter_map(|(device, cause)| Some((device.id, cause?)));
        stuck.collect()
    }
}

/// Which devices a rollout is for.
#[derive(serde::Deserialize)]
struct Target {
    group: Option<String>,
}

fn named_rollout(control: &Control, rollout: Rollout) -> NamedRollout {
    let states = rollout.states();
    let troubled = [DeviceState::Failed, DeviceState::Silent];
    let troubled = troubled.iter().filter_map(|state| states.get(state)).sum();
    let states = states.iter();
    let states = states.map(|(state, count)| format!("{count} {}", state.word()));
    NamedRollout {
        firmware: firmware(&rollout),
        state: rollout.machine.state,
        devices: format!("devices: {}", states.collect::<Vec<_>>().join(", ")),
        troubled,
        skipped: None,
        held_up_by: None,
        go_on: control.command(goes_on_by(rollout.machine.state), &[&rollout.id]),
        list: control.command(form::ROLLOUT_DEVICES, &[&rollout.id]),
        id: rollout.id,
    }
}

/// The action that comes first so that a rollout goes on. After a pause by the wave gate the
/// devices are looked at: resumed at once, it would count the same failures again.
fn goes_on_by(state: RolloutState) -> CommandForm {
    match state {
        RolloutState::Paused(PauseReason::GateFailures | PauseReason::GateSilence) => {
            form::ROLLOUT_DEVICES
        }
        _ => form::ROLLOUT_RESUME,
    }
}

fn firmware(rollout: &Rollout) -> String {
    format!("{} {}", rollout.name, rollout.version)
}

/// Table of the ways to be stuck: how each bears on the question, the cause, what the
/// rollout does, which the reason follows, and the remedy, which the devices of the rollout follow.
macro_rules! verdicts {
    ($($($kind:ident)|+ => $bearing:ident, $cause:ident, $does:literal, $remedy:literal;)*) => {
        fn verdict_on(kind: CauseKind) -> (Bearing, Cause, &'static str, &'static str) {
            match kind {
                $($(CauseKind::$kind)|+ => (Bearing::$bearing, Cause::$cause, $does, $remedy),)*
            }
        }
    };
}

verdicts! {
    NotStarted => Aside, RolloutPaused, "has not been started, so the device is not offered the firmware", "start the rollout";
    RolloutPaused => Present, RolloutPaused, "is paused, so the device is not offered the firmware", "see why devices of the rollout are stuck (martlet rollout devices), then resume it";
    WaveWaits | NextTurn | NotDone => Aside, RolloutWaits, "has not ended for the device", "wait";
    NotConnected | NeverConnected => Aside, RolloutWaits, "waits for the device", "have the device connect";
    NotSubscribed | SubscribedWithQos0 => Present, RolloutWaits, "waits for the device", "have the device subscribe to that topic with QoS 1";
    MessageNotAcknowledged | NoAnswer => Present, RolloutWaits, "waits for the device", "see why the program of the device does not answer the command";
    VersionDiffers => Present, RolloutWaits, "waits for the device", "";
    Silent => Present, RolloutWaits, "no longer waits for the device", "see what the device does, then offer it the firmware again (martlet rollout retry)";
    DeviceFailed | TooManyCommands | TimedOut => Present, RolloutFailed, "has failed for the device", "fix the error that the device reported, then offer it the firmware again (martlet rollout retry)";
    WrongType => Present, RolloutFailed, "has skipped the device", "correct the type of the device (martlet device set --type) or that of the firmware, and begin another rollout";
    Disabled => Present, RolloutFailed, "has skipped the device", "activate the device, and begin another rollout (martlet rollout start)";
    RolloutEnded | Cancelled | Deleted => Present, RolloutFailed, "has ended without the device", "begin another rollout (martlet rollout start)";
    HasVersion => Aside, NothingWrong, "has skipped the device", "if the device does not run that version, correct what it reports";
}

fn of_device(asked: &Asked, one: &DeviceRollout) -> (Bearing, Finding) {
    use CauseKind as Is;
    let (bearing, cause, does, remedy) = verdict_on(one.kind);
    let mut sentence = format!("the rollout {} of {} {does}", one.id, one.firmware);
    if one.kind != Is::NotStarted {
        sentence.push_str(&format!(": {}", uncapitalized(&one.why)));
    }
    let remedy = match one.kind {
        Is::NotStarted | Is::RolloutPaused => remedy.to_owned(),
        Is::VersionDiffers => report_exactly(&one.version),
        _ => format!("{remedy}; to see the devices of the rollout, run"),
    };
    // The rollout does not wait for the device, whether or not that is connected.
    let is_of_rollout =
        one.kind == Is::RolloutPaused || cause == Cause::RolloutFailed && one.kind != Is::Disabled;
    let is_late = asked.now_ms.saturating_sub(one.since_ms) >= ANSWERS_WITHIN_MS;
    let is_over = one.ended_ms > 0 && asked.now_ms.saturating_sub(one.ended_ms) > ENDED_RECENTLY_MS;
    let bearing = match (bearing, one.kind) {
        (Bearing::Present, Is::NoAnswer | Is::MessageNotAcknowledged) if !is_late => Bearing::Aside,
        (Bearing::Present, _) if is_over => Bearing::Over,
        // It is reported before refusals and losses since then.
        (Bearing::Present, _)
            if one.ended_ms > 0 && is_of_rollout && asked.question.topic.is_none() =>
        {
            Bearing::Topic
        }
        // While the device is away, that is the cause.
        (Bearing::Present, _) if !asked.is_connected && !is_of_rollout => Bearing::Remark,
        (bearing, _) => bearing,
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

/// How the rollout in the question is.
fn of_rollout(rollout: &NamedRollout) -> Finding {
    use RolloutState as Is;
    let (id, devices, list) = (&rollout.id, &rollout.devices, &rollout.list);
    let what = format!("the rollout {id} of {}", rollout.firmware);
    let is_running = rollout.state == Is::Running;
    let goes_well = is_running && rollout.troubled == 0 || rollout.state == Is::Succeeded;
    let held_up_by = rollout.held_up_by.as_ref();
    let held_up = held_up_by.map_or_else(String::new, |one| {
        format!("; {}: {}", one.device, uncapitalized(&one.why))
    });
    let differs = held_up_by.and_then(|one| one.version.as_deref());
    let skipped = rollout.skipped.as_ref().filter(|_| goes_well);
    let (cause, sentence, remedy, command) = match (rollout.state, differs, skipped) {
        (Is::Running, Some(version), _) => {
            let sentence = format!("{what} is running ({devices}){held_up}");
            let remedy = report_exactly(version);
            return Finding::advised(Cause::RolloutWaits, sentence, &remedy, list);
        }
        (_, _, Some((device, why))) => (
            Cause::RolloutFailed,
            format!(
                "{what} has skipped devices ({devices}), such as {device}: {}",
                uncapitalized(why)
            ),
            "correct that, and begin another rollout (martlet rollout start); to see why each \
             device was skipped, run",
            list,
        ),
        (Is::Planned, ..) => (
            Cause::RolloutPaused,
            format!("{what} has not been started ({devices})"),
            "start it",
            &rollout.go_on,
        ),
        (Is::Paused(reason), ..) => (
            Cause::RolloutPaused,
            format!(
                "{what} is paused: {} ({devices}){held_up}",
                pause_in_words(reason)
            ),
            "see why devices are stuck, have those that failed try again (martlet rollout retry), \
             and resume it",
            &rollout.go_on,
        ),
        (Is::Running, ..) if rollout.troubled > 0 => (
            Cause::RolloutWaits,
            format!(
                "{what} is running, but some of its devices do not make progress \
                 ({devices}){held_up}"
            ),
            "to see why each is stuck, run",
            list,
        ),
        (Is::Aborted, ..) => (
            Cause::RolloutFailed,
            format!(
                "{what} was aborted, so the devices that were not updated keep their version \
                 ({devices})"
            ),
            "begin another rollout (martlet rollout start); to list the devices, run",
            list,
        ),
        (Is::Running, ..) => {
            let sentence = format!("{what} is running ({devices}){held_up}");
            return Finding::new(Cause::NothingWrong, sentence);
        }
        (Is::Succeeded, ..) => {
            let sentence = format!("{what} has succeeded ({devices})");
            return Finding::new(Cause::NothingWrong, sentence);
        }
        (state @ Is::Failed, ..) => (
            Cause::RolloutFailed,
            format!("{what} has ended: {} ({devices})", state.word()),
            "to see why each device is stuck, run",
            list,
        ),
    };
    Finding::advised(cause, sentence, remedy, command)
}
