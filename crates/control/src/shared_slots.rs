//! Slots for work that costs much. A caller may have its share of what others leave, so that none
//! takes them all, and the next free slot is for the caller with fewest.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use martlet_broker::{Share, Uses};
use martlet_registry::Visibility;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::lock::lock;

/// Owner of slots.
pub trait SlotOwner: Clone + Ord + Send + Sync + 'static {
    /// Whether the owner is a team or its tenant, and not a caller that sees all teams.
    fn is_team(&self) -> bool;
}

impl SlotOwner for Visibility {
    fn is_team(&self) -> bool {
        self.team().is_some()
    }
}

/// The number of a tenant.
impl SlotOwner for u32 {
    fn is_team(&self) -> bool {
        *self != 0
    }
}

/// Slots that callers share. `K` names a caller.
#[derive(Debug)]
pub struct SharedSlots<K> {
    limit: usize,
    share: Share,
    state: Arc<Mutex<State<K>>>,
}

#[derive(Debug)]
struct State<K> {
    /// Slots of each caller.
    uses: Uses<K>,
    /// Callers that wait, in their order.
    waiting: VecDeque<(K, oneshot::Sender<SharedSlot>)>,
}

/// A slot, for as long as it is held.
pub struct SharedSlot(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Debug for SharedSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SharedSlot").finish_non_exhaustive()
    }
}

impl Drop for SharedSlot {
    fn drop(&mut self) {
        if let Some(give_back) = self.0.take() {
            give_back();
        }
    }
}

impl<K: SlotOwner> SharedSlots<K> {
    /// `limit` slots, of which one caller may have this share.
    pub fn new(limit: usize, share: Share) -> Self {
        let state = State {
            uses: Uses::default(),
            waiting: VecDeque::new(),
        };
        Self {
            limit,
            share,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Takes a slot that is free. Teams leave the last ones to callers that see all teams.
    ///
    /// # Errors
    /// None is; how many are used, by the caller if it has its share, else by all.
    pub fn try_take(&self, caller: &K) -> Result<SharedSlot, usize> {
        let mut state = lock(&self.state);
        let least = usize::from(!caller.is_team());
        if !self.has_room(&state, caller, least) {
            let all = state.uses.all();
            return Err(match all < self.limit {
                true => state.uses.of(caller),
                false => all,
            });
        }
        state.uses.add(caller, 1);
        drop(state);
        Ok(self.slot(caller.clone()))
    }

    /// Waits for a slot; none: no slot was free within that time. Each caller may have one, since
    /// work that waits for a slot ends soon.
    pub async fn take(&self, caller: &K, within: Duration) -> Option<SharedSlot> {
        let (give, given) = oneshot::channel();
        lock(&self.state).waiting.push_back((caller.clone(), give));
        self.hand_out();
        let given = timeout(within, given).await;
        given.ok()?.ok()
    }

    /// Number of all slots.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many slots each caller has.
    pub fn used(&self) -> Vec<(K, usize)> {
        lock(&self.state).uses.each().collect()
    }

    /// Number of callers that wait for a slot.
    pub fn waiting(&self) -> usize {
        lock(&self.state).waiting.len()
    }

    /// Whether a caller may have one more: its share, and `least` of those that are free.
    fn has_room(&self, state: &State<K>, caller: &K, least: usize) -> bool {
        let uses = &state.uses;
        let share = self.share.size_beside(uses.beside(caller), self.limit);
        uses.all() < self.limit && uses.of(caller) < share.max(least)
    }

    fn slot(&self, caller: K) -> SharedSlot {
        let slots = Self {
            state: Arc::clone(&self.state),
            ..*self
        };
        SharedSlot(Some(Box::new(move || {
            lock(&slots.state).uses.give_back(&caller, 1);
            slots.hand_out();
        })))
    }

    /// Gives free slots to those that wait. Where the receiver is gone, the slot is dropped, and
    /// given to the next one.
    fn hand_out(&self) {
        while let Some((caller, give)) = self.next_waiting() {
            let _ = give.send(self.slot(caller));
        }
    }

    /// Counts a slot of the next that may have one: of the callers with fewest, the one that waits
    /// longest.
    fn next_waiting(&self) -> Option<(K, oneshot::Sender<SharedSlot>)> {
        let mut state = lock(&self.state);
        state.waiting.retain(|(_, give)| !give.is_closed());
        let waiting = state.waiting.iter().enumerate();
        let may_have_one = waiting.filter(|(_, (caller, _))| self.has_room(&state, caller, 1));
        let fewest = may_have_one.min_by_key(|(_, (caller, _))| state.uses.of(caller));
        let place = fewest?.0;
        let next = state.waiting.remove(place)?;
        state.uses.add(&next.0, 1);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_team_leaves_slots_to_others_and_nobody_is_remembered() {
        let slots = SharedSlots::new(4, Share::percent(50));
        let two = [slots.try_take(&1).unwrap(), slots.try_take(&1).unwrap()];
        assert_eq!(slots.try_take(&1).unwrap_err(), 2);
        assert_eq!(slots.used(), [(1, 2)]);
        let third = slots.try_take(&2).unwrap();
        // The share of the second team is one. The last slot is not for teams.
        assert_eq!(slots.try_take(&2).unwrap_err(), 1);
        assert!(slots.try_take(&3).is_err());
        let fourth = slots.try_take(&0).unwrap();
        assert_eq!(slots.try_take(&0).unwrap_err(), 4);
        drop((two, third));
        assert_eq!(slots.used(), [(0, 1)]);
        drop(fourth);
        assert!(slots.used().is_empty());
    }

    #[tokio::test]
    async fn the_caller_with_fewest_is_next() {
        let slots = Arc::new(SharedSlots::new(2, Share::percent(100)));
        let of_a = [slots.try_take(&1).unwrap(), slots.try_take(&1).unwrap()];
        let wait = |caller: u32| {
            let slots = Arc::clone(&slots);
            let taken = async move { (caller, slots.take(&caller, LONG).await.unwrap()) };
            tokio::spawn(taken)
        };
        let mut waiting = Vec::new();
        for (count, caller) in [1, 1, 2].into_iter().enumerate() {
            waiting.push(wait(caller));
            while slots.waiting() == count {
                tokio::task::yield_now().await;
            }
        }
        // One that has gone takes none.
        waiting.remove(0).abort();
        let [first, second] = of_a;
        drop(first);
        let (caller, of_b) = waiting.remove(1).await.unwrap();
        assert_eq!(caller, 2);
        drop(second);
        let (caller, _of_a) = waiting.remove(0).await.unwrap();
        assert_eq!((caller, slots.waiting()), (1, 0));
        drop(of_b);
    }
}
