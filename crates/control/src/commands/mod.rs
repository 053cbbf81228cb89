//! Commands to devices: what callers do with them, and the task that brings them to the devices.
//!
//! A command is a row in the tables. A part of the node with a durable session publishes it, and
//! its receipts show how far the message came. So after a crash a command is published again with
//! the same id, not lost.
//!
//! * `message`: topics and payloads, and what devices answer
//! * `task`: publishes commands and takes answers
//! * `posts`: parts that publish to devices, and messages whose receipts are due
//! * `fleet`: the states of commands to groups and filters, as messages
//! * `why`: what `why` reports of a device, or a command

mod fleet;
mod message;
pub(crate) mod posts;
mod task;
mod why;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use martlet_broker::{Published, TenantId};
use martlet_codec::ReasonCode;
use martlet_registry::{Actor, CommandsKept, Group, Page, PageRequest, Visibility};
pub use martlet_registry::{
    Command, CommandAnswer, CommandFilter, CommandKey, CommandOutcome, CommandState, CommandStep,
    CommandUpdate, FleetCommand, FleetReport, FleetTarget, NewCommand, new_command_id,
};
use tokio::sync::Notify;

use crate::control::Control;
use crate::control::ControlError;
use crate::devices::DeviceName;
use crate::iotflow::Catalogue;
use crate::misread::LastMisread;
use crate::shared_registry::{SharedRegistry, SharedRegistryError};
use crate::wall_clock::{now_ms, now_signed_ms};
use message::fleet_message;
pub use message::{fleet_topic, topic_of};
pub(crate) use task::PART;
pub use task::keep;

/// How much is kept of commands that have ended: 30 days, and 100,000 of them.
const KEPT: CommandsKept = CommandsKept {
    commands: 100_000,
    age_ms: 30 * 24 * 60 * 60 * 1000,
};

/// Fleets whose states are published once more when commands expire, at most.
const FLEETS_MAX: usize = 1_000;

/// The commands of a node. Each call is one use case: it is done as a whole or not at all.
#[derive(Debug)]
pub struct Commands {
    tables: Arc<SharedRegistry>,
    catalogue: Arc<Catalogue>,
    /// There is something to publish.
    changed: Notify,
    fleets: Mutex<Fleets>,
    /// Answers of devices that name no command.
    misread: LastMisread,
}

/// Several devices with the same command, whose states are published in sum.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Fleet {
    /// A group, by its id.
    Group(String),
    /// The devices of a command that was sent to a filter, by the id of the command.
    Filter(String),
}

impl Fleet {
    /// The fleet of a command; none: it was sent to one device.
    fn of(command: &Command) -> Option<Self> {
        match (&*command.fleet_group, &*command.fleet) {
            ("", "") => None,
            ("", id) => Some(Self::Filter(id.to_owned())),
            (group, _) => Some(Self::Group(group.to_owned())),
        }
    }
}

/// Fleets with commands.
#[derive(Debug, Default)]
struct Fleets {
    /// Fleets whose devices' states have changed.
    changed: HashSet<Fleet>,
    /// Fleets whose states were published in this run.
    published: HashSet<Fleet>,
}

impl Commands {
    /// Commands of these tables. Topics of devices of the type `iotflow` are those of the
    /// catalogue.
    pub fn new(tables: Arc<SharedRegistry>, catalogue: Arc<Catalogue>) -> Self {
        Self {
            tables,
            catalogue,
            changed: Notify::new(),
            fleets: Mutex::default(),
            misread: LastMisread::default(),
        }
    }

    /// There may be commands to publish that were added elsewhere in the tables.
    pub(crate) fn look(&self) {
        self.changed.notify_one();
    }

    /// The topic of a command.
    pub fn topic_of(&self, command: &Command) -> String {
        topic_of(&self.catalogue, command)
    }

