//! Where messages go, and which are on their way.

use crate::fan_out::under_way::FanOuts;
use crate::hash::seeded;
use crate::id::MessageId;
use crate::limits::Settings;
use crate::route::routes::Routes;
use crate::split_map::SplitMap;

/// Where messages go, and which are on their way.
#[derive(Debug)]
pub(crate) struct Router {
    /// The routes that are remembered.
    pub(crate) cache: Routes,
    /// Messages whose entries other shards have yet to record: how many shards.
    pub(crate) awaiting: SplitMap<MessageId, u32>,
    pub(crate) fan_outs: FanOuts,
    /// See [`WorkLimits::copied_in_a_crowd`](crate::WorkLimits).
    pub(super) copied_in_a_crowd: usize,
}

impl Router {
    pub(crate) fn new(seed: u64, settings: &Settings) -> Self {
        Self {
            cache: Routes::new(seed, settings.limits.route_cache_entries as usize),
            awaiting: SplitMap::new(seeded(seed)),
            fan_outs: FanOuts::default(),
            copied_in_a_crowd: settings.work.copied_in_a_crowd(),
        }
    }

    /// More shards have to record their entries of a message.
    pub(super) fn await_shards(&mut self, message: MessageId, shards: u32) {
        *self.awaiting.get_or_default(message) += shards;
    }

    /// A shard has recorded its entries of a message. Answers whether it was the last.
    pub(super) fn shard_has_recorded(&mut self, message: MessageId) -> bool {
        let Some(missing) = self.awaiting.get_mut(&message) else {
            return false;
        };
        *missing -= 1;
        let is_last = *missing == 0;
        if is_last {
            self.awaiting.remove(&message);
        }
        is_last
    }
}
