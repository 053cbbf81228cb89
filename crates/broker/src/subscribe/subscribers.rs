//! Subscriptions and subscribers: the subscriptions of a session, and the subscribers at each place
//! of the shard's index. Each knows its place with the other, so that both are found without a
//! search.
//!
//! It knows no packets; why a subscription is made or ended is decided elsewhere.

use std::collections::BTreeMap;

use martlet_codec::QoS;
use smallvec::SmallVec;

use crate::flags::flags;
use crate::interest::InterestClass;
use crate::record::{RETAINED_COPIES, SHARED_COPIES};
use crate::report::RetainedAtSubscribe;
use crate::routing::{Match, Target};
use crate::subscribe::retained_pending::RetainedPending;
use crate::topic_tree::NodeKey;

/// All subscribers at a place in the shard's index. Most filters have one subscriber, which costs
/// no allocation.
#[derive(Debug, Default)]
pub(crate) enum Subscribers {
    #[default]
    Nobody,
    One(Subscriber),
    More(Box<Crowd>),
}

/// More than one subscriber, or there were.
#[derive(Debug)]
pub(crate) struct Crowd {
    list: Vec<Subscriber>,
    /// How many of them are durable.
    durable: u32,
    /// How many of them want QoS 0 messages to be kept.
    keeping_qos0: u32,
    /// How many of them want messages in the order of their acknowledgements.
    in_order: u32,
}

impl Crowd {
    fn count(&mut self, subscriber: &Subscriber) {
        self.durable += u32::from(subscriber.is_durable());
        self.keeping_qos0 += u32::from(subscriber.keeps_qos0());
        self.in_order += u32::from(subscriber.is_in_order());
    }

    fn uncount(&mut self, subscriber: &Subscriber) {
        self.durable -= u32::from(subscriber.is_durable());
        self.keeping_qos0 -= u32::from(subscriber.keeps_qos0());
        self.in_order -= u32::from(subscriber.is_in_order());
    }
}

/// One subscription, as the index sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscriber {
    pub(crate) target: Target,
    /// 0 is none.
    pub(super) subscription_id: u32,
    pub(super) qos: QoS,
    pub(super) no_local: bool,
    pub(super) retain: RetainFlags,
    /// Strength: what a publish must do for it.
    pub(super) strength: InterestClass,
    /// Which of its session's subscriptions, for records.
    pub(crate) number: u32,
}

flags! {
    /// The options of a subscription for RETAIN and retained messages.
    pub(crate) RetainFlags(u8);
    /// Retain As Published.
    0 as_published set_as_published;
    /// Whether it was not new when it was last asked for, with Retain Handling 1.
    1 was_not_new set_was_not_new;
    /// Whether it was last asked for with Retain Handling 2.
    2 is_without set_is_without;
}

impl RetainFlags {
    pub(super) fn new(as_published: bool) -> Self {
        let mut flags = Self::default();
        flags.set_as_published(as_published);
        flags
    }

    /// Whether retained messages were sent when the subscription was last asked for.
    pub(super) fn at_subscribe(self) -> RetainedAtSubscribe {
        match (self.is_without(), self.was_not_new()) {
            (true, _) => RetainedAtSubscribe::NotWanted,
            (false, true) => RetainedAtSubscribe::NotNew,
            (false, false) => RetainedAtSubscribe::Sent,
        }
    }

    pub(super) fn set_at_subscribe(&mut self, retained: RetainedAtSubscribe) {
        self.set_is_without(retained == RetainedAtSubscribe::NotWanted);
        self.set_was_not_new(retained == RetainedAtSubscribe::NotNew);
    }
}

impl Subscriber {
    pub(crate) fn new(target: Target, qos: QoS, durable: bool) -> Self {
        Self {
            target,
            subscription_id: 0,
            qos,
            no_local: false,
            retain: RetainFlags::new(true),
            strength: strength(durable && qos > QoS::AtMostOnce, false, false),
            number: 0,
        }
    }

    fn is_durable(&self) -> bool {
        self.strength.has(InterestClass::DURABLE)
    }

    fn keeps_qos0(&self) -> bool {
        self.strength.has(InterestClass::KEEPS_QOS0)
    }

    fn is_in_order(&self) -> bool {
        self.strength.has(InterestClass::IN_ORDER)
    }

    pub(crate) fn as_match(&self) -> Match {
        Match {
            target: self.target,
            subscription_id: self.subscription_id,
            qos: self.qos,
            no_local: self.no_local,
            retain_as_published: self.retain.as_published(),
        }
    }
}

impl Subscribers {
    pub(crate) fn list(&self) -> &[Subscriber] {
        match self {
            Self::Nobody => &[],
            Self::One(subscriber) => core::slice::from_ref(subscriber),
            Self::More(crowd) => &crowd.list,
        }
    }

    /// The subscriber at this place.
    pub(super) fn at_mut(&mut self, slot: u32) -> Option<&mut Subscriber> {
        match self {
            Self::Nobody => None,
            Self::One(subscriber) => (slot == 0).then_some(subscriber),
            Self::More(crowd) => crowd.list.get_mut(slot as usize),
        }
    }