    /// The topic of commands of this kind to a device, by its id and type.
    pub(crate) fn topic_of_kind(&self, device: &str, device_type: &str, kind: &str) -> String {
        message::topic_of_kind(&self.catalogue, device, device_type, kind)
    }

    /// Adds a command to a device, and begins to publish it.
    ///
    /// # Errors
    /// See [`Registry::add_command`](martlet_registry::Registry::add_command).
    pub async fn add(
        &self,
        actor: Actor,
        device: DeviceName,
        new: NewCommand,
    ) -> Result<Command, SharedRegistryError> {
        let added = self.tables.note(move |registry| {
            Box::pin(async move { registry.add_command(&actor, device.of(), new).await })
        });
        let added = added.await?;
        self.changed.notify_one();
        Ok(added)
    }

    /// Adds a command for each active device of a group or filter, and begins to publish them.
    ///
    /// # Errors
    /// See [`Registry::add_fleet_command`](martlet_registry::Registry::add_fleet_command).
    pub async fn add_to_many(
        &self,
        actor: Actor,
        target: FleetTarget,
        new: NewCommand,
    ) -> Result<FleetCommand, SharedRegistryError> {
        let added = self.tables.note(move |registry| {
            Box::pin(async move { registry.add_fleet_command(&actor, target, new).await })
        });
        let added = added.await?;
        self.fleet_has_changed(match &added.group {
            Some(group) => Fleet::Group(group.id.clone()),
            None => Fleet::Filter(added.id.clone()),
        });
        self.changed.notify_one();
        Ok(added)
    }

