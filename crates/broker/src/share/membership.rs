//! Members of a group, on the shard where the group lives; groups that begin and end.

use std::sync::Arc;

use martlet_codec::{QoS, SubscriptionFilter};
use martlet_permission::TenantId;

use super::group::Group;
use super::members::Members;
use super::message::Member;
use super::ticket::{GroupAddress, GroupId};
use crate::counters::{Accounting, DropReason};
use crate::effect::QueueOwner;
use crate::hash::seeded;
use crate::id::{SessionAddress, SessionEpoch};
use crate::node::{Cx, Node};
use crate::record::Record;
use crate::routing::Target;
use crate::session::outbound::EndedQueue;
use crate::session::queue::{Queue, StoredEntry};
use crate::shard::Shard;
use crate::split_map::SplitMap;
use crate::subscribe::subscribers::Subscriber;

impl Shard {
    pub(super) fn member_joined<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        filter: Box<str>,
        member: Member,
    ) {
        let index = match self.groups.find(tenant, &filter) {
            Some(index) => index,
            None => self.new_group(cx, tenant, filter, None),
        };
        let group = &mut self.groups.slab[index as usize];
        group.members.join(member);
        self.groups.charge(index);
        self.classify_group(cx, index);
        self.serve_group(cx, index);
    }

    pub(super) fn member_present<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        filter: &str,
        member: SessionAddress,
        change: impl FnOnce(&mut Member),
    ) {
        let Some(index) = self.groups.find(tenant, filter) else {
            return;
        };
        let group = &mut self.groups.slab[index as usize];
        if let Some(place) = group.members.find(member) {
            group.members.change(place, change);
        }
        self.serve_group(cx, index);
    }

    pub(super) fn member_left<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        filter: &str,
        member: SessionAddress,
    ) {
        let Some(index) = self.groups.find(tenant, filter) else {
            return;
        };
        let group = &mut self.groups.slab[index as usize];
        group.members.leave(member);
        if group.members.is_empty() {
            self.end_group(cx, index);
        } else {
            self.classify_group(cx, index);
            self.serve_group(cx, index);
        }
    }

    /// A group is durable while the session of one member outlives its connection.
    fn classify_group<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let group = &mut self.groups.slab[index as usize];
        group.durable = group.members.is_any_durable();
        let (node, durable) = (group.node, group.durable);
        if durable && !group.recorded {
            group.recorded = true;
            let record = Record::Group {
                tenant: group.tenant,
                filter: group.filter.clone(),
                epoch: group.epoch,
            };
            self.append(cx, record);
        }
        self.set_durable(cx, node, Target::group(index), durable);
    }

    /// A group, as it was before a restart if it has an epoch; its members join again.
    fn new_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        filter: Box<str>,
        epoch: Option<SessionEpoch>,
    ) -> u32 {
        self.groups.generation = self.groups.generation.wrapping_add(1);
        let generation = self.groups.generation;
        let recorded = epoch.is_some();
        let epoch = epoch.unwrap_or_else(|| self.next_epoch());
        let group = Group {
            generation,
            tenant,
            filter: filter.clone(),
            epoch,
            durable: recorded,
            recorded,
            node: 0,
            members: Members::new(self.groups.seed),
            turn: 0,
            queue: Queue::default(),
            put_off: false,
            outstanding: SplitMap::new(seeded(self.groups.seed)),
            charged: 0,
            next_delivery: 1,
            accounting: Accounting::default(),
            losses: None,
        };
        let index = self.groups.slab.insert(Box::new(group)) as u32;
        let topic_filter =
            SubscriptionFilter::parse(&filter).map_or("", |parsed| parsed.filter.as_str());
        let subscriber = Subscriber::new(Target::group(index), QoS::ExactlyOnce, recorded);
        let node = self.index_subscriber(cx, tenant, topic_filter, subscriber);
        self.groups.slab[index as usize].node = node;
        self.groups.charge(index);
        self.groups.by_filter.insert((tenant, filter), index);
        index
    }

    fn end_group<N: Node>(&mut self, cx: &mut Cx<'_, N>, index: u32) {
        let node = self.groups.slab[index as usize].node;
        self.unindex_subscriber(cx, node, Target::group(index));
        let held = self.groups.slab[index as usize].held() as u64;
        if held > 0 {
            let losses = self.groups.losses_mut(index);
            losses.count_drop(DropReason::SessionEnded, held, cx.now.wall_ms);
        }
        let owner = QueueOwner::Group(self.groups.id_of(index));
        self.notify_last_losses(cx, owner, None);
        let group = *self.groups.slab.remove(index as usize);
        self.groups.bytes -= group.charged;
        if group.recorded {
            self.append(cx, Record::Ended(group.epoch));
        }
        let receiver = Arc::from(&*group.filter);
        self.groups.by_filter.remove(&(group.tenant, group.filter));
        self.counters.drop_messages(DropReason::SessionEnded, held);
        // Receipts of messages that members have now are sent when the members answer.
        let queue = group.queue;
        self.free_queue(EndedQueue { queue, receiver });
    }

    /// Brings a group back.
    pub(crate) fn restored_group<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        tenant: TenantId,
        filter: Box<str>,
        epoch: SessionEpoch,
    ) -> GroupAddress {
        let index = self.new_group(cx, tenant, filter, Some(epoch));
        let generation = self.groups.slab[index as usize].generation;
        GroupAddress {
            shard: self.id,
            group: GroupId { index, generation },
            epoch,
        }
    }

    /// Brings an entry of a group's queue back.
    pub(crate) fn restored_group_entry(
        &mut self,
        id: GroupId,
        entry: &StoredEntry,
        part: Option<SessionAddress>,
    ) {
        let Some(index) = self.groups.live(id) else {
            return;
        };
        self.parts.receipts.add(entry.id, part);
        let group = &mut self.groups.slab[index as usize];
        group.queue.push_back_stored(entry, &self.memory.gauge);
        group.accounting.matched += 1;
        self.count_matched();
        self.watch_queue_expiry(QueueOwner::Group(id));
    }

    /// A group whose members are all gone does not outlive a restart.
    pub(crate) fn end_group_without_members<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: GroupId) {
        if let Some(index) = self.groups.live(id)
            && self.groups.slab[index as usize].members.is_empty()
        {
            self.end_group(cx, index);
        }
    }
}
