//! The storage while the node runs: it is opened when it is needed, and again when it could not be
//! opened; callers get an error for what it rejects.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use martlet_broker::TenantId;
use martlet_telemetry::decode::{Decoded, Decoder, Place, Rejection};
use martlet_telemetry::{Damage, Location, Point, Settings, Storage, StorageError, TenantBytes};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::devices::{DeviceNames, DeviceNumber, TelemetryDevice};
use super::kept::TelemetryKept;
use super::latency::{Ages, newest_own_time};
use super::off_times::{OffTime, OffTimes};
use super::rejected::{Rejected, Rejections, reason_of, words_of};
use super::rule::TelemetryRule;
use super::tail::{Tail, Tails};
use super::{CountedSeries, SeriesByTenant};
use crate::activity::DeviceActivity;
use crate::control::Control;
use crate::remembered::Name;
use crate::shared_registry::{SharedRegistry, SharedRegistryError};
use crate::wall_clock::now_signed_ms;

/// Names the warning that telemetry cannot be stored.
const WARNING: &str = "telemetry";
/// Names the warning that some of the telemetry is damaged.
const DAMAGE_WARNING: &str = "telemetry-damage";
/// Time between two attempts to open the storage.
const OPEN_EVERY: Duration = Duration::from_secs(1);
/// Time after which health reports a write that is not answered yet.
const SLOW_AFTER: Duration = Duration::from_secs(5);

/// Settings of telemetry.
#[derive(Clone, Debug)]
pub struct TelemetrySettings {
    /// Rules for what is taken from topics.
    pub rules: Vec<TelemetryRule>,
    /// How payloads of HTTP requests are decoded.
    pub decoder: Decoder,
    /// Where values are stored.
    pub location: Location,
    /// Limits of the storage.
    pub storage: Settings,
    /// How long values are kept.
    pub kept: TelemetryKept,
    /// How old values are when subscribers have them is measured.
    pub measures_subscribers: bool,
}

/// Telemetry of a node that runs.
pub struct Telemetry {
    pub(super) control: Arc<Control>,
    tables: Arc<SharedRegistry>,
    settings: TelemetrySettings,
    names: DeviceNames,
    rejections: Rejections,
    counted_series: CountedSeries,
    pub(super) off_times: OffTimes,
    tails: Tails,
    /// Keys whose values are published for the rules.
    pub(super) followed: RwLock<BTreeSet<String>>,
    activity: Arc<DeviceActivity>,
    counters: Counters,
    pub(super) ages: Ages,
    /// The last origin of values without a time that came in no message.
    last_origin: AtomicI64,
    opened: Mutex<Opened>,
    /// Bytes of memory of the storage when they were last counted.
    storage_bytes: AtomicUsize,
    /// Where the storage's tasks run: parts of the node have runtimes of their own, which end.
    runtime: Handle,
}

#[derive(Default)]
enum Opened {
    #[default]
    Not,
    /// The storage could not be opened then.
    Failed(Instant, StorageError),
    There(Storage),
}

#[derive(Debug, Default)]
struct Counters {
    values: AtomicU64,
    retimed: AtomicU64,
    failed_writes: AtomicU64,
    forgotten: AtomicU64,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) values: u64,
    pub(crate) retimed: u64,
    pub(crate) failed_writes: u64,
    pub(crate) forgotten: u64,
}

/// Why values are not stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The payload is invalid: nothing of it is stored.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A value cannot be stored: nothing of the payload is.
    #[error("{}{key}: {why}", place.as_deref().map(ToString::to_string).unwrap_or_default())]
    Refused {
        /// Index of the first such value among those of the payload.
        index: usize,
        /// Place of that value in the payload, see [`StoreError::placed`].
        place: Option<Box<Place>>,
        /// Word of the reason.
        reason: &'static str,
        /// Key of that value.
        key: Arc<str>,
        /// Error of the value.
        why: String,
    },
    /// The storage does not do it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Devices cannot be looked up.
    #[error(transparent)]
    SharedRegistry(#[from] SharedRegistryError),
    /// The values are stored, and were not handed to the rules.
    #[error("the values are stored, but the rules did not get them: {0}. Send them again")]
    Rules(String),
}

