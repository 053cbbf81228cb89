//! What rollouts know of a device, or of the rollout, that is asked about why it does not work.

use martlet_broker::TenantId;
use martlet_registry::rollout::{DeviceState, PauseReason, RolloutState};
use martlet_registry::{Rollout, Visibility};

use super::cause::{Facts as DeviceFacts, paused_because};
use super::{CauseKind, Rollouts, cause_of};
use crate::control::Control;
use crate::text::typed;
use crate::why::facts::{DeviceRollout, DeviceStuck, Facts, RolloutAsked, RolloutStanding};

/// Rollouts of a device that are told.
const TOLD: u32 = 3;

impl Rollouts {
    /// Adds it. `team`: the caller sees rollouts of this team alone. Where the tables cannot be
    /// read, health says so, and the rest is told.
    pub async fn complete(&self, control: &Control, team: Option<&str>, facts: &mut Facts) {
        let (name, tenant) = (facts.question.name.clone(), facts.question.tenant);
        let device = name.clone();
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.open_rollouts_of((tenant.0, &device), TOLD).await })
        });
        let is_seen = |rollout: &Rollout| team.is_none_or(|team| rollout.team == team);
        let all = read.await.unwrap_or_default().into_iter();
        let all = all.filter(|(rollout, _)| is_seen(rollout));
        let told = all.filter_map(|(rollout, device)| {
            let presence = control.presence(TenantId(device.tenant), &device.id);
            let cause = cause_of(&DeviceFacts {
                rollout: &rollout,
                device: &device,
                connected: presence.map(|found| (found.online, found.since_ms)),
                topic: &self.topic_of(&device),
            })?;
            let stuck = stuck(cause.kind)?;
            let action = match stuck {
                DeviceStuck::NotStarted | DeviceStuck::Paused => goes_on_by(rollout.machine.state),
                _ => "devices",
            };
            Some(DeviceRollout {
                command: command(control, action, &rollout.id),
                firmware: firmware(&rollout),
                why: cause.text,
                since_ms: u64::try_from(device.device.since_ms).unwrap_or(0),
                id: rollout.id,
                stuck,
            })
        });
        facts.rollouts = told.collect();
        let asked = self.show(Visibility::of(team), name).await.ok();
        facts.rollout_asked = asked.map(|rollout| asked_about(control, rollout));
    }
}

fn asked_about(control: &Control, rollout: Rollout) -> RolloutAsked {
    let states = rollout.states();
    let troubled = [DeviceState::Failed, DeviceState::Silent];
    let troubled = troubled.iter().filter_map(|state| states.get(state)).sum();
    let states: Vec<String> = states
        .iter()
        .map(|(state, count)| format!("{count} {}", state.word()))
        .collect();
    RolloutAsked {
        firmware: firmware(&rollout),
        standing: match rollout.machine.state {
            RolloutState::Planned => RolloutStanding::Planned,
            RolloutState::Running => RolloutStanding::Running,
            RolloutState::Paused(_) => {
                RolloutStanding::Paused(paused_because(rollout.machine.state))
            }
            RolloutState::Succeeded => RolloutStanding::Succeeded,
            state @ (RolloutState::Failed | RolloutState::Aborted) => {
                RolloutStanding::Ended(state.word())
            }
        },
        devices: format!("devices: {}", states.join(", ")),
        troubled,
        go_on: command(control, goes_on_by(rollout.machine.state), &rollout.id),
        list: command(control, "devices", &rollout.id),
        id: rollout.id,
    }
}

/// The action that comes first so that a rollout goes on. After a pause by the wave gate the
/// devices are looked at: resumed at once, it would count the same failures again.
fn goes_on_by(state: RolloutState) -> &'static str {
    match state {
        RolloutState::Paused(PauseReason::GateFailures | PauseReason::GateSilence) => "devices",
        _ => "resume",
    }
}

fn firmware(rollout: &Rollout) -> String {
    format!("{} {}", rollout.name, rollout.version)
}

fn command(control: &Control, action: &str, id: &str) -> String {
    control.command_with_options(&format!("rollout {action}"), &typed(id))
}

/// Why a device is stuck, as `why` tells it; none: nothing is to be done for it in this rollout.
fn stuck(kind: CauseKind) -> Option<DeviceStuck> {
    Some(match kind {
        CauseKind::NotStarted => DeviceStuck::NotStarted,
        CauseKind::RolloutPaused => DeviceStuck::Paused,
        CauseKind::WaveWaits | CauseKind::NextTurn | CauseKind::NotDone => DeviceStuck::InTurn,
        CauseKind::NotConnected | CauseKind::NeverConnected => DeviceStuck::Absent,
        CauseKind::NotSubscribed | CauseKind::SubscribedWithQos0 => DeviceStuck::NotSubscribed,
        CauseKind::MessageNotAcknowledged | CauseKind::NoAnswer => DeviceStuck::NoAnswer,
        CauseKind::Silent => DeviceStuck::Silent,
        CauseKind::DeviceFailed | CauseKind::TooManyCommands | CauseKind::TimedOut => {
            DeviceStuck::Failed
        }
        CauseKind::RolloutEnded
        | CauseKind::HasVersion
        | CauseKind::WrongType
        | CauseKind::Disabled
        | CauseKind::Deleted
        | CauseKind::Cancelled => return None,
    })
}
