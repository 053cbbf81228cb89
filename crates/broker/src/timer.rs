//! Every timer there is, and the wheel they lie in.
//!
//! A hierarchical wheel: six levels of 64 slots, one millisecond at the finest, entries linked
//! through an arena so that arming and cancelling cost the same whatever is armed. A deadline
//! beyond the wheel's reach (2.1 years) is parked in the coarsest level and looked at again there.

use crate::arena::{Arena, Index};
use crate::id::{ConnectionId, SessionId};

/// Time between two looks for retained messages that have expired, milliseconds.
pub(crate) const SWEEP_INTERVAL_MS: u64 = 1000;

/// Timer: what is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The connection must have been accepted by now, however slowly its bytes drip.
    ConnectDeadline(ConnectionId),
    /// Deadline of a re-authentication.
    ReauthenticationDeadline(ConnectionId),
    /// The credentials that the client came with end.
    IdentityEnd(ConnectionId),
    /// 1.5 × Keep Alive may have passed without a packet [MQTT-3.1.2-22].
    KeepAlive(ConnectionId),
    /// Output may have waited too long for the peer to read, or an acknowledgement for the store.
    Stalled(ConnectionId),
    /// A publisher that was too fast may go on.
    RateOver(ConnectionId),
    /// Drops of a publisher that was too fast are to be reported.
    RateDrops(ConnectionId),
    /// The session of a client that is away ends [MQTT-3.1.2-23].
    SessionExpiry(SessionId),
    /// The Will of a client that is away is due [MQTT-3.1.3-9].
    WillDelay(SessionId),
    /// Messages in the queue of a disconnected client may have expired [MQTT-3.3.2-5].
    QueueExpiry,
    /// Dropped messages are to be reported.
    Losses,
    /// A delivery that a part has put off is to be made again.
    PartLater(ConnectionId),
    /// The queue of a part is looked at: what is too old in it, and how it is.
    PartQueue(SessionId),
    /// An operation for an operator has taken too long.
    Operation(u32),
    /// Expired retained messages are looked for, a page at a time.
    RetainedSweep,
}

/// An armed timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey(Index);

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 6;
const NONE: u32 = u32::MAX;

/// The wheel; generic so that tests can put anything in.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    now_ms: u64,
    entries: Arena<TimerEntry<T>>,
    /// First entry of each slot.
    slots: [[u32; SLOTS]; LEVELS],
    /// Which slots have entries, a bit each.
    occupied: [u64; LEVELS],
}

#[derive(Debug)]
struct TimerEntry<T> {
    due_ms: u64,
    next: u32,
    previous: u32,
    level: u8,
    slot: u8,
    what: T,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel that stands at `now_ms`.
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            now_ms,
            entries: Arena::default(),
            slots: [[NONE; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
        }
    }

    /// Arms a timer. One that is due already fires at the next [`Wheel::expire`].
    pub(crate) fn arm(&mut self, due_ms: u64, what: T) -> TimerKey {
        let entry = TimerEntry {
            due_ms,
            next: NONE,
            previous: NONE,
            level: 0,
            slot: 0,
            what,
        };
        let key = self.entries.insert(entry);
        self.link(key);
        TimerKey(Index::of(key))
    }

    /// Disarms a timer that has not fired.
    pub(crate) fn cancel(&mut self, key: TimerKey) {
        let place = key.0.get();
        if self.entries.get(place).is_some() {
            self.unlink(place);
            self.entries.remove(place);
        }
    }

