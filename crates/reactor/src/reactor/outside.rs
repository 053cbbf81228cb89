//! The environment of the loop of one reactor: its poller, the mailboxes, the store's writer, the
//! authenticator and the listeners.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use martlet_broker::{
    Authentication, Command, EventNotice, ListenerPolicy, LostMessage, MemoryGauge, Now, PartCall,
    PartEvent, PartId, Peer, ProxyFault, QueueRead, Record, RecordNumber, RefusalCause, Report,
    Screening, Settings, ShardId, ShardMessage, TlsFault, TransportEnd,
};
use martlet_tick::{
    Arrival, Batch, Mail, Newcomer, Notice, Read, Received, SocketKey, SocketWrite, Storage,
    Transport,
};

use super::entrance::Entrance;
use super::write::write_output;
use crate::authenticate::{Authenticator, LoginAnswer, ScreenedAnswer};
use crate::clock::Clock;
use crate::events::EventSender;
use crate::layers::Layers;
use crate::listeners::{Accepted, Listeners};
use crate::mailbox::{Control, Mailbox, Mailboxes};
use crate::node::SharedNode;
use crate::part::Outlets;
use crate::poll::{Notified, Poller, SHORT_READ_MEANS_EMPTY, Stream};
use crate::proxy::ProxyHeader;
use crate::stats::{Counters, SocketCount};
use crate::store::Writer;
use crate::sys::Entropy;
use crate::tls::{Arrived, Tls, TlsEnd};
use crate::websocket::{WebSocket, WebSocketEnd};

/// Everything that one reactor reads from, writes to, sends to and stores in.
pub(crate) struct Outside {
    pub(crate) shard: ShardId,
    pub(crate) settings: Arc<Settings>,
    pub(crate) node: Arc<SharedNode>,
    pub(crate) clock: Clock,
    pub(crate) poller: Poller,
    pub(crate) mailbox: Mailbox,
    pub(crate) mailboxes: Arc<Mailboxes>,
    pub(crate) writer: Box<dyn Writer>,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    /// Returns the name in the certificate that this thread rejected last.
    pub(crate) refused_name: fn() -> Option<String>,
    /// Set on the first reactor until the node stops.
    pub(crate) listeners: Option<Listeners>,
    /// Number of connections that have been distributed to shards.
    pub(crate) dealt: u64,
    pub(crate) entrances: Arc<[Entrance]>,
    /// The current policy of each listener.
    pub(crate) policies: Vec<Arc<ListenerPolicy>>,
    pub(crate) entropy: Entropy,
    pub(crate) events: EventSender,
    pub(crate) reports: Sender<Report>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) socket_count: Arc<SocketCount>,
    pub(crate) sockets_max: usize,
    /// Outlets of the parts whose sessions live on this shard.
    pub(crate) outlets: Outlets,
}

impl Transport for Outside {
    type Stream = Stream;

    const SHORT_READ_MEANS_EMPTY: bool = SHORT_READ_MEANS_EMPTY;

    fn notices(&mut self, mut take: impl FnMut(SocketKey, Notice)) {
        for (source, notice) in self.poller.notices() {
            match source {
                Notified::Socket(key) => take(key, notice),
                Notified::Listener(number) => {
                    if let Some(listeners) = &mut self.listeners {
                        listeners.notice(number);
                    }
                }
            }
        }
    }

    fn accept(&mut self, now: Now, into: &mut Vec<Newcomer<Stream>>) {
        let Some(mut listeners) = self.listeners.take() else {
            return;
        };
        listeners.accept(now.mono_ms, |accepted| match accepted {
            Accepted::Connection(stream, address, listener) => {
                into.extend(self.deal_out(stream, address, listener));
            }
            Accepted::Paused => self.counters.accept_pauses.add(1),
        });
        self.listeners = Some(listeners);
    }

    fn add(&mut self, stream: &mut Stream, key: SocketKey) -> bool {
        self.poller.add(stream, key).is_ok()
    }

