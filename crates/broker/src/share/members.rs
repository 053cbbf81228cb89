//! Members of a share group, by their sessions and by whether they may take a message now: most
//! members may be disconnected, and a message does not look at those.

use core::ops::Range;
use std::collections::VecDeque;

use martlet_codec::QoS;
use slab::Slab;

use super::message::{Member, Reads};
use crate::hash::seeded;
use crate::id::SessionAddress;
use crate::message::Message;
use crate::split_map::SplitMap;

/// The members of one group. Each has a place, in whose order they have their turns.
#[derive(Debug)]
pub(super) struct Members {
    all: Slab<Member>,
    places: SplitMap<SessionAddress, usize>,
    /// Connected members.
    present: Places,
    /// Connected members with credit that had room when they were last asked.
    ready: Places,
    /// Connected members that get everything with QoS 0, which needs no credit.
    once: Places,
    /// Connected members that had no room.
    full: Places,
    /// Deliveries until which full members are not asked, in order, with their places; some of them
    /// have been asked again since.
    full_until: VecDeque<(u64, usize)>,
    /// Connected members that may not receive everything.
    restricted: usize,
    /// Members whose session outlives its connection.
    durable: usize,
}

/// A set of places: a bit for each, so that the next one is found quickly.
#[derive(Debug, Default)]
struct Places {
    words: Vec<u64>,
    len: usize,
}

const BITS: usize = u64::BITS as usize;

impl Places {
    fn set(&mut self, place: usize, is_in: bool) {
        let (word, bit) = (place / BITS, 1_u64 << (place % BITS));
        if word >= self.words.len() {
            if !is_in {
                return;
            }
            self.words.resize(word + 1, 0);
        }
        let was_in = self.words[word] & bit != 0;
        if is_in == was_in {
            return;
        }
        self.words[word] ^= bit;
        match is_in {
            true => self.len += 1,
            false => self.len -= 1,
        }
    }

    /// The first place from this one on.
    fn next(&self, from: usize) -> Option<usize> {
        let mut word = from / BITS;
        let mut bits = self.words.get(word)? & (u64::MAX << (from % BITS));
        while bits == 0 {
            word += 1;
            bits = *self.words.get(word)?;
        }
        Some(word * BITS + bits.trailing_zeros() as usize)
    }

    /// All of them, those from `turn` on first.
    fn in_turn(&self, turn: usize) -> impl Iterator<Item = usize> {
        let walk = |from: usize| {
            let first = self.next(from);
            core::iter::successors(first, |place| self.next(place + 1))
        };
        walk(turn).chain(walk(0).take_while(move |place| *place < turn))
    }
}

