//! A share group: its members, its queue, and whose turn it is.

use core::ops::Range;
use std::collections::VecDeque;
use std::sync::Arc;

use martlet_codec::QoS;
use martlet_permission::TenantId;
use slab::Slab;

use super::members::Members;
use super::message::{Member, RulesVersion};
use super::ticket::GroupId;
use crate::counters::{Accounting, DropReason};
use crate::fault::{self, Fault};
use crate::hash::seeded;
use crate::id::{SessionAddress, SessionEpoch, SessionId};
use crate::losses::lost::Losses;
use crate::message::Message;
use crate::session::queue::{Entry, Queue};
use crate::share::message::ShareMessage;
use crate::split_map::SplitMap;
use crate::topic_tree::NodeKey;

/// The member that is to get a message of a group.
#[derive(Debug)]
pub(super) enum Choice {
    /// The member at this place.
    Member(usize),
    /// No member for now.
    Later,
    /// No member, ever: for this reason.
    Nobody(DropReason),
}

/// Deliveries after which a member that had no room is asked again.
pub(super) const ASKED_AGAIN_AFTER: u64 = 64;

#[derive(Debug)]
pub(super) struct Group {
    pub(super) generation: u32,
    pub(super) tenant: TenantId,
    pub(super) filter: Box<str>,
    pub(super) epoch: SessionEpoch,
    /// A member's session outlives its connection, so that what the group is owed is recorded.
    pub(super) durable: bool,
    /// The store knows of it.
    pub(super) recorded: bool,
    pub(super) node: NodeKey,
    pub(super) members: Members,
    /// The member whose turn is next.
    pub(super) turn: usize,
    pub(super) queue: Queue,
    /// Whether it is among those that are served in a later turn.
    pub(super) put_off: bool,
    pub(super) outstanding: SplitMap<u64, Outstanding>,
    /// Bytes of memory that were counted last.
    pub(super) charged: usize,
    pub(super) next_delivery: u64,
    pub(super) accounting: Accounting,
    /// Not there while nothing was lost.
    pub(super) losses: Option<Box<Losses>>,
}

#[derive(Debug)]
pub(super) struct Outstanding {
    /// None once the member has taken it.
    pub(super) entry: Option<Entry>,
    pub(super) member: SessionAddress,
    /// Where it was then.
    pub(super) place: usize,
}

/// The share groups that live on a shard.
#[derive(Debug)]
pub(crate) struct Groups {
    /// Boxed, so that little is moved when there are more.
    pub(super) slab: Slab<Box<Group>>,
    pub(super) by_filter: SplitMap<(TenantId, Box<str>), u32>,
    pub(super) generation: u32,
    pub(super) seed: u64,
    /// Groups whose queue was too long for one turn.
    pub(super) put_off: VecDeque<GroupId>,
    /// Bytes of memory that the groups take beside their messages.
    pub(super) bytes: usize,
    /// Traffic between sessions and groups of this shard.
    pub(crate) own_traffic: VecDeque<ShareMessage>,
    /// Sessions whose groups need to get what the sessions may receive now.
    pub(crate) reads_changed: Vec<SessionId>,
}

impl Groups {
    pub(crate) fn new(seed: u64) -> Self {
        let by_filter = SplitMap::new(seeded(seed));
        Self {
            slab: Slab::new(),
            by_filter,
            generation: 0,
            seed,
            put_off: VecDeque::new(),
            bytes: 0,
            own_traffic: VecDeque::new(),
            reads_changed: Vec::new(),
        }
    }

