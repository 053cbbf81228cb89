//! Adds lanes of parts on shards that have none yet, because the node has more threads than
//! before.

use std::collections::BTreeMap;

use martlet_broker::{LaneTerms, Node, ShardId, TenantId};
use martlet_fault::{self as fault, Fault};

use super::Restoring;

impl<N: Node> Restoring<'_, N> {
    /// Gives each part with lanes one lane on each shard. New lanes get the subscriptions of the
    /// first one, from the opening of listeners on. Lanes that were left over while the node had
    /// fewer shards get them again.
    pub(super) fn add_lanes(&mut self) {
        let mut parts: BTreeMap<(TenantId, String), Vec<LaneTerms>> = BTreeMap::new();
        self.shards.each(|shard, _| {
            for lane in shard.lane_terms() {
                let (tenant, part) = lane.part();
                let part = (tenant, part.to_owned());
                parts.entry(part).or_default().push(lane);
            }
        });
        for lanes in parts.into_values() {
            let all = lanes.iter().filter(|lane| !lane.is_left_over());
            let Some(first) = all.min_by_key(|lane| lane.number()) else {
                continue;
            };
            for number in 0..self.shards.count() {
                let found = lanes.iter().find(|lane| lane.number() == number);
                let shard = ShardId(number);
                match found {
                    None if fault::is(Fault::LaneNotAdded) => {}
                    None => self
                        .shards
                        .call(shard, |shard, cx| shard.add_lane(cx, first)),
                    Some(lane) if lane.is_left_over() => {
                        self.shards
                            .call(shard, |shard, cx| shard.refill_lane(cx, first));
                    }
                    Some(_) => {}
                }
            }
        }
    }
}
