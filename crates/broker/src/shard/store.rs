//! State of the store as a shard knows it.

use std::sync::Arc;

use martlet_permission::{Limit, TenantId};

use super::gated::{Gate, Gated};
use super::unqueued::Unqueued;
use crate::counters::DropReason;
use crate::fault::{self, Fault};
use crate::id::RecordNumber;
use crate::record::RecordCount;
use crate::session::queue::Window;
use martlet_codec::QoS;

/// Amount that the store can take: each state takes less than the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum StoreState {
    /// The store keeps up.
    #[default]
    KeepsUp,
    /// Much waits to be written: packets that make it grow wait.
    Behind,
    /// There is no room but a reserve for what makes room: CONNECT packets that make it grow are
    /// refused.
    Full,
    /// Room is short, likewise, because the store takes as much as `limits.store_bytes` allows.
    AtLimit,
    /// The tenant has its share of the store: no room for it alone, likewise.
    AtShare,
    /// The store does not write, and as much waits as may: every CONNECT that has to be recorded is
    /// refused.
    Stuck,
}

/// State of the store as a shard knows it, and what waits for it.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// Amount that it can take.
    pub(crate) state: StoreState,
    /// Tenants that have their share of it, in order.
    pub(crate) at_share: Arc<[TenantId]>,
    /// Messages of queues can be read back from it.
    pub(crate) reads_back: bool,
    /// Records that were handed over, and which of them are durable.
    pub(crate) records: RecordCount,
    /// Queue of what waits for records to be durable.
    pub(crate) gate: Gate,
    /// Messages that have to be in the queue of a part before they are acknowledged.
    pub(crate) unqueued: Unqueued,
}

impl Store {
    /// Whether it takes what comes from every tenant.
    #[inline(always)]
    pub(crate) fn takes_all(&self) -> bool {
        self.state == StoreState::KeepsUp && self.at_share.is_empty()
    }

    /// Amount that it can take from a tenant.
    #[inline]
    pub(crate) fn state_for(&self, tenant: TenantId) -> StoreState {
        let has_share = !self.at_share.is_empty() && self.at_share.binary_search(&tenant).is_ok();
        match has_share {
            true => self.state.max(StoreState::AtShare),
            false => self.state,
        }
    }

    /// The ending for a client of this tenant that has waited too long for the store.
    pub(crate) fn limit_for(&self, tenant: TenantId) -> Limit {
        match self.state_for(tenant) {
            StoreState::AtShare => Limit::TeamStore,
            StoreState::AtLimit => Limit::StoreBytes,
            StoreState::Full => Limit::DiskFull,
            StoreState::KeepsUp | StoreState::Behind | StoreState::Stuck => Limit::StoreStalled,
        }
    }

    /// Part of a queue that is kept in memory, by whether the client is connected.
    pub(crate) fn window_of(&self, is_there: bool) -> Window {
        match is_there {
            _ if !self.reads_back => Window::Whole,
            true => Window::Front,
            false => Window::Nothing,
        }
    }

    /// A message is kept for parts that keep QoS 0 messages. One of QoS 0 does not wait for the
    /// store: while that does not keep up, only what is recorded anyway is kept.
    pub(crate) fn keeps_for_parts(&self, tenant: TenantId, qos: QoS, must_record: bool) -> bool {
        if qos > QoS::AtMostOnce {
            return true;
        }
        let has_room = must_record
            || self.state_for(tenant) == StoreState::KeepsUp
            || fault::is(Fault::KeptQos0IgnoresStore);
        has_room && !fault::is(Fault::KeptQos0NotRecorded)
    }

    /// Why a part does not get a QoS 0 message that is not kept for it.
    pub(crate) fn reason_not_kept(&self, tenant: TenantId, is_unrecorded: bool) -> DropReason {
        use StoreState::{AtLimit, AtShare, Behind, Full, Stuck};
        match self.state_for(tenant) {
            Full | AtLimit | AtShare if is_unrecorded => DropReason::StoreFull,
            Behind | Stuck if is_unrecorded => DropReason::StoreStalled,
            _ => DropReason::PartBusy,
        }
    }

    /// The last record whose acknowledgement may leave.
    fn last_open(&self) -> RecordNumber {
        let durable = self.records.last_durable();
        match self.unqueued.first() {
            Some(RecordNumber(first)) => durable.min(RecordNumber(first - 1)),
            None => durable,
        }
    }

    /// Whether an acknowledgement that depends on `record` may leave.
    #[inline]
    pub(crate) fn is_open(&self, record: RecordNumber) -> bool {
        let first = self.unqueued.first();
        self.records.is_durable(record) && first.is_none_or(|first| record < first)
    }

    /// Whether something waits for its turn alone: its record is durable.
    pub(super) fn is_gate_open(&self) -> bool {
        self.gate.is_open(self.last_open())
    }

    /// Takes the first that waits for a record, if it may leave.
    pub(super) fn take_open(&mut self) -> Option<Gated> {
        let last = self.last_open();
        self.gate.take_open(last)
    }
}
