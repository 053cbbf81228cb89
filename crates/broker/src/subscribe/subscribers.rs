//! Who subscribes to what: the subscriptions of a session, and the subscribers at each place of the
//! shard's index. Each knows its place with the other, so that both are found without a search.
//!
//! It knows no packets; why a subscription is made or ended is decided elsewhere.

use core::ops::Bound;
use std::collections::BTreeMap;
use std::sync::Arc;

use martlet_codec::QoS;
use smallvec::SmallVec;

use crate::fault::{self, Fault};
use crate::id::TenantId;
use crate::interest::InterestClass;
use crate::node::{Cx, Node};
use crate::record::{RETAINED_COPIES, SHARED_COPIES, SubscriptionRecord};
use crate::report::SubscriptionInfo;
use crate::routing::{Match, Target};
use crate::session::{SessionFlags, Sessions};
use crate::shard::Shard;
use crate::subscribe::RetainedPending;
use crate::topic_tree::NodeKey;
use crate::work::FILTER;

/// All who subscribe at a place in the shard's index; most filters have one subscriber, who costs
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
}

impl Crowd {
    fn count(&mut self, subscriber: &Subscriber) {
        self.durable += u32::from(subscriber.is_durable());
        self.keeping_qos0 += u32::from(subscriber.keeps_qos0());
    }

    fn uncount(&mut self, subscriber: &Subscriber) {
        self.durable -= u32::from(subscriber.is_durable());
        self.keeping_qos0 -= u32::from(subscriber.keeps_qos0());
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
    pub(super) retain_as_published: bool,
    /// What a publish must do for it.
    strength: InterestClass,
    /// Which of its session's subscriptions, for records.
    pub(crate) number: u32,
}

impl Subscriber {
    pub(crate) fn new(target: Target, qos: QoS, durable: bool) -> Self {
        Self {
            target,
            subscription_id: 0,
            qos,
            no_local: false,
            retain_as_published: true,
            strength: strength(durable && qos > QoS::AtMostOnce, false),
            number: 0,
        }
    }

    fn is_durable(&self) -> bool {
        self.strength.has(InterestClass::DURABLE)
    }

    fn keeps_qos0(&self) -> bool {
        self.strength.has(InterestClass::KEEPS_QOS0)
    }

