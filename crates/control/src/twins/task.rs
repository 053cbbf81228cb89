//! Publishes desired values and takes what devices report, for as long as the node runs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use martlet_broker::{
    ClientQuery, Delivery, Event, NewMessage, PartId, PartOutcome, PartQueueLimits, PartReach,
    PartSpec, PartSubscription, Search, TenantId,
};
use martlet_codec::{ReasonCode, RetainHandling};
use martlet_integrate::{LaneEvent, Lanes, Token};
use martlet_registry::{DeviceFilter, Twin, TwinReport};
use martlet_rules::hops_after;
use tracing::{debug, warn};

use super::message::{TwinMessage, desired_message, error_message, filters, read, takes_desired};
use super::{DeviceKey, Twins};
use crate::activity::until_devices;
use crate::control::Control;
use crate::event_kind::EventKind;
use crate::feed::{EventBatch, FeedReader, Filter, From, Happened, Kinds};
use crate::shared_registry::SharedRegistryError;
use crate::wall_clock::{now_ms, now_signed_ms};

/// Client Identifier of the part, and name of the publisher.
const PART: &str = "$twins";
/// Reports that the part may have and not have settled.
const CREDIT: u16 = 256;
/// Devices whose desired values are read and published at once.
const PUBLISHED_AT_ONCE: usize = 64;
/// Rows of a page, of devices and of sessions.
const PAGE: u32 = 1_000;
/// Time until what has failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Bytes of a device that is named, approximately.
const NAME_BYTES: usize = 96;

/// Publishes desired values and takes reports. It begins with the first device of the node.
pub async fn keep(control: Arc<Control>, twins: Arc<Twins>) {
    if !until_devices(&twins.tables, DeviceFilter::default()).await {
        return;
    }
    let filter = Filter {
        kinds: Kinds::of(&[EventKind::Connected, EventKind::Subscribed]),
        ..Filter::default()
    };
    let mut reader = match control.feed.read(filter, &From::Now) {
        Ok(reader) => reader,
        Err(error) => return warn!(%error, "cannot publish desired values to devices"),
    };
    // From here on shards report each subscription. Devices that subscribed before get the values
    // now.
    control.wait_until_all_reported().await;
    twins.make_all_due();
    let bytes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&bytes);
    control.count_also("twins", Box::new(move || counted.load(Ordering::Relaxed)));
    loop {
        let mut task = Task {
            lanes: attach(&control, &twins).await,
            control: &control,
            twins: &twins,
            reports: Vec::new(),
            errors: Vec::new(),
            bytes: &bytes,
        };
        let Some(why) = task.run(&mut reader).await else {
            return;
        };
        warn!(why, "cannot receive reports of devices; retrying");
        tokio::time::sleep(AGAIN).await;
    }
}

/// Attaches the part, with the lanes that an earlier run with more shards has left.
async fn attach(control: &Control, twins: &Twins) -> Lanes {
    let subscription = |filter: String| PartSubscription {
        filter: filter.into(),
        identifier: 0,
        retain_handling: RetainHandling::DoNotSend,
    };
    let spec = PartSpec {
        id: PartId::default(),
        tenant: TenantId::default(),
        client_id: PART.into(),
        identity: None,
        subscriptions: filters(&twins.catalogue).map(subscription).into(),
        credit: CREDIT,
        session_expiry_secs: u32::MAX,
        keeps_qos0: true,
        queue: PartQueueLimits::default(),
        reach: PartReach::LaneOfAllTenants,
    };
    let query = ClientQuery {
        search: Some(Search {
            text: PART.into(),
            anywhere: false,
        }),
        limit: PAGE as usize,
        ..ClientQuery::default()
    };
    let found = control.clients(&query).await;
    let clients = found.map(|page| page.clients).unwrap_or_default();
    let names = clients.iter().map(|client| client.client_id.to_string());
    // The search finds user names too.
    let sessions: Vec<String> = names.filter(|name| name.starts_with(PART)).collect();
    let (count, shards) = (control.shards.count(), Arc::clone(&control.shards));
    Lanes::attach(&spec, count, &sessions, move |spec, outlet| {
        shards.attach(spec, outlet)
    })
}

/// A report that is not in the tables yet.
struct Pending {
    token: Token,
    topic: String,
    report: TwinReport,
}

struct Task<'n> {
    lanes: Lanes,
    control: &'n Control,
    twins: &'n Twins,
    reports: Vec<Pending>,
    /// Messages to devices with the reason why a report is not applied, with their tenants.
    errors: Vec<(TenantId, NewMessage)>,
    bytes: &'n AtomicUsize,
}

