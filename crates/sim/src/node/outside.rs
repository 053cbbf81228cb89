//! The environment of the loop of one shard: sockets and mailboxes as queues, the simulator's
//! store, and requests to the world for everything that happens elsewhere or later.

use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{
    Authentication, EventNotice, MemoryGauge, Now, PartEvent, PartId, QueueRead, ReadPage, Record,
    RecordNumber, Report, ShardId,
};
use martlet_fault::Fault;
use martlet_persistence::Making;
use martlet_tick::{
    Arrival, Batch, Control, Mail, Newcomer, NoLayers, Notice, Outside, Read, SocketKey,
    SocketWrite, Storage, Transport,
};

use super::shared::Handle;
use super::socket::Wire;
use super::{Node, NodeRequest};

/// The environment of the loop of one shard.
pub(super) struct Around<'a> {
    pub(super) node: &'a Node,
    pub(super) shard: usize,
    pub(super) handle: Handle<'a>,
}

impl Node {
    /// The environment of the loop of this shard.
    pub(super) fn around(&self, shard: usize) -> Around<'_> {
        Around {
            node: self,
            shard,
            handle: Handle(self),
        }
    }
}

impl Transport for Around<'_> {
    type Stream = Wire;

    fn notices(&mut self, mut take: impl FnMut(SocketKey, Notice)) {
        let notices = core::mem::take(&mut self.node.inbox(self.shard).notices);
        let sockets = self.node.sockets.borrow();
        for (link, key, notice) in notices {
            // It may have moved to another shard since.
            if sockets[link as usize].at == Some((self.shard, key)) {
                take(key, notice);
            }
        }
    }

    fn accept(&mut self, _now: Now, into: &mut Vec<Newcomer<Wire>>) {
        into.append(&mut self.node.inbox(self.shard).accepted);
    }

    fn add(&mut self, stream: &mut Wire, key: SocketKey) -> bool {
        let link = stream.0;
        let socket = &mut self.node.sockets.borrow_mut()[link as usize];
        socket.at = Some((self.shard, key));
        if let Some(notice) = socket.first_notice() {
            let notices = &mut self.node.inbox(self.shard).notices;
            notices.push((link, key, notice));
        }
        true
    }

    fn read(&mut self, stream: &mut Wire, room: &mut [u8]) -> Read {
        self.node.sockets.borrow_mut()[stream.0 as usize].read(room)
    }

    fn write(
        &mut self,
        stream: &mut Wire,
        _layers: Option<&mut NoLayers>,
        output: &[u8],
    ) -> SocketWrite {
        let written = self.node.sockets.borrow_mut()[stream.0 as usize].write(output);
        if let SocketWrite::Some { taken, .. } = written
            && taken > 0
        {
            let durable = self.node.store.borrow().durable();
            let bytes = output[..taken].to_vec();
            self.node.ask(NodeRequest::Wrote(stream.0, bytes, durable));
        }
        written
    }

    fn end_writing(&mut self, stream: &mut Wire) -> bool {
        let is_sound = self.node.sockets.borrow_mut()[stream.0 as usize].finish();
        if is_sound {
            self.node.ask(NodeRequest::Finished(stream.0));
        }
        is_sound
    }

    fn drop_stream(&mut self, stream: Wire) {
        self.node.ask(NodeRequest::Dropped(stream.0));
        self.node.sockets.borrow_mut()[stream.0 as usize].forget();
    }
}

impl Mail for Around<'_> {
    fn next_durable(&mut self) -> Option<RecordNumber> {
        self.node.inbox(self.shard).durable.take()
    }

    fn next_control(&mut self) -> Option<Control<Wire>> {
        self.node.inbox(self.shard).control.pop_front()
    }

    fn batch_count(&self) -> usize {
        self.node.inbox(self.shard).batches.len()
    }

    fn next_batch(&mut self) -> Option<Batch> {
        let batch = self.node.inbox(self.shard).batches.pop_front()?;
        let waiting = self.node.waiting(batch.from, self.shard);
        waiting.set(waiting.get() - 1);
        Some(batch)
    }

    fn send(&mut self, to: ShardId, batch: Batch) -> Result<(), Batch> {
        let waiting = self.node.waiting(batch.from, usize::from(to.0));
        if waiting.get() >= self.node.profile.mailbox_batches {
            return Err(batch);
        }
        waiting.set(waiting.get() + 1);
        self.node.late.borrow_mut()[self.shard].overtaken = true;
        self.node.ask(NodeRequest::Mail(usize::from(to.0), batch));
        Ok(())
    }

    fn tell_parts(&mut self, events: &mut Vec<(PartId, PartEvent)>) {
        let durable = self.node.store.borrow().durable();
        for (id, event) in events.drain(..) {
            self.node.ask(NodeRequest::Part(id, event, durable));
        }
    }

    fn give_away(&mut self, to: ShardId, arrival: Arrival<Wire>) {
        let Arrival { stream, guest, .. } = arrival;
        self.node.sockets.borrow_mut()[stream.0 as usize].at = None;
        self.node
            .ask(NodeRequest::Move(usize::from(to.0), stream.0, guest));
    }
}

impl Storage for Around<'_> {
    fn append(
        &mut self,
        records: &[Record],
        _last: RecordNumber,
        _now: Now,
        _awaited: bool,
    ) -> Option<RecordNumber> {
        if martlet_fault::is(Fault::BatchBeforeRecord) {
            let late = &mut self.node.late.borrow_mut()[self.shard];
            late.records.extend_from_slice(records);
        } else {
            self.node.append(self.shard, records);
        }
        None
    }

    fn read_back(&mut self, reads: &mut Vec<QueueRead>, now: Now, gauge: Arc<MemoryGauge>) {
        self.node.append_late(self.shard);
        for read in reads.drain(..) {
            let listeners = std::slice::from_ref(&self.node.listener);
            let making = Making {
                now,
                gauge: &gauge,
                publishers: read.with_publishers.then_some(listeners),
            };
            let messages = self.node.store.borrow_mut().read(&read, making);
            let page = ReadPage {
                owner: read.owner,
                of: read.of,
                messages,
            };
            let page = Control::MessagesRead(page);
            self.node.inbox(self.shard).control.push_back(page);
        }
    }
}

impl<'a> Outside for Around<'a> {
    type Node = Handle<'a>;

    fn node(&self) -> &Handle<'a> {
        &self.handle
    }

    fn moment(&self) -> Duration {
        self.node.moment()
    }

    fn ask(&mut self, authentication: Authentication) {
        let request = Box::new(authentication);
        self.node.ask(NodeRequest::Who(self.shard, request));
    }

    fn tell(&mut self, events: &mut Vec<EventNotice>) {
        for notice in events.drain(..) {
            self.node.ask(NodeRequest::Event(notice));
        }
    }

    fn report(&mut self, report: Report) {
        self.node.reports.borrow_mut().push(report);
    }
}
