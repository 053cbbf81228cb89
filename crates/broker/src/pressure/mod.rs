//! Relief when memory is short: the largest holders give back first.
//!
//! A holder is a client, a session, or a share group. A session holds what stays when its
//! connection ends: the messages of an absent client, and of a long queue whose messages are in the
//! store, the rows that name them. A share group counts as much as that member holds that holds
//! most by all its groups of this shard, each divided by its members: so no client holds less by
//! many groups than by one. For the same reason a client counts as a part of what all clients of
//! its address hold, if that is more (`sources.rs`). While less than an eighth of the node's memory
//! is left, each shard searches its part for the largest holders.
//!
//! Share groups and sessions lose their oldest messages first. What the store has too is taken out
//! of memory, and is lost only where the rows take too much by themselves. If that is not enough,
//! clients lose the QoS 0 messages in their output, and then their connections, the newest first;
//! where the session ends with the connection, its messages go too. Connections that have not
//! logged in give back before all of these (`lobby_memory.rs`).
//!
//! The largest holders of the node are those that together hold an eighth of the memory, or half
//! of what all holders with 4 KiB or more hold, if that is less. Holders of about the same
//! size are taken together (`memory_use.rs`). Only these give back. They begin when holders with
//! 64 KiB or more hold a sixteenth of the memory together. Once less than a sixteenth is left, they
//! begin when all with 4 KiB or more do: then these fill the memory, however little each of them
//! holds. Otherwise something else fills the memory, and its growth is stopped.
//!
//! Search and relief go on over turns: there may be a million clients, and as many members of one
//! share group. How holders are found is in `search`, how they give back in `give_back`.

mod give_back;
mod holdings;
pub(crate) mod relief;
mod search;
mod sources;

use crate::memory_use::SMALL_BYTES;
use crate::node::{Cx, Node};
use crate::pressure::relief::{INTERVAL_AFTER_FIRST_MS, INTERVAL_AFTER_NOTHING_MS, Stage};
use crate::shard::Shard;

/// Clients per millisecond of the interval between two searches: few clients are searched each
/// turn, more of them less often, so that searches cost little.
const CLIENTS_PER_MS: usize = 1000;
/// Part of a turn that a search may take, as a divisor.
const PART_OF_TURN: u64 = 8;
impl Shard {
    /// Takes memory back from the largest holders of this shard, which uses `used` bytes.
    /// Goes on with that for a part of this turn.
    pub(crate) fn relieve<N: Node>(&mut self, cx: &mut Cx<'_, N>, used: usize) {
        if used < SMALL_BYTES {
            return self.memory.relief.rest();
        }
        self.memory.relief.begin(cx.node, cx.now.mono_ms);
        if !self.memory.relief.is_under_way() {
            return;
        }
        let was_known = self.memory.relief.is_known;
        let until = self.work.done + self.settings.work.turn / PART_OF_TURN;
        while self.memory.relief.is_under_way() && self.work.done < until {
            self.memory.relief.stage = match core::mem::take(&mut self.memory.relief.stage) {
                Stage::Resting => Stage::Resting,
                Stage::Members(place, member) => self.look_at_members(place, member),
                Stage::Sources(place) => self.look_at_source(place),
                Stage::Connections(place) => self.look_at_connection(place),
                Stage::Sessions(place) => self.look_at_session(place),
                Stage::Groups(place, member, most) => self.look_at_group(place, member, most),
                Stage::Forgetting => self.forget_search(cx),
                Stage::Holders(greedy) => self.take_back_from_last(cx, greedy),
                Stage::Dropping(holder, left, greedy) => {
                    self.drop_oldest_of(cx, holder, left, greedy)
                }
            };
        }
        if !self.memory.relief.is_under_way() {
            let places = self.connections.len() + self.sessions.places() as usize;
            let mut interval_ms = (places / CLIENTS_PER_MS) as u64;
            if !was_known {
                interval_ms = interval_ms.max(INTERVAL_AFTER_FIRST_MS);
            } else if self.memory.relief.to_take == 0 {
                interval_ms = interval_ms.max(INTERVAL_AFTER_NOTHING_MS);
            }
            self.memory.relief.next_ms = cx.now.mono_ms + interval_ms;
        }
        self.settle(cx);
    }
}