impl Task<'_> {
    /// Works until the part has ended, and returns why; none: the node stops.
    async fn run(&mut self, reader: &mut FeedReader) -> Option<&'static str> {
        loop {
            tokio::select! {
                told = self.lanes.next() => {
                    if let Err((reason, why)) = self.take(told?) {
                        return (reason != ReasonCode::ServerShuttingDown).then_some(why);
                    }
                }
                batch = reader.next() => self.happened(&batch?),
                () = self.twins.changed.notified() => {}
            }
            while let Err(error) = self.work().await {
                warn!(%error, "cannot keep twins of devices up to date; retrying");
                tokio::time::sleep(AGAIN).await;
            }
            let due = self.twins.due().devices.len();
            self.bytes.store(due * NAME_BYTES, Ordering::Relaxed);
        }
    }

    /// Takes this event of the part, and the next ones that are there.
    fn take(&mut self, first: LaneEvent) -> Result<(), (ReasonCode, &'static str)> {
        let mut next = Some(first);
        let mut settled = Vec::new();
        while let Some(event) = next {
            match event {
                LaneEvent::Delivery(token, delivery) => {
                    settled.extend(self.deliver(token, &delivery))
                }
                LaneEvent::Attached(_) | LaneEvent::Queue(_) => {}
                LaneEvent::Ended { reason, why } => return Err((reason, why)),
            }
            let has_room = self.reports.len() + self.errors.len() < usize::from(CREDIT);
            next = has_room.then(|| self.lanes.next_now()).flatten();
        }
        let done = settled.into_iter().map(|token| (token, PartOutcome::Done));
        self.lanes.settle_all(done);
        Ok(())
    }

    /// Returns the token if nothing of the message is to be written.
    fn deliver(&mut self, token: Token, delivery: &Delivery) -> Option<Token> {
        let message = &delivery.message;
        let tenant = message.tenant().0;
        // A rule may have published it.
        let hops = hops_after(message.hops(), 1);
        match read(&self.twins.catalogue, message) {
            Some((device, TwinMessage::Reports(Ok(patch)))) => {
                let report = TwinReport {
                    tenant,
                    device,
                    patch,
                    at_ms: now_signed_ms(),
                    hops,
                };
                let topic = message.topic().to_owned();
                self.reports.push(Pending {
                    token,
                    topic,
                    report,
                });
                return None;
            }
            Some((device, TwinMessage::Reports(Err(why)))) => {
                let topic = message.topic();
                debug!(why, topic, "cannot apply a report of a device");
                let answer = error_message(&self.twins.catalogue, topic, &device, &why, hops);
                self.twins.misread.add((tenant, &device), why);
                self.errors.push((message.tenant(), answer));
            }
            Some((device, TwinMessage::Asks)) => self.twins.make_due([(tenant, device)], hops),
            None => {}
        }
        Some(token)
    }

    /// Devices have connected and subscribed.
    fn happened(&self, batch: &EventBatch) {
        if batch.missed > 0 || batch.is_new_run {
            self.twins.make_all_due();
        }
        let mut devices = HashSet::new();
        for entry in batch.entries() {
            let client = match entry.what() {
                // Without its session it subscribes next.
                Happened::Connected(client) if !client.flags.session_present() => continue,
                Happened::Connected(client) => &client.client_id,
                Happened::Event(events) => {
                    let client = &events.head.client_id;
                    match events.event.shard() {
                        Some(Event::Subscribed { filter, .. })
                            if takes_desired(&self.twins.catalogue, client, filter) =>
                        {
                            client
                        }
                        _ => continue,
                    }
                }
                Happened::Lost => {
                    self.twins.make_all_due();
                    continue;
                }
            };
            if !client.starts_with('$') {
                devices.insert((entry.tenant.0, client.to_string()));
            }
        }
        self.twins.make_due(devices, 0);
    }

    /// Writes what was reported, and publishes what is due.
    async fn work(&mut self) -> Result<(), SharedRegistryError> {
        self.write().await?;
        self.report_errors().await;
        let is_all = std::mem::take(&mut self.twins.due().all);
        if is_all && let Err(error) = self.publish_to_connected().await {
            self.twins.make_all_due();
            return Err(error);
        }
        loop {
            let some: HashMap<DeviceKey, u8> = {
                let mut due = self.twins.due();
                let some = due.devices.iter().take(PUBLISHED_AT_ONCE);
                let some = some.map(|(device, hops)| (device.clone(), *hops));
                let some: HashMap<DeviceKey, u8> = some.collect();
                for device in some.keys() {
                    due.devices.remove(device);
                }
                some
            };
            if some.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.publish(&some).await {
                for (device, hops) in some {
                    self.twins.make_due([device], hops);
                }
                return Err(error);
            }
        }
    }

    /// Writes reports, and settles their messages.
    async fn write(&mut self) -> Result<(), SharedRegistryError> {
        if self.reports.is_empty() {
            return Ok(());
        }
        let reports = self.reports.iter().map(|pending| pending.report.clone());
        let reports: Vec<TwinReport> = reports.collect();
        let written = self
            .twins
            .tables
            .note(move |registry| Box::pin(async move { registry.note_reported(&reports).await }));
        let outcomes = written.await?;
        let reports = std::mem::take(&mut self.reports);
        for (pending, outcome) in reports.iter().zip(outcomes) {
            let (topic, report) = (&*pending.topic, &pending.report);
            let why = match outcome {
                Ok(version) => {
                    let (tenant, device) = (report.tenant, &*report.device);
                    self.twins.misread.remove((tenant, device));
                    self.twins
                        .report_change(tenant, device, "reported", version, report.hops);
                    continue;
                }
                Err(why) => why,
            };
            debug!(why, topic, "cannot apply a report of a device");
            let (catalogue, device) = (&self.twins.catalogue, &report.device);
            let answer = error_message(catalogue, topic, device, &why, report.hops);
            self.twins.misread.add((report.tenant, &report.device), why);
            self.errors.push((TenantId(report.tenant), answer));
        }
        let settled = reports.into_iter();
        let settled = settled.map(|pending| (pending.token, PartOutcome::Done));
        self.lanes.settle_all(settled);
        Ok(())
    }

    /// Publishes to devices why their reports are not applied. Nothing depends on that.
    async fn report_errors(&mut self) {
        for (tenant, answer) in std::mem::take(&mut self.errors) {
            let sent = self.control.publish(PART, tenant, vec![answer]).await;
            if let Err(error) = sent {
                debug!(%error, "cannot tell devices why reports were not applied");
                return;
            }
        }
    }

    /// Publishes to all connected devices that have desired values.
    async fn publish_to_connected(&self) -> Result<(), SharedRegistryError> {
        let mut after = 0;
        loop {
            let read = self.twins.tables.read(move |registry| {
                Box::pin(async move { registry.devices_with_desired(after, PAGE).await })
            });
            let page = read.await?;
            let Some((last, ..)) = page.last() else {
                return Ok(());
            };
            after = *last;
            let connected = page.into_iter().filter(|(_, tenant, id)| {
                let presence = self.control.presence(TenantId(*tenant), id);
                presence.is_some_and(|presence| presence.online)
            });
            let connected: Vec<DeviceKey> = connected.map(|(_, tenant, id)| (tenant, id)).collect();
            for some in connected.chunks(PUBLISHED_AT_ONCE) {
                let some = some.iter().map(|device| (device.clone(), 0));
                self.publish(&some.collect()).await?;
            }
        }
    }

    /// Publishes the desired values of these devices, as far as they have any.
    async fn publish(&self, devices: &HashMap<DeviceKey, u8>) -> Result<(), SharedRegistryError> {
        let names: Vec<DeviceKey> = devices.keys().cloned().collect();
        let read = self
            .twins
            .tables
            .read(move |registry| Box::pin(async move { registry.twins_of(&names).await }));
        let mut twins = read.await?;
        twins.retain(|twin| twin.desired.version > 0);
        twins.sort_by_key(|twin| twin.tenant);
        for of_tenant in twins.chunk_by(|one, other| one.tenant == other.tenant) {
            let hops_of = |twin: &Twin| {
                let hops = devices.get(&(twin.tenant, twin.device.clone()));
                hops.copied().unwrap_or_default()
            };
            let messages = of_tenant.iter().map(|twin| NewMessage {
                hops: hops_of(twin),
                ..desired_message(&self.twins.catalogue, twin, now_ms())
            });
            let tenant = TenantId(of_tenant[0].tenant);
            let messages = messages.collect();
            let published = self.control.publish_all(PART, tenant, messages).await;
            if let Err(error) = published {
                warn!(%error, "cannot publish desired values to devices; retrying");
                for twin in of_tenant {
                    let device = (twin.tenant, twin.device.clone());
                    self.twins.make_due([device], hops_of(twin));
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
        Ok(())
    }
}
