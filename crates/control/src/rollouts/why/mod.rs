//! Rollouts of firmware that wait for a device, or a rollout that was asked about.

mod facts;
mod judge;
#[cfg(test)]
mod tests;

use martlet_broker::TenantId;
use martlet_registry::rollout::{DeviceState, PauseReason, RolloutState};
use martlet_registry::{PageRequest, Rollout, RolloutDevice};

use super::cause::{Facts as DeviceFacts, pause_in_words};
use super::{Cause, CauseKind, Rollouts, cause_of};
use crate::control::{Control, ControlError};
use crate::journal::WordedRemedy;
use crate::remedy::form::{self, CommandForm};
use crate::wall_clock::{now_signed_ms, unsigned};
use crate::why::{Asked, Examine, Findings, NotForDevice};
use facts::{DeviceRollout, DeviceStuck, HeldUpBy, NamedRollout, RolloutFacts, RolloutStanding};

/// Rollouts of a device that are reported, at most.
const TOLD: u32 = 3;
/// How long ago they may have ended, milliseconds.
const ENDED_SINCE_MS: i64 = 24 * 60 * 60 * 1000;
/// Rollouts that are looked at.
const LOOKED_AT: usize = 50;
/// Devices of one state that are looked at.
const DEVICES_MAX: usize = 100;

impl Examine for Rollouts {
    type Facts = RolloutFacts;

    async fn gather(&self, control: &Control, asked: &Asked) -> Result<RolloutFacts, ControlError> {
        let (name, tenant) = (asked.question.name.clone(), asked.question.tenant);
        let device = name.clone();
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                let since_ms = now_signed_ms() - ENDED_SINCE_MS;
                let device = (tenant.0, &*device);
                registry.recent_rollouts_of(device, since_ms, TOLD).await
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
            let stuck = stuck(cause.kind).filter(|_| is_open || is_latest)?;
            let action = match stuck {
                DeviceStuck::NotStarted | DeviceStuck::Paused => goes_on_by(rollout.machine.state),
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
                stuck,
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
        judge::judge(facts, asked, findings);
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

    fn cause(&self, control: &Control, rollout: &Rollout, device: &RolloutDevice) -> Option<Cause> {
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
    ) -> Vec<(String, Cause)> {
        if !rollout.states().contains_key(&state) {
            return Vec::new();
        }
        let whose = (asked.visibility(), rollout.id.clone());
        let page = PageRequest::first(DEVICES_MAX);
        let devices = self.devices(control, whose, Some(state), page).await;
        let devices = devices.map_or_else(|_| Vec::new(), |page| page.items);
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
    let states: Vec<String> = states
        .iter()
        .map(|(state, count)| format!("{count} {}", state.word()))
        .collect();
    NamedRollout {
        firmware: firmware(&rollout),
        standing: match rollout.machine.state {
            RolloutState::Planned => RolloutStanding::Planned,
            RolloutState::Running => RolloutStanding::Running,
            RolloutState::Paused(reason) => RolloutStanding::Paused(pause_in_words(reason)),
            RolloutState::Succeeded => RolloutStanding::Succeeded,
            RolloutState::Aborted => RolloutStanding::Aborted,
            state @ RolloutState::Failed => RolloutStanding::Ended(state.word()),
        },
        devices: format!("devices: {}", states.join(", ")),
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

/// Why a device is stuck, as `why` reports it; none: nothing is to be done for it in this rollout.
fn stuck(kind: CauseKind) -> Option<DeviceStuck> {
    Some(match kind {
        CauseKind::NotStarted => DeviceStuck::NotStarted,
        CauseKind::RolloutPaused => DeviceStuck::Paused,
        CauseKind::WaveWaits | CauseKind::NextTurn | CauseKind::NotDone => DeviceStuck::InTurn,
        CauseKind::NotConnected | CauseKind::NeverConnected => DeviceStuck::Absent,
        CauseKind::NotSubscribed | CauseKind::SubscribedWithQos0 => DeviceStuck::NotSubscribed,
        CauseKind::MessageNotAcknowledged | CauseKind::NoAnswer => DeviceStuck::NoAnswer,
        CauseKind::VersionDiffers => DeviceStuck::VersionDiffers,
        CauseKind::Silent => DeviceStuck::Silent,
        CauseKind::DeviceFailed | CauseKind::TooManyCommands | CauseKind::TimedOut => {
            DeviceStuck::Failed
        }
        CauseKind::WrongType => DeviceStuck::WrongType,
        CauseKind::Disabled => DeviceStuck::Disabled,
        CauseKind::RolloutEnded | CauseKind::Cancelled => DeviceStuck::Cancelled,
        CauseKind::HasVersion => DeviceStuck::HasVersion,
        CauseKind::Deleted => return None,
    })
}
