//! Applies states of commands to the devices of a rollout, in the transaction in which the commands
//! change.

use std::collections::HashMap;

use sqlx::Row as _;

use super::row::read_progress;
use super::row::{KIND, ROWS};
use crate::commands::{Command, CommandState};
use crate::database::Work;
use crate::rollout::{Device, DeviceEvent, DeviceReason};
use crate::sql::{Fault, clean};

/// Word in the result of an answer by which a device reports that it installs the firmware.
const INSTALLING: &str = "install";

/// A row of a device of a rollout that has changed.
pub(super) struct Changed {
    pub(super) rollout: i64,
    pub(super) number: i64,
    pub(super) device: Device,
}

/// Applies what has become of commands to the devices of rollouts. Commands of other kinds are
/// passed over.
pub(crate) async fn follow(work: &mut Work<'_>, commands: &[Command]) -> Result<(), Fault> {
    let commands = commands.iter().filter(|command| command.kind == KIND);
    let by_number: HashMap<i64, &Command> =
        commands.map(|command| (command.number, command)).collect();
    if by_number.is_empty() {
        return Ok(());
    }
    let mut sql = work.sql(
        "SELECT rollout, device, command, state, reason, detail, progress, since_ms, heard_ms \
         FROM rollout_devices WHERE command <> 0 AND command IN ",
    );
    sql.list(by_number.keys().copied());
    let (rows, place) = (sql.all(&mut work.all).await?, work.place().to_owned());
    let (mut changed, now_ms) = (Vec::new(), work.now_ms);
    for row in &rows {
        let number: i64 = row.try_get("command")?;
        let event = by_number.get(&number).and_then(|command| event_of(command));
        let mut device = read_progress(row, &place)?;
        if event.is_some_and(|event| device.apply(&event, now_ms)) {
            changed.push(Changed {
                rollout: row.try_get("rollout")?,
                number: row.try_get("device")?,
                device,
            });
        }
    }
    write_devices(work, &changed).await
}

/// The event of a command's state for its device; none: nothing new.
pub(super) fn event_of(command: &Command) -> Option<DeviceEvent> {
    Some(match command.state {
        CommandState::Pending | CommandState::Sent => return None,
        CommandState::Delivered => DeviceEvent::Delivered,
        CommandState::Acknowledged => {
            let result_text = command.result.to_ascii_lowercase();
            let is_loaded = command.progress == Some(100);
            if result_text.contains(INSTALLING) || is_loaded {
                DeviceEvent::Installing(command.progress)
            } else if command.progress.is_some() || result_text.contains("download") {
                DeviceEvent::Downloading(command.progress)
            } else {
                DeviceEvent::Delivered
            }
        }
        CommandState::Succeeded => DeviceEvent::Succeeded,
        CommandState::Failed => {
            DeviceEvent::Failed(DeviceReason::DeviceSaid, command.result.clone())
        }
        CommandState::Expired => DeviceEvent::Silence,
        CommandState::Cancelled => DeviceEvent::Skipped(DeviceReason::Cancelled),
    })
}

/// Writes what an event may have changed of devices.
pub(super) async fn write_devices(work: &mut Work<'_>, changed: &[Changed]) -> Result<(), Fault> {
    for some in changed.chunks(ROWS) {
        let mut sql = work.sql(
            "WITH v (rollout, device, state, reason, detail, progress, since_ms, heard_ms) AS \
             (VALUES ",
        );
        for (at, one) in some.iter().enumerate() {
            let device = &one.device;
            sql.push(if at == 0 { "(" } else { ", (" });
            sql.bind(one.rollout).push(", ").bind(one.number);
            sql.push(", ").bind(device.state.word());
            sql.push(", ").bind(device.reason.word());
            sql.push(", ").bind(clean(&device.detail));
            sql.push(", ").bind(device.progress.map_or(-1, i64::from));
            sql.push(", ").bind(device.since_ms);
            sql.push(", ").bind(device.heard_ms).push(")");
        }
        sql.push(
            ") UPDATE rollout_devices SET state = v.state, reason = v.reason, detail = v.detail, \
             progress = v.progress, since_ms = v.since_ms, heard_ms = v.heard_ms FROM v WHERE \
             rollout_devices.rollout = v.rollout AND rollout_devices.device = v.device",
        );
        sql.execute(&mut work.all).await?;
    }
    Ok(())
}
