//! The loop of the load generator: one thread, one `mio` poll, any number of connections.
//!
//! Responsible for opening connections, for a turn (wait, read all, write all), and for the limits
//! of the system. Measuring is up to a `Receiver`. MQTT 5.0 §3.1, §3.8.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Context;
use martlet_codec::{
    Connect, ConnectProperties, Packet, PacketId, ProtocolVersion, QoS, Subscribe, SubscribeFilter,
    SubscriptionOptions, UserProperties,
};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::connection::{Connection, Phase, ReadEnd, Received};
use super::interrupt;
use super::options::Options;
use super::progress::Progress;
use super::target::Target;
use super::wire::Wire;

/// Longer than any run, so that no PINGREQ is needed; not 0, which some brokers refuse.
const KEEP_ALIVE_SECS: u16 = u16::MAX;

/// Topic Filters in one SUBSCRIBE; the next one waits for the SUBACK.
const FILTERS_PER_SUBSCRIBE: usize = 100;

/// Longest time that the broker may take to close connections after DISCONNECT.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Size of the read buffer that all connections share.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Connections from one loopback address; the system has about 28,000 ports for each.
const CONNECTIONS_PER_ADDRESS: usize = 25_000;

/// Time limit for opening all connections.
const SETUP_TIMEOUT: Duration = Duration::from_secs(120);

/// Settings of a connection.
#[derive(Debug, Clone)]
pub(super) struct Purpose {
    /// Client Identifier.
    pub(super) client_id: String,
    /// Topic Filters to subscribe to before the connection is ready.
    pub(super) filters: Vec<String>,
    /// The requested session.
    pub(super) session: SessionLife,
}

/// Lifetime of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionLife {
    /// The session begins and ends with its connection.
    Passing,
    /// The session outlives its connection (MQTT 5: by a minute). The Client Identifier is new.
    Lasting,
    /// The session outlives its connection (MQTT 5: by an hour), and may already exist.
    Kept,
}

/// Handles packets that arrive after a connection is ready.
pub(super) trait Receiver {
    /// Handles a packet of connection `index`; writes answers to `output`.
    fn receive(
        &mut self,
        index: usize,
        packet: Packet<'_>,
        now: Instant,
        output: &mut Vec<u8>,
    ) -> Result<(), String>;
}

/// Number of open files other than connections.
const OTHER_FILES: u64 = 64;

/// All connections.
pub(super) struct Driver {
    poll: Poll,
    events: Events,
    pub(super) connections: Vec<Connection>,
    buffer: Vec<u8>,
    /// Connections with output to be written at the end of the turn.
    dirty: Vec<usize>,
    /// Connections to be read in this turn, and in the next one.
    reading: Vec<usize>,
    reading_again: Vec<usize>,
    address: SocketAddr,
    target: Target,
    local_addresses: Vec<IpAddr>,
    options: Options,
    /// Receive Maximum of the broker: the smallest of all CONNACKs.
    pub(super) receive_maximum: u16,
    /// First reason for which a connection was closed.
    pub(super) first_error: Option<String>,
    pub(super) closed_count: usize,
}

/// Result of opening the connections.
pub(super) struct Setup {
    /// Time from the first to the last.
    pub(super) took: Duration,
    /// Time to CONNACK of each connection, in nanoseconds.
    pub(super) latencies: Vec<u64>,
}