    pub(crate) fn as_match(&self) -> Match {
        Match {
            target: self.target,
            subscription_id: self.subscription_id,
            qos: self.qos,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
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

    fn push(&mut self, subscriber: Subscriber) {
        match self {
            Self::Nobody => *self = Self::One(subscriber),
            Self::One(first) => {
                let mut crowd = Box::new(Crowd {
                    durable: 0,
                    keeping_qos0: 0,
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
    fn replace(&mut self, slot: u32, subscriber: Subscriber) {
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
    fn swap_remove(&mut self, slot: u32) {
        match self {
            Self::Nobody => {}
            Self::One(_) => *self = Self::Nobody,
            Self::More(crowd) => {
                let gone = crowd.list.swap_remove(slot as usize);
                crowd.uncount(&gone);
                if let [last] = crowd.list.as_slice() {
                    *self = Self::One(*last);
                }
            }
        }
    }

    /// Where a subscriber of this filter, whose place is `node`, stands.
    fn slot_of(&self, sessions: &mut Sessions, node: NodeKey, target: Target) -> Option<u32> {
        if let Some(session) = target.as_session() {
            return sessions.at(session).subscriptions.slot(node);
        }
        // There are few share groups at one filter.
        let place = self.list().iter().position(|found| found.target == target);
        place.map(|slot| slot as u32)
    }

    fn class(&self) -> InterestClass {
        match self {
            Self::Nobody => InterestClass::NONE,
            Self::One(subscriber) => subscriber.strength,
            Self::More(crowd) => strength(crowd.durable > 0, crowd.keeping_qos0 > 0),
        }
    }
}

/// What a publish must do for a subscription of this QoS in a session.
fn strength_in(durable: bool, flags: SessionFlags, qos: QoS) -> InterestClass {
    let keeps_qos0 = durable && flags.keeps_qos0();
    strength(durable && qos > QoS::AtMostOnce, keeps_qos0)
}

fn strength(durable: bool, keeps_qos0: bool) -> InterestClass {
    let mut strength = InterestClass::LIVE;
    if durable {
        strength = strength.and(InterestClass::DURABLE);
    }
    if keeps_qos0 {
        strength = strength.and(InterestClass::KEEPS_QOS0);
    }
    strength
}

/// The subscriptions of a session.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    /// Places in the index, sorted, each with the session's slot among the subscribers there.
    own: SmallVec<[(NodeKey, u32); 2]>,
    /// Not there while there is nothing of it, which is nearly always.
    seldom: Option<Box<Seldom>>,
    /// The number of the next one.
    next_number: u32,
    /// The number of the next retained copies.
    retained_copy: u8,
    /// Of all filters.
    filter_bytes: FilterBytes,
}

/// Bytes of a session's filters, below [`FILTER_BYTES_MAX`]: three bytes, which fit without making
/// a session larger.
#[derive(Clone, Copy, Debug, Default)]
struct FilterBytes([u8; 3]);

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

    fn add(&mut self, filter: &str) {
        self.set((self.get() + filter.len()).min(FILTER_BYTES_MAX - 1));
    }

    fn remove(&mut self, filter: &str) {
        self.set(self.get().saturating_sub(filter.len()));
    }
}

/// A place among the subscriptions of a session.
#[derive(Debug)]
pub(crate) enum SubscriptionPlace {
    /// Of the filter that has this place in the index.
    Own(NodeKey),
    /// Of the share group that is named `$share/name/filter`.
    Shared(Box<str>),
}

/// What few sessions have.
#[derive(Debug, Default)]
struct Seldom {
    /// Share groups that the session is a member of, by `$share/name/filter`.
    shared: BTreeMap<Box<str>, SharedSubscription>,
    /// Retained messages still to be read for subscriptions.
    retained: Option<RetainedPending>,
}

/// What a member of a share group asked for.
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

    /// What the session asked for as a member of this group.
    fn shared(&self, filter: &str) -> Option<&SharedSubscription> {
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
    fn join(&mut self, filter: Box<str>, shared: SharedSubscription) {
        let seldom = self.seldom.get_or_insert_default();
        seldom.shared.insert(filter, shared);
    }

    /// The session is a member no more; its filter, if it was.
    fn leave(&mut self, filter: &str) -> Option<Box<str>> {
        let seldom = self.seldom.as_mut()?;
        let (filter, _) = seldom.shared.remove_entry(filter)?;
        self.tidy();
        Some(filter)
    }

    /// Retained messages still to be read.
    pub(crate) fn retained(&mut self) -> Option<&mut RetainedPending> {
        self.seldom.as_mut()?.retained.as_mut()
    }

    /// The same, to add to it.
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

    fn set_slot(&mut self, node: NodeKey, slot: u32) {
        match self.own.binary_search_by_key(&node, |own| own.0) {
            Ok(place) => self.own[place].1 = slot,
            Err(place) => self.own.insert(place, (node, slot)),
        }
    }

    fn forget(&mut self, node: NodeKey) {
        if let Ok(place) = self.own.binary_search_by_key(&node, |own| own.0) {
            self.own.remove(place);
        }
    }
}

/// Bytes of memory that a subscription takes: its places in the indexes of the shard and of the
/// node, each with its filter, and in its session.
fn subscription_bytes(filter: &str) -> usize {
    SUBSCRIPTION_OVERHEAD + 2 * filter.len()
}

/// What a subscription takes beside its filter, in bytes.
const SUBSCRIPTION_OVERHEAD: usize = 224;

/// Subscriptions whose epochs are raised one by one when what their session may receive has
/// changed.
const EPOCHS_AT_ONCE: usize = 64;

impl Shard {
    /// The session becomes a member of a share group, or changes what it asked for.
    pub(crate) fn join_as(&mut self, session: u32, filter: Box<str>, shared: SharedSubscription) {
        let subscriptions = &self.sessions.at(session).subscriptions;
        if subscriptions.shared(&filter).is_none() {
            self.count_subscription(session, &filter);
        }
        let subscriptions = &mut self.sessions.at(session).subscriptions;
        subscriptions.join(filter, shared);
    }

    /// Ends the session's membership in a share group; its filter, if it was a member.
    pub(crate) fn leave_as(&mut self, session: u32, filter: &str) -> Option<Box<str>> {
        let left = self.sessions.at(session).subscriptions.leave(filter)?;
        self.uncount_subscription(session, &left);
        Some(left)
    }

    /// Charges a new subscription to its session and to the shard.
    fn count_subscription(&mut self, session: u32, filter: &str) {
        let subscriptions = &mut self.sessions.at(session).subscriptions;
        subscriptions.filter_bytes.add(filter);
        self.subscription_count += 1;
        self.subscription_bytes += subscription_bytes(filter);
    }

    /// The opposite of [`Shard::count_subscription`].
    fn uncount_subscription(&mut self, session: u32, filter: &str) {
        let subscriptions = &mut self.sessions.at(session).subscriptions;
        subscriptions.filter_bytes.remove(filter);
        self.subscription_count -= 1;
        self.subscription_bytes -= subscription_bytes(filter);
    }

    /// Enters a subscription of a session, without share name, into the index.
    pub(crate) fn enter_subscription<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        subscription: &SubscriptionRecord,
    ) {
        let qos = subscription.qos;
        let state = self.sessions.at(session);
        let strength = strength_in(state.durable, state.flags, qos);
        let subscriber = Subscriber {
            target: Target::session(session),
            subscription_id: subscription.subscription_id,
            qos,
            no_local: subscription.no_local,
            retain_as_published: subscription.retain_as_published,
            strength,
            number: subscription.number,
        };
        let tenant = self.sessions.at(session).tenant;
        self.index_subscriber(cx, tenant, &subscription.filter, subscriber);
    }

    /// A session keeps QoS 0 messages from now on, or does no longer.
    pub(crate) fn renew_strength_of<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32) {
        for (node, _) in self.sessions.at(session).subscriptions.own.clone() {
            let state = self.sessions.at(session);
            let (durable, flags) = (state.durable, state.flags);
            self.change_strength(cx, node, Target::session(session), |subscriber| {
                strength_in(durable, flags, subscriber.qos)
            });
        }
    }

    /// The Topic Filters of a session, without those of share groups.
    pub(crate) fn filters_of(&mut self, session: u32) -> Vec<Box<str>> {
        let own = self.sessions.at(session).subscriptions.own.iter();
        own.map(|(node, _)| self.tree.filter(*node).1.into())
            .collect()
    }

    /// A session's own subscription to this filter, without share name.
    pub(super) fn own_subscription(&mut self, session: u32, filter: &str) -> Option<&Subscriber> {
        let node = self.tree.find(self.sessions.at(session).tenant, filter)?;
        let slot = self.sessions.at(session).subscriptions.slot(node)?;
        self.tree.get(node)?.list().get(slot as usize)
    }

    /// The number of a session's subscription to this filter, `$share/…` where it is `shared`.
    pub(super) fn known_number(&mut self, session: u32, filter: &str, shared: bool) -> Option<u32> {
        if shared {
            let subscriptions = &self.sessions.at(session).subscriptions;
            return subscriptions.shared(filter).map(|found| found.number);
        }
        let own = self.own_subscription(session, filter);
        own.map(|subscriber| subscriber.number)
    }

    /// Enters a subscriber, replacing its subscription to the same filter [MQTT-3.8.4-3].
    pub(crate) fn index_subscriber<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        filter: &str,
        subscriber: Subscriber,
    ) -> NodeKey {
        let (node, subscribers) = self.tree.entry(tenant, filter, Subscribers::default);
        let before = subscribers.class();
        let slot = match subscriber.target.as_session() {
            Some(session) => self.sessions.at(session).subscriptions.slot(node),
            None => None,
        };
        match slot {
            Some(slot) => subscribers.replace(slot, subscriber),
            None => subscribers.push(subscriber),
        }
        let (class, last) = (subscribers.class(), subscribers.list().len() - 1);
        if slot.is_none()
            && let Some(session) = subscriber.target.as_session()
        {
            let subscriptions = &mut self.sessions.at(session).subscriptions;
            subscriptions.set_slot(node, last as u32);
            self.count_subscription(session, filter);
        }
        self.interest_changed(cx, (tenant, filter), before, class);
        node
    }

    /// Takes a subscriber out of the index.
    pub(crate) fn unindex_subscriber<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        node: NodeKey,
        target: Target,
    ) {
        let (tenant, filter) = self.tree.filter(node);
        let Some(subscribers) = self.tree.get_mut(node) else {
            return;
        };
        let before = subscribers.class();
        let slot = subscribers.slot_of(&mut self.sessions, node, target);
        let Some(slot) = slot else { return };
        subscribers.swap_remove(slot);
        if let Some(moved) = subscribers.list().get(slot as usize)
            && let Some(session) = moved.target.as_session()
        {
            self.sessions.at(session).subscriptions.set_slot(node, slot);
        }
        let (class, is_empty) = (subscribers.class(), subscribers.list().is_empty());
        if let Some(session) = target.as_session() {
            self.sessions.at(session).subscriptions.forget(node);
            self.uncount_subscription(session, &filter);
        }
        if is_empty {
            self.tree.remove(node);
        }
        if fault::is(Fault::InterestStays) {
            self.epochs.raise(tenant, &filter);
            return;
        }
        self.interest_changed(cx, (tenant, &filter), before, class);
    }

    /// The index has changed: routes are computed anew, and the node is told if it has to know.
    fn interest_changed<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        (tenant, filter): (TenantId, &str),
        before: InterestClass,
        class: InterestClass,
    ) {
        self.epochs.raise(tenant, filter);
        if before != class {
            let shard = self.id;
            cx.node.set_interest(shard, tenant, filter, class);
        }
    }

    /// Changes whether a subscriber counts as durable.
    pub(crate) fn set_durable<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        node: NodeKey,
        target: Target,
        durable: bool,
    ) {
        self.change_strength(cx, node, target, |subscriber| {
            strength(durable && subscriber.qos > QoS::AtMostOnce, false)
        });
    }

