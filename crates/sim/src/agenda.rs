//! The agenda of due events: the only clock of a run, in microseconds of virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::facts::{ClientIndex, PartIndex, SinkIndex};
use crate::node::LinkIndex;

/// One second of virtual time.
pub const SECOND: u64 = 1_000_000;

/// A due event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// A shard has work.
    Tick(u16),
    /// Bytes reach the node.
    Up(LinkIndex),
    /// Bytes reach a client.
    Down(LinkIndex),
    /// A client has a due action.
    Client(ClientIndex),
    /// A part has a due action.
    Part(PartIndex),
    /// An integration has a due action.
    Sink(SinkIndex),
    /// The sync of the store ends.
    Sync,
    /// A batch reaches another shard.
    Mail(u16, u16),
    /// A connection reaches another shard.
    Move,
    /// The network disturbs a connection.
    Trouble,
    /// The node crashes, or begins to stop.
    Crash,
    /// The node stops: the time for its shutdown is over.
    Stop,
    /// The wall clock is stepped.
    Clock,
    /// A user changes.
    Change,
    /// The authenticator processes waiting clients.
    Authenticator,
    /// The node is started again.
    Restart,
    /// The world checks the node's reports.
    Probe,
}

/// The agenda.
#[derive(Debug, Default)]
pub struct Agenda {
    now_us: u64,
    /// Numbered, so that events with the same time are processed in the order in which they were
    /// added.
    heap: BinaryHeap<Reverse<(u64, u64, Due)>>,
    entered: u64,
    done: u64,
}

impl Agenda {
    /// Virtual time since the run began, microseconds.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Adds an event; a time in the past means now.
    pub fn enter(&mut self, at_us: u64, due: Due) {
        self.entered += 1;
        let at_us = at_us.max(self.now_us);
        self.heap.push(Reverse((at_us, self.entered, due)));
    }

    /// Removes the next event, unless it is later than `until_us`; then the time advances to that.
    pub fn next(&mut self, until_us: u64) -> Option<Due> {
        match self.heap.peek() {
            Some(Reverse((at_us, ..))) if *at_us <= until_us => {}
            _ => {
                self.now_us = self.now_us.max(until_us);
                return None;
            }
        }
        let Reverse((at_us, _, due)) = self.heap.pop()?;
        self.now_us = at_us;
        self.done += 1;
        Some(due)
    }

    /// Number of processed events.
    pub fn done(&self) -> u64 {
        self.done
    }
}
