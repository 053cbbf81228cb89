//! Publishes commands and takes what devices answer, for as long as the node runs.
//!
//! A command that is due is published with receipts. What comes of it is written to the tables in
//! batches, and answers are settled once they are written. After a crash nothing in memory is
//! needed: commands that are due are published again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use martlet_broker::{Delivery, PartEvent, Published, Receipt};
use martlet_codec::{PacketId, ReasonCode};
use martlet_registry::{Command, CommandKey, CommandStep, CommandUpdate};
use martlet_rules::hops_after;
use tracing::{debug, warn};

use super::message::{CommandMessage, filters, message_of, read};
use super::posts::{Messages, Posts, ReceiptMeaning};
use super::{Commands, KEPT};
use crate::control::Control;
use crate::event_kind::EventKind;
use crate::feed::{EventBatch, FeedReader, Filter, From, Happened, Kinds};
use crate::shared_registry::SharedRegistryError;
use crate::wall_clock::now_signed_ms;

/// Client Identifier of the parts.
pub(crate) const PART: &str = "$commands";
/// Commands whose messages are on their way to their receivers, at most.
const IN_HAND_MAX: usize = 1_000;
/// How many more there may be before commands are read to be published.
const IN_HAND_LEAST: usize = IN_HAND_MAX / 4;
/// Bytes of one of them, approximately.
const IN_HAND_BYTES: usize = 160;
/// Time that a command may take until its receivers are known; then it is published again.
const IN_HAND_TIME: Duration = Duration::from_secs(30);
/// Interval at which commands expire and states of fleets are published.
const TICK: Duration = Duration::from_secs(1);
/// Time until the tables are read again at the start.
const RESTORE_AGAIN: Duration = Duration::from_secs(10);
/// Ticks between two looks for what was missed: messages that were dropped, devices that were
/// disabled with others.
const TICKS_TO_LOOK: u64 = 30;
/// Ticks between two looks for commands that are kept no longer.
const TICKS_TO_TRIM: u64 = 600;
/// How long a device that has subscribed may take to acknowledge what was queued for it. After that
/// what was published before is published again: it may have gone to others alone.
const QUEUED_TIME: Duration = Duration::from_secs(2);
/// Devices that are remembered for that, at most.
const SUBSCRIBED_MAX: usize = 100_000;
/// Messages whose receipts wait until it is known that they are published, at most.
const EARLY_MAX: usize = 10_000;
/// Events of parts that are taken before what they led to is written.
const EVENTS: usize = 8_192;

/// Publishes commands and takes answers. It begins with the first command of the node.
pub async fn keep(control: Arc<Control>, commands: Arc<Commands>) {
    while let Err(error) = commands.restore_fleets().await {
        warn!(%error, "cannot read the states of commands to several devices; retrying");
        tokio::time::sleep(RESTORE_AGAIN).await;
    }
    commands.publish_states(&control).await;
    while !has_commands(&commands).await {
        commands.changed.notified().await;
    }
    let filter = Filter {
        kinds: Kinds::of(&[EventKind::Connected, EventKind::Subscribed]),
        ..Filter::default()
    };
    let reader = match control.feed.read(filter, &From::Now) {
        Ok(reader) => reader,
        Err(error) => return warn!(%error, "cannot publish commands"),
    };
    // From here on shards report each subscription. Devices that subscribed before get the commands
    // that are due.
    control.wait_until_all_reported().await;
    let bytes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&bytes);
    control.count_also(
        "commands",
        Box::new(move || counted.load(Ordering::Relaxed)),
    );
    let posts = Posts::new(PART, u32::MAX, filters(&commands.catalogue).into());
    let task = Task {
        control,
        commands,
        posts,
        messages: Messages::default(),
        in_hand: HashMap::new(),
        early: HashMap::new(),
        updates: Vec::new(),
        ended: Vec::new(),
        answered: HashMap::new(),
        asking: HashMap::new(),
        subscribed: HashSet::new(),
        later: VecDeque::new(),
        is_all_due: true,
        looks: true,
        looked_until: 0,
        attach_after: Instant::now(),
    };
    task.run(reader, &bytes).await;
}