    fn change_strength<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        node: NodeKey,
        target: Target,
        strength_of: impl FnOnce(&Subscriber) -> InterestClass,
    ) {
        let Some(subscribers) = self.tree.get_mut(node) else {
            return;
        };
        let before = subscribers.class();
        let slot = subscribers.slot_of(&mut self.sessions, node, target);
        let Some(slot) = slot else { return };
        let Some(&subscriber) = subscribers.list().get(slot as usize) else {
            return;
        };
        let strength = strength_of(&subscriber);
        if subscriber.strength == strength {
            return;
        }
        let subscriber = Subscriber {
            strength,
            ..subscriber
        };
        subscribers.replace(slot, subscriber);
        let class = subscribers.class();
        let (tenant, filter) = self.tree.filter(node);
        self.interest_changed(cx, (tenant, &filter), before, class);
    }

    /// What a session may receive has changed: routes to it are computed anew, and with many
    /// subscriptions those to others too, which costs less than to look for each.
    pub(crate) fn raise_epochs_of(&mut self, session: u32) {
        let state = self.sessions.at(session);
        if state.subscriptions.own.len() > EPOCHS_AT_ONCE {
            let tenant = state.tenant;
            self.epochs.raise(tenant, "#");
            return;
        }
        for (node, _) in self.sessions.at(session).subscriptions.own.clone() {
            let (tenant, filter) = self.tree.filter(node);
            self.epochs.raise(tenant, &filter);
        }
    }