    fn read(&mut self, stream: &mut Stream, room: &mut [u8]) -> Read {
        self.counters.reads.add(1);
        match stream.read(room) {
            Ok(0) => Read::End,
            Ok(count) => {
                self.counters.read_bytes.add(count as u64);
                Read::Bytes(count)
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Read::Empty,
            Err(_) => Read::Broken,
        }
    }

    fn write(
        &mut self,
        stream: &mut Stream,
        layers: Option<&mut Layers>,
        output: &[u8],
    ) -> SocketWrite {
        let Some(wrote) = write_output(stream, layers, output) else {
            return SocketWrite::Nothing;
        };
        self.counters.writes.add(1);
        let Ok(wrote) = wrote else {
            return SocketWrite::Broken;
        };
        self.counters.written_bytes.add(wrote.written as u64);
        SocketWrite::Some {
            taken: wrote.taken,
            blocked: wrote.blocked,
        }
    }

    fn receive<'a>(
        &mut self,
        layers: &mut Layers,
        listener: impl FnOnce() -> Option<u16>,
        bytes: &'a mut [u8],
        plain: &'a mut Vec<u8>,
    ) -> Received<'a> {
        let mut received = Received::default();
        let mut said = 0;
        if let Some(header) = &mut layers.proxy {
            match header.receive(bytes) {
                Ok(None) => return received,
                Ok(Some(found)) => {
                    layers.proxy = None;
                    received.source = found.source;
                    said = found.taken;
                }
                Err(fault) => {
                    let cause = RefusalCause::Proxy(fault);
                    received.end = Some(TransportEnd::Violation(cause));
                    return received;
                }
            }
        }
        let mut data = &mut bytes[said..];
        if data.is_empty() {
            return received;
        }
        if let Some(tls) = &mut layers.tls {
            let decrypted = tls.receive(data, plain);
            data = plain;
            received.work += work_of_tls(decrypted.arrived);
            if decrypted.opened {
                let settings = self.entrance(listener()).and_then(|at| at.tls.as_ref());
                let settings = settings.filter(|settings| tls.needs_recheck(settings));
                if let Some(Err(fault)) = settings.map(|settings| tls.recheck(settings)) {
                    received.end = Some(self.failed(fault));
                    return received;
                }
                received.certificate = tls.certificate();
            }
            received.end = match decrypted.end {
                None => None,
                Some(TlsEnd::Closed) => Some(match tls.fault_at_end() {
                    None => TransportEnd::EndOfStream,
                    Some(fault) => TransportEnd::Violation(fault.into()),
                }),
                Some(TlsEnd::Failed(fault)) => Some(self.failed(fault)),
            };
        }
        let Some(web) = layers.web.as_mut().filter(|_| !data.is_empty()) else {
            received.data = data;
            return received;
        };
        let frames = web.receive(data);
        received.work += work_of_frames(data.len(), frames.frames);
        received.data = &data[..frames.data_len];
        match frames.end {
            None => {}
            Some(WebSocketEnd::Closed) => received.end = Some(TransportEnd::EndOfStream),
            Some(WebSocketEnd::Violation(fault)) => {
                let cause = RefusalCause::WebSocket(fault);
                received.end = Some(TransportEnd::Violation(cause));
            }
        }
        received
    }

    fn recheck(&mut self, layers: &Layers, listener: Option<u16>) -> Option<Result<(), TlsFault>> {
        let tls = layers.tls.as_ref()?;
        let settings = self.entrance(listener).and_then(|at| at.tls.as_ref());
        let verdict = settings.map_or(Ok(()), |settings| tls.recheck(settings));
        if verdict.is_err() {
            // Clears the name; the client was identified before.
            let _claimed = (self.refused_name)();
        }
        Some(verdict)
    }

    fn end_writing(&mut self, stream: &mut Stream) -> bool {
        stream.end_writing().is_ok()
    }

    fn drop_stream(&mut self, stream: Stream) {
        drop(stream);
        self.socket_count.lower();
    }
}

impl Mail for Outside {
    fn next_durable(&mut self) -> Option<RecordNumber> {
        self.mailbox.next_durable()
    }