impl StoreError {
    /// Word of the reason, if the payload is at fault.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Rejected(rejection) => Some(rejection.reason()),
            Self::Refused { reason, .. } => Some(reason),
            Self::Storage(_) | Self::SharedRegistry(_) | Self::Rules(_) => None,
        }
    }

    /// Adds the place of the value in this payload, which this decoder has accepted.
    #[must_use]
    pub fn placed(mut self, decoder: &Decoder, payload: &[u8], received: i64) -> Self {
        if let Self::Refused { index, place, .. } = &mut self {
            *place = decoder.place_of(payload, received, *index);
        }
        self
    }

    /// Text for operators and callers.
    pub fn caller_text(&self) -> String {
        match self {
            Self::SharedRegistry(error) => error.caller_text(),
            error => error.to_string(),
        }
    }
}

/// Result of storing a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredNow {
    /// Values that are stored.
    pub values: usize,
    /// How many of them got the time of receipt in place of a time that was too far off.
    pub retimed: usize,
    /// Time of receipt, µs since the Unix epoch.
    pub received: i64,
    /// Names of members that are not stored, see [`Decoded::ignored`].
    pub ignored: Vec<String>,
}

/// A value that can never be stored: its place among those that were to be written; its key, the
/// word of the reason, and what is wrong.
pub(super) type RefusedPoint = (usize, (Arc<str>, &'static str, String));

/// The values of a payload as they are stored.
pub(super) fn points_of(
    decoded: Decoded,
    device: DeviceNumber,
    origin: i64,
    key: impl Fn(&str) -> String,
) -> impl Iterator<Item = Point> {
    decoded.readings.into_iter().map(move |reading| Point {
        device: device.number,
        tenant: device.tenant,
        key: key(&reading.key).into(),
        time: reading.time,
        origin: if reading.is_own_time { 0 } else { origin },
        value: reading.value,
    })
}

impl Telemetry {
    /// The telemetry of a node. The storage is opened when it is needed. Needs a Tokio runtime, on
    /// which the storage's tasks run.
    pub fn new(
        control: Arc<Control>,
        tables: Arc<SharedRegistry>,
        activity: Arc<DeviceActivity>,
        settings: TelemetrySettings,
    ) -> Self {
        Self {
            names: DeviceNames::new(Arc::clone(&tables)),
            control,
            tables,
            settings,
            rejections: Rejections::default(),
            counted_series: CountedSeries::default(),
            off_times: OffTimes::default(),
            tails: Tails::default(),
            followed: RwLock::default(),
            activity,
            counters: Counters::default(),
            ages: Ages::default(),
            last_origin: AtomicI64::new(0),
            opened: Mutex::default(),
            storage_bytes: AtomicUsize::new(0),
            runtime: Handle::current(),
        }
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    pub(super) fn rules(&self) -> &[TelemetryRule] {
        &self.settings.rules
    }

    pub(super) fn kept(&self) -> &TelemetryKept {
        &self.settings.kept
    }

    pub(super) fn tables(&self) -> &Arc<SharedRegistry> {
        &self.tables
    }

    /// Number of series of all devices, at most.
    pub(crate) fn series_max(&self) -> u64 {
        self.settings.storage.series_max
    }

    /// Number of series by tenant, counted this long ago at most.
    pub(crate) async fn series_by_tenant(
        &self,
        age_max: Duration,
    ) -> Result<SeriesByTenant, StorageError> {
        let storage = self.storage().await?;
        self.counted_series.within(age_max, &storage).await
    }

    /// Bytes by tenant as they were counted last; none: they were not counted, or have no limit.
    pub(crate) async fn tenant_bytes(&self) -> Option<TenantBytes> {
        self.storage().await.ok()?.tenant_bytes()
    }

    /// How payloads of HTTP requests are decoded.
    pub fn decoder(&self) -> &Decoder {
        &self.settings.decoder
    }

    /// Where values are stored, without a password.
    pub fn location(&self) -> &Location {
        &self.settings.location
    }

    /// The storage, which is opened if it is not open yet.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn storage(&self) -> Result<Storage, StorageError> {
        let mut opened = self.opened.lock().await;
        match &*opened {
            Opened::There(storage) => return Ok(storage.clone()),
            Opened::Failed(at, error) if at.elapsed() < OPEN_EVERY => return Err(error.clone()),
            Opened::Not | Opened::Failed(..) => {}
        }
        let (location, settings) = (self.settings.location.clone(), self.storage_settings());
        let opening = self.runtime.spawn(Storage::open(location, settings));
        let storage = opening.await.unwrap_or(Err(StorageError::Closed));
        match storage {
            Ok(storage) => {
                info!(location = %self.settings.location, "telemetry storage is open");
                self.look_for_damage(&storage);
                self.report_shares(&storage);
                *opened = Opened::There(storage.clone());
                Ok(storage)
            }
            Err(error) => {
                *opened = Opened::Failed(Instant::now(), error.clone());
                drop(opened);
                self.warn(&error);
                Err(error)
            }
        }
    }

    /// Settings that the storage is opened with: with little memory for the node it packs values
    /// sooner.
    fn storage_settings(&self) -> Settings {
        let mut settings = self.settings.storage.clone();
        if let Some(part) = self.control.memory_part() {
            // Twice as many are there while they are packed.
            settings.memory_bytes_max = settings.memory_bytes_max.min(part / 4).max(64 << 10);
            settings.waiting_bytes_max = settings.waiting_bytes_max.min(part / 4).max(64 << 10);
        }
        settings
    }

    /// Bytes of memory that telemetry holds: the storage, names of devices, what was rejected, and
    /// what readers have not read yet.
    pub fn memory_bytes(&self) -> usize {
        // While it is being opened, as many as before.
        if let Ok(opened) = self.opened.try_lock() {
            let bytes = match &*opened {
                Opened::There(storage) => storage.held_bytes(),
                Opened::Not | Opened::Failed(..) => 0,
            };
            self.storage_bytes.store(bytes, Ordering::Relaxed);
        }
        self.storage_bytes.load(Ordering::Relaxed)
            + self.names.memory_bytes()
            + self.rejections.memory_bytes()
            + self.off_times.memory_bytes()
            + self.tails.memory_bytes()
    }

    /// Payloads that were not stored, the newest first: of a client, or of a device of that id.
    pub fn rejected_about(&self, tenant: u32, client_id: &str) -> Vec<Rejected> {
        self.rejections.about_client(tenant, client_id)
    }

    /// Payloads that were not stored, since their devices are not known, with the ids of these,
    /// which are nearly this one.
    pub(crate) fn rejected_nearly_about(
        &self,
        tenant: u32,
        device: &str,
    ) -> Vec<(Rejected, String)> {
        self.rejections.nearly_about(tenant, device)
    }

    /// The last values of a device are stored at times that are weeks off.
    pub(crate) fn off_time(&self, tenant: u32, device: &str) -> Option<OffTime> {
        self.off_times.of(&(tenant, device.to_owned()))
    }

    /// Payloads of all tenants that were not stored, the newest first.
    pub fn all_rejected(&self) -> Vec<Rejected> {
        self.rejections.last(None, None, usize::MAX)
    }

    /// Whether values can be stored now.
    ///
    /// # Errors
    /// They cannot, for this reason.
    pub(super) async fn test(&self) -> Result<(), StoreError> {
        let storage = self.storage().await?;
        storage.write(Vec::new()).await?;
        Ok(())
    }

    /// Closes the storage: what was written is in the file itself then.
    pub async fn close(&self) {
        let opened = std::mem::take(&mut *self.opened.lock().await);
        if let Opened::There(storage) = opened
            && let Err(error) = storage.close().await
        {
            warn!(%error, "telemetry storage could not be closed");
        }
    }

    pub(super) async fn devices(
        &self,
        names: BTreeSet<Name>,
    ) -> Result<HashMap<Name, Arc<TelemetryDevice>>, SharedRegistryError> {
        self.names.find(names).await
    }

    /// Stores the values of a payload that came by HTTP at that time (µs since the Unix epoch).
    /// When it returns, they are synced, and those that rules look at are in the queue of the
    /// rules.
    ///
    /// # Errors
    /// A value cannot be stored, or the storage does not take them: nothing is stored then, and no
    /// rule sees it. Or the queue of the rules does not take them.
    pub async fn store(
        &self,
        device: &TelemetryDevice,
        decoded: Decoded,
        received: i64,
    ) -> Result<StoredNow, StoreError> {
        let followed = self.followed_of(device, &decoded);
        let stored = self.store_decoded(device, decoded, received, self.new_origin());
        let stored = stored.await?;
        self.publish_followed(device.tenant, followed).await?;
        Ok(stored)
    }

    async fn store_decoded(
        &self,
        device: &TelemetryDevice,
        mut decoded: Decoded,
        received: i64,
        origin: i64,
    ) -> Result<StoredNow, StoreError> {
        let ignored = std::mem::take(&mut decoded.ignored);
        let (values, retimed) = (decoded.readings.len(), decoded.retimed);
        let newest = newest_own_time(&decoded);
        let points = points_of(decoded, device.in_storage(), origin, str::to_owned);
        self.write_whole(points.collect()).await?;
        let name = (device.tenant, device.id.to_string());
        if let Some(time) = newest {
            self.ages.note(&device.device_type, time, received);
            self.off_times.note([(name.clone(), time, received)]);
        }
        self.count_retimed(retimed);
        self.note_activity(BTreeMap::from([(name, received)]));
        Ok(StoredNow {
            values,
            retimed,
            received,
            ignored,
        })
    }

    /// The device of this tenant and id. An error names the key whose value is stored or read.
    async fn device(
        &self,
        tenant: u32,
        id: &str,
        key: &str,
    ) -> Result<Arc<TelemetryDevice>, StoreError> {
        let name = (tenant, id.to_owned());
        let mut found = self.devices(BTreeSet::from([name.clone()])).await?;
        found.remove(&name).ok_or_else(|| StoreError::Refused {
            index: 0,
            place: None,
            reason: super::rejected::UNKNOWN_DEVICE,
            key: key.into(),
            why: format!("there is no device {id:?}"),
        })
    }

    /// Stores a value of the device of this tenant and id, at a time in milliseconds since the Unix
    /// epoch. `origin` distinguishes it from others of that time. It returns when the value is
    /// synced.
    ///
    /// # Errors
    /// There is no such device, it is no value, or the storage does not take it.
    pub(crate) async fn store_value(
        &self,
        tenant: u32,
        id: &str,
        key: &str,
        value: &serde_json::Value,
        time_ms: i64,
        origin: i64,
    ) -> Result<(), StoreError> {
        let device = self.device(tenant, id, key).await?;
        let payload = serde_json::json!({ "ts": time_ms, "values": { key: value } }).to_string();
        let decoder = Decoder {
            time_unit: super::TimeUnit::Millis,
            skew: super::Skew::Keep,
            limits: self.settings.decoder.limits,
            ..Decoder::default()
        };
        let received = now_signed_ms().saturating_mul(1_000);
        let mut decoded = decoder.decode_whole(payload.as_bytes(), received)?;
        for reading in &mut decoded.readings {
            // The node has made it: there may be several with this time.
            reading.is_own_time = false;
        }
        let stored = self.store_decoded(&device, decoded, received, origin);
        stored.await.map(drop)
    }

    /// Values of a key of the device of this tenant and id, from one time to before another, in
    /// milliseconds since the Unix epoch, the oldest first, with their times.
    ///
    /// # Errors
    /// There is no such device, or the values cannot be read.
    pub async fn past(
        &self,
        ((tenant, id), key): ((u32, &str), &str),
        from_ms: i64,
        until_ms: i64,
        limit: usize,
    ) -> Result<Vec<(i64, serde_json::Value)>, StoreError> {
        let device = self.device(tenant, id, key).await?;
        let range = super::Range {
            selection: super::Selection {
                devices: vec![device.number],
                keys: Some(vec![key.to_owned()]),
            },
            from: from_ms.saturating_mul(1_000),
            until: until_ms.saturating_mul(1_000),
            order: super::Order::OldestFirst,
            limit,
            after: None,
        };
        let rows = self.storage().await?.range(&range).await?.rows.into_iter();
        Ok(rows
            .map(|row| (row.time / 1_000, super::json_of(&row.value)))
            .collect())
    }

    /// Notes a payload that is not stored.
    pub fn reject(
        &self,
        tenant: u32,
        topic: &str,
        client_id: Option<&str>,
        device: Option<&str>,
        why: (&'static str, String),
    ) {
        let (reason, detail) = why;
        self.rejections
            .note(tenant, topic, client_id, device, reason, detail);
    }

    /// Notes that the last payload of a device by an HTTP request is stored. `path` is only called
    /// if payloads were rejected.
    pub fn stored(&self, tenant: u32, device: &str, path: impl FnOnce() -> String) {
        self.rejections.note_stored_one(tenant, device, path);
    }

    /// Notes of which topics, by tenant, the last payload is stored.
    pub(super) fn note_stored<'a>(&self, topics: impl FnOnce() -> HashMap<(u32, &'a str), bool>) {
        self.rejections.note_stored(topics);
    }

    /// The last payloads that were not stored, of a tenant and of a device, or of all, the newest
    /// first.
    pub fn rejected(
        &self,
        tenant: Option<u32>,
        device: Option<&str>,
        limit: usize,
    ) -> Vec<Rejected> {
        self.rejections.last(tenant, device, limit)
    }

    pub(super) fn rejected_counts(&self) -> BTreeMap<&'static str, u64> {
        self.rejections.counts()
    }

    /// Follows the values of devices as they are stored; no keys: all of them.
    pub fn follow(&self, devices: HashSet<i64>, keys: Option<HashSet<Arc<str>>>) -> Tail {
        self.tails.follow(devices, keys)
    }

    /// How many follow values as they are stored.
    pub fn readers(&self) -> usize {
        self.tails.readers()
    }

    /// Writes values. When it returns, they are synced, but for those that can never be stored,
    /// which are returned.
    ///
    /// # Errors
    /// Nothing is stored for sure.
    pub(super) async fn write(&self, points: Vec<Point>) -> Result<Vec<RefusedPoint>, StoreError> {
        self.write_as(points, false).await
    }

    /// Writes the values of one payload. When it returns, all are synced.
    ///
    /// # Errors
    /// One of them can never be stored, or nothing is stored for sure.
    pub(super) async fn write_whole(&self, points: Vec<Point>) -> Result<(), StoreError> {
        match self.write_as(points, true).await?.into_iter().next() {
            Some((index, (key, reason, why))) => Err(StoreError::Refused {
                index,
                place: None,
                reason,
                key,
                why,
            }),
            None => Ok(()),
        }
    }

    async fn write_as(
        &self,
        points: Vec<Point>,
        is_whole: bool,
    ) -> Result<Vec<RefusedPoint>, StoreError> {
        if points.is_empty() {
            return Ok(Vec::new());
        }
        let copy = (self.tails.readers() > 0).then(|| points.clone());
        let keys: Vec<Arc<str>> = points.iter().map(|point| Arc::clone(&point.key)).collect();
        let written = match self.storage().await {
            Ok(storage) => match is_whole {
                true => self.patiently(storage.write_whole(points)).await,
                false => self.patiently(storage.write(points)).await,
            },
            Err(error) => Err(error),
        };
        let written = written.inspect_err(|error| {
            self.counters.failed_writes.fetch_add(1, Ordering::Relaxed);
            self.warn(error);
        })?;
        self.control.health.withdraw(WARNING);
        let stored = written.stored as u64;
        self.counters.values.fetch_add(stored, Ordering::Relaxed);
        if let Some(points) = copy.filter(|_| written.stored > 0) {
            let is_refused = |index| written.refused.iter().any(|one| one.index == index);
            let stored = points.into_iter().enumerate();
            let stored = stored.filter(|(index, _)| !is_refused(*index));
            self.tails.send(stored.map(|(_, point)| point).collect());
        }
        let refused = written.refused.into_iter().filter_map(|one| {
            let key = Arc::clone(keys.get(one.index)?);
            Some((
                one.index,
                (key, reason_of(one.refusal), words_of(one.refusal)),
            ))
        });
        Ok(refused.collect())
    }

    /// Waits for a write. Health reports one that takes long, since its publishers are held back.
    async fn patiently<T>(&self, write: impl Future<Output = T>) -> T {
        let mut write = std::pin::pin!(write);
        match tokio::time::timeout(SLOW_AFTER, &mut write).await {
            Ok(done) => done,
            Err(_) => {
                let secs = SLOW_AFTER.as_secs();
                warn!(secs, "the telemetry storage has not answered a write");
                let why = format!("the storage has not answered for {secs} s");
                self.control
                    .health
                    .warn_logged_as(WARNING, cannot_store(&why));
                write.await
            }
        }
    }

    /// Checks the file in the background. Reports damage that does not stop the storage: what is
    /// known now before this returns, and later findings until the storage is closed.
    fn look_for_damage(&self, storage: &Storage) {
        let (control, location) = (Arc::clone(&self.control), self.settings.location.clone());
        let mut damage = storage.watch_damage();
        report_damage(&control, &location, &damage.borrow_and_update());
        self.runtime.spawn(async move {
            while damage.changed().await.is_ok() {
                report_damage(&control, &location, &damage.borrow_and_update());
            }
        });
        let storage = storage.clone();
        self.runtime.spawn(async move {
            match storage.check().await {
                Ok(_) | Err(StorageError::Closed) => {}
                Err(error) => warn!(%error, "telemetry could not be checked for damage"),
            }
        });
    }

    /// Tells health which teams have their share of the bytes, until the storage is closed.
    fn report_shares(&self, storage: &Storage) {
        let (control, mut full) = (Arc::clone(&self.control), storage.watch_full_tenants());
        full.mark_changed();
        self.runtime.spawn(async move {
            while full.changed().await.is_ok() {
                let tenants = full.borrow_and_update();
                control.health.set_at_telemetry_share(&tenants);
            }
        });
    }

    fn warn(&self, error: &StorageError) {
        warn!(%error, "telemetry cannot be stored");
        // A caller that may see health may not see the address of a database, and its user.
        let why = match self.settings.location {
            Location::File(_) => error.to_string(),
            Location::Postgres(_) => error.public_cause().to_owned(),
        };
        self.control
            .health
            .warn_logged_as(WARNING, cannot_store(&why));
    }

    pub(super) fn count_retimed(&self, values: usize) {
        self.counters
            .retimed
            .fetch_add(values as u64, Ordering::Relaxed);
    }

    pub(super) fn count_forgotten(&self, values: u64) {
        self.counters.forgotten.fetch_add(values, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            values: read(&self.counters.values),
            retimed: read(&self.counters.retimed),
            failed_writes: read(&self.counters.failed_writes),
            forgotten: read(&self.counters.forgotten),
        }
    }

    /// Distinguishes values without a time that came in no message. Those of messages have the
    /// number of the message, which is positive.
    fn new_origin(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(1, |now| i64::try_from(now.as_nanos()).unwrap_or(i64::MAX));
        let next = |last: i64| Some(now.max(last.saturating_add(1)));
        let (order, read) = (Ordering::Relaxed, Ordering::Relaxed);
        let before = self.last_origin.fetch_update(order, read, next);
        let before = before.unwrap_or_default();
        -now.max(before.saturating_add(1))
    }

    /// Notes that devices have sent telemetry.
    pub(super) fn note_activity(&self, devices: BTreeMap<Name, i64>) {
        for ((tenant, id), received) in devices {
            let at_ms = received / 1_000;
            self.activity.note_stored(TenantId(tenant), &id, at_ms);
        }
    }
}

