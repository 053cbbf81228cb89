//! Events on their way to the feed. Reactors never wait for the feed: events that find no room are
//! dropped and counted, the most frequent kinds first.
//!
//! At the end of each tick, reactors append their events to short lists. A reader takes one list at
//! a time. Only a sleeping reader is woken. A reader that polls every few milliseconds costs the
//! reactors no system call.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use martlet_broker::{Event, EventGroup, EventNotice, SharedClient, TenantId};

use crate::stats::Counters;

/// Receiving end of the events of all shards. All clones take from the same queue.
#[derive(Clone, Debug)]
pub struct Events {
    queue: Arc<Queue>,
    /// The list that was taken last.
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    list: Vec<Waits>,
    /// Events of the list, when they are taken one by one, in order.
    single: VecDeque<EventNotice>,
}

/// The sending end, for reactors.
#[derive(Debug)]
pub(crate) struct EventSender(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    waiting: Mutex<WaitingEvents>,
    /// Notified when an event is queued, or when the last sender is dropped.
    come: Condvar,
    capacity: usize,
}

/// Approximate limit in bytes for all queued events: payloads may be long.
const BYTES_MAX: usize = 16 << 20;

/// Most events per list. A list that grew in a burst would keep its memory.
const CHUNK: usize = 128;

/// A queued event. Its size matters: thousands of clients may connect at once.
#[derive(Debug)]
enum Waits {
    Connected(TenantId, SharedClient),
    Other(Box<EventNotice>),
}

impl From<EventNotice> for Waits {
    fn from(told: EventNotice) -> Self {
        match told.event {
            Event::Connected(client) => Self::Connected(told.head.tenant, client),
            event => Self::Other(Box::new(EventNotice { event, ..told })),
        }
    }
}

impl From<Waits> for EventNotice {
    fn from(waits: Waits) -> Self {
        match waits {
            Waits::Other(told) => *told,
            Waits::Connected(tenant, client) => Self::connected(tenant, client),
        }
    }
}

#[derive(Debug, Default)]
struct Chunk {
    list: Vec<Waits>,
    /// Approximate size of its events in bytes.
    bytes: usize,
}

#[derive(Debug, Default)]
struct WaitingEvents {
    /// The events in order, in lists of at most [`CHUNK`].
    chunks: VecDeque<Chunk>,
    /// Number of events in these lists.
    count: usize,
    /// Approximate size of them in bytes.
    bytes: usize,
    /// An empty list for reuse.
    spare: Vec<Waits>,
    /// Whether a reader sleeps until there are events.
    is_awaited: bool,
    senders: usize,
    /// Number of events since the start.
    put: u64,
}

/// Creates a queue for `capacity` events. Events about messages and packets take at most half of
/// it.
pub(crate) fn events(capacity: usize) -> (EventSender, Events) {
    let queue = Arc::new(Queue {
        waiting: Mutex::new(WaitingEvents {
            senders: 1,
            ..WaitingEvents::default()
        }),
        come: Condvar::new(),
        capacity: capacity.max(1),
    });
    let events = Events {
        queue: Arc::clone(&queue),
        taken: Arc::default(),
    };
    (EventSender(queue), events)
}

/// Approximate size of a queued event in bytes.
fn bytes_of(told: &EventNotice) -> usize {
    size_of::<Waits>()
        + match &told.event {
            // The connection's memory count includes it.
            Event::Connected(_) => 0,
            _ => size_of::<EventNotice>() + told.text_bytes(),
        }
}

/// Whether events of this kind occur for each message or packet.
fn is_frequent(event: &Event) -> bool {
    matches!(
        event.group(),
        EventGroup::Published | EventGroup::Delivered | EventGroup::Packet
    )
}

impl EventSender {
    /// Queues the events of a tick, as far as there is room.
    pub(crate) fn send(&self, events: &mut Vec<EventNotice>, counters: &Counters) {
        if events.is_empty() {
            return;
        }
        let mut waiting = self.0.lock();
        let count = waiting.count;
        let bytes: usize = events.iter().map(bytes_of).sum();
        let is_long = waiting.bytes + bytes > BYTES_MAX / 2;
        if is_long || count + events.len() > self.0.capacity / 2 {
            let mut room = self.0.capacity.saturating_sub(count);
            let mut frequent = (self.0.capacity / 2).saturating_sub(count);
            let mut bytes = BYTES_MAX.saturating_sub(waiting.bytes);
            let mut frequent_bytes = (BYTES_MAX / 2).saturating_sub(waiting.bytes);
            events.retain(|told| {
                let event = &told.event;
                let (is_frequent, length) = (is_frequent(event), bytes_of(told));
                let has_room = room > 0
                    && length <= bytes
                    && (!is_frequent || frequent > 0 && length <= frequent_bytes);
                if has_room {
                    room -= 1;
                    frequent = frequent.saturating_sub(1);
                    bytes -= length;
                    frequent_bytes = frequent_bytes.saturating_sub(length);
                } else {
                    counters.event_dropped(event.group());
                }
                has_room
            });
        }
        waiting.put += events.len() as u64;
        waiting.count += events.len();
        waiting.append(events);
        let is_awaited = std::mem::take(&mut waiting.is_awaited);
        drop(waiting);
        if is_awaited {
            self.0.come.notify_all();
        }
    }
}

