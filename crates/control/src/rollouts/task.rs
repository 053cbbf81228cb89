//! Advances rollouts, as long as the node runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use martlet_registry::rollout::RolloutState;
use martlet_registry::{AdvancedRollout, Rollout};
use tracing::{info, warn};

use super::RolloutCounts;
use super::Rollouts;
use crate::alarms::Alarms;
use crate::control::Control;
use crate::shared_registry::SharedRegistryError;
use crate::wall_clock::now_signed_ms;

/// Interval at which rollouts are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two looks for devices that are silent or have changed without an answer.
const TICKS_TO_LOOK: u64 = 5;
/// Transactions for one rollout in one tick, at most: others write to the tables too.
const AT_ONCE: usize = 20;
/// Name of the warning that rollouts are paused by their gates.
const WARNING: &str = "rollouts_paused";

/// Advances rollouts. Those that their gates have paused are alarms.
pub async fn keep(control: Arc<Control>, rollouts: Arc<Rollouts>, alarms: Arc<Alarms>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut tick, mut seen) = (0u64, LastLook::default());
    loop {
        let looks = tokio::select! {
            _ = ticks.tick() => {
                tick += 1;
                tick.is_multiple_of(TICKS_TO_LOOK) || tick == 1
            }
            () = rollouts.changed.notified() => false,
        };
        if !rollouts.tables.are_there() {
            continue;
        }
        let advanced = rollouts.advance(&control, &alarms, looks, &mut seen);
        if let Err(error) = advanced.await {
            warn!(%error, "cannot advance rollouts; retrying");
        }
    }
}

impl Rollouts {
    async fn advance(
        &self,
        control: &Control,
        alarms: &Alarms,
        looks: bool,
        last: &mut LastLook,
    ) -> Result<(), SharedRegistryError> {
        let now_ms = now_signed_ms();
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.rollouts_to_advance(looks, now_ms).await })
        });
        let mut counts = RolloutCounts::default();
        let (mut paused, mut others, mut unknown) = (Vec::new(), Vec::new(), BTreeSet::new());
        let numbers = read.await?;
        if looks {
            // Those that have ended are among the numbers only now.
            last.looked.retain(|number, _| numbers.contains(number));
        }
        for number in numbers {
            // A look that has not come to its end goes on in each tick.
            let look_after = last.looked.remove(&number).or(looks.then_some(0));
            let (rollout, looked_until) = self.advance_one(number, look_after).await?;
            last.looked
                .extend(looked_until.map(|until| (number, until)));
            let Some(rollout) = rollout else {
                // There is more to do than fits into a tick: it is reported in the next one.
                unknown.insert(number);
                continue;
            };
            match rollout.machine.state {
                RolloutState::Paused(_) if rollout.machine.state.reason() != "by_hand" => {
                    counts.paused_by_gate += 1;
                    paused.push(rollout);
                    continue;
                }
                RolloutState::Running => counts.running += 1,
                RolloutState::Paused(_) => counts.paused_by_hand += 1,
                _ => {}
            }
            others.push(rollout);
        }
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts;
        raise_alarms(control, alarms, &paused, &others, &unknown, last);
        warn_of(control, &paused);
        Ok(())
    }

    /// Returns the rollout, if nothing more is to be done for it now, and the last device that was
    /// looked at, if there are more.
    async fn advance_one(
        &self,
        number: i64,
        look_after: Option<i64>,
    ) -> Result<(Option<Rollout>, Option<i64>), SharedRegistryError> {
        let (mut look_after, mut looked_until) = (look_after, None);
        for _ in 0..AT_ONCE {
            let advanced = self.tables.note(move |registry| {
                Box::pin(async move { registry.advance_rollout(number, look_after).await })
            });
            let Some(advanced) = advanced.await? else {
                return Ok((None, None));
            };
            if advanced.has_commands {
                self.commands.look();
            }
            log(&advanced);
            looked_until = looked_until.or(advanced.looked_until);
            look_after = None;
            if !advanced.has_more {
                return Ok((Some(advanced.rollout), looked_until));
            }
        }
        // The rest comes in the next tick.
        self.changed.notify_one();
        Ok((None, looked_until))
    }
}

