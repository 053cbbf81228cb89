//! Whether a shard has something to do that was put off.

use crate::shard::Shard;

impl Shard {
    /// [`Shard::work`] has something to do.
    pub fn has_work(&self) -> bool {
        !self.waiting.input.is_empty()
            || self.has_put_off()
            || self.store.is_gate_open()
            || self.memory.relief.is_under_way()
            || !self.subscribing.retained_reads.is_empty()
            || self.lobby.memory.is_over()
            || self.has_work_for_operators()
    }

    /// Something that was begun goes on in this turn.
    #[inline]
    pub(super) fn has_put_off(&self) -> bool {
        self.waiting.has_put_off()
            || self.permits.reviews.has_work()
            || !self.router.fan_outs.is_empty()
            || self.sessions.first_retired().is_some()
            || self.groups.has_put_off()
    }

    /// Whether something goes on that thousands of clients have a part in: messages with very
    /// many receivers, or connections and sessions that end.
    pub fn serves_crowd(&self) -> bool {
        !self.router.fan_outs.is_empty() || !self.waiting.ends.is_empty()
    }
}