    /// Some group is to be served in this turn.
    pub(crate) fn has_put_off(&self) -> bool {
        !self.put_off.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Messages held by all groups (idea 6).
    pub(crate) fn held(&self) -> usize {
        self.slab.iter().map(|(_, group)| group.held()).sum()
    }

    /// Bytes of memory that the groups take beside their messages.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// Counts a group's bytes anew: called when it may have grown.
    pub(super) fn charge(&mut self, index: u32) {
        let group = &mut self.slab[index as usize];
        let bytes = group.table_bytes();
        let before = core::mem::replace(&mut group.charged, bytes);
        self.bytes = self.bytes + group.charged - before;
    }

    /// Groups are below this place.
    pub(crate) fn places(&self) -> usize {
        self.slab.capacity()
    }

    /// The group at a place, and the bytes of memory that its queue takes.
    pub(crate) fn bytes_at(&self, place: usize) -> Option<(GroupId, usize)> {
        let group = self.slab.get(place)?;
        let id = GroupId {
            index: place as u32,
            generation: group.generation,
        };
        Some((id, group.queue.bytes_held()))
    }

    /// Each member's part of the memory that the queue of the group at a place takes.
    pub(crate) fn part_at(&self, place: usize) -> usize {
        self.slab.get(place).map_or(0, |group| {
            group.queue.bytes_held() / group.members.len().max(1)
        })
    }

    /// Members of the group at a place, by their own places.
    pub(crate) fn members_at(
        &self,
        place: usize,
        places: Range<usize>,
    ) -> impl Iterator<Item = SessionAddress> {
        let members = self.slab.get(place).map(|group| &group.members);
        let members = members.into_iter();
        members.flat_map(move |members| members.addresses(places.clone()))
    }

    /// Places of members of the group at a place are below this.
    pub(crate) fn member_places_at(&self, place: usize) -> usize {
        let group = self.slab.get(place);
        group.map_or(0, |group| group.members.places())
    }

    /// Groups at these places whose queue is full.
    pub(crate) fn full_queues(&self, at: Range<usize>, count_max: u32, bytes_max: u64) -> usize {
        let groups = at.filter_map(|place| self.slab.get(place));
        let full = groups.filter(|group| group.queue.is_full(count_max, bytes_max));
        full.count()
    }

    /// The equation of idea 6, group by group.
    pub(crate) fn balanced(&self) -> bool {
        self.slab.iter().all(|(_, group)| {
            let held = group.held() as u64;
            let sums = &group.accounting;
            sums.matched == sums.delivered + sums.dropped + sums.expired + held
        })
    }

    pub(super) fn find(&self, tenant: TenantId, filter: &str) -> Option<u32> {
        if fault::is(Fault::ShareOfOtherTenant) {
            let found = self.slab.iter();
            let mut found = found.filter(|(_, group)| *group.filter == *filter);
            return found.next().map(|(index, _)| index as u32);
        }
        self.by_filter.get(&(tenant, Box::from(filter))).copied()
    }

    /// Returns what a group that is still there has lost, if anything was.
    pub(crate) fn losses(&mut self, id: GroupId) -> Option<&mut Losses> {
        let index = self.live(id)?;
        self.slab[index as usize].losses.as_deref_mut()
    }

    /// The group of a Topic Filter: what it has lost, if anything was, and its queue.
    pub(crate) fn detail_of(
        &self,
        tenant: TenantId,
        filter: &str,
    ) -> Option<(GroupId, Option<&Losses>, &Queue)> {
        let index = self.find(tenant, filter)?;
        let group = &self.slab[index as usize];
        Some((self.id_of(index), group.losses.as_deref(), &group.queue))
    }

    /// The tenant and the Topic Filter of a group that is still there.
    pub(crate) fn name(&self, id: GroupId) -> Option<(TenantId, &str)> {
        let group = &self.slab[self.live(id)? as usize];
        Some((group.tenant, &group.filter))
    }

    /// Returns what a group has lost, as far as it is counted.
    pub(super) fn losses_mut(&mut self, index: u32) -> &mut Losses {
        if self.slab[index as usize].losses.is_none() {
            self.slab[index as usize].losses = Some(Box::default());
            self.charge(index);
        }
        self.slab[index as usize].losses.get_or_insert_default()
    }

    pub(super) fn id_of(&self, index: u32) -> GroupId {
        let generation = self.slab[index as usize].generation;
        GroupId { index, generation }
    }

    /// Returns its Topic Filter, as the receiver of a message that no member has.
    pub(super) fn receiver(&self, index: u32) -> Arc<str> {
        Arc::from(&*self.slab[index as usize].filter)
    }

    /// The queue of a group that is still there.
    pub(crate) fn queue(&mut self, id: GroupId) -> Option<&mut Queue> {
        let index = self.live(id)?;
        Some(&mut self.slab[index as usize].queue)
    }

    /// Takes the next group whose queue was too long for one turn.
    pub(crate) fn next_put_off(&mut self) -> Option<u32> {
        while let Some(id) = self.put_off.pop_front() {
            if let Some(index) = self.live(id) {
                self.slab[index as usize].put_off = false;
                return Some(index);
            }
        }
        None
    }

    pub(super) fn live(&self, id: GroupId) -> Option<u32> {
        let group = self.slab.get(id.index as usize)?;
        (group.generation == id.generation).then_some(id.index)
    }

    /// The group has or had this message before a restart.
    pub(crate) fn had(&self, index: u32, had: &[SessionEpoch]) -> bool {
        !had.is_empty() && had.contains(&self.slab[index as usize].epoch)
    }

    /// The place of a group that takes back what a member returns.
    pub(super) fn takes_back(&self, group: GroupId, delivery: u64) -> Option<u32> {
        let index = self.live(group)?;
        let is_lost = self.slab[index as usize].is_return_lost(delivery);
        (!fault::is(Fault::ShareReturnedTaken) && !is_lost).then_some(index)
    }
}

impl Group {
    /// Messages queued or lent to members.
    pub(super) fn held(&self) -> usize {
        let lent = self.outstanding.values();
        self.queue.len() + lent.filter(|lent| lent.entry.is_some()).count()
    }

