//! Slots for costly checks: only a few can run at once. Addresses take turns, so that one with many
//! requests does not delay others. Clients with a recent successful login come before unknown ones.
//! Requests of ended connections are skipped.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use martlet_lockout::{Failures, LoginAttempt};
use tokio::sync::oneshot;

/// Clients that have logged in recently and are served before a stranger, where both wait.
const KNOWN_IN_A_ROW: u32 = 3;

/// Request for a slot: which line it waits in, and whether it comes before others.
#[derive(Clone, Default)]
pub struct SlotRequest {
    /// Address of origin: all questions of one address wait in one line.
    pub from: Option<IpAddr>,
    /// The name was right from there recently.
    pub is_known: bool,
    /// Whether an answer is still wanted; always if there is none.
    pub is_wanted: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl SlotRequest {
    /// Request of this caller.
    pub(super) fn of(failures: &Failures, attempt: &LoginAttempt) -> Self {
        Self {
            from: attempt.counted_address(),
            is_known: failures.is_at_home(attempt, Instant::now()),
            is_wanted: None,
        }
    }
}

impl fmt::Debug for SlotRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotRequest({:?}, {})", self.from, self.is_known)
    }
}

/// A limited number of slots in which questions are served at once. Clones share the slots.
#[derive(Clone, Debug)]
pub(super) struct Slots(Arc<Mutex<SlotQueues>>);

/// A slot, which is free again when it is dropped.
#[derive(Debug)]
pub(super) struct Slot(Option<Slots>);

#[derive(Debug, Default)]
struct SlotQueues {
    /// Not 0 only while none waits.
    free: usize,
    known: FairQueue,
    strangers: FairQueue,
    /// Number of known clients that were served in a row while unknown ones waited.
    in_a_row: u32,
}

/// A line for each address, of which the first is served, then the next line's.
#[derive(Debug, Default)]
struct FairQueue {
    lines: HashMap<Option<IpAddr>, VecDeque<Waiter>>,
    round: VecDeque<Option<IpAddr>>,
}

#[derive(Debug)]
struct Waiter {
    slot_request: SlotRequest,
    go: oneshot::Sender<Slot>,
}

impl SlotRequest {
    fn is_wanted(&self) -> bool {
        self.is_wanted.as_ref().is_none_or(|is_wanted| is_wanted())
    }
}

impl Slots {
    /// `at_once` at the same time.
    pub(super) fn new(at_once: usize) -> Self {
        Self(Arc::new(Mutex::new(SlotQueues {
            free: at_once.max(1),
            ..SlotQueues::default()
        })))
    }

    /// Waits for a slot; none if it is not wanted any more when it comes.
    pub(super) async fn take(&self, slot_request: &SlotRequest) -> Option<Slot> {
        // It may have been a while until it came here.
        if !slot_request.is_wanted() {
            return None;
        }
        let granted = {
            let mut lines = self.lock();
            if lines.free > 0 {
                lines.free -= 1;
                return Some(Slot(Some(self.clone())));
            }
            let (go, granted) = oneshot::channel();
            let slot_request = slot_request.clone();
            lines.push(Waiter { slot_request, go });
            granted
        };
        granted.await.ok()
    }

    /// A turn has ended.
    fn pass_on(&self) {
        loop {
            let next = {
                let mut lines = self.lock();
                let next = lines.next();
                lines.free += usize::from(next.is_none());
                next
            };
            let Some(Waiter { slot_request, go }) = next else {
                return;
            };
            // Asked without the lock: it may have others of its own.
            if !slot_request.is_wanted() {
                continue;
            }
            match go.send(Slot(Some(self.clone()))) {
                Ok(()) => return,
                // That client has stopped waiting; the turn passes to the next one here.
                Err(mut turn) => turn.0 = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, SlotQueues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

impl SlotQueues {
    fn push(&mut self, waiter: Waiter) {
        let lane = match waiter.slot_request.is_known {
            true => &mut self.known,
            false => &mut self.strangers,
        };
        let line = lane.lines.entry(waiter.slot_request.from).or_default();
        if line.is_empty() {
            lane.round.push_back(waiter.slot_request.from);
        }
        line.push_back(waiter);
    }

    fn next(&mut self) -> Option<Waiter> {
        let both = !self.known.round.is_empty() && !self.strangers.round.is_empty();
        if both && self.in_a_row >= KNOWN_IN_A_ROW || self.known.round.is_empty() {
            self.in_a_row = 0;
            return self.strangers.next();
        }
        self.in_a_row = if both { self.in_a_row + 1 } else { 0 };
        self.known.next()
    }
}

impl FairQueue {
    fn next(&mut self) -> Option<Waiter> {
        let from = self.round.pop_front()?;
        let line = self.lines.get_mut(&from)?;
        let waiter = line.pop_front();
        match line.is_empty() {
            true => drop(self.lines.remove(&from)),
            false => self.round.push_back(from),
        }
        waiter
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn slot_request(last: u8, is_known: bool) -> SlotRequest {
        SlotRequest {
            from: Some([10, 0, 0, last].into()),
            is_known,
            is_wanted: None,
        }
    }

    /// The order of waiting requests while another one has the only slot.
    async fn order(waiting: &[(&'static str, SlotRequest)]) -> Vec<&'static str> {
        let turns = Slots::new(1);
        let first = turns.take(&SlotRequest::default()).await.unwrap();
        let came = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for (name, slot_request) in waiting.iter().cloned() {
            let (turns, came) = (turns.clone(), Arc::clone(&came));
            let task = async move {
                let turn = turns.take(&slot_request).await;
                if turn.is_some() {
                    came.lock().unwrap().push(name);
                }
            };
            tasks.push(tokio::spawn(task));
            // On one thread: it runs until it waits.
            tokio::task::yield_now().await;
        }
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(turns.lock().free, 1, "nothing is lost");
        came.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn one_of_each_address_is_served_in_turn() {
        let (many, other) = (slot_request(1, false), slot_request(2, false));
        let mut all = vec![("many", many); 5];
        all.extend([("other", other.clone()), ("other", other)]);
        all.push(("third", slot_request(3, false)));
        let expected = [
            "many", "other", "third", "many", "other", "many", "many", "many",
        ];
        assert_eq!(order(&all).await, expected);
    }

    #[tokio::test]
    async fn who_was_right_of_late_comes_first_and_strangers_come_too() {
        let mut all = vec![("stranger", slot_request(1, false)); 2];
        all.extend(vec![("known", slot_request(1, true)); 5]);
        let expected = [
            "known", "known", "known", "stranger", "known", "known", "stranger",
        ];
        assert_eq!(order(&all).await, expected);
    }

    #[tokio::test]
    async fn who_has_gone_is_left_out() {
        let is_there = Arc::new(AtomicBool::new(false));
        let abandoned = SlotRequest {
            is_wanted: Some(Arc::new(move || is_there.load(Ordering::SeqCst))),
            ..slot_request(1, false)
        };
        let all = [("gone", abandoned), ("there", slot_request(1, false))];
        assert_eq!(order(&all).await, ["there"]);
        // Nor is a slot lost with a request that waits for it.
        let turns = Slots::new(1);
        let first = turns.take(&SlotRequest::default()).await.unwrap();
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take(&SlotRequest::default()).await.is_some() }
        });
        tokio::task::yield_now().await;
        waiting.abort();
        assert!(waiting.await.is_err());
        drop(first);
        assert!(turns.take(&SlotRequest::default()).await.is_some());
    }
}
