//! When devices sent something: noted in the tables, in batches. Devices that have sent nothing for
//! longer than their type permits become inactive, which is an event.
//!
//! Shards list the devices that publish, each once in some seconds. Heartbeats and telemetry have
//! to be known at once: the parts that take them note each message ([`DeviceActivity::note`]).
//!
//! * `waiting`: what is yet to be written
//! * `why`: what `martlet why` reports of inactive devices

mod waiting;
mod why;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use martlet_broker::{Answer, Command, TenantId};
use martlet_registry::{
    DeviceFilter, InactivityCheck, Registry, SilentDevice, TableChange, Visibility,
};
use tracing::{debug, warn};

use crate::control::{Control, ControlError};
use crate::event_outbox::notice_of;
use crate::shared_registry::{SharedRegistry, SharedRegistryError};
use crate::wall_clock::{ClockWatch, now_signed_ms};
use waiting::UnwrittenActivity;
pub(crate) use why::Inactivity;

/// Time between two writes.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Time between two looks for inactive devices.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How far a note may be behind what a device does: the round in which a shard lists a device once,
/// and the time until the shard is asked.
const BEHIND_MS: i64 = 10_000;
/// Devices of one transaction. Other writers of the tables wait for its end.
const ROWS: usize = 500;
/// Transactions at a time: the tables are others' too.
const TIMES: usize = 4;

/// Times at which devices sent something, as far as known.
#[derive(Debug)]
pub struct DeviceActivity {
    waiting: Mutex<UnwrittenActivity>,
}

impl DeviceActivity {
    /// The activity of a node that starts now.
    pub fn new() -> Self {
        Self {
            waiting: Mutex::new(UnwrittenActivity::new(now_signed_ms())),
        }
    }

    /// A device has sent telemetry or a heartbeat now, which is written within a second or so.
    pub fn note(&self, tenant: TenantId, id: &str, is_telemetry: bool) {
        let mut waiting = self.waiting();
        waiting.note_at_once(tenant.0, id, is_telemetry, now_signed_ms());
    }

    /// Telemetry of a device is stored that came at this time, milliseconds since the Unix epoch.
    pub fn note_stored(&self, tenant: TenantId, id: &str, at_ms: i64) {
        let mut waiting = self.waiting();
        waiting.note_stored(tenant.0, id, at_ms);
    }

    /// A device, or its Will, says that it is offline, which is written within a second or so.
    pub fn note_offline(&self, tenant: TenantId, id: &str) {
        let mut waiting = self.waiting();
        waiting.note_offline(tenant.0, id, now_signed_ms());
    }

    fn waiting(&self) -> MutexGuard<'_, UnwrittenActivity> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of what is yet to be written, about.
    pub fn memory_bytes(&self) -> usize {
        self.waiting().memory_bytes()
    }

    /// Asks the shards which devices have published.
    async fn ask(&self, control: &Control) -> Result<(), ControlError> {
        let answers = control.ask_all(|request| Command::ActiveDevices { request });
        let answers = answers.await?;
        let now_ms = now_signed_ms();
        let mut waiting = self.waiting();
        for answer in answers {
            let Answer::ActiveDevices(active) = answer else {
                continue;
            };
            for (tenant, id) in &active.devices {
                waiting.note(tenant.0, id, now_ms);
            }
            if active.is_cut {
                waiting.note_left_out(now_ms);
            }
        }
        Ok(())
    }

    async fn write(&self, control: &Control, tables: &Arc<SharedRegistry>) {
        for _ in 0..TIMES {
            let rows = self.waiting().take_due(Instant::now(), ROWS);
            if rows.is_empty() {
                return;
            }
            let written = rows.clone();
            let noted = tables.note(move |registry| {
                Box::pin(async move { registry.note_message_times(&written).await })
            });
            match noted.await {
                Ok(active) => {
                    for device in active {
                        report_active(control, &device);
                    }
                }
                Err(error) => {
                    warn!(%error, "cannot record when devices last sent something; retrying");
                    return self.waiting().put_back(rows);
                }
            }
        }
    }

    /// Looks for devices that have become inactive.
    async fn look(
        &self,
        control: &Control,
        tables: &Arc<SharedRegistry>,
    ) -> Result<(), SharedRegistryError> {
        let check = {
            let waiting = self.waiting();
            // Messages that have waited for long are not in the tables yet.
            if waiting.is_behind(Instant::now()) {
                return Ok(());
            }
            InactivityCheck {
                now_ms: now_signed_ms(),
                behind_ms: BEHIND_MS,
                known_since_ms: waiting.known_since_ms(),
                limit: ROWS as u32,
            }
        };
        let found = tables
            .note(move |registry| Box::pin(async move { registry.mark_inactive(check).await }));
        for device in found.await? {
            let secs = Some(device.after_secs);
            control.silence(TenantId(device.tenant), &device.id, secs);
            control.report_event(notice_of(TableChange::Inactive(&device)));
        }
        Ok(())
    }
}

impl Default for DeviceActivity {
    fn default() -> Self {
        Self::new()
    }
}

/// Notes when devices send something, for as long as the node runs: from the first device on.
pub async fn keep(
    control: Arc<Control>,
    tables: Arc<SharedRegistry>,
    activity: Arc<DeviceActivity>,
) {
    if !until_devices(&tables, DeviceFilter::default()).await {
        return;
    }
    let mut ticks = tokio::time::interval(WRITE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looked = Instant::now();
    let mut clock = ClockWatch::new();
    loop {
        ticks.tick().await;
        if clock.step().is_some() {
            // By the clock as it is now, nobody has been silent for long.
            activity.waiting().note_left_out(now_signed_ms());
        }
        if let Err(error) = activity.ask(&control).await {
            debug!(%error, "cannot read which devices have published; retrying");
            activity.waiting().note_left_out(now_signed_ms());
        }
        activity.write(&control, &tables).await;
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            if let Err(error) = look_if_configured(&control, &tables, &activity).await {
                warn!(%error, "cannot determine which devices are inactive; retrying");
            }
        }
    }
}

async fn look_if_configured(
    control: &Control,
    tables: &Arc<SharedRegistry>,
    activity: &DeviceActivity,
) -> Result<(), SharedRegistryError> {
    let is_configured = tables.read(|registry: &mut Registry| Box::pin(registry.has_inactivity()));
    match is_configured.await? {
        true => activity.look(control, tables).await,
        false => Ok(()),
    }
}

/// Waits until the tables have a device that this filter matches. Returns false if the node ends
/// before.
pub(crate) async fn until_devices(tables: &SharedRegistry, filter: DeviceFilter) -> bool {
    let mut changes = tables.changes();
    while !has_devices(tables, &filter).await {
        if changes.changed().await.is_err() {
            return false;
        }
    }
    true
}

/// Whether there is such a device; false if that cannot be read.
async fn has_devices(tables: &SharedRegistry, filter: &DeviceFilter) -> bool {
    if !tables.are_there() {
        return false;
    }
    let filter = filter.clone();
    let read = tables.read(|registry| {
        Box::pin(async move { registry.count_devices(&Visibility::All, &filter).await })
    });
    read.await.is_ok_and(|count| count > 0)
}

/// Reports that an inactive device has sent something.
pub(crate) fn report_active(control: &Control, device: &SilentDevice) {
    control.silence(TenantId(device.tenant), &device.id, None);
    control.report_event(notice_of(TableChange::Active(device)));
}
