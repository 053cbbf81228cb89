//! Alarms of the node: their states, kept in the tables; the reports of changes; and what the node
//! watches itself.
//!
//! * `keeping`: the task that keeps them
//! * `kept`: what alarms that are not raised wait for, over a restart
//! * `metrics`: metrics of alarms
//! * `names`: names of alarms of the node itself
//! * `pending`: what is to be written and published
//! * `notifications`: outcomes of notifications
//! * `row`: an alarm as the tables have it
//! * `report`: messages and events about changes
//! * `watch`: certificates, integrations and the storage of telemetry

mod keeping;
mod kept;
mod metrics;
mod notifications;
mod pending;
mod report;
mod row;
mod watch;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use martlet_broker::TenantId;
use martlet_registry::{Page, PageRequest};
use martlet_rules::{
    AlarmChange, AlarmInput, AlarmKey, AlarmMachine, InhibitedAlarm, MessageRules, WaitingAlarm,
};
use tracing::warn;

use crate::control::Control;
use crate::event_outbox::EventOutbox;
use crate::integrations::Integrations;
use crate::iotflow::Catalogue;
use crate::shared_registry::{SharedRegistry, SharedRegistryError};
use crate::wall_clock::{ClockWatch, now_signed_ms};
use notifications::Notifications;
use pending::{Pending, UnwrittenRows};

pub use martlet_registry::{AlarmFilter, AlarmRow, AlarmsKept};
pub use martlet_rules::{AlarmError, AlarmState, Severity};

/// Longest time for which an alarm is shelved: 30 days.
pub const SHELVED_MAX_SECS: u32 = 30 * 24 * 60 * 60;

/// How alarms are kept.
#[derive(Clone, Debug)]
pub struct AlarmSettings {
    /// Name of the node among those with the same tables.
    pub node: String,
    /// How long and how many are kept once they are cleared.
    pub kept: AlarmsKept,
    /// The node watches devices, certificates, integrations and telemetry.
    pub watches_node: bool,
    /// Time for which an integration does not deliver before that is an alarm, milliseconds.
    pub trouble_ms: i64,
    /// Age of a message that waits for an integration from which on that is an alarm, milliseconds.
    pub lag_ms: u64,
    /// Topics of the node.
    pub catalogue: Arc<Catalogue>,
}

/// Order of an operator about an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmOrder {
    /// Take care of it.
    Acknowledge,
    /// Silence it for this number of seconds.
    Shelve(u32),
    /// End the silence.
    Unshelve,
    /// End it.
    Clear,
}