impl Driver {
    /// Creates a driver without connections.
    pub(super) fn new(options: &Options) -> anyhow::Result<Self> {
        let target = options.target.clone();
        let name = format!("{}:{}", target.host, target.port);
        let addresses = (target.host.as_str(), target.port).to_socket_addrs();
        let addresses: Vec<_> = addresses.with_context(|| name.clone())?.collect();
        // The first of several addresses that accepts a connection.
        let listening = |address: &&SocketAddr| std::net::TcpStream::connect(address).is_ok();
        let address = addresses.iter().find(listening);
        let address = *address.with_context(|| format!("{name}: connection refused"))?;
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(4096),
            connections: Vec::new(),
            buffer: vec![0; READ_BUFFER_BYTES.max(options.payload as usize * 2 + 65_536)],
            dirty: Vec::new(),
            reading: Vec::new(),
            reading_again: Vec::new(),
            address,
            target,
            local_addresses: options.local_addresses(),
            options: options.clone(),
            receive_maximum: u16::MAX,
            first_error: None,
            closed_count: 0,
        })
    }

    /// Opens a connection for each purpose, at most `--concurrency` at a time, and waits until all
    /// are ready or closed, or a signal comes. Packets for ready connections go to `receiver`.
    pub(super) fn connect_all(
        &mut self,
        purposes: &[Purpose],
        progress: &mut Progress,
        receiver: &mut impl Receiver,
    ) -> anyhow::Result<Setup> {
        let first = self.connections.len();
        expect_open_files((first + purposes.len()) as u64)?;
        let began = Instant::now();
        let mut setup = SetupReceiver {
            latencies: Vec::with_capacity(purposes.len()),
            receive_maximum: self.receive_maximum,
            first,
            purposes,
            subscribed: vec![0; purposes.len()],
            version: self.options.version,
            qos: self.options.qos(),
            receiver,
        };
        let end = first + purposes.len();
        let mut last_ready = began;
        let mut pending: Vec<usize> = Vec::new();
        while (self.connections.len() < end || !pending.is_empty()) && !interrupt::is_to_end() {
            while pending.len() < self.options.concurrency as usize && self.connections.len() < end
            {
                pending.push(self.begin_connection()?);
            }
            self.setup_turn(&mut setup)?;
            let connections = &self.connections;
            let busy = pending.len();
            pending
                .retain(|index| !matches!(connections[*index].phase, Phase::Ready | Phase::Closed));
            if pending.len() < busy {
                last_ready = Instant::now();
            }
            let done = self.connections.len() - first - pending.len();
            progress.show(Instant::now(), "connected", done as u64);
            if began.elapsed() > SETUP_TIMEOUT {
                anyhow::bail!(
                    "{} connections are not ready after {SETUP_TIMEOUT:?}",
                    pending.len()
                );
            }
        }
        progress.clear();
        self.receive_maximum = setup.receive_maximum;
        Ok(Setup {
            took: last_ready - began,
            latencies: setup.latencies,
        })
    }

    /// Sends DISCONNECT on these connections and waits until the broker has closed them.
    ///
    /// # Errors
    /// The broker has not closed them within some seconds.
    pub(super) fn disconnect(
        &mut self,
        range: Range<usize>,
        receiver: &mut impl Receiver,
    ) -> anyhow::Result<()> {
        for index in range.clone() {
            let connection = &mut self.connections[index];
            if connection.phase == Phase::Ready {
                // The same bytes in all versions: normal disconnection.
                connection.output.extend_from_slice(&[0xe0, 0]);
                connection.phase = Phase::Closing;
                self.mark_dirty(index);
            }
        }
        let began = Instant::now();
        loop {
            self.write_dirty();
            let mut connections = self.connections[range.clone()].iter();
            if connections.all(|connection| connection.phase == Phase::Closed) {
                return Ok(());
            }
            if interrupt::is_to_end() && began.elapsed() > interrupt::PATIENCE {
                return Ok(());
            }
            if began.elapsed() > DISCONNECT_TIMEOUT {
                anyhow::bail!("the broker does not close connections after DISCONNECT");
            }
            self.turn(Duration::from_millis(20), receiver)?;
        }
    }

    /// Waits at most `timeout`, and reads everything that has arrived. `write_dirty` sends the
    /// output.
    pub(super) fn turn(
        &mut self,
        timeout: Duration,
        receiver: &mut impl Receiver,
    ) -> io::Result<()> {
        let timeout = if self.reading_again.is_empty() {
            timeout
        } else {
            Duration::ZERO
        };
        self.wait(timeout)?;
        std::mem::swap(&mut self.reading, &mut self.reading_again);
        for event in &self.events {
            let index = event.token().0;
            if event.is_writable() && self.connections[index].has_output() {
                mark_dirty(&mut self.connections[index], index, &mut self.dirty);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.reading.push(index);
            }
        }
        let reading = std::mem::take(&mut self.reading);
        for &index in &reading {
            self.read(index, |_, packet, now, output| {
                receiver.receive(index, packet, now, output)
            });
        }
        self.reading = reading;
        self.reading.clear();
        Ok(())
    }

    /// Lists a connection with new output.
    pub(super) fn mark_dirty(&mut self, index: usize) {
        mark_dirty(&mut self.connections[index], index, &mut self.dirty);
    }

    /// Writes the output of all listed connections, with one system call each if possible.
    pub(super) fn write_dirty(&mut self) {
        while let Some(index) = self.dirty.pop() {
            let connection = &mut self.connections[index];
            connection.dirty = false;
            if connection.phase == Phase::Closed || connection.phase == Phase::Connecting {
                continue;
            }
            if let Err(error) = connection.write() {
                self.close(index, error);
            }
        }
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            result => result,
        }
    }

    fn read(
        &mut self,
        index: usize,
        receive: impl FnMut(&mut Phase, Packet<'_>, Instant, &mut Vec<u8>) -> Received,
    ) {
        let connection = &mut self.connections[index];
        if matches!(connection.phase, Phase::Closed | Phase::Connecting) {
            return;
        }
        match connection.read(&mut self.buffer, self.options.version, receive) {
            Ok(ReadEnd::Drained) => {}
            Ok(ReadEnd::More) => self.reading_again.push(index),
            Ok(ReadEnd::Closed) => {
                return self.close(index, "the broker closed the connection".into());
            }
            Err(error) => return self.close(index, error),
        }
        if self.connections[index].has_output() {
            mark_dirty(&mut self.connections[index], index, &mut self.dirty);
        }
    }

    fn close(&mut self, index: usize, error: String) {
        let connection = &mut self.connections[index];
        if connection.phase != Phase::Closed {
            if connection.phase != Phase::Closing {
                self.closed_count += 1;
                self.first_error.get_or_insert(error);
            }
            connection.phase = Phase::Closed;
            let _ = self.poll.registry().deregister(connection.stream());
            connection.discard();
        }
    }

    fn begin_connection(&mut self) -> anyhow::Result<usize> {
        let index = self.connections.len();
        let began = Instant::now();
        let socket = open_socket(self.address, &self.local_addresses, index)?;
        let mut stream = mio::net::TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, Token(index), interest)?;
        let wire = Wire::new(stream, &self.target)?;
        self.connections.push(Connection::new(wire, began));
        Ok(index)
    }

    fn setup_turn(&mut self, setup: &mut SetupReceiver<'_, impl Receiver>) -> io::Result<()> {
        let timeout = match self.reading_again.is_empty() {
            true => Duration::from_millis(100),
            false => Duration::ZERO,
        };
        self.wait(timeout)?;
        let again = std::mem::take(&mut self.reading_again);
        let again = again.into_iter().map(|index| (index, false));
        let ready = self.events.iter();
        let ready = ready.map(|event| (event.token().0, event.is_writable()));
        let ready: Vec<_> = again.chain(ready).collect();
        for (index, writable) in ready {
            let connection = &mut self.connections[index];
            if connection.phase == Phase::Connecting && writable {
                match connection.stream().take_error() {
                    Ok(None) => {
                        let purpose = &setup.purposes[index - setup.first];
                        connect_packet(&self.options, &self.target, purpose)
                            .encode(&mut connection.output);
                        connection.phase = Phase::AwaitingConnAck;
                        self.mark_dirty(index);
                    }
                    Ok(Some(error)) | Err(error) => {
                        self.close(index, error.to_string());
                        continue;
                    }
                }
            } else if writable && connection.has_output() {
                self.mark_dirty(index);
            }
            let began = self.connections[index].began;
            self.read(index, |phase, packet, now, output| {
                setup.receive(index, phase, packet, now, began, output)
            });
        }
        self.write_dirty();
        Ok(())
    }
}