    fn next_control(&mut self) -> Option<martlet_tick::Control<Stream>> {
        use martlet_tick::Control as To;
        loop {
            return Some(match self.mailbox.next_control()? {
                Control::Accepted {
                    stream,
                    address,
                    listener,
                } => match self.newcomer(stream, address, listener) {
                    Some(newcomer) => To::Open(newcomer),
                    None => continue,
                },
                Control::Adopt(arrival) => To::Adopt(arrival),
                Control::Command(command) => {
                    self.note_command(&command);
                    To::Command(command)
                }
                Control::Carried {
                    stream,
                    address,
                    policy,
                } => match self.carried(stream, address, policy) {
                    Some(newcomer) => To::Open(newcomer),
                    None => continue,
                },
                Control::AttachPart(spec, outlet) => {
                    self.outlets.insert(spec.id, outlet);
                    To::Part(PartCall::Attach(spec))
                }
                Control::Part(call) => To::Part(call),
                Control::MessagesRead(page) => To::MessagesRead(page),
                Control::StoreState => {
                    To::StoreIs(self.writer.state(), self.writer.tenants_at_share())
                }
                Control::Authenticated(id, answer) => To::Authenticated(id, answer),
                Control::Screened(id, answer) => To::Screened(id, answer),
                Control::AcceptConnections => {
                    self.listeners.iter_mut().for_each(Listeners::open);
                    continue;
                }
                Control::RecheckCertificates => To::RecheckCertificates,
                Control::Stop => To::Stop,
            });
        }
    }

    fn batch_count(&self) -> usize {
        self.mailbox.batch_count()
    }

    fn next_batch(&mut self) -> Option<Batch> {
        self.mailbox.next_batch()
    }

    fn give_back(&mut self, to: ShardId, messages: Vec<ShardMessage>) {
        self.mailboxes.give_back(to, messages);
    }

    fn spare(&mut self) -> Vec<ShardMessage> {
        self.mailbox.spare()
    }

    fn send(&mut self, to: ShardId, batch: Batch) -> Result<(), Batch> {
        self.mailboxes.send(to, batch)?;
        self.counters.batches_sent.add(1);
        Ok(())
    }

    fn congested(&mut self, on: bool) {
        self.counters.congestions.add(u64::from(on));
    }

    fn tell_parts(&mut self, events: &mut Vec<(PartId, PartEvent)>) {
        self.outlets.tell(events.drain(..));
    }

    fn give_away(&mut self, to: ShardId, mut arrival: Arrival<Stream>) {
        self.counters.moved.add(1);
        match self.poller.remove(&mut arrival.stream) {
            Ok(()) => self.mailboxes.control(to, Control::Adopt(arrival)),
            Err(_) => self.drop_stream(arrival.stream),
        }
    }
}

impl Storage for Outside {
    fn append(
        &mut self,
        records: &[Record],
        last: RecordNumber,
        now: Now,
        awaited: bool,
    ) -> Option<RecordNumber> {
        self.writer.append(records, last, now, awaited)
    }

    fn read_back(&mut self, reads: &mut Vec<QueueRead>, now: Now, gauge: Arc<MemoryGauge>) {
        self.writer.read_back(reads, now, gauge);
    }

    fn lost(&mut self, lost: &mut Vec<LostMessage>) {
        self.writer.lost(lost);
    }
}

impl martlet_tick::Outside for Outside {
    type Node = SharedNode;

    fn node(&self) -> &SharedNode {
        &self.node
    }

    fn moment(&self) -> Duration {
        self.clock.moment()
    }

    fn ask(&mut self, authentication: Authentication) {
        let mailboxes = Arc::clone(&self.mailboxes);
        let answer = LoginAnswer::new(self.shard, authentication.connection, mailboxes);
        self.authenticator.ask(authentication, answer);
    }

    fn screen(&mut self, screening: Screening) {
        let mailboxes = Arc::clone(&self.mailboxes);
        let answer = ScreenedAnswer::new(self.shard, screening.connection, mailboxes);
        self.authenticator.screen(screening, answer);
    }

    fn tell(&mut self, events: &mut Vec<EventNotice>) {
        self.events.send(events, &self.counters);
    }

    fn report(&mut self, report: Report) {
        // While the node is being dropped, no receiver waits for it.
        let _ = self.reports.send(report);
    }

    fn under_way(&mut self, took: Duration, messages: u64) {
        let us = took.as_micros() as u64;
        self.counters.latencies.record(us, messages);
    }
}

impl Outside {
    /// Gives an accepted connection to the next shard in turn. Returns it if that is this shard.
    fn deal_out(
        &mut self,
        stream: Stream,
        address: Option<SocketAddr>,
        listener: usize,
    ) -> Option<Newcomer<Stream>> {
        if self.socket_count.get() >= self.sockets_max {
            self.counters.refused.add(1);
            return None;
        }
        self.counters.accepted.add(1);
        self.socket_count.raise();
        let to = ShardId((self.dealt % u64::from(self.mailboxes.shard_count())) as u16);
        self.dealt += 1;
        if to == self.shard {
            return self.newcomer(stream, address, listener);
        }
        let accepted = Control::Accepted {
            stream,
            address,
            listener,
        };
        self.mailboxes.control(to, accepted);
        None
    }