impl Members {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            all: Slab::new(),
            places: SplitMap::new(seeded(seed)),
            present: Places::default(),
            ready: Places::default(),
            once: Places::default(),
            full: Places::default(),
            full_until: VecDeque::new(),
            restricted: 0,
            durable: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Bytes of memory that they take.
    pub(super) fn memory_bytes(&self) -> usize {
        let all = self.all.capacity() * size_of::<Member>();
        let places = self.places.memory_bytes();
        let full_until = self.full_until.capacity() * size_of::<(u64, usize)>();
        all + places + full_until + self.restricted * size_of::<Reads>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> + Clone {
        self.all.iter().map(|(_, member)| member)
    }

    /// Places are below this.
    pub(super) fn places(&self) -> usize {
        self.all.capacity()
    }

    /// The sessions of those at these places.
    pub(super) fn addresses(&self, at: Range<usize>) -> impl Iterator<Item = SessionAddress> {
        at.filter_map(|place| Some(self.all.get(place)?.address))
    }

    /// The member at a place that is known to be taken.
    pub(super) fn at(&self, place: usize) -> &Member {
        &self.all[place]
    }

    /// Whether a member is connected.
    pub(super) fn is_any_present(&self) -> bool {
        self.present.len > 0
    }

    /// Whether a member has a session that outlives its connection.
    pub(super) fn is_any_durable(&self) -> bool {
        self.durable > 0
    }

    /// Whether a connected member may not receive everything.
    pub(super) fn is_any_restricted(&self) -> bool {
        self.restricted > 0
    }

    /// Whether a member could take a message.
    pub(super) fn is_any_ready(&self) -> bool {
        self.ready.len > 0
    }

    /// Whether all connected members had no room.
    pub(super) fn are_all_full(&self) -> bool {
        self.full.len == self.present.len
    }

    /// Members that could take a message, from `turn` on.
    pub(super) fn ready(&self, turn: usize) -> impl Iterator<Item = usize> {
        self.ready.in_turn(turn)
    }

    /// Connected members that take a message of this QoS without credit.
    pub(super) fn without_credit(&self, qos: QoS, turn: usize) -> impl Iterator<Item = usize> {
        let places = match qos {
            QoS::AtMostOnce => &self.present,
            _ => &self.once,
        };
        places.in_turn(turn)
    }

    /// All, from `turn` on.
    pub(super) fn in_turn(&self, turn: usize) -> impl Iterator<Item = usize> {
        let places = self.all.iter().map(|(place, _)| place);
        let later = places.clone().filter(move |place| *place >= turn);
        later.chain(places.filter(move |place| *place < turn))
    }

    /// A member other than this one is there that had room and may have a message.
    pub(super) fn may_others_have(&self, message: &Message, chosen: usize) -> bool {
        let is_it = |place: usize| {
            let member = &self.all[place];
            place != chosen && member.full_until == 0 && member.may_receive(message)
        };
        self.full.len < self.present.len && self.present.in_turn(0).any(is_it)
    }

    /// Another member, or the same one with a new subscription. What it has under way still counts
    /// against the credit it joined with.
    pub(super) fn join(&mut self, member: Member) {
        if let Some(&place) = self.places.get(&member.address) {
            self.change(place, |known| {
                let credit = known.credit;
                *known = Member { credit, ..member };
            });
            return;
        }
        let address = member.address;
        let place = self.all.insert(member);
        self.places.insert(address, place);
        self.count(place);
    }

    pub(super) fn leave(&mut self, address: SessionAddress) {
        if let Some(place) = self.places.remove(&address) {
            self.uncount(place);
            self.all.remove(place);
        }
    }

    pub(super) fn find(&self, address: SessionAddress) -> Option<usize> {
        self.places.get(&address).copied()
    }

    /// Finds a member that was at this place a while ago.
    pub(super) fn find_at(&self, place: usize, address: SessionAddress) -> Option<usize> {
        let is_there = self
            .all
            .get(place)
            .is_some_and(|member| member.address == address);
        is_there.then_some(place)
    }

    /// Changes what is known of a member.
    pub(super) fn change(&mut self, place: usize, change: impl FnOnce(&mut Member)) {
        self.uncount(place);
        let member = &mut self.all[place];
        change(member);
        if !member.connected {
            // Once it is there again, it is asked again.
            member.full_until = 0;
        }
        self.count(place);
    }

    /// A message is handed to the member.
    pub(super) fn spend_credit(&mut self, place: usize) {
        let member = &mut self.all[place];
        member.credit -= 1;
        if member.credit <= 0 {
            self.ready.set(place, false);
        }
    }

    /// Gives back the credit for what the member was handed, which has come to its end. If it had
    /// no room, it is not asked until that delivery.
    pub(super) fn return_credit(&mut self, place: usize, full_until: Option<u64>) {
        let member = &mut self.all[place];
        member.credit += 1;
        if let Some(until) = full_until.filter(|_| member.connected) {
            member.full_until = until;
            self.full_until.push_back((until, place));
            self.full.set(place, true);
            self.ready.set(place, false);
        } else {
            self.retry(place);
        }
    }

    /// Begins a delivery: full members whose waiting time is over may get messages again.
    pub(super) fn begin_delivery(&mut self, delivery: u64) {
        while let Some((until, place)) = self
            .full_until
            .pop_front_if(|(until, _)| *until <= delivery)
        {
            if let Some(member) = self.all.get(place)
                && member.full_until == until
            {
                self.retry(place);
            }
        }
    }

    pub(super) fn retry_all(&mut self) {
        for (_, place) in core::mem::take(&mut self.full_until) {
            if self.all.contains(place) {
                self.retry(place);
            }
        }
    }

    fn retry(&mut self, place: usize) {
        let member = &mut self.all[place];
        member.full_until = 0;
        let is_ready = member.connected && member.credit > 0;
        self.full.set(place, false);
        self.ready.set(place, is_ready);
    }

    fn count(&mut self, place: usize) {
        let member = &self.all[place];
        let is_full = member.full_until > 0;
        let is_ready = member.connected && member.credit > 0 && !is_full;
        let is_once = member.connected && member.qos == QoS::AtMostOnce;
        self.restricted += usize::from(member.connected && member.reads.is_some());
        self.durable += usize::from(member.durable);
        self.present.set(place, member.connected);
        self.ready.set(place, is_ready);
        self.once.set(place, is_once);
        self.full.set(place, member.connected && is_full);
    }

    fn uncount(&mut self, place: usize) {
        let member = &self.all[place];
        self.restricted -= usize::from(member.connected && member.reads.is_some());
        self.durable -= usize::from(member.durable);
        for places in [
            &mut self.present,
            &mut self.ready,
            &mut self.once,
            &mut self.full,
        ] {
            places.set(place, false);
        }
    }
}
