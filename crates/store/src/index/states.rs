//! The keyed states: where the latest record of each is stored and when its key first appeared.
//!
//! Their contents are on disk only.

use super::live::{Live, class_bytes};
use super::location::Location;
use crate::record::{Lsn, StateKey};
use martlet_rows::{put_varint, take_varint};
use std::collections::BTreeMap;
use std::ops::Bound;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    // The fields of its location, so that the class fits between them.
    slot: u16,
    class: u8,
    at: u32,
    pub(crate) since: Lsn,
}

impl State {
    fn new(location: Location, class: u8, since: Lsn) -> Self {
        State {
            slot: location.slot,
            class,
            at: location.at,
            since,
        }
    }

    /// Location of its latest record.
    pub(crate) fn location(&self) -> Location {
        Location {
            slot: self.slot,
            at: self.at,
        }
    }

    /// Maximum number of bytes of its record without its other operations.
    pub(crate) fn bytes(&self) -> u64 {
        class_bytes(self.class)
    }
}

#[derive(Debug, Default)]
pub(crate) struct States {
    states: BTreeMap<StateKey, State>,
    capture: Option<Capture>,
}

#[derive(Debug)]
struct Capture {
    next: Bound<StateKey>,
    walked: bool,
    /// The old value, or `None` if there was none, of keys changed before the walk reached them.
    before: BTreeMap<StateKey, Option<State>>,
}

impl States {
    pub(crate) fn count(&self) -> usize {
        self.states.len()
    }

    /// Approximate number of bytes on the heap: nodes of the map are two thirds full.
    pub(crate) fn bytes_about(&self) -> usize {
        self.states.len() * size_of::<(StateKey, State)>() * 3 / 2
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (StateKey, State)> + '_ {
        self.states.iter().map(|(key, state)| (*key, *state))
    }

    pub(crate) fn get(&self, key: StateKey) -> Option<State> {
        self.states.get(&key).copied()
    }

    pub(crate) fn set(
        &mut self,
        key: StateKey,
        lsn: Lsn,
        location: Location,
        class: u8,
        live: &mut Live,
    ) {
        self.keep_image(key);
        let mut state = State::new(location, class, lsn);
        if let Some(old) = self.states.get(&key) {
            live.take(old.slot, old.class);
            state.since = old.since;
        }
        live.add(location.slot, class);
        self.states.insert(key, state);
    }

    /// Adds a missing state as another index has it; for recovery.
    pub(crate) fn put(&mut self, key: StateKey, state: State, live: &mut Live) {
        live.add(state.slot, state.class);
        self.states.insert(key, state);
    }

    pub(crate) fn remove(&mut self, key: StateKey, live: &mut Live) {
        self.keep_image(key);
        if let Some(old) = self.states.remove(&key) {
            live.take(old.slot, old.class);
        }
    }

    pub(crate) fn forget(&mut self, owner: u64, live: &mut Live) {
        let first = StateKey {
            owner,
            kind: 0,
            number: 0,
        };
        let keys = self.states.range(first..).map(|(key, _)| *key);
        let keys: Vec<StateKey> = keys.take_while(|key| key.owner == owner).collect();
        for key in keys {
            self.remove(key, live);
        }
    }

    /// Changes the location of a state; with `from`, only if that was its location.
    pub(crate) fn relocate(
        &mut self,
        key: StateKey,
        from: Option<Location>,
        to: Location,
        class: u8,
        live: &mut Live,
    ) {
        let Some(old) = self.get(key) else { return };
        if from.is_none_or(|from| from == old.location()) {
            self.keep_image(key);
            let state = State::new(to, class, old.since);
            self.states.insert(key, state);
            live.take(old.slot, old.class);
            live.add(to.slot, class);
        }
    }

    /// Calls `each` with the location and size class of up to `count` states after `last`. Returns
    /// the last of them, or `None` if there are no more.
    pub(crate) fn each_place(
        &self,
        last: Option<StateKey>,
        count: usize,
        mut each: impl FnMut(Location, u8),
    ) -> Option<StateKey> {
        let begin = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut states = self.states.range((begin, Bound::Unbounded));
        let mut last = None;
        for (key, state) in states.by_ref().take(count.max(1)) {
            each(state.location(), state.class);
            last = Some(*key);
        }
        last.filter(|_| states.next().is_some())
    }

    /// Removes every state for which `is_lost`, and calls `each` with its location.
    pub(crate) fn lose(&mut self, is_lost: impl Fn(Location) -> bool, mut each: impl FnMut(u16)) {
        self.states.retain(|_, state| {
            let is_lost = is_lost(state.location());
            if is_lost {
                each(state.slot);
            }
            !is_lost
        });
    }

    pub(crate) fn begin_capture(&mut self) {
        self.capture = Some(Capture {
            next: Bound::Unbounded,
            walked: false,
            before: BTreeMap::new(),
        });
    }

    pub(crate) fn end_capture(&mut self) {
        self.capture = None;
    }

    fn keep_image(&mut self, key: StateKey) {
        if let Some(capture) = &mut self.capture
            && !capture.walked
        {
            let is_behind = match capture.next {
                Bound::Excluded(last) => key <= last,
                _ => false,
            };
            if !is_behind {
                let old = self.states.get(&key).copied();
                capture.before.entry(key).or_insert(old);
            }
        }
    }

    /// Appends about `bytes_max` bytes of the image; true when it is complete.
    pub(crate) fn capture(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> bool {
        let Some(capture) = &mut self.capture else {
            return true;
        };
        let stop = out.len() + bytes_max;
        if !capture.walked {
            for (key, state) in self.states.range((capture.next, Bound::Unbounded)) {
                if out.len() >= stop {
                    return false;
                }
                if !capture.before.contains_key(key) {
                    encode(key, state, out);
                }
                capture.next = Bound::Excluded(*key);
            }
            capture.walked = true;
        }
        while out.len() < stop {
            match capture.before.pop_first() {
                Some((key, Some(state))) => encode(&key, &state, out),
                Some((_, None)) => {}
                None => return true,
            }
        }
        capture.before.is_empty()
    }

    /// Parses states from `input` until it is empty.
    pub(crate) fn load(&mut self, mut input: &[u8], live: &mut Live) -> Option<()> {
        let input = &mut input;
        while !input.is_empty() {
            let key = StateKey {
                owner: take_varint(input)?,
                kind: u8::try_from(take_varint(input)?).ok()?,
                number: u32::try_from(take_varint(input)?).ok()?,
            };
            let location = Location {
                slot: u16::try_from(take_varint(input)?).ok()?,
                at: u32::try_from(take_varint(input)?).ok()?,
            };
            let class = u8::try_from(take_varint(input)?).ok()?.min(63);
            let state = State::new(location, class, take_varint(input)?);
            live.add(state.slot, state.class);
            self.states.insert(key, state);
        }
        Some(())
    }
}

fn encode(key: &StateKey, state: &State, out: &mut Vec<u8>) {
    put_varint(out, key.owner);
    put_varint(out, key.kind.into());
    put_varint(out, key.number.into());
    put_varint(out, state.slot.into());
    put_varint(out, state.at.into());
    put_varint(out, state.class.into());
    put_varint(out, state.since);
}
