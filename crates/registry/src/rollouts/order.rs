//! Orders of operators to rollouts.

use serde_json::json;

use super::advance::{carry_out, close};
use super::create::check_alone;
use super::row::{Rollout, read_counts, write_rollout};
use super::{count_of, find};
use crate::database::Work;
use crate::rollout::{DeviceState, NotPermitted, RolloutEffect};
use crate::sql::{Fault, Sql};
use crate::{Actor, Conflict, Registry, RegistryError};

/// Order of an operator to a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutOrder {
    /// No further device is offered the firmware.
    Pause,
    /// A planned one starts; a paused one goes on.
    Resume,
    /// The rollout ends. Devices that have begun go on.
    Abort,
    /// Devices that failed or are silent are offered the firmware again.
    Retry,
}

impl RolloutOrder {
    /// Returns the order's word, as the API and the audit log have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Retry => "retry",
        }
    }
}

impl Registry {
    /// Does something with a rollout.
    ///
    /// # Errors
    /// There is none, or its state does not permit it.
    pub async fn order_rollout(
        &mut self,
        actor: &Actor,
        id: &str,
        order: RolloutOrder,
    ) -> Result<Rollout, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = apply(&mut work, id, order).await;
        work.end(done).await
    }
}

async fn apply(work: &mut Work<'_>, id: &str, order: RolloutOrder) -> Result<Rollout, Fault> {
    let (engine, visibility) = (work.engine, work.actor.visibility.clone());
    let (place, now_ms) = (work.place().to_owned(), work.now_ms);
    let mut rollout = find(&mut work.all, engine, &place, &visibility, id).await?;
    rollout.counts = read_counts(&mut work.all, engine, &place, rollout.number).await?;
    let refused = |error: NotPermitted| refused(id, order, error);
    match order {
        RolloutOrder::Pause => rollout.machine.pause().map_err(refused)?,
        RolloutOrder::Resume => {
            let counts = rollout.wave_counts();
            let plan = rollout.plan.clone();
            let resumed = rollout.machine.resume(&plan, &counts, now_ms);
            resumed.map_err(refused)?;
            if rollout.started_ms == 0 {
                rollout.started_ms = now_ms;
            }
        }
        RolloutOrder::Abort => {
            let effects = rollout.machine.abort().map_err(refused)?;
            if effects.contains(&RolloutEffect::Close) {
                close(work, &rollout).await?;
            }
            rollout.finished_ms = now_ms;
        }
        RolloutOrder::Retry => retry(work, &mut rollout, refused).await?,
    }
    if matches!(order, RolloutOrder::Resume | RolloutOrder::Retry) {
        check_alone(work, &rollout).await?;
    }
    write_rollout(work, &rollout).await?;
    // What is due now is done in the same transaction, as far as it is not too much.
    carry_out(work, &mut rollout).await?;
    rollout.counts = read_counts(&mut work.all, engine, &place, rollout.number).await?;
    let action = format!("rollout.{}", order.word());
    let changed = json!({ "state": rollout.machine.state.word() });
    let team = rollout.team.clone();
    work.audit(&action, ("rollout", &rollout.id), &team, changed)
        .await?;
    Ok(rollout)
}

async fn retry(
    work: &mut Work<'_>,
    rollout: &mut Rollout,
    refused: impl Fn(NotPermitted) -> RegistryError,
) -> Result<(), Fault> {
    let (engine, now_ms) = (work.engine, work.now_ms);
    let again = [DeviceState::Failed, DeviceState::Silent];
    let plan = rollout.plan.clone();
    rollout.machine.retry(&plan, now_ms).map_err(refused)?;
    if count_of(&mut work.all, engine, rollout.number, &again).await? == 0 {
        return Err(Conflict::NothingToRetry(rollout.id.clone()).into());
    }
    rollout.finished_ms = 0;
    // The command of a silent device may still be under way: the next one takes its place.
    let mut sql = work.sql("UPDATE commands SET state = 'cancelled', due = 0, finished_ms = ");
    sql.bind(now_ms)
        .push(", result = 'the rollout offers it again' WHERE finished_ms = 0");
    sql.push(" AND number IN (SELECT command FROM rollout_devices WHERE rollout = ");
    sql.bind(rollout.number).push(" AND state IN ");
    sql.list(again.iter().map(|state| state.word())).push(")");
    sql.execute(&mut work.all).await?;
    // As `DeviceEvent::Retried` has it.
    let mut sql = Sql::new(
        engine,
        "UPDATE rollout_devices SET state = 'waiting', reason = '', detail = '', progress = -1, \
         command = 0, heard_ms = 0, since_ms = ",
    );
    sql.bind(now_ms).push(", wave = ");
    sql.bind(rollout.machine.wave as i64);
    sql.push(" WHERE rollout = ").bind(rollout.number);
    sql.push(" AND state IN ");
    sql.list(again.iter().map(|state| state.word()));
    sql.execute(&mut work.all).await?;
    Ok(())
}

fn refused(id: &str, order: RolloutOrder, error: NotPermitted) -> RegistryError {
    let hint = match order {
        RolloutOrder::Pause => "only a running rollout can be paused",
        RolloutOrder::Resume => "only a planned or paused rollout can be resumed",
        RolloutOrder::Abort => "it has ended already",
        RolloutOrder::Retry => "only a rollout that was started and not aborted can be retried",
    };
    let refused = Conflict::OrderOfRollout {
        rollout: id.to_owned(),
        state: error.state,
        order: order.word(),
        hint,
    };
    refused.into()
}
