//! Rollouts of firmware: what callers do with them, and the task that advances them.
//!
//! The rules are those of `martlet-rollout`; the tables keep all of it. So a crash loses nothing
//! of it.
//!
//! * `task`: advances rollouts, and reports when one pauses or ends
//! * `cause`: why a device is stuck
//! * `why`: what `why` reports of a device, or a rollout

mod cause;
mod task;
mod why;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use martlet_broker::TenantId;
use martlet_registry::{Actor, Page, PageRequest, Visibility};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::Notify;

use crate::commands::Commands;
use crate::control::Control;
use crate::shared_registry::{SharedRegistry, SharedRegistryError};
use cause::{Facts, cause_of};

pub use martlet_registry::rollout::{
    DeviceReason, DeviceState, Plan, PlanError, RolloutState, Wave, WaveGate,
};
pub use martlet_registry::{NewRollout, Rollout, RolloutDevice, RolloutOrder, RolloutTarget};

pub use cause::{Cause, CauseKind};
pub use task::keep;

/// The rollouts of a node. Each call is one use case: it is done as a whole or not at all.
#[derive(Debug)]
pub struct Rollouts {
    tables: Arc<SharedRegistry>,
    commands: Arc<Commands>,
    /// There is something to do.
    changed: Notify,
    counts: Mutex<RolloutCounts>,
}

impl Rollouts {
    /// Rollouts of these tables. Their commands are published by the others' task.
    pub fn new(tables: Arc<SharedRegistry>, commands: Arc<Commands>) -> Self {
        Self {
            tables,
            commands,
            changed: Notify::new(),
            counts: Mutex::default(),
        }
    }

    /// How many rollouts are in which state, as of the last look.
    pub fn counts(&self) -> RolloutCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a rollout, and begins it unless it is to be planned only.
    ///
    /// # Errors
    /// See [`Registry::add_rollout`](martlet_registry::Registry::add_rollout).
    pub async fn add(&self, actor: Actor, new: NewRollout) -> Result<Rollout, SharedRegistryError> {
        let added = self
            .tables
            .note(move |registry| Box::pin(async move { registry.add_rollout(&actor, new).await }));
        let added = added.await?;
        self.changed.notify_one();
        Ok(added)
    }

    /// Rollouts, the newest one first. `open`: only those that have not ended.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub async fn list(
        &self,
        visibility: Visibility,
        open: bool,
        page: PageRequest,
    ) -> Result<Page<Rollout>, SharedRegistryError> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.rollouts(&visibility, open, &page).await })
        });
        read.await
    }

    /// A rollout.
    ///
    /// # Errors
    /// There is none, or the tables cannot be read.
    pub async fn show(
        &self,
        visibility: Visibility,
        id: String,
    ) -> Result<Rollout, SharedRegistryError> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.rollout(&visibility, &id).await })
        });
        read.await
    }

    /// Pauses, resumes, aborts or retries a rollout.
    ///
    /// # Errors
    /// There is none, its state does not permit it, or the tables cannot be changed.
    pub async fn order(
        &self,
        actor: Actor,
        id: String,
        order: RolloutOrder,
    ) -> Result<Rollout, SharedRegistryError> {
        let done = self.tables.note(move |registry| {
            Box::pin(async move { registry.order_rollout(&actor, &id, order).await })
        });
        let done = done.await?;
        self.changed.notify_one();
        self.commands.look();
        Ok(done)
    }

    /// Devices of a rollout, by wave, each with why it is stuck, if it is.
    ///
    /// # Errors
    /// There is no such rollout, or the tables cannot be read.
    pub async fn devices(
        &self,
        control: &Control,
        visibility: Visibility,
        id: String,
        state: Option<DeviceState>,
        page: PageRequest,
    ) -> Result<Page<(RolloutDevice, Option<Cause>)>, SharedRegistryError> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                registry
                    .rollout_devices(&visibility, &id, state, &page)
                    .await
            })
        });
        let (rollout, page) = read.await?;
        let with_cause = |device: RolloutDevice| {
            let presence = control.presence(TenantId(device.tenant), &device.id);
            let topic = self.topic_of(&device);
            let cause = cause_of(&Facts {
                rollout: &rollout,
                device: &device,
                connected: presence
                    .as_ref()
                    .map(|found| (found.online, found.since_ms)),
                topic: &topic,
            });
            (device, cause)
        };
        Ok(Page {
            items: page.items.into_iter().map(with_cause).collect(),
            next: page.next,
            total: page.total,
        })
    }

    fn topic_of(&self, device: &RolloutDevice) -> String {
        self.commands
            .topic_of_kind(&device.id, &device.device_type, "firmware")
    }
}

/// How many rollouts are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RolloutCounts {
    /// They run.
    pub running: u64,
    /// Somebody has paused them.
    pub paused_by_hand: u64,
    /// Their gates have paused them.
    pub paused_by_gate: u64,
}

impl Collector for RolloutCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Rollouts that have been started and have not ended";
        let kind = MetricType::Gauge;
        let mut family = encoder.encode_descriptor("rollouts", help, None, kind)?;
        for (state, count) in [
            ("running", self.running),
            ("paused_by_hand", self.paused_by_hand),
            ("paused_by_gate", self.paused_by_gate),
        ] {
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&[("state", state)])?)?;
        }
        Ok(())
    }
}
