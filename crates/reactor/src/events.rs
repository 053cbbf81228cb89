//! Events on their way to whoever takes them. No reactor ever waits for it: what finds no room is
//! dropped and counted, what there is much of first.
//!
//! All reactors put theirs into one list, at the end of each tick, and a taker empties it at once.
//! Only a taker that sleeps is woken; one that takes them in turns, a few milliseconds apart, costs
//! the reactors no system call.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use martlet_broker::{Event, EventKind, Told};

use crate::stats::Counters;

/// What the shards tell of their own accord, as far as somebody asks for it. All clones take from
/// the same queue.
#[derive(Clone, Debug)]
pub struct Events {
    queue: Arc<Queue>,
    /// Of what was taken last.
    taken: Arc<Mutex<VecDeque<Told>>>,
}

/// Where reactors put them.
#[derive(Debug)]
pub(crate) struct EventSender(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Something waits, or nothing will any more.
    come: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    events: Vec<Told>,
    /// Somebody sleeps until there are some.
    is_awaited: bool,
    senders: usize,
    /// How many there ever were.
    put: u64,
}

/// A queue for so many events: messages and packets take half of it at most.
pub(crate) fn events(capacity: usize) -> (EventSender, Events) {
    let queue = Arc::new(Queue {
        waiting: Mutex::new(Waiting {
            senders: 1,
            ..Waiting::default()
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

/// There is one for each message or packet.
fn is_frequent(event: &Event) -> bool {
    match event.kind() {
        EventKind::Published | EventKind::Delivered | EventKind::Packet => true,
        EventKind::Connection | EventKind::Subscription | EventKind::Dropped => false,
    }
}

impl EventSender {
    /// Hands over the events of a tick, as far as there is room.
    pub(crate) fn send(&self, events: &mut Vec<Told>, counters: &Counters) {
        if events.is_empty() {
            return;
        }
        let mut waiting = self.0.lock();
        let count = waiting.events.len();
        if count + events.len() > self.0.capacity / 2 {
            let mut room = self.0.capacity.saturating_sub(count);
            let mut frequent = (self.0.capacity / 2).saturating_sub(count);
            events.retain(|told| {
                let event = &told.event;
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
        waiting.put += events.len() as u64;
        waiting.events.append(events);
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

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there are events, the time is over, or nobody is there who could send any.
    fn wait(&self, deadline: Option<Instant>) -> Result<MutexGuard<'_, Waiting>, RecvTimeoutError> {
        let mut waiting = self.lock();
        loop {
            if !waiting.events.is_empty() {
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
    /// How many were handed over since the start, taken or not.
    pub fn put(&self) -> u64 {
        self.queue.lock().put
    }

    /// The next event; none when the reactors are gone.
    pub fn recv(&self) -> Option<Event> {
        self.recv_until(None).ok()
    }

    /// The next event, if one comes in time.
    ///
    /// # Errors
    /// None came, or the reactors are gone.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        self.recv_until(Some(Instant::now() + timeout))
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<Event, RecvTimeoutError> {
        loop {
            if let Some(told) = self.lock().pop_front() {
                return Ok(told.event);
            }
            let events = std::mem::take(&mut self.queue.wait(deadline)?.events);
            self.lock().extend(events);
        }
    }

    /// Waits for events, and appends all that are there, in order; false when the reactors are
    /// gone.
    pub fn recv_all(&self, into: &mut Vec<Told>) -> bool {
        into.extend(self.lock().drain(..));
        if !into.is_empty() {
            return true;
        }
        let Ok(mut waiting) = self.queue.wait(None) else {
            return false;
        };
        // The emptied list is filled next.
        std::mem::swap(&mut waiting.events, into);
        true
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Told>> {
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

    /// In the common tenant.
    fn told(event: Event) -> Told {
        let tenant = martlet_broker::TenantId::default();
        Told { tenant, event }
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
        let mut batch: Vec<Told> = (0..8).map(|_| told(packet())).collect();
        sender.send(&mut batch, &counters);
        let mut batch: Vec<Told> = (0..8).map(|_| told(ended())).collect();
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
        sender.send(&mut vec![told(packet())], &counters);
        assert_eq!(events.recv(), Some(packet()));
    }

    #[test]
    fn whoever_sleeps_is_woken_and_gets_all_there_is_in_order() {
        let (sender, events) = events(100);
        let other = sender.clone();
        let taking = std::thread::spawn(move || {
            let (mut taken, mut batch) = (Vec::new(), Vec::new());
            while events.recv_all(&mut batch) {
                taken.append(&mut batch);
            }
            taken
        });
        let counters = Counters::default();
        for number in 0..10 {
            let from = [&sender, &other][number % 2];
            from.send(&mut vec![told(packet()), told(ended())], &counters);
        }
        drop(sender);
        drop(other);
        let taken = taking.join().unwrap();
        assert_eq!(taken, vec![[told(packet()), told(ended())]; 10].concat());
    }

    #[test]
    fn a_taker_that_waits_so_long_gets_what_comes_in_time() {
        let (sender, events) = events(100);
        let soon = Duration::from_millis(1);
        assert_eq!(events.recv_timeout(soon), Err(RecvTimeoutError::Timeout));
        sender.send(
            &mut vec![told(packet()), told(ended())],
            &Counters::default(),
        );
        assert_eq!(events.recv_timeout(soon), Ok(packet()));
        drop(sender);
        assert_eq!(events.recv(), Some(ended()));
        assert_eq!(
            events.recv_timeout(soon),
            Err(RecvTimeoutError::Disconnected)
        );
    }
}
