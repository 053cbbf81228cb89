//! Subscriptions, and the messages that were not routed to all receivers before the restart, in
//! the order of their records: a message goes only to subscriptions made before it.

use martlet_broker::{Message, MessageId, Node, SessionEpoch, SubscriptionRecord};
use martlet_store::{BodyId, Disk, Engine, Holds, Lsn, Pending, StateKey};

use super::{DELIVER_EVERY, RestoreError, Restoring, each_state};
use crate::encode::put_released;
use crate::state::{decode_subscription, kind, retained_owed_key};

/// Maximum number of messages to route that are in memory at once.
const PAGE_COUNT: usize = 64;

impl<N: Node> Restoring<'_, N> {
    /// Restores subscriptions, and routes unfinished messages again.
    pub(super) fn messages_to_be_routed<D: Disk>(
        &mut self,
        engine: &Engine<D>,
    ) -> Result<(), RestoreError> {
        let pending = engine.pending();
        let first = pending.first().map_or(Lsn::MAX, |pending| pending.lsn);
        let mut younger = self.subscriptions_before(engine, first)?;
        younger.sort_by_key(|(since, _)| *since);
        let mut younger = younger.into_iter().peekable();
        for page in pending.chunks(PAGE_COUNT) {
            let mut messages = self.read_page(engine, page);
            for pending in page {
                while let Some((_, subscription)) =
                    younger.next_if(|(since, _)| *since < pending.lsn)
                {
                    self.subscription(&subscription);
                }
                let id = MessageId(pending.id.0);
                let message = messages.iter_mut().find(|(read, _)| *read == id);
                if let Some((_, message)) = message {
                    self.route_again(message, pending);
                }
            }
        }
        self.release_damaged(engine);
        for (_, subscription) in younger {
            self.subscription(&subscription);
        }
        let owed = std::mem::take(&mut self.retained_owed);
        let nobodys = owed
            .keys()
            .filter(|key| self.names.session(SessionEpoch(key.owner)).is_none());
        self.orphans.extend(nobodys.map(|key| key.owner));
        self.shards.deliver(&mut self.records);
        self.go_on()
    }

    /// Restores subscriptions older than the record `first`; returns the others.
    fn subscriptions_before<D: Disk>(
        &mut self,
        engine: &Engine<D>,
        first: Lsn,
    ) -> Result<Vec<(Lsn, SubscriptionRecord)>, RestoreError> {
        let mut younger = Vec::new();
        let is_subscription = |key: StateKey| key.kind == kind::SUBSCRIPTION;
        each_state(
            engine,
            self,
            is_subscription,
            |restoring, key, since, bytes| {
                let epoch = SessionEpoch(key.owner);
                if restoring.names.session(epoch).is_none() {
                    restoring.orphans.push(key.owner);
                    return Ok(());
                }
                let mut subscription = decode_subscription(epoch, key.number, bytes)?;
                let owed = retained_owed_key(epoch, key.number);
                let owed = restoring.retained_owed.remove(&owed);
                subscription.retained_pending = owed.is_some();
                subscription.retained_after = owed.flatten();
                match since < first {
                    true => restoring.subscription(&subscription),
                    false => younger.push((since, subscription)),
                }
                Ok(())
            },
        )?;
        Ok(younger)
    }

    fn subscription(&mut self, subscription: &SubscriptionRecord) {
        let Some(session) = self.names.session(subscription.epoch) else {
            return;
        };
        self.report.subscriptions += 1;
        self.shards.call(session.shard, |shard, cx| {
            shard.restore_subscription(cx, session, subscription);
        });
        if (self.report.subscriptions as usize).is_multiple_of(DELIVER_EVERY) {
            self.shards.deliver(&mut self.records);
        }
    }

    fn read_page<D: Disk>(
        &mut self,
        engine: &Engine<D>,
        page: &[Pending],
    ) -> Vec<(MessageId, Message)> {
        let ids: Vec<BodyId> = page.iter().map(|pending| pending.id).collect();
        let mut messages = Vec::with_capacity(ids.len());
        engine.read_bodies(&ids, |id, bytes| {
            let id = MessageId(id.0);
            if let Some(body) = self.body(id, bytes) {
                // Needed for No Local.
                let publisher = body.publisher.map(|publisher| publisher.epoch);
                let publisher = publisher.and_then(|epoch| self.names.session(epoch));
                let shard = self.shards.of_message(id);
                let publishers = &mut self.publishers;
                let message = self.shards.message(shard, &body, publisher, publishers);
                messages.push((id, message));
            } else {
                put_released(id, Holds::ROUTING, &mut self.records);
            }
        });
        messages
    }

    fn route_again(&mut self, message: &Message, pending: &Pending) {
        // A share group created later does not get it.
        let had = pending.had.iter().map(|queue| SessionEpoch(queue.0));
        let younger = self.names.groups_younger_than(pending.lsn);
        let had: Vec<SessionEpoch> = had.chain(younger).collect();
        self.report.routed_again += 1;
        let shard = self.shards.of_message(message.id());
        self.shards.call(shard, |shard, cx| {
            shard.route_again(cx, message, &had);
        });
        // It must have reached all shards before the next subscription is restored.
        self.shards.deliver(&mut self.records);
    }

    /// Releases messages that cannot be routed, so that no receiver waits for them.
    fn release_damaged<D: Disk>(&mut self, engine: &Engine<D>) {
        engine.held(Holds::ROUTING, |id, lsn, bytes| {
            let id = MessageId(id.0);
            if lsn == 0 && self.body(id, bytes).is_none() {
                put_released(id, Holds::ROUTING, &mut self.records);
            }
        });
    }
}
