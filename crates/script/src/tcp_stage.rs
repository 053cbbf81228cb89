//! The stage in real time: scripts over TCP, and brokers that are started as processes.
//!
//! Has sockets and processes; works with any broker.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::play::{Incoming, Stage};

/// Waiting times of a script for events that it cannot observe.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Longest time for an expected packet.
    pub patience: Duration,
    /// Time after which the packets of one connection count as processed before another one sends.
    /// A broker processes connections in no common order that could be awaited.
    pub settling: Duration,
    /// Time for a packet that must not arrive.
    pub quiet: Duration,
}

impl Pace {
    /// Times for an idle machine.
    pub const USUAL: Self = Self {
        patience: Duration::from_secs(3),
        settling: Duration::from_millis(25),
        quiet: Duration::from_millis(120),
    };
    /// Times for a machine that sometimes stalls.
    pub const UNHURRIED: Self = Self {
        patience: Duration::from_secs(15),
        settling: Duration::from_millis(500),
        quiet: Duration::from_millis(500),
    };
}

/// Connections to a broker over TCP.
#[derive(Debug)]
pub struct TcpStage {
    address: SocketAddr,
    streams: Vec<Option<TcpStream>>,
    reading: Vec<bool>,
    pace: Pace,
}

impl TcpStage {
    /// Creates a stage for the broker at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self::with_pace(address, Pace::USUAL)
    }

    /// Creates a stage with these times.
    pub fn with_pace(address: SocketAddr, pace: Pace) -> Self {
        Self {
            address,
            streams: Vec::new(),
            reading: Vec::new(),
            pace,
        }
    }
}

impl Stage for TcpStage {
    fn open(&mut self) -> Result<usize, String> {
        let stream = TcpStream::connect(self.address).map_err(|error| error.to_string())?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let writing = Some(Duration::from_secs(10));
        stream
            .set_write_timeout(writing)
            .map_err(|error| error.to_string())?;
        self.streams.push(Some(stream));
        self.reading.push(true);
        Ok(self.streams.len() - 1)
    }

    fn send(&mut self, link: usize, bytes: &[u8]) -> Result<(), String> {
        if let Some(stream) = &mut self.streams[link] {
            // If the broker has closed the connection, this shows when its answer is read.
            let _ = stream.write_all(bytes);
        }
        Ok(())
    }

    fn end(&mut self, link: usize) {
        self.streams[link] = None;
    }

    fn set_reading(&mut self, link: usize, reading: bool) {
        self.reading[link] = reading;
    }

    fn read(&mut self, link: usize, patience: Duration) -> Incoming {
        let Some(stream) = self.streams[link].as_mut().filter(|_| self.reading[link]) else {
            return Incoming::Nothing;
        };
        let patience = patience.max(Duration::from_millis(1));
        if stream.set_read_timeout(Some(patience)).is_err() {
            return Incoming::Closed;
        }
        let mut bytes = vec![0; 64 * 1024];
        match stream.read(&mut bytes) {
            Ok(0) => Incoming::Closed,
            Ok(count) => {
                bytes.truncate(count);
                Incoming::Bytes(bytes)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Incoming::Nothing
            }
            Err(_) => Incoming::Closed,
        }
    }

    fn wait(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn settle(&mut self) {
        std::thread::sleep(self.pace.settling);
    }

    fn patience(&self) -> Duration {
        self.pace.patience
    }

    fn quiet(&self) -> Duration {
        self.pace.quiet
    }
}

/// A broker in a separate process, which ends when this value is dropped.
#[derive(Debug)]
pub struct BrokerProcess {
    child: Child,
    /// Address of its listener.
    pub address: SocketAddr,
}

impl BrokerProcess {
    /// Starts `command`, which must listen on `address`, and waits until it does.
    ///
    /// # Errors
    /// The process cannot be started, ends, or does not listen within ten seconds.
    pub fn start(command: &mut Command, address: SocketAddr) -> Result<Self, String> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let mut broker = Self { child, address };
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if TcpStream::connect(address).is_ok() {
                return Ok(broker);
            }
            if let Ok(Some(status)) = broker.child.try_wait() {
                return Err(format!("{command:?} ended: {status}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("{command:?} does not listen on {address}"))
    }

    /// Starts a Martlet that chooses its port and prints it on standard output.
    ///
    /// # Errors
    /// The process cannot be started, or ends before it has printed its address.
    pub fn start_announced(command: &mut Command) -> Result<Self, String> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let said = child.stdout.take().map(BufReader::new);
        for line in said.into_iter().flat_map(BufRead::lines) {
            let Ok(line) = line else { break };
            let address = line.trim().strip_prefix("listening on mqtt://");
            if let Some(Ok(address)) = address.map(str::parse) {
                return Ok(Self { child, address });
            }
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        Err(format!("{command:?} ended: {status}"))
    }

    /// How the process ended, if it has ended or does so within `patience`: the sockets of a
    /// crashing process are closed some time before it has ended.
    pub fn has_ended(&mut self, patience: Duration) -> Option<String> {
        let asked = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status.to_string()),
                Err(error) => return Some(error.to_string()),
                Ok(None) if asked.elapsed() >= patience => return None,
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports to choose from: below those that systems assign to outgoing connections. An outgoing
/// connection could take one of those before a broker listens on it, even the connection that
/// checks whether it listens.
const PORTS: std::ops::Range<u32> = 20_000..32_000;

/// A loopback address that only this process uses, if the system has several: another process that
/// chooses ports at the same time cannot take them.
fn own_loopback() -> Ipv4Addr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    match cfg!(target_os = "linux") {
        true => Ipv4Addr::new(127, 128 | high, middle, low),
        false => Ipv4Addr::LOCALHOST,
    }
}

/// A loopback address with a free port. Each is returned only once.
///
/// # Errors
/// There is no free port.
pub fn free_port() -> Result<SocketAddr, String> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let count = PORTS.end - PORTS.start;
    // Other processes begin elsewhere.
    let first = std::process::id().wrapping_mul(487);
    for _ in 0..count {
        let number = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = (PORTS.start + number % count) as u16;
        if let Ok(listener) = TcpListener::bind((own_loopback(), port)) {
            return listener.local_addr().map_err(|error| error.to_string());
        }
    }
    Err(format!("no port of {PORTS:?} is free"))
}
