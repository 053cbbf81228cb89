//! What is due when: the only clock of a run. Microseconds of virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::facts::{ClientIndex, PartIndex, SinkIndex};
use crate::node::LinkIndex;

/// One second of virtual time.
pub const SECOND: u64 = 1_000_000;

/// Something that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// A shard has something to do.
    Tick(u16),
    /// Bytes reach the node.
    Up(LinkIndex),
    /// Bytes reach a client.
    Down(LinkIndex),
    /// A client wants to do something.
    Client(ClientIndex),
    /// A part wants to do something.
    Part(PartIndex),
    /// An integration wants to do something.
    Sink(SinkIndex),
    /// The store's sync is done.
    Sync,
    /// A batch reaches another shard.
    Mail(u16, u16),
    /// A connection reaches another shard.
    Move,
    /// The network disturbs a connection.
    Trouble,
    /// The node crashes, or begins to stop.
    Crash,
    /// The node has had its time to stop.
    Stop,
    /// The wall clock makes a step.
    Clock,
    /// Something about a user changes.
    Change,
    /// The authenticator goes on with clients that wait.
    Authenticator,
    /// The node is started again.
    Restart,
    /// The world looks at the node's own reports.
    Probe,
}

/// The agenda.
#[derive(Debug, Default)]
pub struct Agenda {
    now_us: u64,
    /// Numbered, so that what is due at the same time comes in the order in which it was entered.
    heap: BinaryHeap<Reverse<(u64, u64, Due)>>,
    entered: u64,
    done: u64,
}

impl Agenda {
    /// Virtual time since the run began, microseconds.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Enters something; what should have been done already is due now.
    pub fn enter(&mut self, at_us: u64, due: Due) {
        self.entered += 1;
        let at_us = at_us.max(self.now_us);
        self.heap.push(Reverse((at_us, self.entered, due)));
    }

    /// Takes out what is due next, unless that is later than `until_us`; then it is that late.
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

    /// How much has been done.
    pub fn done(&self) -> u64 {
        self.done
    }
}