/// Sets up connections, from CONNACK to ready.
struct SetupReceiver<'a, R> {
    latencies: Vec<u64>,
    receive_maximum: u16,
    /// Index of the connection for the first purpose.
    first: usize,
    purposes: &'a [Purpose],
    /// Number of filters sent for each purpose.
    subscribed: Vec<usize>,
    version: ProtocolVersion,
    qos: QoS,
    /// Gets packets that do not belong to the setup.
    receiver: &'a mut R,
}

impl<R: Receiver> SetupReceiver<'_, R> {
    fn receive(
        &mut self,
        index: usize,
        phase: &mut Phase,
        packet: Packet<'_>,
        now: Instant,
        began: Instant,
        output: &mut Vec<u8>,
    ) -> Result<(), String> {
        match (*phase, packet) {
            (Phase::AwaitingConnAck, Packet::ConnAck(packet)) => {
                if packet.reason.is_error() {
                    return Err(format!("CONNECT refused: {}", packet.reason.name()));
                }
                if let Some(maximum) = packet.properties.receive_maximum {
                    self.receive_maximum = self.receive_maximum.min(maximum.get());
                }
                self.latencies.push((now - began).as_nanos() as u64);
                *phase = self.subscribe(index - self.first, output);
            }
            (Phase::AwaitingSubAck, Packet::SubAck(packet)) => {
                if packet.reason_codes.iter().any(|code| *code >= 0x80) {
                    return Err("SUBSCRIBE refused".into());
                }
                *phase = self.subscribe(index - self.first, output);
            }
            // Messages may come before the SUBACK [MQTT-3.8.4-3].
            (Phase::Ready | Phase::AwaitingSubAck, packet) => {
                return self.receiver.receive(index, packet, now, output);
            }
            (_, packet) => return Err(format!("unexpected {:?}", packet.packet_type())),
        }
        Ok(())
    }

    /// Queues the next SUBSCRIBE, if there is one.
    fn subscribe(&mut self, place: usize, output: &mut Vec<u8>) -> Phase {
        let subscribed = &mut self.subscribed[place];
        let filters = self.purposes[place].filters.iter().skip(*subscribed);
        let options = SubscriptionOptions {
            qos: self.qos,
            ..SubscriptionOptions::default()
        };
        let filters = filters.take(FILTERS_PER_SUBSCRIBE);
        let filters: Vec<_> = filters
            .map(|filter| SubscribeFilter { filter, options })
            .collect();
        if filters.is_empty() {
            return Phase::Ready;
        }
        *subscribed += filters.len();
        let none = UserProperties::default();
        Subscribe::encode_parts(self.version, PacketId::MIN, None, none, &filters, output);
        Phase::AwaitingSubAck
    }
}

