//! The node as the loop of one shard sees it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{
    Authentication, Cx, Effects, EventNotice, LostMessage, MemoryGauge, Now, PartEvent, PartId,
    QueueRead, Record, RecordNumber, Report, Screening, Shard, ShardId, TransportEnd,
};

use super::net::{Layer, Net, Wire};
use super::parts::Parts;
use crate::SocketKey;
use crate::outside::{
    Arrival, Batch, Control, Mail, Notice, Outside, Read, Received, SocketWrite, Storage, Transport,
};

/// The node as the loop of one shard sees it.
pub(crate) struct At<'a, P> {
    pub(super) parts: &'a mut P,
    pub(super) net: &'a mut Net,
    pub(super) shard: usize,
}

impl<P: Parts> Transport for At<'_, P> {
    type Stream = Wire;

    fn notices(&mut self, mut take: impl FnMut(SocketKey, Notice)) {
        for (key, notice) in self.net.inboxes[self.shard].notices.drain(..) {
            take(key, notice);
        }
    }

    fn add(&mut self, stream: &mut Wire, key: SocketKey) -> bool {
        self.net.lines[stream.0.0].at = Some((self.shard, key));
        self.net.announce(stream.0);
        true
    }

    fn read(&mut self, stream: &mut Wire, room: &mut [u8]) -> Read {
        self.net.reads += 1;
        let line = &mut self.net.lines[stream.0.0];
        let count = room.len().min(line.unread.len());
        if count > 0 {
            let (first, second) = line.unread.as_slices();
            let split = first.len().min(count);
            room[..split].copy_from_slice(&first[..split]);
            room[split..count].copy_from_slice(&second[..count - split]);
            line.unread.drain(..count);
            return Read::Bytes(count);
        }
        match line.ended {
            None => Read::Empty,
            Some(TransportEnd::EndOfStream) => Read::End,
            Some(_) => Read::Broken,
        }
    }

    fn write(&mut self, stream: &mut Wire, _: Option<&mut Layer>, output: &[u8]) -> SocketWrite {
        if output.is_empty() {
            return SocketWrite::Nothing;
        }
        self.net.writes += 1;
        let line = &mut self.net.lines[stream.0.0];
        if line.ended == Some(TransportEnd::Error) {
            return SocketWrite::Broken;
        }
        let taken = output.len().min(line.room);
        if line.room < usize::MAX {
            line.room -= taken;
        }
        line.received.extend_from_slice(&output[..taken]);
        if taken > 0 {
            line.received_in.get_or_insert(self.net.turns);
        }
        SocketWrite::Some {
            taken,
            blocked: taken < output.len(),
        }
    }

    fn receive<'a>(
        &mut self,
        layer: &mut Layer,
        _: impl FnOnce() -> Option<u16>,
        bytes: &'a mut [u8],
        _: &'a mut Vec<u8>,
    ) -> Received<'a> {
        let line = &self.net.lines[layer.link.0];
        let end = line.violation().filter(|_| line.unread.is_empty()).cloned();
        // The last byte is the one that breaks the rule.
        let count = bytes.len() - usize::from(end.is_some());
        Received {
            // Counted as if each byte arrived in its own frame.
            work: bytes.len() as u64,
            data: &bytes[..count],
            end,
            ..Received::default()
        }
    }

    fn end_writing(&mut self, stream: &mut Wire) -> bool {
        let line = &mut self.net.lines[stream.0.0];
        line.closed = true;
        if !line.hangs {
            line.unread.clear();
            line.ended.get_or_insert(TransportEnd::EndOfStream);
            self.net.announce(stream.0);
        }
        true
    }

    fn drop_stream(&mut self, stream: Wire) {
        let line = &mut self.net.lines[stream.0.0];
        (line.closed, line.dropped, line.at) = (true, true, None);
        line.unread = VecDeque::new();
    }
}

impl<P: Parts> Mail for At<'_, P> {
    fn next_durable(&mut self) -> Option<RecordNumber> {
        self.net.inboxes[self.shard].durable.take()
    }

    fn next_control(&mut self) -> Option<Control<Wire>> {
        self.net.inboxes[self.shard].control.pop_front()
    }

    fn batch_count(&self) -> usize {
        self.net.arrived(self.shard)
    }

    fn next_batch(&mut self) -> Option<Batch> {
        let inbox = &mut self.net.inboxes[self.shard];
        inbox.released = inbox.released.saturating_sub(1);
        inbox.batches.pop_front()
    }

    fn send(&mut self, to: ShardId, batch: Batch) -> Result<(), Batch> {
        let batches = &mut self.net.inboxes[usize::from(to.0)].batches;
        if self
            .net
            .mailbox_batches
            .is_some_and(|most| batches.len() >= most)
        {
            return Err(batch);
        }
        batches.push_back(batch);
        Ok(())
    }

    fn tell_parts(&mut self, events: &mut Vec<(PartId, PartEvent)>) {
        self.net.parts.extend(events.drain(..));
    }

    fn give_away(&mut self, to: ShardId, arrival: Arrival<Wire>) {
        self.net.lines[arrival.stream.0.0].at = None;
        let inbox = &mut self.net.inboxes[usize::from(to.0)];
        match self.net.are_moves_held {
            true => inbox.arrivals.push_back(arrival),
            false => inbox.control.push_back(Control::Adopt(arrival)),
        }
    }
}

impl<P: Parts> Storage for At<'_, P> {
    fn append(
        &mut self,
        records: &[Record],
        last: RecordNumber,
        now: Now,
        _: bool,
    ) -> Option<RecordNumber> {
        let inbox = &mut self.net.inboxes[self.shard];
        let before = RecordNumber(last.0 - records.len() as u64);
        // Earlier records may exist: those that restored the shard.
        if inbox.appended == RecordNumber::default() {
            inbox.answered = before;
        } else {
            assert_eq!(inbox.appended, before, "a record is missing");
        }
        inbox.appended = last;
        let shard = ShardId(self.shard as u16);
        let durable = self.parts.append(shard, records, last, now);
        inbox.answered = durable.unwrap_or(inbox.answered);
        durable
    }

    fn read_back(&mut self, reads: &mut Vec<QueueRead>, _: Now, _: Arc<MemoryGauge>) {
        self.parts.read_back(ShardId(self.shard as u16), reads);
    }

    fn lost(&mut self, lost: &mut Vec<LostMessage>) {
        self.parts.lost(lost);
    }
}

impl<P: Parts> Outside for At<'_, P> {
    type Node = P::Node;

    fn node(&self) -> &P::Node {
        self.parts.node()
    }

    fn moment(&self) -> Duration {
        let moment = self.net.moment.get() + Duration::from_nanos(1);
        self.net.moment.replace(moment)
    }

    #[inline(always)]
    fn call<T>(
        &mut self,
        shard: &mut Shard,
        effects: &mut Effects,
        now: Now,
        call: impl FnOnce(&mut Shard, &mut Cx<'_, P::Node>) -> T,
    ) -> T {
        self.parts.call(shard, effects, now, call)
    }

    fn worked(&mut self) {
        self.net.turns += 1;
    }

    fn ask(&mut self, authentication: Authentication) {
        self.net
            .asked
            .push_back((self.shard as u16, authentication));
    }

    fn screen(&mut self, screening: Screening) {
        let shard = self.shard as u16;
        self.net.screenings.push_back((shard, screening));
    }

    fn tell(&mut self, events: &mut Vec<EventNotice>) {
        self.net.events.append(events);
    }

    fn report(&mut self, report: Report) {
        self.net.reports.push(report);
    }
}
