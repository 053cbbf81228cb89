//! Pieces of files by MQTT. A device has one request under way: its next one takes the place of one
//! that waits. Devices take turns, and all of them together are bounded in bytes per second.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use martlet_broker::{PartEvent, ReceiptOutcome};
use martlet_codec::PacketId;
use martlet_registry::{Firmware, RegistryError};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tracing::{debug, warn};

use super::request::{ChunkRequest, filters, read};
use super::{FirmwareError, FirmwareStore};
use crate::commands::posts::{PartEvents, Posts};
use crate::control::Control;
use crate::iotflow::Catalogue;
use crate::shared_registry::SharedRegistryError;
use crate::token_bucket::TokenBucket;

/// Client Identifier of the parts.
const PART: &str = "$firmware";
/// Requests that wait, at most: one of each device.
const WAITING_MAX: usize = 10_000;
/// Bytes of a request that waits, approximately.
const WAITING_BYTES: usize = 512;
/// Devices whose firmware is remembered, and for how long.
const KNOWN_MAX: usize = 10_000;
const KNOWN_TIME: Duration = Duration::from_secs(10);
/// Answers whose receipts are awaited, at most.
const ANSWERS_MAX: usize = 10_000;
/// Time between two looks for tenants that need a part.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A device: its tenant and id.
type DeviceKey = (u32, String);
/// A device, and a name and version of firmware.
type ArtefactKey = (DeviceKey, String, String);

/// Serves pieces of files, as long as the node runs.
pub async fn serve_chunks(
    control: Arc<Control>,
    firmware: Arc<FirmwareStore>,
    catalogue: Arc<Catalogue>,
) {
    while let Err(error) = firmware.recover().await {
        warn!(%error, "cannot check files of firmware; retrying");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let bytes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&bytes);
    let count = move || counted.load(Ordering::Relaxed);
    control.count_also("firmware_requests", Box::new(count));
    // No more than a second's are saved.
    let per_sec = firmware.settings.mqtt_bytes_per_sec.max(1) as f64;
    let budget = TokenBucket::new(per_sec, per_sec, Instant::now());
    let server = Server {
        posts: Posts::new(PART, 0, filters(&catalogue)),
        control,
        firmware,
        catalogue,
        turns: VecDeque::new(),
        waiting: HashMap::new(),
        known: HashMap::new(),
        published: HashMap::new(),
        answers: HashMap::new(),
        settled: HashMap::new(),
        budget,
        number: 0,
    };
    server.run(&bytes).await;
}

struct Server {
    control: Arc<Control>,
    firmware: Arc<FirmwareStore>,
    catalogue: Arc<Catalogue>,
    posts: Posts,
    /// Devices whose requests wait, in turn.
    turns: VecDeque<DeviceKey>,
    waiting: HashMap<DeviceKey, ChunkRequest>,
    known: HashMap<ArtefactKey, (Firmware, Instant)>,
    /// Answers by the numbers under which they are published, and by their messages.
    published: HashMap<u64, (u32, ChunkRequest)>,
    answers: HashMap<u64, (u32, ChunkRequest)>,
    settled: HashMap<(u32, u64), Vec<PacketId>>,
    /// Bytes that may be sent.
    budget: TokenBucket,
    number: u64,
}

