//! Bounding and counting what the memory of the node is held for.

use martlet_broker::Counters;

use super::Control;
use crate::authentication::AuthenticationChain;
use crate::memory::{CountBytes, MemoryHeld, MemoryReport, Other};

impl Control {
    /// Counts the bytes of another part of the node from now on.
    pub fn count_also(&self, held_for: &'static str, count: CountBytes) {
        self.outside.add(Other {
            held_for,
            is_borrowed: false,
            count,
        });
    }

    /// Shows bytes that were borrowed by [`Control::borrow_memory`].
    pub fn show_borrowed(&self, held_for: &'static str, count: CountBytes) {
        self.outside.add(Other {
            held_for,
            is_borrowed: true,
            count,
        });
    }

    /// The limit of all memory of the node; none: no limit is known.
    pub(crate) fn memory_limit(&self) -> Option<usize> {
        self.shards.memory_use().limit
    }

    /// Bytes that one kind of memory outside of the shards may take; none: no limit is known.
    pub fn memory_part(&self) -> Option<usize> {
        self.outside.part()
    }

    /// Counts what is remembered about clients, in memory and of the tables, against
    /// `limits.memory_bytes`, as it is now.
    pub fn count_memory(&self) {
        let (outside, _) = self.held_outside();
        let bytes = outside.iter().map(|(_, bytes)| bytes).sum();
        let is_short = self.shards.set_memory_outside(bytes);
        if let Some(chain) = self.authentication_chain().filter(|_| is_short) {
            chain.give_back();
        }
    }

    /// Report about what the memory is held for now. The bytes of the shards are in their counters.
    pub fn memory_report(&self, counters: &Counters) -> MemoryReport {
        let (outside, borrowed) = self.held_outside();
        let shards = ("shards", counters.memory_bytes as usize);
        let all = std::iter::once(shards).chain(outside).chain(borrowed);
        let memory = self.shards.memory_use();
        MemoryReport {
            held: all
                .map(|(held_for, bytes)| MemoryHeld {
                    held_for,
                    bytes: bytes as u64,
                })
                .collect(),
            used: memory.used as u64,
            limit: memory.limit.unwrap_or(usize::MAX) as u64,
        }
    }

    /// Memory that is held beside the shards, and that was borrowed.
    fn held_outside(&self) -> (Held, Held) {
        let tables = self.tables();
        let lines = self
            .logging()
            .map_or(0, |logging| logging.lines.memory_bytes());
        let pushed = self.push().map_or(0, |push| push.memory_bytes());
        let mut outside = vec![
            (
                "logins",
                self.authentication_chain()
                    .map_or(0, AuthenticationChain::memory_bytes),
            ),
            ("tables", tables.map_or(0, |tables| tables.memory_bytes())),
            ("journal", self.journal.memory_bytes()),
            (
                "events",
                self.feed.memory_bytes() + self.shards.events_bytes() + pushed,
            ),
            ("presence", self.presence.memory_bytes()),
            ("log", lines),
            ("store", self.shards.store_held_bytes()),
        ];
        let mut borrowed = vec![("addresses", self.shards.addresses_bytes())];
        for other in &*self.outside.others() {
            let list = match other.is_borrowed {
                true => &mut borrowed,
                false => &mut outside,
            };
            list.push((other.held_for, (other.count)()));
        }
        (outside, borrowed)
    }
}

type Held = Vec<(&'static str, usize)>;