    /// Prepares an accepted connection. Returns `None` if it cannot be used.
    pub(crate) fn newcomer(
        &mut self,
        stream: Stream,
        address: Option<SocketAddr>,
        listener: usize,
    ) -> Option<Newcomer<Stream>> {
        let options = address.map_or(Ok(()), |_| stream.set_options());
        // An IPv4 address accepted by a dual-stack socket becomes a plain IPv4 address.
        let from = address.map(|address| (address.ip().to_canonical(), address.port()));
        let policy = Arc::clone(&self.policies[listener]);
        let Some(peer) = self.peer(from, policy).filter(|_| options.is_ok()) else {
            self.drop_stream(stream);
            return None;
        };
        let entrance = &self.entrances[listener];
        let packet_len_max = u64::from(self.settings.limits.packet_bytes);
        let web = entrance
            .web
            .as_ref()
            .map(|rules| WebSocket::new(Arc::clone(rules), packet_len_max));
        let tls = entrance.tls.as_ref().map(Tls::new);
        let by_proxy = !entrance.proxies.is_empty();
        let cause = RefusalCause::Proxy(ProxyFault::NotTrusted);
        let is_trusted = !by_proxy || entrance.trusts(address);
        Some(Newcomer {
            stream,
            layers: Layers::new(by_proxy.then(ProxyHeader::default), tls, web),
            peer,
            refused: (!is_trusted).then_some(TransportEnd::Violation(cause)),
        })
    }

    /// Prepares a connection that another thread carries. It has MQTT with no layers below.
    pub(crate) fn carried(
        &mut self,
        stream: Stream,
        address: Option<(IpAddr, u16)>,
        policy: Arc<ListenerPolicy>,
    ) -> Option<Newcomer<Stream>> {
        let Some(peer) = self.peer(address, policy) else {
            self.drop_stream(stream);
            return None;
        };
        Some(Newcomer {
            stream,
            layers: None,
            peer,
            refused: None,
        })
    }

    /// Describes the peer. Reads random bytes for a Client Identifier that may never be needed.
    /// Without random bytes the connection is refused; the node keeps running.
    fn peer(
        &mut self,
        address: Option<(IpAddr, u16)>,
        listener: Arc<ListenerPolicy>,
    ) -> Option<Peer> {
        let entropy = self.entropy.take().ok()?;
        Some(Peer {
            address,
            listener,
            entropy,
        })
    }

    /// Applies a command to new connections.
    fn note_command(&mut self, command: &Command) {
        match command {
            Command::Shutdown => self.listeners = None,
            Command::Ask(listeners) => {
                for listener in listeners.iter() {
                    if let Some(now) = self.policies.get_mut(usize::from(listener.number)) {
                        *now = Arc::clone(listener);
                    }
                }
            }
            _ => {}
        }
    }

    fn entrance(&self, listener: Option<u16>) -> Option<&Entrance> {
        self.entrances.get(usize::from(listener?))
    }

    /// Converts a TLS failure. If a certificate is the cause, the verifier has stored its name.
    fn failed(&self, fault: TlsFault) -> TransportEnd {
        match (self.refused_name)() {
            None => TransportEnd::Violation(fault.into()),
            Some(name) => TransportEnd::BadCertificate {
                fault,
                claims: Some(name.into()),
            },
        }
    }
}

/// Bytes that are decrypted in one unit of work.
const TLS_BYTES_PER_UNIT: usize = 64;
/// Units of work of a TLS record beside its bytes.
const TLS_RECORD: usize = 8;
/// Bytes that are unmasked, or moved, in one unit of work.
const WEBSOCKET_BYTES_PER_UNIT: usize = 1024;
/// Units of work of a WebSocket frame beside its bytes.
const WEBSOCKET_FRAME: usize = 1;

fn work_of_tls(arrived: Arrived) -> u64 {
    (arrived.records * TLS_RECORD + arrived.bytes / TLS_BYTES_PER_UNIT) as u64
}

fn work_of_frames(bytes: usize, frames: usize) -> u64 {
    (frames * WEBSOCKET_FRAME + bytes / WEBSOCKET_BYTES_PER_UNIT) as u64
}