    pub(super) fn push(&mut self, subscriber: Subscriber) {
        match self {
            Self::Nobody => *self = Self::One(subscriber),
            Self::One(first) => {
                let mut crowd = Box::new(Crowd {
                    durable: 0,
                    keeping_qos0: 0,
                    in_order: 0,
                    list: vec![*first, subscriber],
                });
                crowd.count(first);
                crowd.count(&subscriber);
                *self = Self::More(crowd);
            }
            Self::More(crowd) => {
                crowd.count(&subscriber);
                crowd.list.push(subscriber);
            }
        }
    }

    /// Puts a subscriber in the place of another.
    pub(super) fn replace(&mut self, slot: u32, subscriber: Subscriber) {
        match self {
            Self::Nobody => {}
            Self::One(place) => *place = subscriber,
            Self::More(crowd) => {
                crowd.count(&subscriber);
                let before = core::mem::replace(&mut crowd.list[slot as usize], subscriber);
                crowd.uncount(&before);
            }
        }
    }

    /// Takes a subscriber out; the last one has its slot then.
    pub(super) fn swap_remove(&mut self, slot: u32) {
        match self {
            Self::Nobody => {}
            Self::One(_) => *self = Self::Nobody,
            Self::More(crowd) => {
                let removed = crowd.list.swap_remove(slot as usize);
                crowd.uncount(&removed);
                if let [last] = crowd.list.as_slice() {
                    *self = Self::One(*last);
                }
            }
        }
    }

    /// Where a subscriber stands: looked for from the first one on. There are few share groups at
    /// one filter; a session knows its slot itself ([`Subscriptions::slot`]).
    pub(super) fn find(&self, target: Target) -> Option<u32> {
        let place = self.list().iter().position(|found| found.target == target);
        place.map(|slot| slot as u32)
    }

    pub(super) fn class(&self) -> InterestClass {
        match self {
            Self::Nobody => InterestClass::NONE,
            Self::One(subscriber) => subscriber.strength,
            Self::More(crowd) => strength(
                crowd.durable > 0,
                crowd.keeping_qos0 > 0,
                crowd.in_order > 0,
            ),
        }
    }
}

/// Returns what a publish must do for a subscription.
pub(super) fn strength(durable: bool, keeps_qos0: bool, in_order: bool) -> InterestClass {
    let mut strength = InterestClass::LIVE;
    if durable {
        strength = strength.and(InterestClass::DURABLE);
    }
    if keeps_qos0 {
        strength = strength.and(InterestClass::KEEPS_QOS0);
    }
    if in_order {
        strength = strength.and(InterestClass::IN_ORDER);
    }
    strength
}

/// The subscriptions of a session.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    /// Places in the index, sorted, each with the session's slot among the subscribers there.
    pub(super) own: SmallVec<[(NodeKey, u32); 2]>,
    /// Not there while there is nothing of it, which is nearly always.
    pub(super) seldom: Option<Box<Seldom>>,
    /// The number of the next one.
    next_number: u32,
    /// The number of the next retained copies.
    retained_copy: u8,
    /// Bytes of all filters.
    pub(super) filter_bytes: FilterBytes,
}

/// Bytes of a session's filters, below [`FILTER_BYTES_MAX`]: three bytes, which fit without making
/// a session larger.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FilterBytes([u8; 3]);

/// Upper bound of the bytes of a session's filters.
const FILTER_BYTES_MAX: usize = 1 << 24;

impl FilterBytes {
    fn get(self) -> usize {
        let [low, middle, high] = self.0;
        u32::from_le_bytes([low, middle, high, 0]) as usize
    }

    fn set(&mut self, bytes: usize) {
        let [low, middle, high, _] = (bytes as u32).to_le_bytes();
        self.0 = [low, middle, high];
    }

    pub(super) fn add(&mut self, filter: &str) {
        self.set((self.get() + filter.len()).min(FILTER_BYTES_MAX - 1));
    }

    pub(super) fn remove(&mut self, filter: &str) {
        self.set(self.get().saturating_sub(filter.len()));
    }
}

/// A place among the subscriptions of a session.
#[derive(Debug)]
pub(crate) enum SubscriptionPlace {
    /// The filter that has this place in the index.
    Own(NodeKey),
    /// The share group that is named `$share/name/filter`.
    Shared(Box<str>),
}

/// Data that few sessions have.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    /// Share groups that the session is a member of, by `$share/name/filter`.
    pub(super) shared: BTreeMap<Box<str>, SharedSubscription>,
    /// Retained messages still to be read for subscriptions.
    retained: Option<RetainedPending>,
}

/// Subscription that a member of a share group asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedSubscription {
    pub(crate) number: u32,
    pub(crate) qos: QoS,
    pub(crate) subscription_id: u32,
    pub(crate) retain_as_published: bool,
}