/// Whether there are commands that have not ended; not if that cannot be read.
async fn has_commands(commands: &Commands) -> bool {
    if !commands.tables.are_there() {
        return false;
    }
    let read = commands
        .tables
        .read(|registry| Box::pin(registry.tenants_with_commands()));
    read.await.is_ok_and(|tenants| !tenants.is_empty())
}

/// A command whose message is on its way to its receivers.
struct InHand {
    tenant: u32,
    device: String,
    since: Instant,
    /// The device has subscribed meanwhile.
    again: bool,
}

/// Names a device: its tenant and id.
type DeviceKey = (u32, String);

struct Task {
    control: Arc<Control>,
    commands: Arc<Commands>,
    posts: Posts,
    messages: Messages,
    in_hand: HashMap<i64, InHand>,
    /// Receipts of messages that are not known, by their messages.
    early: HashMap<u64, Vec<Receipt>>,
    /// Updates that wait to be written.
    updates: Vec<CommandUpdate>,
    /// Commands that are in hand no more once those are written.
    ended: Vec<i64>,
    /// Answers that are settled once that is written, by tenant and attachment.
    answered: HashMap<(u32, u64), Vec<PacketId>>,
    /// Devices that ask for their commands.
    asking: HashMap<DeviceKey, u8>,
    /// Devices that have subscribed, or connected with an earlier session.
    subscribed: HashSet<DeviceKey>,
    /// Devices that have subscribed, when they are looked at again, and when they did.
    later: VecDeque<(Instant, i64, DeviceKey)>,
    /// All pending commands are to be published: events may have been missed.
    is_all_due: bool,
    /// There may be commands to publish.
    looks: bool,
    /// Number of the last command that was read to be published; 0: the next look begins with the
    /// oldest one.
    looked_until: i64,
    /// Until when nothing is published, since a part was ended.
    attach_after: Instant,
}