/// Reports damage of the file that does not stop the storage.
fn report_damage(control: &Control, location: &Location, damage: &Damage) {
    let (count, mut found) = (damage.count(), damage.first().join("; "));
    if count == 0 {
        return;
    }
    let others = count - damage.first().len();
    if others > 0 {
        found.push_str(&format!("; and {others} more"));
    }
    warn!(%location, count, found, "telemetry is damaged");
    let rest = match damage.hides_values() {
        true => format!(
            "Values may be missing from answers, without an error. Restore the file from a backup, \
             or stop the node, copy what can be read with `sqlite3 {location} .recover | sqlite3 \
             NEW`, and put NEW in its place"
        ),
        false => "All other rows are served. Restore the file from a backup if you need what is \
                  missing, or delete the values of that day"
            .to_owned(),
    };
    let sentence = format!(
        "{location}: the telemetry is damaged: {found}. {rest}. See \"Damage in SQLite\" in \
         docs/telemetry-storage.md"
    );
    control.health.warn_logged_as(DAMAGE_WARNING, sentence);
}

/// The report of health while values cannot be stored.
fn cannot_store(why: &str) -> String {
    format!(
        "Telemetry cannot be stored, and messages wait in the queue of the integration \
         telemetry/main: {why}."
    )
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry")
            .field("location", &self.settings.location)
            .finish_non_exhaustive()
    }
}