/// The alarms of a node that runs.
pub struct Alarms {
    control: Arc<Control>,
    tables: Arc<SharedRegistry>,
    integrations: Arc<Integrations>,
    settings: AlarmSettings,
    machine: Mutex<AlarmMachine>,
    /// Locked while `machine` is.
    clock: Mutex<ClockWatch>,
    /// Rows and messages that are to be written and published.
    pending: Mutex<Pending>,
    /// Locked while the tables are written. What one writer has taken must not be written after
    /// what a later one has.
    unwritten: tokio::sync::Mutex<UnwrittenRows>,
    /// Names that rules have; none before they were read.
    names: Mutex<Option<HashSet<(u32, String)>>>,
    is_restored: AtomicBool,
    notifications: Notifications,
    /// Publishes what is in it, also what others have written there.
    outbox: Arc<EventOutbox>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Alarms {
    /// The alarms of these tables.
    pub fn new(
        control: &Arc<Control>,
        tables: &Arc<SharedRegistry>,
        integrations: &Arc<Integrations>,
        settings: AlarmSettings,
    ) -> Self {
        let share = control.info.limits.team_share();
        Self {
            control: Arc::clone(control),
            tables: Arc::clone(tables),
            integrations: Arc::clone(integrations),
            settings,
            machine: Mutex::new(AlarmMachine::new(share)),
            clock: Mutex::new(ClockWatch::new()),
            pending: Mutex::default(),
            unwritten: tokio::sync::Mutex::default(),
            names: Mutex::default(),
            is_restored: AtomicBool::new(false),
            notifications: Notifications::default(),
            outbox: Arc::clone(tables.outbox()),
        }
    }

    /// Takes what was observed in a message. The message may be settled once
    /// [`Self::save_observed`] is done.
    pub(crate) fn observe(&self, input: AlarmInput) {
        let mut machine = self.machine_of_now();
        let change = input.apply(&mut machine);
        if change.is_some() || machine.has_changed_conditions() {
            lock(&self.pending).owe();
        }
        // Before another one may take it for written.
        self.changed(change);
        drop(machine);
    }

    /// Writes what was observed in messages.
    ///
    /// # Errors
    /// The tables cannot be changed.
    pub(crate) async fn save_observed(&self) -> Result<(), SharedRegistryError> {
        let is_owed = lock(&self.pending).is_owed();
        match is_owed {
            true => self.save().await,
            false => Ok(()),
        }
    }

    /// Notes whether what the node itself watches is as it should be.
    pub(crate) fn observe_node(
        &self,
        key: AlarmKey,
        device: Option<String>,
        message: (Severity, String),
        is_bad: bool,
        for_ms: i64,
    ) {
        if self.settings.watches_node {
            let ((severity, message), now_ms) = (message, now_signed_ms());
            let input = AlarmInput::of_node(key, device, severity, message, is_bad, for_ms, now_ms);
            let change = input.apply(&mut self.machine_of_now());
            self.changed(change);
        }
    }

    /// The machine. If the wall clock was set meanwhile, it knows.
    fn machine_of_now(&self) -> MutexGuard<'_, AlarmMachine> {
        let mut machine = lock(&self.machine);
        if let Some(by_ms) = lock(&self.clock).step() {
            machine.clock_was_set(by_ms);
        }
        machine
    }

    fn changed(&self, changes: impl IntoIterator<Item = AlarmChange>) {
        let mut changes = changes.into_iter().peekable();
        if changes.peek().is_none() {
            return;
        }
        let mut pending = lock(&self.pending);
        for change in changes {
            let row = row::of_alarm(&self.settings.node, &change.alarm);
            let dropped = pending.add(row, self.messages(&change));
            self.notifications.dropped(dropped);
            self.notify_readers(&change);
        }
        drop(pending);
        self.outbox.wake.notify_one();
    }

    /// The rules are these from now on: alarms of others are cleared.
    pub(crate) fn set_rules(&self, set: &MessageRules) {
        *lock(&self.names) = Some(set.alarm_names());
        self.clear_others();
    }

    fn clear_others(&self) {
        let names = lock(&self.names);
        let Some(names) = names.as_ref() else { return };
        if !self.is_restored.load(Ordering::Relaxed) {
            return;
        }
        let is_there = |key: &AlarmKey| {
            NAMES.contains(&key.name.as_str()) || names.contains(&(key.tenant, key.name.clone()))
        };
        let changes = lock(&self.machine).retain_rules(is_there, now_signed_ms());
        self.changed(changes);
    }

    /// A page of alarms, the newest one first.
    ///
    /// # Errors
    /// The tables cannot be read, or the cursor is none.
    pub async fn list(
        &self,
        filter: AlarmFilter,
        page: PageRequest,
    ) -> Result<Page<AlarmRow>, SharedRegistryError> {
        // What was changed a moment ago is seen.
        self.save().await?;
        let read = self
            .tables
            .read(move |registry| Box::pin(async move { registry.alarms(&filter, &page).await }));
        read.await
    }