impl Server {
    async fn run(mut self, bytes: &AtomicUsize) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wait = match self.turns.is_empty() {
                true => Duration::MAX,
                false => self.budget.time_to(1.0, Instant::now()),
            };
            tokio::select! {
                events = self.posts.next() => {
                    let Some(events) = events else { return };
                    self.take_events(events);
                }
                () = sleep(wait) => self.serve_next().await,
                _ = looks.tick() => self.look().await,
            }
            let held = self.waiting.len() + self.answers.len() + self.known.len();
            bytes.store(held * WAITING_BYTES, Ordering::Relaxed);
        }
    }

    /// Attaches parts of tenants that have firmware.
    async fn look(&mut self) {
        let now = Instant::now();
        self.known.retain(|_, (_, until)| *until > now);
        let tables = &self.firmware.tables;
        if !tables.are_there() {
            return;
        }
        let read = tables.read(|registry| Box::pin(registry.tenants_with_firmware()));
        match read.await {
            Ok(tenants) => {
                for tenant in tenants {
                    self.posts.attach(&self.control, tenant);
                }
            }
            Err(error) => debug!(%error, "which tenants have firmware cannot be read"),
        }
    }

    fn take_events(&mut self, first: PartEvents) {
        let mut next = Some(first);
        while let Some((tenant, attachment, events)) = next {
            for event in events {
                self.take_event(tenant, attachment, event);
            }
            next = self.posts.next_now();
        }
        for ((tenant, attachment), tokens) in std::mem::take(&mut self.settled) {
            self.posts.settle(tenant, attachment, tokens);
        }
    }

    fn take_event(&mut self, tenant: u32, attachment: u64, event: PartEvent) {
        match event {
            PartEvent::Delivery(delivery) => {
                let tokens = self.settled.entry((tenant, attachment)).or_default();
                tokens.push(delivery.token);
                // A retained request would be answered again and again.
                if delivery.retained {
                    return;
                }
                match read(&self.catalogue, &delivery.message) {
                    Some(Ok(request)) => self.take(tenant, request),
                    Some(Err(wrong)) => self.publish(tenant, None, wrong.error()),
                    None => {}
                }
            }
            PartEvent::Published { number, outcome } => {
                let answer = self.published.remove(&number);
                if let (Some(answer), Some(message)) = (answer, outcome.id)
                    && self.answers.len() < ANSWERS_MAX
                {
                    self.answers.insert(message.0, answer);
                }
            }
            PartEvent::Receivers { message, receivers } => {
                if receivers == 0 {
                    self.answers.remove(&message.0);
                }
            }
            PartEvent::Receipt(receipt) => {
                use martlet_broker::DropReason::PacketTooLarge;
                let answer = self.answers.remove(&receipt.message.0);
                let is_too_large = receipt.outcome == ReceiptOutcome::Dropped(PacketTooLarge);
                if let Some((tenant, request)) = answer.filter(|_| is_too_large) {
                    let why = "the piece is longer than the device's Maximum Packet Size permits: \
                               request a shorter one";
                    self.publish(tenant, None, request.error(why));
                }
            }
            PartEvent::Ended { why, .. } => {
                warn!(why, tenant, "cannot serve firmware over MQTT; retrying");
                self.posts.forget(tenant, attachment);
            }
            PartEvent::Attached { .. } => self.posts.attached(tenant, attachment),
            PartEvent::Queue(_) | PartEvent::Run { .. } => {}
        }
    }

    /// A request waits for its turn. Beyond the bound it is dropped: the device asks again.
    fn take(&mut self, tenant: u32, request: ChunkRequest) {
        let key = (tenant, request.device.clone());
        if let Some(waiting) = self.waiting.get_mut(&key) {
            *waiting = request;
        } else if self.turns.len() < WAITING_MAX {
            self.turns.push_back(key.clone());
            self.waiting.insert(key, request);
        }
    }

    async fn serve_next(&mut self) {
        let Some(key) = self.turns.pop_front() else {
            return;
        };
        let Some(request) = self.waiting.remove(&key) else {
            return;
        };
        let tenant = key.0;
        match self.piece(key, &request).await {
            Ok((size, bytes)) => {
                self.budget.take(bytes.len() as f64, Instant::now());
                let answer = request.answer(size, bytes);
                self.publish(tenant, Some(request), answer);
            }
            Err(error) => {
                // Looking for what is not there costs, too.
                self.budget.take(request.length as f64, Instant::now());
                self.publish(tenant, None, request.error(&error));
            }
        }
    }

    /// The bytes, and those of the whole file.
    async fn piece(
        &mut self,
        key: DeviceKey,
        request: &ChunkRequest,
    ) -> Result<(u64, Vec<u8>), String> {
        let firmware = self.firmware_of(key, request).await?;
        if request.offset >= firmware.size {
            return Err(format!("the file has {} bytes", firmware.size));
        }
        let text_of = |error: FirmwareError| match error {
            FirmwareError::NoFile(_) if !firmware.url.is_empty() => {
                format!("the file is at {}", firmware.url)
            }
            error => {
                warn!(%error, "cannot serve a file of firmware");
                "the file cannot be read now".to_owned()
            }
        };
        let mut file = self.firmware.open(&firmware).await.map_err(text_of)?;
        let length = request.length.min(firmware.size - request.offset);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = async {
            file.seek(std::io::SeekFrom::Start(request.offset)).await?;
            file.read_exact(&mut bytes).await
        };
        let read = read.await.map(drop);
        read.map_err(|error| {
            text_of(FirmwareError::File {
                what: "read",
                error,
            })
        })?;
        Ok((firmware.size, bytes))
    }

    /// The firmware that a device may load.
    async fn firmware_of(
        &mut self,
        (tenant, device): DeviceKey,
        request: &ChunkRequest,
    ) -> Result<Firmware, String> {
        let (name, version) = (request.name.clone(), request.version.clone());
        let key = ((tenant, device.clone()), name.clone(), version.clone());
        let refused = &self.firmware.refused;
        let whose = (tenant, device.clone());
        let now = Instant::now();
        if let Some((known, _)) = self.known.get(&key).filter(|(_, until)| *until > now) {
            return Ok(known.clone());
        }
        let read = self.firmware.tables.read(move |registry| {
            Box::pin(async move {
                let found = registry.firmware_of_device(tenant, &device, &name, &version);
                found.await
            })
        });
        match read.await {
            Ok(found) => {
                refused.remove((whose.0, &whose.1));
                if self.known.len() < KNOWN_MAX {
                    self.known.insert(key, (found.clone(), now + KNOWN_TIME));
                }
                Ok(found)
            }
            Err(SharedRegistryError::Registry(RegistryError::NotFound(_))) => {
                refused.add(whose.0, &whose.1, &request.name, &request.version);
                Err("there is no such firmware for this device".to_owned())
            }
            Err(error) => {
                debug!(%error, "firmware of a device cannot be read");
                Err("firmware cannot be read now: try again later".to_owned())
            }
        }
    }

    fn publish(
        &mut self,
        tenant: u32,
        request: Option<ChunkRequest>,
        message: martlet_broker::NewMessage,
    ) {
        self.number += 1;
        if let Some(request) = request
            && self.published.len() < ANSWERS_MAX
        {
            self.published.insert(self.number, (tenant, request));
        }
        self.posts
            .publish(tenant, self.number.cast_signed(), message);
    }
}

async fn sleep(time: Duration) {
    match time {
        Duration::MAX => std::future::pending().await,
        Duration::ZERO => tokio::task::yield_now().await,
        time => tokio::time::sleep(time).await,
    }
}