/// One line for each change of a rollout.
fn log(advanced: &AdvancedRollout) {
    let (rollout, machine) = (&advanced.rollout, &advanced.rollout.machine);
    if !advanced.is_changed {
        return;
    }
    let (state, reason) = (machine.state.word(), machine.state.reason());
    let (id, firmware, version) = (&rollout.id, &rollout.name, &rollout.version);
    let wave = machine.wave + 1;
    match machine.state {
        RolloutState::Paused(_) | RolloutState::Failed => warn!(
            rollout = id,
            firmware, version, wave, state, reason, "rollout paused or failed"
        ),
        _ => info!(
            rollout = id,
            firmware, version, wave, state, "rollout changed"
        ),
    }
}

/// State of rollouts that was seen before.
#[derive(Default)]
struct LastLook {
    /// Rollouts that were reported as paused.
    alarmed: Paused,
    /// Alarms of earlier runs are about rollouts that are paused.
    are_alarms_known: bool,
    /// The device up to which those with many devices were looked at.
    looked: BTreeMap<i64, i64>,
}

/// Rollouts that their gates have paused: number, then tenant and id.
type Paused = BTreeMap<i64, (u32, String)>;

/// Raises an alarm for each rollout that its gate has paused, and clears those of others. After a
/// restart the alarms are known already, and what is seen of them again changes nothing.
fn raise_alarms(
    control: &Control,
    alarms: &Alarms,
    paused: &[Rollout],
    others: &[Rollout],
    unknown: &BTreeSet<i64>,
    LastLook {
        alarmed,
        are_alarms_known,
        ..
    }: &mut LastLook,
) {
    let tenant_of = |rollout: &Rollout| match rollout.team.is_empty() {
        true => 0,
        false => control.tenant_of_team(&rollout.team).unwrap_or_default().0,
    };
    for rollout in others {
        alarms.note_rollout(tenant_of(rollout), &rollout.id, None);
        alarmed.remove(&rollout.number);
    }
    for rollout in paused {
        let tenant = tenant_of(rollout);
        let message = format!("The rollout {} is paused by its gate", described(rollout));
        alarms.note_rollout(tenant, &rollout.id, Some(message));
        alarmed.insert(rollout.number, (tenant, rollout.id.clone()));
    }
    if !*are_alarms_known && unknown.is_empty() {
        // A rollout may have ended before a crash, and its alarm not.
        *are_alarms_known = alarms.end_other_rollouts(|tenant, id| {
            let mut all = paused.iter();
            all.any(|rollout| rollout.id == id && tenant_of(rollout) == tenant)
        });
    }
    // What has ended is not looked at any more.
    let is_open =
        |number: &i64| unknown.contains(number) || paused.iter().any(|one| one.number == *number);
    alarmed.retain(|number, (tenant, id)| {
        let is_open = is_open(number);
        if !is_open {
            alarms.note_rollout(*tenant, id, None);
        }
        is_open
    });
}

/// Health shows which rollouts their gates have paused, until they continue.
fn warn_of(control: &Control, paused: &[Rollout]) {
    if paused.is_empty() {
        return control.health.withdraw(WARNING);
    }
    let named: Vec<String> = paused.iter().take(3).map(described).collect();
    let more = match paused.len() {
        0..=3 => String::new(),
        count => format!(" and {} more", count - 3),
    };
    let text = format!(
        "Rollouts are paused by their gates: {}{more}. martlet rollout devices ID --state failed \
         (or silent) shows why, martlet rollout resume ID continues.",
        named.join(", ")
    );
    control.health.warn_as(WARNING, text);
}

fn described(rollout: &Rollout) -> String {
    format!(
        "{} ({} {}, {})",
        rollout.id,
        rollout.name,
        rollout.version,
        rollout.machine.state.reason()
    )
}