    /// Facts that `why` reports of an alarm of this tenant that is due and that another one
    /// silences; none: there is no such alarm of that name.
    pub(crate) fn inhibited<T>(
        &self,
        tenant: TenantId,
        name: &str,
        describe: impl FnOnce(InhibitedAlarm<'_>) -> T,
    ) -> Option<T> {
        let machine = lock(&self.machine);
        machine.inhibited(tenant.0, name).map(describe)
    }

    /// The alarm of this tenant and name whose condition is, or was, not true for long enough.
    pub(crate) fn waiting(&self, tenant: TenantId, name: &str) -> Option<WaitingAlarm> {
        lock(&self.machine).waiting(tenant.0, name)
    }

    /// The last value of an open alarm of this number; none: it has none, or that is not known.
    pub(crate) fn last_value(&self, id: i64) -> Option<f64> {
        lock(&self.machine).last_value(id)
    }

    /// Why the last change of the alarm of this name could not be published, and when, milliseconds
    /// since the Unix epoch; none: it was published.
    pub(crate) fn unpublished(&self, tenant: TenantId, name: &str) -> Option<(u64, String)> {
        self.notifications.last_failure(tenant, name)
    }

    /// Does something with an alarm of a tenant; none: of any. Returns it as it is then. It is in
    /// the tables, unless they do not answer.
    ///
    /// # Errors
    /// No alarm of this number is open, or its state does not permit the change.
    pub async fn order(
        &self,
        id: i64,
        tenant: Option<TenantId>,
        by: &str,
        order: AlarmOrder,
    ) -> Result<AlarmRow, AlarmError> {
        let change = self.change(id, tenant, by, order)?;
        let row = row::of_alarm(&self.settings.node, &change.alarm);
        self.changed([change]);
        if let Err(error) = self.save().await {
            warn!(%error, "a change of an alarm is written later");
        }
        Ok(row)
    }

    fn change(
        &self,
        id: i64,
        tenant: Option<TenantId>,
        by: &str,
        order: AlarmOrder,
    ) -> Result<AlarmChange, AlarmError> {
        let now_ms = now_signed_ms();
        let mut machine = lock(&self.machine);
        let alarm = machine.get(id);
        let is_own =
            alarm.is_some_and(|alarm| tenant.is_none_or(|tenant| tenant.0 == alarm.key.tenant));
        if !is_own {
            return Err(AlarmError::NotFound(id));
        }
        match order {
            AlarmOrder::Acknowledge => machine.acknowledge(id, by, now_ms),
            AlarmOrder::Shelve(secs) => {
                let secs = secs.min(SHELVED_MAX_SECS);
                machine.shelve(id, now_ms + i64::from(secs) * 1_000, by, now_ms)
            }
            AlarmOrder::Unshelve => machine.unshelve(id, by, now_ms),
            AlarmOrder::Clear => machine.clear(id, by, now_ms),
        }
    }
}

impl std::fmt::Debug for Alarms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alarms").finish_non_exhaustive()
    }
}

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Name of the alarm about a device that is silent for longer than its type permits.
pub(crate) const DEVICE_INACTIVE: &str = "device_inactive";
/// Name of the alarm about an integration that does not deliver.
const INTEGRATION: &str = "integration";
/// Name of the alarm about an integration for which messages wait for long, although it delivers.
const INTEGRATION_LAG: &str = "integration_lag";
/// Name of the alarm about telemetry that cannot be stored.
const TELEMETRY: &str = "telemetry_storage";
/// Name of the alarm about a rollout that its gate has paused.
const ROLLOUT: &str = "rollout_paused";

/// Alarms about certificates: name, days that are left, severity.
const CERTIFICATES: [(&str, i64, Severity); 3] = [
    ("certificate_30_days", 30, Severity::Warning),
    ("certificate_7_days", 7, Severity::Major),
    ("certificate_1_day", 1, Severity::Critical),
];

/// Names of all alarms about the node itself. Rules may have the same; theirs are apart by what
/// they are about.
const NAMES: [&str; 8] = [
    DEVICE_INACTIVE,
    INTEGRATION,
    INTEGRATION_LAG,
    TELEMETRY,
    ROLLOUT,
    CERTIFICATES[0].0,
    CERTIFICATES[1].0,
    CERTIFICATES[2].0,
];
