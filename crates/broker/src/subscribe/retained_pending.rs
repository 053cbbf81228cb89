//! Retained messages that a subscription still has to bring.

use std::collections::BTreeMap;
use std::sync::Arc;

use martlet_codec::QoS;

use crate::gauge::{CountedBytes, MemoryGauge};

/// Retained messages that a session's subscriptions are still owed, filter by filter.
/// Both maps hold the same filters: a client with thousands of them may name each of them again.
#[derive(Debug, Default)]
pub(crate) struct RetainedPending {
    /// In the order subscribed.
    pub(super) cursors: BTreeMap<u64, RetainedCursor>,
    /// Where a filter stands in that order.
    places: BTreeMap<Box<str>, u64>,
    next_place: u64,
    counted: CountedBytes,
}

/// Memory that a filter takes in both maps beside its text, bytes.
const FILTER_OVERHEAD: usize = 192;

fn bytes_of(filter: &str) -> usize {
    FILTER_OVERHEAD + 2 * filter.len()
}

impl RetainedPending {
    /// At the end; a subscription made again begins again.
    pub(super) fn push(
        &mut self,
        filter: Box<str>,
        cursor: RetainedCursor,
        gauge: &Arc<MemoryGauge>,
    ) {
        self.forget(&filter);
        self.counted.add(gauge, bytes_of(&filter));
        let place = self.next_place;
        self.next_place += 1;
        self.cursors.insert(place, cursor);
        self.places.insert(filter, place);
    }

    /// Behind which topic messages of this filter are owed, if any are.
    pub(crate) fn owed(&self, filter: &str) -> Option<Option<&str>> {
        let cursor = self.cursors.get(self.places.get(filter)?)?;
        Some(cursor.after.as_deref())
    }

    pub(crate) fn forget(&mut self, filter: &str) {
        if let Some(place) = self.places.remove(filter) {
            self.cursors.remove(&place);
            self.counted.sub(bytes_of(filter));
        }
    }
}

#[derive(Debug)]
pub(crate) struct RetainedCursor {
    pub(super) filter: Box<str>,
    /// Last topic read.
    pub(super) after: Option<Box<str>>,
    pub(super) qos: QoS,
    pub(super) no_local: bool,
    /// 0 is none.
    pub(super) subscription_id: u32,
    /// Which copy of a message this subscription brings.
    pub(super) copy: u8,
}
