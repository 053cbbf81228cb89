//! Access of clients to the world.

use crate::agenda::{Agenda, Due};
use crate::facts::Fact;
use crate::network::Network;
use crate::node::Node;
use crate::observer::Observer;

/// Access of clients to the world.
pub struct Io<'a> {
    /// The due events.
    pub agenda: &'a mut Agenda,
    /// The network.
    pub network: &'a mut Network,
    /// The node, to connect to.
    pub node: &'a Node,
    /// The observer of facts.
    pub observer: &'a mut Observer,
}

impl Io<'_> {
    /// Virtual time, microseconds.
    pub fn now_us(&self) -> u64 {
        self.agenda.now_us()
    }

    /// Reports a fact.
    pub fn fact(&mut self, fact: Fact) {
        self.observer.fact(&fact);
    }

    /// Schedules a shard that has work.
    pub fn wake_shard(&mut self, shard: usize) {
        let now_us = self.agenda.now_us();
        self.agenda.enter(now_us, Due::Tick(shard as u16));
    }
}