fn connect_packet<'a>(
    options: &'a Options,
    target: &'a Target,
    purpose: &'a Purpose,
) -> Connect<'a> {
    let is_v5 = options.version.is_v5();
    let (clean_start, session_expiry_secs) = match purpose.session {
        SessionLife::Passing => (true, None),
        SessionLife::Lasting => (is_v5, Some(60)),
        SessionLife::Kept => (false, Some(3600)),
    };
    Connect {
        version: options.version,
        bridge: false,
        clean_start,
        keep_alive_secs: KEEP_ALIVE_SECS,
        client_id: &purpose.client_id,
        user_name: target.username.as_deref(),
        password: target.password.as_deref(),
        will: None,
        properties: ConnectProperties {
            session_expiry_secs: session_expiry_secs.filter(|_| is_v5),
            ..ConnectProperties::default()
        },
    }
}

fn mark_dirty(connection: &mut Connection, index: usize, dirty: &mut Vec<usize>) {
    if !connection.dirty {
        connection.dirty = true;
        dirty.push(index);
    }
}

/// Opens a connecting socket from the local addresses in turn. Without local addresses, many
/// loopback connections are spread over several loopback addresses.
fn open_socket(address: SocketAddr, local: &[IpAddr], index: usize) -> anyhow::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )
    .context("cannot open another socket")?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    let source = index / CONNECTIONS_PER_ADDRESS;
    if !local.is_empty() {
        let source = local[index % local.len()];
        let bound = socket.bind(&SocketAddr::new(source, 0).into());
        bound.with_context(|| format!("--local-address {source}"))?;
    } else if source > 0 && address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        let source = Ipv4Addr::new(127, 0, (source / 250) as u8, (source % 250 + 1) as u8);
        socket.bind(&SocketAddr::new(source.into(), 0).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error)
            if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            Err(error).with_context(|| format!("{address}"))
        }
        _ => Ok(socket),
    }
}

/// Raises the soft limit of open files as needed for this number of connections.
///
/// # Errors
/// The hard limit is too low; the text contains the remedy.
pub(super) fn expect_open_files(connections: u64) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = connections + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < needed) {
        anyhow::bail!(
            "{connections} connections need {needed} open files, and this shell allows {maximum} \
             (ulimit -n): as root, run `ulimit -n {needed}` in this shell and in that of the node, \
             then run the command again"
        );
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(needed),
            maximum: limit.maximum,
        },
    )?;
    Ok(())
}