impl Clone for EventSender {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        self.0.lock().senders -= 1;
        self.0.come.notify_all();
    }
}

impl WaitingEvents {
    fn append(&mut self, events: &mut Vec<EventNotice>) {
        let mut events = events.drain(..);
        while events.len() > 0 {
            let last = self.chunks.back_mut();
            match last.filter(|last| last.list.len() < CHUNK) {
                Some(last) => {
                    let room = CHUNK - last.list.len();
                    for told in events.by_ref().take(room) {
                        let bytes = bytes_of(&told);
                        last.bytes += bytes;
                        self.bytes += bytes;
                        last.list.push(told.into());
                    }
                }
                None => {
                    let list = std::mem::take(&mut self.spare);
                    self.chunks.push_back(Chunk { list, bytes: 0 });
                }
            }
        }
    }

    /// Takes the first list. `emptied`, the list taken before, is kept for reuse.
    fn take(&mut self, emptied: &mut Vec<Waits>) {
        let chunk = self.chunks.pop_front().unwrap_or_default();
        self.count -= chunk.list.len();
        self.bytes -= chunk.bytes;
        self.spare = std::mem::replace(emptied, chunk.list);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, WaitingEvents> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there are events, the time has expired, or no sender is left.
    fn wait(
        &self,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'_, WaitingEvents>, RecvTimeoutError> {
        let mut waiting = self.lock();
        loop {
            if waiting.count > 0 {
                return Ok(waiting);
            }
            if waiting.senders == 0 {
                return Err(RecvTimeoutError::Disconnected);
            }
            waiting.is_awaited = true;
            waiting = match deadline {
                None => self
                    .come
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(RecvTimeoutError::Timeout);
                    }
                    let waited = self.come.wait_timeout(waiting, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Events {
    /// Number of events queued since the start, taken or not.
    pub fn put(&self) -> u64 {
        self.queue.lock().put
    }

    /// Approximate size of the queued events in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    /// Returns the next event, or `None` if the reactors have ended.
    pub fn recv(&self) -> Option<EventNotice> {
        self.recv_until(None).ok()
    }

    /// Returns the next event, if one arrives in time.
    ///
    /// # Errors
    /// No event arrived in time, or the reactors have ended.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<EventNotice, RecvTimeoutError> {
        self.recv_until(Some(Instant::now() + timeout))
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<EventNotice, RecvTimeoutError> {
        loop {
            if let Some(told) = self.lock().single.pop_front() {
                return Ok(told);
            }
            let mut list = Vec::new();
            self.queue.wait(deadline)?.take(&mut list);
            self.lock()
                .single
                .extend(list.into_iter().map(EventNotice::from));
        }
    }

    /// Waits for events and appends the next ones to the list, in order. Returns false if the
    /// reactors have ended.
    pub fn recv_some(&self, into: &mut Vec<EventNotice>) -> bool {
        let mut taken = self.lock();
        into.extend(taken.single.drain(..));
        if !into.is_empty() {
            return true;
        }
        let mut list = std::mem::take(&mut taken.list);
        drop(taken);
        let Ok(mut waiting) = self.queue.wait(None) else {
            return false;
        };
        waiting.take(&mut list);
        drop(waiting);
        into.extend(list.drain(..).map(EventNotice::from));
        self.lock().list = list;
        true
    }

    /// Whether no event is queued.
    pub fn is_empty(&self) -> bool {
        self.queue.lock().count == 0
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Iterator for Events {
    type Item = EventNotice;

    fn next(&mut self) -> Option<EventNotice> {
        self.recv()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use martlet_broker::{ConnectedClient, EventHead, MessageId, PublishedMessage, RefusalCause};
    use martlet_codec::{PacketType, QoS};

    fn packet() -> EventNotice {
        told(Event::Packet {
            is_out: false,
            packet_type: PacketType::PingReq,
            packet_id: None,
            remaining_bytes: 0,
            at_ms: 0,
        })
    }

    /// An event notice about a client of the default tenant.
    fn told(event: Event) -> EventNotice {
        let head = EventHead::new(TenantId::default(), "c");
        EventNotice { head, event }
    }

    fn ended() -> EventNotice {
        told(Event::SessionEnded {
            cause: RefusalCause::CleanStart,
        })
    }

    #[test]
    fn long_payloads_leave_room_for_who_comes_and_goes() {
        let (sender, events) = events(1_000);
        let counters = Counters::default();
        let published = || {
            told(Event::Published(Box::new(PublishedMessage {
                topic: "t".into(),
                id: MessageId(1),
                qos: QoS::AtMostOnce,
                retain: false,
                matched: true,
                payload_bytes: 1 << 20,
                payload: vec![0; 1 << 20].into(),
                at_ms: 1,
            })))
        };
        for _ in 0..100 {
            sender.send(&mut vec![published()], &counters);
        }
        assert!(events.memory_bytes() <= BYTES_MAX / 2);
        sender.send(&mut vec![ended()], &counters);
        let mut taken = Vec::new();
        while !events.is_empty() {
            assert!(events.recv_some(&mut taken));
        }
        assert!(matches!(
            taken.last().map(|told| &told.event),
            Some(Event::SessionEnded { .. })
        ));
        assert!((5..8).contains(&(taken.len() - 1)));
        assert_eq!(events.memory_bytes(), 0);
        let mut stats = crate::ReactorStats::default();
        stats += &counters;
        assert_eq!(stats.published_events_dropped as usize, 101 - taken.len());
    }

    #[test]
    fn packets_leave_room_for_what_is_seldom() {
        let (sender, events) = events(10);
        let counters = Counters::default();
        let mut batch: Vec<EventNotice> = (0..8).map(|_| packet()).collect();
        sender.send(&mut batch, &counters);
        let mut batch: Vec<EventNotice> = (0..8).map(|_| ended()).collect();
        sender.send(&mut batch, &counters);
        let mut stats = crate::ReactorStats::default();
        stats += &counters;
        assert_eq!(stats.packet_events_dropped, 3);
        assert_eq!(stats.connection_events_dropped, 3);
        assert_eq!(stats.events_dropped, 6);
        let taken: Vec<_> = (0..10).filter_map(|_| events.recv()).collect();
        let packets = taken.iter().filter(|event| **event == packet());
        assert_eq!(packets.count(), 5);
        // After the queue is emptied there is room again.
        sender.send(&mut vec![packet()], &counters);
        assert_eq!(events.recv(), Some(packet()));
    }

    #[test]
    fn whoever_sleeps_is_woken_and_gets_all_there_is_in_order() {
        let (sender, events) = events(100);
        let other = sender.clone();
        let taking = std::thread::spawn(move || {
            let (mut taken, mut batch) = (Vec::new(), Vec::new());
            while events.recv_some(&mut batch) {
                taken.append(&mut batch);
            }
            taken
        });
        let counters = Counters::default();
        for number in 0..10 {
            let from = [&sender, &other][number % 2];
            from.send(&mut vec![packet(), ended()], &counters);
        }
        drop(sender);
        drop(other);
        let taken = taking.join().unwrap();
        assert_eq!(taken, vec![[packet(), ended()]; 10].concat());
    }

    #[test]
    fn a_burst_comes_in_order_in_short_lists() {
        let (sender, events) = events(10_000);
        let connected = |number: u32| {
            let client = ConnectedClient::new(&number.to_string(), None);
            EventNotice::connected(TenantId::default(), SharedClient::new(client))
        };
        let all: Vec<EventNotice> = (0..1_000)
            .map(|number| {
                if number % 3 == 0 {
                    ended()
                } else {
                    connected(number)
                }
            })
            .collect();
        for some in all.chunks(7) {
            sender.send(&mut some.to_vec(), &Counters::default());
        }
        let (mut taken, mut batch) = (Vec::new(), Vec::new());
        while !events.is_empty() {
            assert!(events.recv_some(&mut batch) && batch.len() <= CHUNK);
            taken.append(&mut batch);
        }
        assert_eq!(taken, all);
        assert!(size_of::<Waits>() <= 16);
    }

    #[test]
    fn a_taker_that_waits_so_long_gets_what_comes_in_time() {
        let (sender, events) = events(100);
        let soon = Duration::from_millis(1);
        assert_eq!(events.recv_timeout(soon), Err(RecvTimeoutError::Timeout));
        sender.send(&mut vec![packet(), ended()], &Counters::default());
        assert_eq!(events.recv_timeout(soon), Ok(packet()));
        drop(sender);
        assert_eq!(events.recv(), Some(ended()));
        assert_eq!(
            events.recv_timeout(soon),
            Err(RecvTimeoutError::Disconnected)
        );
    }
}