    /// Whether a deliberate fault loses a delivery that comes back, whose member has left.
    pub(super) fn is_return_lost(&self, delivery: u64) -> bool {
        fault::is(Fault::ShareReturnLostOfLeaver)
            && self
                .outstanding
                .get(&delivery)
                .is_some_and(|lent| self.members.find_at(lent.place, lent.member).is_none())
    }

    /// Bytes of its tables, its name and its members.
    fn table_bytes(&self) -> usize {
        // Its name stands in the table of groups too.
        let names = 2 * self.filter.len();
        let outstanding = self.outstanding.memory_bytes();
        let losses = self.losses.as_deref().map_or(0, size_of_val);
        size_of::<Self>() + names + outstanding + losses + self.members.memory_bytes()
    }

    /// Whether a member is connected that could take a message.
    pub(super) fn has_taker(&mut self) -> bool {
        self.members.begin_delivery(self.next_delivery);
        self.members.is_any_ready()
    }

    /// If all connected members had no room, tries all of them again.
    pub(super) fn retry_if_all_are_full(&mut self) {
        self.members.begin_delivery(self.next_delivery);
        if self.members.are_all_full() {
            self.members.retry_all();
        }
    }

    /// The member whose turn it is among those that may have a message and can take it.
    pub(super) fn choose(
        &mut self,
        message: &Message,
        qos: QoS,
        rules_version: RulesVersion,
    ) -> Choice {
        self.members.begin_delivery(self.next_delivery);
        let members = &self.members;
        let mut ready = members.ready(self.turn);
        let choice = match ready.find(|place| members.at(*place).may_receive(message)) {
            Some(place) => Choice::Member(place),
            None => self.choose_without_credit(message, qos, rules_version),
        };
        if let Choice::Member(place) = choice {
            self.turn = place + 1;
        }
        choice
    }

    /// Whether what all members may get is known by the newest book. While one is passed round, a
    /// right may be taken from one member before the group is notified that another has got it.
    fn has_rules_version_of(&self, own_shard: RulesVersion) -> bool {
        let versions = self.members.iter().map(|member| member.rules_version);
        let versions = versions.filter(|version| *version != RulesVersion::ANY);
        let newest = versions.clone().fold(own_shard, RulesVersion::max);
        versions.min().is_none_or(|oldest| oldest == newest)
    }

    fn first_in_turn(&self, is: impl Fn(&Member) -> bool) -> Option<usize> {
        let mut places = self.members.in_turn(self.turn);
        places.find(|place| is(self.members.at(*place)))
    }

    /// At QoS 0 no credit is needed.
    ///
    /// If no member with the right to it can take it, but others are connected, it goes into the
    /// queue of a member with the right, even of one that is not connected. In the group's queue it
    /// would keep from the others what they may have.
    #[cold]
    fn choose_without_credit(
        &self,
        message: &Message,
        qos: QoS,
        rules_version: RulesVersion,
    ) -> Choice {
        let mut once = self.members.without_credit(qos, self.turn);
        let once = once.find(|place| self.members.at(*place).may_receive(message));
        if let Some(place) = once {
            return Choice::Member(place);
        }
        // After a restart members have yet to join; and where all connected members may receive the
        // message, one of them will.
        if !self.members.is_any_present() || !self.members.is_any_restricted() {
            return Choice::Later;
        }
        let mut all = self.members.iter();
        if !all.any(|member| member.may_receive(message)) {
            return match self.has_rules_version_of(rules_version) {
                true => Choice::Nobody(DropReason::NotPermitted),
                false => Choice::Later,
            };
        }
        let mut those_there = self.members.iter().filter(|member| member.connected);
        if those_there.all(|member| member.may_receive(message)) {
            return Choice::Later;
        }
        let has_room = |member: &Member| member.connected && member.full_until == 0;
        let keeps = |member: &Member| {
            qos.min(member.qos) > QoS::AtMostOnce
                && (member.connected || member.durable)
                && member.may_receive(message)
        };
        let chosen = self
            .first_in_turn(|member| has_room(member) && keeps(member))
            .or_else(|| self.first_in_turn(|member| member.connected && keeps(member)))
            .or_else(|| self.first_in_turn(keeps));
        chosen.map_or(Choice::Nobody(DropReason::NoMember), Choice::Member)
    }
}