    /// Commands that were sent to filters, with their states in sum, the newest one first.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub async fn of_filters(
        &self,
        visibility: Visibility,
        id: Option<String>,
        limit: u32,
    ) -> Result<Vec<FleetReport>, SharedRegistryError> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                registry
                    .filter_reports(&visibility, id.as_deref(), limit)
                    .await
            })
        });
        read.await
    }

    /// The commands of the devices that a command to several devices is for. `group`: the group
    /// that it was sent to; none: it was sent to a filter.
    ///
    /// # Errors
    /// There is no such group or command, or the tables cannot be read.
    pub async fn of_fleet(
        &self,
        visibility: Visibility,
        group: Option<String>,
        id: String,
        filter: CommandFilter,
        page: PageRequest,
    ) -> Result<Page<Command>, SharedRegistryError> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                registry
                    .fleet_commands(&visibility, group.as_deref(), &id, &filter, &page)
                    .await
            })
        });
        read.await
    }

    /// Publishes a command on the topic of its fleet, for clients that have no commands of their
    /// own. Devices of the group have the same command with the same id.
    ///
    /// # Errors
    /// The topic cannot be, or the message is not published.
    pub async fn publish_to_fleet(
        &self,
        control: &Control,
        caller: &str,
        tenant: TenantId,
        group: &str,
        id: &str,
        new: &NewCommand,
    ) -> Result<Published, ControlError> {
        let message = fleet_message(&self.catalogue, group, id, new, now_ms());
        let published = control.publish(caller, tenant, vec![message]).await?;
        let published = published.into_iter().next();
        published.ok_or(ControlError::Refused(ReasonCode::UnspecifiedError))
    }

    /// Commands that were sent to a group, with their states in sum, the newest one first.
    ///
    /// # Errors
    /// There is no such group, or the tables cannot be read.
    pub async fn of_group(
        &self,
        visibility: Visibility,
        group: String,
        id: Option<String>,
        limit: u32,
    ) -> Result<(Group, Vec<FleetReport>), SharedRegistryError> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                let id = id.as_deref();
                registry.fleet_reports(&visibility, &group, id, limit).await
            })
        });
        read.await
    }

    /// Commands of a device, the newest one first.
    ///
    /// # Errors
    /// There is no such device, or the tables cannot be read.
    pub async fn list(
        &self,
        visibility: Visibility,
        device: DeviceName,
        filter: CommandFilter,
        page: PageRequest,
    ) -> Result<Page<Command>, SharedRegistryError> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                let device = device.of();
                registry.commands(&visibility, device, &filter, &page).await
            })
        });
        read.await
    }

    /// A command of a device.
    ///
    /// # Errors
    /// There is no such device or command, or the tables cannot be read.
    pub async fn show(
        &self,
        visibility: Visibility,
        device: DeviceName,
        id: String,
    ) -> Result<Command, SharedRegistryError> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.command(&visibility, device.of(), &id).await })
        });
        read.await
    }

    /// A command of a device, by its number.
    ///
    /// # Errors
    /// There is no such device or command, or the tables cannot be read.
    pub async fn show_number(
        &self,
        visibility: Visibility,
        device: DeviceName,
        number: i64,
    ) -> Result<Command, SharedRegistryError> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                let device = device.of();
                registry
                    .command_of_number(&visibility, device, number)
                    .await
            })
        });
        read.await
    }

    /// Cancels a command.
    ///
    /// # Errors
    /// There is no such device or command, it has ended, or the tables cannot be changed.
    pub async fn cancel(
        &self,
        actor: Actor,
        device: DeviceName,
        id: String,
    ) -> Result<Command, SharedRegistryError> {
        let cancelled = self.tables.note(move |registry| {
            Box::pin(async move { registry.cancel_command(&actor, device.of(), &id).await })
        });
        let cancelled = cancelled.await?;
        self.command_has_changed(&cancelled);
        Ok(cancelled)
    }

    /// Has a command published once more.
    ///
    /// # Errors
    /// There is no such device or command, its state permits no retry, or the tables cannot be
    /// changed.
    pub async fn retry(
        &self,
        actor: Actor,
        device: DeviceName,
        id: String,
    ) -> Result<Command, SharedRegistryError> {
        let retried = self.tables.note(move |registry| {
            Box::pin(async move { registry.retry_command(&actor, device.of(), &id).await })
        });
        let retried = retried.await?;
        self.command_has_changed(&retried);
        self.changed.notify_one();
        Ok(retried)
    }

    /// Takes the answer of a device to a command, or an answer in its place. Returns the command if
    /// that changed it.
    ///
    /// # Errors
    /// The tables cannot be changed.
    pub async fn answer(
        &self,
        command: CommandKey,
        answer: CommandAnswer,
    ) -> Result<Option<Command>, SharedRegistryError> {
        let update = CommandUpdate {
            command,
            step: CommandStep::Answered(answer),
            at_ms: now_signed_ms(),
        };
        let updated = self.tables.note(move |registry| {
            Box::pin(async move { registry.update_commands(&[update]).await })
        });
        let updated = updated.await?.into_iter().next();
        if let Some(command) = &updated {
            self.command_has_changed(command);
        }
        Ok(updated)
    }

    /// A command has another state than before.
    fn command_has_changed(&self, command: &Command) {
        if let Some(fleet) = Fleet::of(command) {
            self.fleet_has_changed(fleet);
        }
    }

    /// States of the commands to a fleet are to be published.
    fn fleet_has_changed(&self, fleet: Fleet) {
        self.fleets().changed.insert(fleet);
    }

    /// Notes a change of all fleets whose states were published.
    fn all_fleets_have_changed(&self) {
        let mut fleets = self.fleets();
        let published = fleets.published.clone();
        fleets.changed.extend(published);
    }

    fn take_changed_fleets(&self) -> HashSet<Fleet> {
        let mut fleets = self.fleets();
        let changed = std::mem::take(&mut fleets.changed);
        if fleets.published.len() < FLEETS_MAX {
            fleets.published.extend(changed.iter().cloned());
        }
        changed
    }

    /// All devices of a fleet are done: no command of it expires any more.
    fn fleet_is_done(&self, fleet: &Fleet) {
        self.fleets().published.remove(fleet);
    }

    fn fleets(&self) -> MutexGuard<'_, Fleets> {
        self.fleets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
