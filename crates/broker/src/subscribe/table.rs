//! Subscriptions of a session, made, found and ended in the index of the shard.

use martlet_codec::QoS;
use martlet_permission::TenantId;

use crate::fault::{self, Fault};
use crate::interest::InterestClass;
use crate::node::{Cx, Node};
use crate::record::SubscriptionRecord;
use crate::report::RetainedAtSubscribe;
use crate::routing::Target;
use crate::session::{SessionFlags, Sessions};
use crate::shard::Shard;
use crate::subscribe::subscribers::{
    RetainFlags, SharedSubscription, Subscriber, Subscribers, strength,
};
use crate::topic_tree::NodeKey;
use crate::work::FILTER;

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

    /// Ends all memberships of a session in share groups. Returns their filters.
    pub(crate) fn leave_all(&mut self, session: u32) -> Vec<Box<str>> {
        let seldom = self.sessions.at(session).subscriptions.seldom.take();
        let shared = seldom.into_iter().flat_map(|seldom| seldom.shared);
        let filters: Vec<_> = shared.map(|(filter, _)| filter).collect();
        for filter in &filters {
            self.uncount_subscription(session, filter);
        }
        filters
    }

    /// Charges a new subscription to its session and to the shard.
    fn count_subscription(&mut self, session: u32, filter: &str) {
        let session = self.sessions.at(session);
        session.subscriptions.filter_bytes.add(filter);
        self.subscribers.add(session.tenant, filter);
    }

    /// The opposite of [`Shard::count_subscription`].
    fn uncount_subscription(&mut self, session: u32, filter: &str) {
        let session = self.sessions.at(session);
        session.subscriptions.filter_bytes.remove(filter);
        self.subscribers.remove(session.tenant, filter);
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
            retain: RetainFlags::new(subscription.retain_as_published),
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
        own.map(|(node, _)| self.subscribers.tree.filter(*node).1.into())
            .collect()
    }

    /// A session's own subscription to this filter, without share name.
    pub(super) fn own_subscription(&mut self, session: u32, filter: &str) -> Option<&Subscriber> {
        let node = self
            .subscribers
            .tree
            .find(self.sessions.at(session).tenant, filter)?;
        let slot = self.sessions.at(session).subscriptions.slot(node)?;
        self.subscribers.tree.get(node)?.list().get(slot as usize)
    }

    /// Notes whether a session's own subscription to this filter brought retained messages.
    pub(super) fn note_retained_at_subscribe(
        &mut self,
        session: u32,
        filter: &str,
        retained: RetainedAtSubscribe,
    ) {
        let state = self.sessions.at(session);
        let Some(node) = self.subscribers.tree.find(state.tenant, filter) else {
            return;
        };
        let slot = state.subscriptions.slot(node);
        let subscribers = self.subscribers.tree.get_mut(node);
        if let Some(own) = subscribers.and_then(|all| all.at_mut(slot?)) {
            own.retain.set_at_subscribe(retained);
        }
    }

    /// The QoS of a session's own subscription to exactly this topic; QoS 0 if it has none.
    pub(crate) fn qos_of_subscription(&mut self, session: u32, topic: &str) -> QoS {
        let found = self.own_subscription(session, topic);
        found.map_or(QoS::AtMostOnce, |found| found.qos)
    }

    /// The number of a session's subscription to this filter, `$share/…` where it is `shared`.
    pub(super) fn existing_number(
        &mut self,
        session: u32,
        filter: &str,
        shared: bool,
    ) -> Option<u32> {
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
        let (node, subscribers) = self
            .subscribers
            .tree
            .entry(tenant, filter, Subscribers::default);
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
        self.interest_changed(cx, tenant, filter, before, class);
        node
    }

    /// Takes a subscriber out of the index.
    pub(crate) fn unindex_subscriber<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        node: NodeKey,
        target: Target,
    ) {
        let (tenant, filter) = self.subscribers.tree.filter(node);
        let Some(subscribers) = self.subscribers.tree.get_mut(node) else {
            return;
        };
        let before = subscribers.class();
        let slot = slot_of(subscribers, &mut self.sessions, node, target);
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
            self.subscribers.tree.remove(node);
        }
        if fault::is(Fault::InterestStays) {
            self.subscribers.raise_epoch(tenant, &filter);
            return;
        }
        self.interest_changed(cx, tenant, &filter, before, class);
    }

    /// The index has changed: invalidates routes, and updates the node's index if necessary.
    fn interest_changed<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        filter: &str,
        before: InterestClass,
        class: InterestClass,
    ) {
        self.subscribers.raise_epoch(tenant, filter);
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
            strength(durable && subscriber.qos > QoS::AtMostOnce, false, false)
        });
    }

    fn change_strength<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        node: NodeKey,
        target: Target,
        strength_of: impl FnOnce(&Subscriber) -> InterestClass,
    ) {
        let Some(subscribers) = self.subscribers.tree.get_mut(node) else {
            return;
        };
        let before = subscribers.class();
        let slot = slot_of(subscribers, &mut self.sessions, node, target);
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
        let (tenant, filter) = self.subscribers.tree.filter(node);
        self.interest_changed(cx, tenant, &filter, before, class);
    }

    /// Raises the epochs of a session: what it may receive has changed. Routes to it are computed
    /// anew, and with many subscriptions those to others too, which costs less than to look for
    /// each.
    pub(crate) fn raise_epochs_of(&mut self, session: u32) {
        let state = self.sessions.at(session);
        if state.subscriptions.own.len() > EPOCHS_AT_ONCE {
            let tenant = state.tenant;
            self.subscribers.raise_epoch(tenant, "#");
            return;
        }
        for (node, _) in self.sessions.at(session).subscriptions.own.clone() {
            let (tenant, filter) = self.subscribers.tree.filter(node);
            self.subscribers.raise_epoch(tenant, &filter);
        }
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
}

/// Where a subscriber of the filter whose place is `node` stands.
fn slot_of(
    subscribers: &Subscribers,
    sessions: &mut Sessions,
    node: NodeKey,
    target: Target,
) -> Option<u32> {
    match target.as_session() {
        Some(session) => sessions.at(session).subscriptions.slot(node),
        None => subscribers.find(target),
    }
}

/// Returns what a publish must do for a subscription of this QoS in a session.
fn strength_in(durable: bool, flags: SessionFlags, qos: QoS) -> InterestClass {
    let keeps_qos0 = durable && flags.keeps_qos0();
    let durable = durable && qos > QoS::AtMostOnce;
    // Lanes, which are the other durable parts, are not in this table.
    strength(durable, keeps_qos0, durable && flags.part())
}
