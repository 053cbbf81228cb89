//! Bytes that clients and sessions make the shard hold.

use crate::shard::{Gate, Shard};

/// Messages in flight that are looked at in one unit of work.
const IN_FLIGHT_PER_UNIT: usize = 2;

impl Shard {
    /// Bytes that a client makes the node hold and that it gives back when its connection ends: its
    /// buffers and user name, the messages that wait for it, the answers to it that wait for the
    /// store or for share groups, and its Will if that is published then.
    pub(super) fn bytes_held_by(&mut self, index: u32) -> usize {
        let layers = self.connections.look_at(index);
        let layers = layers.map_or(0, |connection| connection.layer_bytes as usize);
        layers + self.bytes_held_without_layers(index)
    }

    /// Returns the bytes, likewise, without what lies between its socket and MQTT.
    pub(super) fn bytes_held_without_layers(&mut self, index: u32) -> usize {
        let Some(connection) = self.connections.look_at(index) else {
            return 0;
        };
        let session = connection.session();
        let session = session.and_then(|session| self.sessions.look_at(session));
        let outbound = session.map(|session| &session.outbound);
        let waiting = outbound.map_or(0, |outbound| outbound.bytes_in_memory());
        let in_flight = outbound.map_or(0, |outbound| outbound.count_in_flight());
        let will = session
            .and_then(|session| session.will.as_ref())
            .map_or(0, |will| match will.delay_secs {
                0 => will.bytes(),
                _ => 0,
            });
        let half_done = connection.rare().and_then(|rare| rare.half_done.as_ref());
        let half_done = half_done.map_or(0, |half| half.bytes());
        let answers = Gate::bytes_of(connection.answers_gated) + connection.answer_bytes();
        let buffers = connection.buffer_bytes() + connection.name_bytes();
        self.count_in_flight(in_flight);
        buffers + waiting + half_done + answers + will
    }

    /// Bytes that a session makes the shard hold and that stay when its connection ends.
    pub(super) fn bytes_of_session(&mut self, index: u32) -> usize {
        let Some(session) = self.sessions.look_at(index) else {
            return 0;
        };
        let queue = session.outbound.queue();
        let is_away = session.connection().is_none();
        match (self.store.reads_back, is_away) {
            // What was sent is in the store too.
            (true, true) => queue.bytes_held(),
            (true, false) => queue.bytes_of_rows(),
            (false, true) => {
                let bytes = session.outbound.bytes_in_memory() + queue.bytes_of_rows();
                self.count_in_flight(session.outbound.count_in_flight());
                bytes
            }
            (false, false) => 0,
        }
    }

    /// The work of looking at these messages in flight.
    fn count_in_flight(&mut self, count: usize) {
        self.work.add((count / IN_FLIGHT_PER_UNIT) as u64);
    }
}
