//! A shard with what each call into it needs: the time of the tick, the node, and the effects
//! gathered so far.

use std::sync::Arc;

use martlet_broker::{Cx, Effects, Now, Shard};

use crate::node::SharedNode;

/// One shard, ready to be called.
pub(crate) struct Driver {
    pub(crate) shard: Shard,
    pub(crate) effects: Effects,
    pub(crate) now: Now,
    node: Arc<SharedNode>,
}

impl Driver {
    pub(crate) fn new(shard: Shard, shard_count: u16, node: Arc<SharedNode>, now: Now) -> Self {
        Self {
            shard,
            effects: Effects::new(shard_count),
            now,
            node,
        }
    }

    /// Calls into the shard at the time of this tick.
    pub(crate) fn call<T>(
        &mut self,
        call: impl FnOnce(&mut Shard, &mut Cx<'_, SharedNode>) -> T,
    ) -> T {
        let mut cx = Cx {
            now: self.now,
            node: &*self.node,
            effects: &mut self.effects,
        };
        call(&mut self.shard, &mut cx)
    }
}
