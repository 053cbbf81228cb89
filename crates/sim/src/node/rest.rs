//! Whether the node is idle, and what remains in it after all sessions have ended.

use martlet_broker::{Counters, Cx, Effects, Retained};

use super::Node;
use super::shared::Handle;

impl Node {
    /// Counters and gauges of all shards together.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        let mut effects = Effects::default();
        for driver in &self.drivers {
            let cx = Cx {
                now: self.now.get(),
                node: &Handle(self),
                effects: &mut effects,
            };
            sum.add(&driver.borrow().shard().snapshot(&cx));
        }
        sum
    }

    /// Whether no shard has work.
    pub fn is_quiet(&self) -> bool {
        (0..self.drivers.len()).all(|shard| self.next_tick(shard) != Some(0))
    }

    /// Lists what remains in the store although all sessions have ended; must be nothing.
    pub fn stored_leftovers(&self) -> Vec<String> {
        let Some(stats) = self.store.borrow().stats() else {
            return Vec::new();
        };
        let retained = self.retained.borrow().len();
        let mut left = Vec::new();
        for (what, count, expected) in [
            ("bodies in the store", stats.bodies, retained),
            ("queues in the store", stats.queues, 0),
            // The number of this run, and the time.
            ("states in the store", stats.states, 2),
        ] {
            if count != expected {
                left.push(format!("{count} {what}, not {expected}"));
            }
        }
        for (queue, body) in self.store.borrow().queued() {
            left.push(format!("message {body:x} in queue {queue:x} of the store"));
        }
        left
    }

    /// Clears the retained store.
    pub fn forget_retained(&self) {
        self.retained.replace(Retained::new());
    }

    /// Lists what remains although all clients, sessions and retained messages are removed; must be
    /// nothing.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        let mut tables = 0;
        for (number, driver) in self.drivers.iter().enumerate() {
            let driver = driver.borrow();
            for (what, count) in driver.shard().leftovers() {
                left.push(format!("shard {number}: {count} {what}"));
            }
            if driver.connection_count() > 0 {
                let count = driver.connection_count();
                left.push(format!("shard {number}: {count} sockets"));
            }
            tables += driver.shard().bytes_of_tables();
        }
        let counters = self.counters();
        let charged = counters.memory_bytes - counters.route_cache_bytes - tables;
        if charged != 0 {
            left.push(format!("{charged} bytes charged"));
        }
        if self.connections.get() != 0 {
            left.push(format!("{} places taken", self.connections.get()));
        }
        let filters = self.interest.borrow().filter_count();
        if filters != 0 {
            left.push(format!("{filters} filters wanted"));
        }
        let lent = self.memory_max - self.free_memory.get();
        if lent > 2 * 1024 * 1024 * self.drivers.len() {
            left.push(format!("{lent} bytes lent"));
        }
        left
    }
}
