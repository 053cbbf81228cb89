//! Parts of the node: events reach them at once; their calls reach their shard a little later.

use martlet_broker::{DropReason, PartEvent, PartId, lane_of};

use super::{Io, World};
use crate::facts::{Fact, PartIndex, SinkIndex};
use crate::part::{Part, PartFact, part_of};
use crate::sink::{SimSink, SinkFact, sink_of};
use crate::store::Lsn;
use crate::topics::TopicIndex;

impl World {
    pub(super) fn with_part(&mut self, part: PartIndex, call: impl FnOnce(&mut Part, &mut Io<'_>)) {
        let mut io = Io {
            agenda: &mut self.agenda,
            network: &mut self.network,
            node: &self.node,
            observer: &mut self.observer,
        };
        call(&mut self.parts[usize::from(part)], &mut io);
    }

    pub(super) fn with_parts(&mut self, mut call: impl FnMut(&mut Part, &mut Io<'_>)) {
        for part in 0..self.parts.len() as PartIndex {
            self.with_part(part, &mut call);
        }
    }

    pub(super) fn with_sink(
        &mut self,
        sink: SinkIndex,
        call: impl FnOnce(&mut SimSink, &mut Io<'_>),
    ) {
        let mut io = Io {
            agenda: &mut self.agenda,
            network: &mut self.network,
            node: &self.node,
            observer: &mut self.observer,
        };
        call(&mut self.sinks[usize::from(sink)], &mut io);
    }

    pub(super) fn with_sinks(&mut self, mut call: impl FnMut(&mut SimSink, &mut Io<'_>)) {
        for sink in 0..self.sinks.len() as SinkIndex {
            self.with_sink(sink, &mut call);
        }
    }

    /// Passes an event of the node to a part.
    pub(super) fn notify_part(&mut self, id: PartId, durable: Lsn, event: PartEvent) {
        if let Some(sink) = sink_of(id) {
            return self.with_sink(sink, |sink, io| sink.take_event(io, id, event));
        }
        self.with_part(part_of(id), |part, io| {
            part.take_event(io, id, durable, event);
        });
    }

    /// The node has dropped a message for a session of this name: records it if it is a part's.
    pub(super) fn part_lost(
        &mut self,
        client_id: &str,
        topic: Option<TopicIndex>,
        reason: DropReason,
    ) {
        let rows = &self.observer.ledger.parts;
        let client_id = lane_of(client_id).map_or(client_id, |(part, _)| part);
        let Some(part) = rows.iter().position(|row| row.name == client_id) else {
            let mut rows = self.observer.ledger.sinks.iter();
            if let Some(sink) = rows.position(|row| row.name == client_id) {
                let what = SinkFact::Dropped { topic, reason };
                let sink = sink as SinkIndex;
                self.observer.fact(&Fact::Sink { sink, what });
            }
            return;
        };
        let what = PartFact::Dropped { topic, reason };
        let part = part as PartIndex;
        self.observer.fact(&Fact::Part { part, what });
    }
}