impl Task {
    async fn run(mut self, mut reader: FeedReader, bytes: &AtomicUsize) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tick = 0;
        let commands = Arc::clone(&self.commands);
        loop {
            tokio::select! {
                events = self.posts.next() => {
                    let Some(events) = events else { return };
                    self.take_events(events);
                }
                batch = reader.next() => {
                    let Some(batch) = batch else { return };
                    self.happened(&batch);
                }
                () = commands.changed.notified() => self.looks = true,
                _ = ticks.tick() => {
                    if let Err(error) = self.tick(tick).await {
                        warn!(%error, "could not expire commands; retrying");
                    }
                    tick += 1;
                }
            }
            if let Err(error) = self.work().await {
                warn!(%error, "could not write states of commands; retrying");
                tokio::time::sleep(TICK).await;
            }
            let held = self.in_hand.len() * IN_HAND_BYTES + self.messages.memory_bytes();
            bytes.store(held, Ordering::Relaxed);
        }
    }

    /// Writes what has happened, and publishes what is due.
    async fn work(&mut self) -> Result<(), SharedRegistryError> {
        self.write().await?;
        if self.looks {
            self.publish().await?;
        }
        Ok(())
    }

    fn take_events(&mut self, first: super::posts::PartEvents) {
        let mut next = Some(first);
        let mut count = 0;
        while let Some((tenant, attachment, events)) = next {
            count += events.len();
            for event in events {
                self.take_event(tenant, attachment, event);
            }
            next = match count < EVENTS {
                true => self.posts.next_now(),
                false => None,
            };
        }
    }

    fn take_event(&mut self, tenant: u32, attachment: u64, event: PartEvent) {
        match event {
            PartEvent::Published { number, outcome } => {
                self.published(number.cast_signed(), &outcome);
            }
            PartEvent::Receivers { message, receivers } => {
                self.receivers(message.0, receivers);
            }
            PartEvent::Receipt(receipt) => {
                // A device may acknowledge a message before it is stored. The receipt comes then.
                let is_early = self.messages.number(receipt.message.0).is_none();
                match is_early && !self.in_hand.is_empty() && self.early.len() < EARLY_MAX {
                    true => self
                        .early
                        .entry(receipt.message.0)
                        .or_default()
                        .push(receipt),
                    false => self.receipt(&receipt),
                }
            }
            PartEvent::Delivery(delivery) => {
                self.answer(tenant, &delivery);
                let tokens = self.answered.entry((tenant, attachment)).or_default();
                tokens.push(delivery.token);
            }
            PartEvent::Ended { reason, why } => {
                if reason != ReasonCode::ServerShuttingDown {
                    warn!(
                        why,
                        tenant, "cannot publish the commands of a tenant; retrying"
                    );
                }
                self.posts.forget(tenant, attachment);
                self.in_hand.retain(|_, command| command.tenant != tenant);
                self.is_all_due = true;
                self.attach_after = Instant::now() + TICK;
            }
            PartEvent::Attached { .. } => {
                self.posts.attached(tenant, attachment);
                self.looks = true;
                self.looked_until = 0;
            }
            PartEvent::Queue(_) | PartEvent::Run { .. } => {}
        }
    }

    /// Handles the result of publishing a command.
    fn published(&mut self, number: i64, outcome: &Published) {
        let Some(command) = self.in_hand.get(&number) else {
            return;
        };
        let Some(message) = outcome.id.filter(|_| !outcome.reason.is_error()) else {
            debug!(
                number,
                reason = outcome.reason.name(),
                "a command could not be published; retrying"
            );
            // It is still due, and tried again at the next tick.
            self.in_hand.remove(&number);
            return;
        };
        if outcome.subscribers() == 0 {
            // Integrations may have received it, the device has not: it is sent once the device
            // subscribes.
            let again = command.again;
            self.step(
                CommandKey::Number(number),
                CommandStep::NoReceiver { again },
            );
            self.ended.push(number);
            self.early.remove(&message.0);
            return;
        }
        self.messages.add(message.0, number, &command.device);
        let sent = CommandStep::Sent { message: message.0 };
        self.step(CommandKey::Number(number), sent);
        for receipt in self.early.remove(&message.0).into_iter().flatten() {
            self.receipt(&receipt);
        }
    }

    fn receipt(&mut self, receipt: &Receipt) {
        match self.messages.receipt(receipt) {
            ReceiptMeaning::Step(number, step) => self.step(CommandKey::Number(number), step),
            // No device is called like that: it is an integration.
            ReceiptMeaning::Unknown(_) if receipt.receiver.starts_with('$') => {}
            ReceiptMeaning::Unknown(step) => {
                let receiver = receipt.receiver.to_string();
                self.step(CommandKey::Message(receipt.message.0, receiver), step);
            }
            ReceiptMeaning::Nothing => {}
        }
    }

    /// Takes receipts that came before their messages were known to be published. Those of an
    /// earlier run of the node are among them.
    fn take_early(&mut self) {
        for receipt in std::mem::take(&mut self.early).into_values().flatten() {
            self.receipt(&receipt);
        }
    }

    fn receivers(&mut self, message: u64, receivers: u64) {
        let number = self.messages.number(message);
        if let Some(number) = self.messages.receivers(message, receivers) {
            let again = self
                .in_hand
                .get(&number)
                .is_some_and(|command| command.again);
            let step = CommandStep::NoReceiver { again };
            self.looks |= again;
            self.step(CommandKey::Number(number), step);
        }
        self.ended.extend(number);
    }

    fn answer(&mut self, tenant: u32, delivery: &Delivery) {
        match read(&self.commands.catalogue, &delivery.message) {
            Ok(CommandMessage::Answer { device, id, answer }) => {
                let step = match answer {
                    Ok(answer) => CommandStep::Answered(answer),
                    Err(why) => CommandStep::NotUnderstood(why),
                };
                self.step(CommandKey::Id(tenant, device, id), step);
            }
            Ok(CommandMessage::Asks { device }) => {
                // A rule may have asked, as the consequence of a command.
                let hops = hops_after(delivery.message.hops(), 1);
                let asked = self.asking.entry((tenant, device)).or_default();
                *asked = hops.max(*asked);
            }
            Ok(CommandMessage::Nameless { device, why }) => {
                let topic = delivery.message.topic();
                debug!(why, topic, "an answer to a command is not understood");
                self.commands.misread.add((tenant, &device), why.to_owned());
            }
            Err(why) => {
                let topic = delivery.message.topic();
                debug!(why, topic, "an answer to a command is not understood");
            }
        }
    }

    fn step(&mut self, command: CommandKey, step: CommandStep) {
        let at_ms = now_signed_ms();
        self.updates.push(CommandUpdate {
            command,
            step,
            at_ms,
        });
    }

    /// Devices have connected and subscribed.
    fn happened(&mut self, batch: &EventBatch) {
        if batch.missed > 0 || batch.is_new_run {
            self.is_all_due = true;
        }
        let look_at = Instant::now() + QUEUED_TIME;
        for entry in batch.entries() {
            let client = match entry.what() {
                // Without its session it subscribes next.
                Happened::Connected(client) if !client.flags.session_present() => {
                    continue;
                }
                Happened::Connected(client) => &client.client_id,
                Happened::Event(told) => &told.head.client_id,
                Happened::Lost => {
                    self.is_all_due = true;
                    continue;
                }
            };
            if client.starts_with('$') {
                continue;
            }
            let device = (entry.tenant.0, client.to_string());
            if entry.kind == EventKind::Subscribed && self.later.len() < SUBSCRIBED_MAX {
                let at_ms = i64::try_from(entry.at_ms).unwrap_or(i64::MAX);
                self.later.push_back((look_at, at_ms, device.clone()));
            }
            self.subscribed.insert(device);
        }
        if self.in_hand.is_empty() {
            return;
        }
        for command in self.in_hand.values_mut() {
            let device = (command.tenant, std::mem::take(&mut command.device));
            command.again |= self.subscribed.contains(&device);
            command.device = device.1;
        }
    }

    /// Writes what has happened. What fails is kept, and written the next time.
    async fn write(&mut self) -> Result<(), SharedRegistryError> {
        if self.in_hand.is_empty() && !self.early.is_empty() {
            self.take_early();
        }
        let tables = Arc::clone(&self.commands.tables);
        if !self.updates.is_empty() {
            let updates = self.updates.clone();
            let written = tables.note(move |registry| {
                Box::pin(async move { registry.update_commands(&updates).await })
            });
            let changed = written.await?;
            for update in self.updates.drain(..) {
                self.commands.has_answered(&update, &changed);
            }
            for command in &changed {
                self.commands.command_has_changed(command);
            }
        }
        for number in std::mem::take(&mut self.ended) {
            self.in_hand.remove(&number);
            self.looks = true;
        }
        for ((tenant, attachment), tokens) in std::mem::take(&mut self.answered) {
            self.posts.settle(tenant, attachment, tokens);
        }
        if std::mem::take(&mut self.is_all_due) {
            let made = tables.note(|registry| Box::pin(registry.make_commands_due(false)));
            if let Err(error) = made.await {
                self.is_all_due = true;
                return Err(error);
            }
            self.looks = true;
        }
        if !self.asking.is_empty() {
            let devices = self.asking.iter();
            let devices: Vec<(u32, String, u8)> = devices
                .map(|((tenant, device), hops)| (*tenant, device.clone(), *hops))
                .collect();
            let asked = tables.note(move |registry| {
                Box::pin(async move { registry.commands_in_doubt(&devices).await })
            });
            asked.await?;
            self.asking.clear();
            self.looks = true;
        }
        if !self.subscribed.is_empty() {
            let devices = self.subscribed.iter().cloned().collect();
            self.looks |= self.subscribed_devices(devices, None).await? > 0;
            self.subscribed.clear();
        }
        Ok(())
    }

    async fn subscribed_devices(
        &self,
        devices: Vec<DeviceKey>,
        sent_before_ms: Option<i64>,
    ) -> Result<u64, SharedRegistryError> {
        let noted = self.commands.tables.note(move |registry| {
            Box::pin(async move { registry.devices_subscribed(&devices, sent_before_ms).await })
        });
        noted.await
    }

    /// Publishes commands that are due.
    async fn publish(&mut self) -> Result<(), SharedRegistryError> {
        if Instant::now() < self.attach_after {
            return Ok(());
        }
        let (after, room) = (self.looked_until, IN_HAND_MAX - self.in_hand.len());
        // A few at a time would be as many questions to the tables.
        if room < IN_HAND_LEAST {
            return Ok(());
        }
        let read = self.commands.tables.read(move |registry| {
            Box::pin(async move { registry.due_commands(after, room as u32).await })
        });
        let due = read.await?;
        // Those behind are looked at once there is room; then the oldest ones again.
        let is_last = due.len() < room;
        self.looks = !is_last;
        self.looked_until = match due.last() {
            Some(last) if !is_last => last.number,
            _ => 0,
        };
        let now_ms = now_signed_ms();
        for command in due {
            if !self.in_hand.contains_key(&command.number) {
                self.publish_one(command, now_ms);
            }
        }
        Ok(())
    }

    fn publish_one(&mut self, command: Command, now_ms: i64) {
        // Commands whose time is over expire at the next tick.
        let Some(message) = message_of(&self.commands.catalogue, &command, now_ms) else {
            return;
        };
        self.posts.attach(&self.control, command.tenant);
        if self.posts.publish(command.tenant, command.number, message) {
            let in_hand = InHand {
                tenant: command.tenant,
                device: command.device,
                since: Instant::now(),
                again: false,
            };
            self.in_hand.insert(command.number, in_hand);
        }
    }

    async fn tick(&mut self, tick: u64) -> Result<(), SharedRegistryError> {
        self.looks = true;
        self.in_hand
            .retain(|_, command| command.since.elapsed() < IN_HAND_TIME);
        let tables = Arc::clone(&self.commands.tables);
        let now_ms = now_signed_ms();
        let expired = tables
            .note(move |registry| Box::pin(async move { registry.expire_commands(now_ms).await }));
        let mut ended = expired.await?;
        self.look_again().await?;
        if tick.is_multiple_of(TICKS_TO_LOOK) {
            let dropped = tables.note(|registry| Box::pin(registry.make_commands_due(true)));
            dropped.await?;
            let inactive = tables.note(move |registry| {
                Box::pin(async move { registry.cancel_commands_of_inactive(now_ms).await })
            });
            ended += inactive.await?;
            // Devices may answer after a restart, whether or not anything is published before.
            let tenants = tables.read(|registry| Box::pin(registry.tenants_with_commands()));
            for tenant in tenants.await? {
                self.posts.attach(&self.control, tenant);
            }
        }
        if tick.is_multiple_of(TICKS_TO_TRIM) {
            let trimmed = tables.note(move |registry| {
                Box::pin(async move { registry.trim_commands(KEPT, now_ms).await })
            });
            trimmed.await?;
        }
        if ended > 0 {
            self.commands.all_fleets_have_changed();
        }
        self.commands.publish_states(&self.control).await;
        Ok(())
    }

    /// Looks at devices that have subscribed a while ago.
    async fn look_again(&mut self) -> Result<(), SharedRegistryError> {
        let now = Instant::now();
        let mut devices = Vec::new();
        let mut before_ms = 0;
        while let Some((_, at_ms, device)) = self.later.pop_front_if(|(at, ..)| *at <= now) {
            // Rather once too often than not at all.
            before_ms = before_ms.max(at_ms);
            devices.push(device);
        }
        if !devices.is_empty() {
            self.subscribed_devices(devices, Some(before_ms)).await?;
        }
        Ok(())
    }
}