impl SharedSubscription {
    /// No two of a session have the same: see [`Subscriptions::next_shared_number`].
    pub(crate) fn copy(self) -> u8 {
        copy_of(self.number)
    }
}

fn copy_of(number: u32) -> u8 {
    (number % u32::from(SHARED_COPIES)) as u8
}

impl Subscriptions {
    pub(super) fn next_retained_copy(&mut self) -> u8 {
        let copy = self.retained_copy;
        self.retained_copy = (copy + 1) % RETAINED_COPIES;
        copy
    }

    /// A retained copy from before a restart has this number.
    pub(crate) fn retained_copy_taken(&mut self, copy: u8) {
        let next = (copy % RETAINED_COPIES + 1) % RETAINED_COPIES;
        self.retained_copy = self.retained_copy.max(next);
    }

    pub(crate) fn next_number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    /// The number of a shared subscription: its copy is none that another has, nor one that was
    /// given back recently. None: there are as many as copies.
    pub(super) fn next_shared_number(&mut self) -> Option<u32> {
        let shared = self.seldom.as_ref().map(|seldom| &seldom.shared);
        let taken: Vec<u8> = shared
            .into_iter()
            .flat_map(|shared| shared.values())
            .map(|shared| shared.copy())
            .collect();
        if taken.len() >= usize::from(SHARED_COPIES) {
            return None;
        }
        loop {
            let number = self.next_number();
            if !taken.contains(&copy_of(number)) {
                return Some(number);
            }
        }
    }

    /// A number is taken by a subscription from before a restart.
    pub(crate) fn number_taken(&mut self, number: u32) {
        self.next_number = self.next_number.max(number);
    }

    /// There is room for another filter below `bytes_max` bytes of all of them.
    pub(crate) fn has_room_for(&self, filter: &str, bytes_max: u32) -> bool {
        let bytes_max = (bytes_max as usize).min(FILTER_BYTES_MAX - 1);
        self.filter_bytes.get() + filter.len() <= bytes_max
    }

    pub(crate) fn len(&self) -> usize {
        self.own.len() + self.seldom.as_ref().map_or(0, |seldom| seldom.shared.len())
    }

    /// Returns what the session asked for as a member of this group.
    pub(super) fn shared(&self, filter: &str) -> Option<&SharedSubscription> {
        self.seldom.as_ref()?.shared.get(filter)
    }

    /// The share groups that the session is a member of.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &str> {
        self.seldom
            .iter()
            .flat_map(|seldom| seldom.shared.keys())
            .map(|filter| &**filter)
    }

    /// The session becomes a member of a group, or changes what it asked for.
    pub(super) fn join(&mut self, filter: Box<str>, shared: SharedSubscription) {
        let seldom = self.seldom.get_or_insert_default();
        seldom.shared.insert(filter, shared);
    }

    /// The session is a member no more; its filter, if it was.
    pub(super) fn leave(&mut self, filter: &str) -> Option<Box<str>> {
        let seldom = self.seldom.as_mut()?;
        let (filter, _) = seldom.shared.remove_entry(filter)?;
        self.tidy();
        Some(filter)
    }

    /// Retained messages still to be read.
    pub(crate) fn retained(&mut self) -> Option<&mut RetainedPending> {
        self.seldom.as_mut()?.retained.as_mut()
    }

    /// Returns the retained messages still to be read, to add to them.
    pub(super) fn retained_mut(&mut self) -> &mut RetainedPending {
        let seldom = self.seldom.get_or_insert_default();
        seldom.retained.get_or_insert_default()
    }

    /// None are left.
    pub(super) fn retained_read(&mut self) {
        if let Some(seldom) = &mut self.seldom {
            seldom.retained = None;
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        let seldom = self.seldom.as_deref();
        if seldom.is_some_and(|found| found.shared.is_empty() && found.retained.is_none()) {
            self.seldom = None;
        }
    }

    /// The slot of the session among the subscribers at a place of the index.
    pub(crate) fn slot(&self, node: NodeKey) -> Option<u32> {
        let place = self.own.binary_search_by_key(&node, |own| own.0).ok()?;
        Some(self.own[place].1)
    }

    pub(super) fn set_slot(&mut self, node: NodeKey, slot: u32) {
        match self.own.binary_search_by_key(&node, |own| own.0) {
            Ok(place) => self.own[place].1 = slot,
            Err(place) => self.own.insert(place, (node, slot)),
        }
    }

    pub(super) fn forget(&mut self, node: NodeKey) {
        if let Ok(place) = self.own.binary_search_by_key(&node, |own| own.0) {
            self.own.remove(place);
        }
    }
}

/// Bytes of memory that a subscription takes: its places in the indexes of the shard and of the
/// node, each with its filter, and in its session.
pub(super) fn subscription_bytes(filter: &str) -> usize {
    SUBSCRIPTION_OVERHEAD + 2 * filter.len()
}

/// Memory that a subscription takes beside its filter, in bytes.
const SUBSCRIPTION_OVERHEAD: usize = 224;