    /// The next timer that is due at `now_ms`, if any; called until it answers none. Those of one
    /// millisecond come in no particular order.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Option<(TimerKey, T)> {
        loop {
            // Entries of the current millisecond, and late ones, lie in the finest level.
            let slot = (self.now_ms & (SLOTS as u64 - 1)) as usize;
            let key = self.slots[0][slot];
            if key != NONE {
                self.unlink(key);
                if let Some(entry) = self.entries.remove(key) {
                    return Some((TimerKey(Index::of(key)), entry.what));
                }
                continue;
            }
            if self.now_ms >= now_ms {
                return None;
            }
            let next = self
                .next_change()
                .unwrap_or(now_ms)
                .clamp(self.now_ms + 1, now_ms);
            self.step_to(next);
        }
    }

    /// When [`Wheel::expire`] should be called next: never later than the earliest deadline.
    pub(crate) fn next_wakeup(&self) -> Option<u64> {
        self.next_change()
    }

    /// Lists what is armed, in no particular order.
    pub(crate) fn armed(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| &entry.what)
    }

    /// Bytes of memory that armed timers take.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.entries.places() as usize * size_of::<TimerEntry<T>>()
    }

    /// Armed timers.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The next moment at which a slot must be looked at.
    fn next_change(&self) -> Option<u64> {
        (0..LEVELS)
            .filter_map(|level| self.next_in_level(level))
            .min()
    }

    fn next_in_level(&self, level: usize) -> Option<u64> {
        let occupied = self.occupied[level];
        if occupied == 0 {
            return None;
        }
        let shift = BITS * level as u32;
        let position = self.now_ms >> shift;
        let here = (position & (SLOTS as u64 - 1)) as u32;
        // How many slots ahead the next occupied one is; coarser levels never use the slot in
        // which the wheel stands, so there 0 means a full turn.
        let ahead = u64::from(occupied.rotate_right(here).trailing_zeros());
        let ahead = if level > 0 && ahead == 0 {
            match occupied.rotate_right(here) & !1 {
                0 => SLOTS as u64,
                others => u64::from(others.trailing_zeros()),
            }
        } else {
            ahead
        };
        Some((position + ahead) << shift)
    }

    /// Turns the wheel to `now_ms`, which no slot lies before, and brings down what lies there.
    fn step_to(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        for level in (1..LEVELS).rev() {
            let shift = BITS * level as u32;
            if now_ms & ((1 << shift) - 1) != 0 {
                continue;
            }
            let slot = ((now_ms >> shift) & (SLOTS as u64 - 1)) as usize;
            let mut key = core::mem::replace(&mut self.slots[level][slot], NONE);
            self.occupied[level] &= !(1 << slot);
            while key != NONE {
                let next = self.entries[key].next;
                self.link(key);
                key = next;
            }
        }
    }

    fn link(&mut self, key: u32) {
        let due_ms = self.entries[key].due_ms.max(self.now_ms);
        let (level, slot) = self.place(due_ms);
        let head = core::mem::replace(&mut self.slots[level][slot], key);
        self.occupied[level] |= 1 << slot;
        if head != NONE {
            self.entries[head].previous = key;
        }
        let entry = &mut self.entries[key];
        entry.next = head;
        entry.previous = NONE;
        entry.level = level as u8;
        entry.slot = slot as u8;
    }

    /// Where a deadline lies: the finest level at which it is less than a turn ahead.
    fn place(&self, due_ms: u64) -> (usize, usize) {
        for level in 0..LEVELS {
            let shift = BITS * level as u32;
            let ahead = (due_ms >> shift) - (self.now_ms >> shift);
            if ahead < SLOTS as u64 && (level == 0 || ahead > 0) {
                return (level, ((due_ms >> shift) & (SLOTS as u64 - 1)) as usize);
            }
        }
        // Beyond reach: the farthest slot of the coarsest level, to be placed again from there.
        let level = LEVELS - 1;
        let farthest = (self.now_ms >> (BITS * level as u32)) + SLOTS as u64 - 1;
        (level, (farthest & (SLOTS as u64 - 1)) as usize)
    }

    fn unlink(&mut self, key: u32) {
        let entry = &self.entries[key];
        let (next, previous) = (entry.next, entry.previous);
        let (level, slot) = (usize::from(entry.level), usize::from(entry.slot));
        if next != NONE {
            self.entries[next].previous = previous;
        }
        if previous != NONE {
            self.entries[previous].next = next;
        } else {
            self.slots[level][slot] = next;
            if next == NONE {
                self.occupied[level] &= !(1 << slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_armed_timer_is_small() {
        // Each connection has one.
        assert!(size_of::<Option<TimerEntry<Timer>>>() <= 32);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm(u64),
        Cancel(usize),
        Advance(u64),
    }

    fn delay() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..5_u64,
            0..200_u64,
            0..10_000_u64,
            0..100_000_000_u64,
            Just(u64::from(u32::MAX) * 1000),
            Just(63),
            Just(64),
            Just(65),
            Just(4095),
            Just(4096),
            Just(4097),
            Just(1 << 36),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => delay().prop_map(Step::Arm),
            1 => any::<usize>().prop_map(Step::Cancel),
            3 => delay().prop_map(Step::Advance),
        ]
    }

    proptest! {
        /// Against the obvious model: fires exactly what is due, never early, and the wake-up is
        /// never later than the earliest deadline.
        #[test]
        fn the_wheel_agrees_with_a_sorted_list(
            start in prop_oneof![Just(0_u64), 0..1_000_000_u64],
            steps in prop::collection::vec(step(), 1..120),
        ) {
            let mut now = start;
            let mut wheel = Wheel::new(now);
            let mut model: Vec<(u64, usize, TimerKey)> = Vec::new();
            for (index, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Arm(delay) => {
                        let key = wheel.arm(now + delay, index);
                        model.push((now + delay, index, key));
                    }
                    Step::Cancel(which) if !model.is_empty() => {
                        let (_, _, key) = model.swap_remove(which % model.len());
                        wheel.cancel(key);
                    }
                    Step::Cancel(_) => {}
                    Step::Advance(by) => {
                        now += by;
                        let mut fired = Vec::new();
                        while let Some((_, what)) = wheel.expire(now) {
                            fired.push(what);
                        }
                        let mut expected: Vec<usize> =
                            model.iter().filter(|e| e.0 <= now).map(|e| e.1).collect();
                        model.retain(|entry| entry.0 > now);
                        fired.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(fired, expected);
                    }
                }
                let earliest = model.iter().map(|entry| entry.0).min();
                match (wheel.next_wakeup(), earliest) {
                    (Some(wakeup), Some(earliest)) => prop_assert!(wakeup <= earliest.max(now)),
                    (wakeup, earliest) => prop_assert_eq!(wakeup.is_some(), earliest.is_some()),
                }
                prop_assert_eq!(wheel.len(), model.len());
            }
        }
    }
}
