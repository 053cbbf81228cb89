//! Interest of all readers together. Shards get it when it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use martlet_broker::EventInterest;

/// Sends the interest to the shards if it has changed.
pub(crate) type SetInterest = Box<dyn Fn(Arc<EventInterest>) + Send + Sync>;

pub(super) struct Wants {
    set_interest: SetInterest,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    base: EventInterest,
    logged: EventInterest,
    readers: BTreeMap<u64, EventInterest>,
    /// Readers that want messages one by one which were dropped together.
    each: BTreeSet<u64>,
    last_place: u64,
    /// Interest that the shards know.
    reported: EventInterest,
}

impl std::fmt::Debug for Wants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wants").finish_non_exhaustive()
    }
}

impl Wants {
    /// `base` is always wanted, and shards have it from the start.
    pub(super) fn new(set_interest: SetInterest, base: EventInterest) -> Self {
        let state = State {
            reported: base.clone(),
            base,
            ..State::default()
        };
        Self {
            set_interest,
            state: Mutex::new(state),
        }
    }

    pub(super) fn set_logged(&self, interest: EventInterest) {
        let mut state = self.lock();
        state.logged = interest;
        self.set_interest(state);
    }

    /// Adds a reader's interest. None if there are `max` already.
    pub(super) fn add(&self, interest: EventInterest, each: bool, max: usize) -> Option<u64> {
        let mut state = self.lock();
        if state.readers.len() >= max {
            return None;
        }
        state.last_place += 1;
        let place = state.last_place;
        state.readers.insert(place, interest);
        if each {
            state.each.insert(place);
        }
        self.set_interest(state);
        Some(place)
    }

    pub(super) fn replace(&self, place: u64, interest: EventInterest, each: bool) {
        let mut state = self.lock();
        state.readers.insert(place, interest);
        if each {
            state.each.insert(place);
        } else {
            state.each.remove(&place);
        }
        self.set_interest(state);
    }

    pub(super) fn remove(&self, place: u64) {
        let mut state = self.lock();
        state.readers.remove(&place);
        state.each.remove(&place);
        self.set_interest(state);
    }

    /// Some reader wants messages one by one which were dropped together.
    pub(super) fn wants_each(&self) -> bool {
        !self.lock().each.is_empty()
    }

    /// The log has a line for each dropped message.
    pub(super) fn logs_drops(&self) -> bool {
        self.lock().base.drops
    }

    pub(super) fn readers(&self) -> usize {
        self.lock().readers.len()
    }

    /// Under the lock, so that shards get changes in their order.
    fn set_interest(&self, mut state: MutexGuard<'_, State>) {
        let mut all = state.base.clone();
        for one in state.readers.values().chain([&state.logged]) {
            add(&mut all, one);
        }
        if all != state.reported {
            state.reported = all.clone();
            (self.set_interest)(Arc::new(all));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(all: &mut EventInterest, one: &EventInterest) {
    all.connections |= one.connections;
    all.drops |= one.drops;
    all.subscriptions |= one.subscriptions;
    all.published |= one.published;
    all.delivered |= one.delivered;
    all.packets |= one.packets;
    all.payload_bytes_max = all.payload_bytes_max.max(one.payload_bytes_max);
    merge(&mut all.traced.clients, &one.traced.clients);
    merge(&mut all.traced.addresses, &one.traced.addresses);
    merge(&mut all.traced.topics, &one.traced.topics);
}

fn merge<T: Clone + PartialEq>(all: &mut Vec<T>, some: &[T]) {
    for one in some {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
}
