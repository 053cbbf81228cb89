//! Events on their way to whoever takes them: in batches, one per tick and shard, so that a taker
//! that keeps up is woken once a tick. No reactor ever waits for it: what finds no room is dropped
//! and counted, what there is much of first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use martlet_broker::{Event, EventKind};

use crate::stats::Counters;

/// What the shards tell of their own accord, as far as somebody asks for it. All clones take from
/// the same queue.
#[derive(Clone, Debug)]
pub struct Events {
    batches: Receiver<Vec<Event>>,
    /// Of the batch that was taken last.
    taken: Arc<Mutex<VecDeque<Event>>>,
    waiting: Arc<AtomicUsize>,
}

/// Where reactors put them.
#[derive(Clone, Debug)]
pub(crate) struct EventSender {
    batches: Sender<Vec<Event>>,
    /// Events in batches that nobody has taken.
    waiting: Arc<AtomicUsize>,
    capacity: usize,
}

/// A queue for so many events: messages and packets take half of it at most.
pub(crate) fn events(capacity: usize) -> (EventSender, Events) {
    // Bounded by what waits in it.
    let (sender, receiver) = unbounded();
    let waiting = Arc::new(AtomicUsize::new(0));
    let events = Events {
        batches: receiver,
        taken: Arc::default(),
        waiting: Arc::clone(&waiting),
    };
    let sender = EventSender {
        batches: sender,
        waiting,
        capacity: capacity.max(1),
    };
    (sender, events)
}

/// There is one for each message or packet.
fn is_frequent(event: &Event) -> bool {
    match event.kind() {
        EventKind::Published | EventKind::Delivered | EventKind::Packet => true,
        EventKind::Connection | EventKind::Subscription | EventKind::Dropped => false,
    }
}

impl EventSender {
    /// Hands over the events of a tick, as far as there is room.
    pub(crate) fn send(&self, events: &mut Vec<Event>, counters: &Counters) {
        if events.is_empty() {
            return;
        }
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting + events.len() > self.capacity / 2 {
            let mut room = self.capacity.saturating_sub(waiting);
            let mut frequent = (self.capacity / 2).saturating_sub(waiting);
            events.retain(|event| {
                let is_frequent = is_frequent(event);
                let has_room = room > 0 && (!is_frequent || frequent > 0);
                if has_room {
                    room -= 1;
                    frequent = frequent.saturating_sub(1);
                } else {
                    counters.event_dropped(event.kind());
                }
                has_room
            });
        }
        if events.is_empty() {
            return;
        }
        let batch = std::mem::replace(events, Vec::with_capacity(events.len()));
        self.waiting.fetch_add(batch.len(), Ordering::Relaxed);
        // Nobody takes them any more when the node is being dropped.
        let _ = self.batches.send(batch);
    }
}

impl Events {
    /// The next event; none when the reactors are gone.
    pub fn recv(&self) -> Option<Event> {
        loop {
            if let Some(event) = self.take() {
                return Some(event);
            }
            let batch = self.batches.recv().ok()?;
            self.put(batch);
        }
    }

    /// The next event, if one comes in time.
    ///
    /// # Errors
    /// None came, or the reactors are gone.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(event) = self.take() {
                return Ok(event);
            }
            let batch = self.batches.recv_deadline(deadline)?;
            self.put(batch);
        }
    }

    /// Waits for events, and appends all that are there, in order; false when the reactors are
    /// gone.
    pub fn recv_all(&self, into: &mut Vec<Event>) -> bool {
        into.extend(self.lock().drain(..));
        if into.is_empty() {
            let Ok(batch) = self.batches.recv() else {
                return false;
            };
            self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
            into.extend(batch);
        }
        while let Ok(batch) = self.batches.try_recv() {
            self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
            into.extend(batch);
        }
        true
    }

    fn take(&self) -> Option<Event> {
        self.lock().pop_front()
    }

    fn put(&self, batch: Vec<Event>) {
        self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
        self.lock().extend(batch);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.recv()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use martlet_codec::PacketType;

    fn packet() -> Event {
        Event::Packet {
            client_id: "c".into(),
            is_out: false,
            packet_type: PacketType::PingReq,
            packet_id: None,
            remaining_bytes: 0,
            at_ms: 0,
        }
    }

    fn ended() -> Event {
        Event::SessionEnded {
            client_id: "c".into(),
            why: "test",
        }
    }

    #[test]
    fn packets_leave_room_for_what_is_seldom() {
        let (sender, events) = events(10);
        let counters = Counters::default();
        let mut batch: Vec<Event> = (0..8).map(|_| packet()).collect();
        sender.send(&mut batch, &counters);
        let mut batch: Vec<Event> = (0..8).map(|_| ended()).collect();
        sender.send(&mut batch, &counters);
        let mut stats = crate::ReactorStats::default();
        stats += &counters;
        assert_eq!(stats.packet_events_dropped, 3);
        assert_eq!(stats.connection_events_dropped, 3);
        assert_eq!(stats.events_dropped, 6);
        let taken: Vec<_> = (0..10).filter_map(|_| events.recv()).collect();
        let packets = taken.iter().filter(|event| **event == packet());
        assert_eq!(packets.count(), 5);
        // Once they are taken there is room again.
        sender.send(&mut vec![packet()], &counters);
        assert_eq!(events.recv(), Some(packet()));
    }
}