    /// The subscriptions of a session behind the place `after`, at most `limit`, and no more once
    /// their filters have `bytes_max` bytes; and the place of the last one, if there may be more.
    pub(crate) fn subscriptions_behind(
        &self,
        place: u32,
        after: Option<&SubscriptionPlace>,
        (limit, bytes_max): (usize, usize),
    ) -> (Vec<SubscriptionInfo>, Option<SubscriptionPlace>) {
        let mut found = Vec::new();
        let mut bytes = 0;
        let Some(session) = self.sessions.look_at(place).filter(|_| limit > 0) else {
            return (found, None);
        };
        let info = |filter, qos, subscription_id| SubscriptionInfo {
            tenant: session.tenant,
            client_id: Arc::clone(&session.client_id),
            filter,
            qos,
            no_local: false,
            retain_as_published: false,
            subscription_id,
        };
        if after.is_none()
            && let Some(of_lane) = self.subscriptions_of_lane(place)
        {
            found = of_lane;
        }
        let own = &session.subscriptions.own;
        let (first, after) = match after {
            None => (0, Bound::Unbounded),
            Some(SubscriptionPlace::Own(last)) => {
                let first = own.partition_point(|(node, _)| node <= last);
                (first, Bound::Unbounded)
            }
            Some(SubscriptionPlace::Shared(last)) => (own.len(), Bound::Excluded(&**last)),
        };
        for (node, slot) in &own[first..] {
            let subscribers = self.tree.get(*node).map(Subscribers::list);
            if let Some(subscriber) = subscribers.and_then(|list| list.get(*slot as usize)) {
                let filter: Box<str> = self.tree.filter(*node).1.into();
                bytes += filter.len();
                found.push(SubscriptionInfo {
                    no_local: subscriber.no_local,
                    retain_as_published: subscriber.retain_as_published,
                    ..info(filter, subscriber.qos, subscriber.subscription_id)
                });
            }
            if found.len() >= limit || bytes >= bytes_max {
                return (found, Some(SubscriptionPlace::Own(*node)));
            }
        }
        let seldom = session.subscriptions.seldom.iter();
        let shared = seldom.flat_map(|seldom| {
            let behind = (after, Bound::Unbounded);
            seldom.shared.range::<str, _>(behind)
        });
        for (filter, subscription) in shared {
            bytes += filter.len();
            found.push(SubscriptionInfo {
                retain_as_published: subscription.retain_as_published,
                ..info(
                    filter.clone(),
                    subscription.qos,
                    subscription.subscription_id,
                )
            });
            if found.len() >= limit || bytes >= bytes_max {
                return (found, Some(SubscriptionPlace::Shared(filter.clone())));
            }
        }
        (found, None)
    }

    /// Takes at most `count_max` subscriptions of a session out of the index; true: none is left.
    /// Share groups are another matter.
    pub(crate) fn unindex_some<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        session: u32,
        count_max: usize,
    ) -> bool {
        for _ in 0..count_max {
            // The last one: its place in the list is found and closed at once.
            let last = self.sessions.at(session).subscriptions.own.last();
            let Some(&(node, _)) = last else {
                break;
            };
            self.unindex_subscriber(cx, node, Target::session(session));
            self.work.add(FILTER);
        }
        self.sessions.at(session).subscriptions.own.is_empty()
    }

    /// Ends the memberships of a session in share groups.
    pub(crate) fn leave_groups<N: Node>(&mut self, cx: &mut Cx<'_, N>, session: u32) {
        let seldom = self.sessions.at(session).subscriptions.seldom.take();
        for (filter, _) in seldom.into_iter().flat_map(|seldom| seldom.shared) {
            self.uncount_subscription(session, &filter);
            self.send_leave(cx, session, filter);
        }
    }
}
