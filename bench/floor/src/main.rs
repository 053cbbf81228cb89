//! `floor PORT`: a relay that moves MQTT 3.1.1 packets between sockets and knows nothing else. It
//! is no broker: what it costs is the floor under what any broker on this machine can cost.
//!
//! Responsible for answering the packets that must be answered, and for handing a PUBLISH on, as
//! it is, to every client that subscribed to that topic or to a filter that begins like it. No
//! sessions, no state of any handshake, no limits, no checks: it is for the load generator, which
//! sends only what is in order, and whose Packet Identifiers do not meet.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Result, Write};
use std::mem::take;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);
const READ_BUFFER_BYTES: usize = 256 * 1024;
const OUTPUT_KEPT_BYTES: usize = 512 * 1024;

struct Connection {
    stream: TcpStream,
    /// The first bytes of a packet that has not arrived in full.
    partial: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    is_dirty: bool,
    /// The topic published last, where it goes, and when that was looked up.
    topic: Vec<u8>,
    route: Vec<usize>,
    looked_up: u64,
}

#[derive(Default)]
struct Relay {
    connections: Slab<Connection>,
    dirty: Vec<usize>,
    by_topic: HashMap<Vec<u8>, Vec<usize>>,
    /// Prefixes: what stands in front of `+` or `#`, and who subscribed to it.
    by_prefix: Vec<(Vec<u8>, usize)>,
    /// Grows with each subscription.
    revision: u64,
}

fn main() -> Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok());
    let Some(port) = port else {
        eprintln!("Usage: floor PORT");
        std::process::exit(2);
    };
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(std::net::SocketAddr::from(([127, 0, 0, 1], port)))?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let (mut relay, mut events) = (Relay::default(), Events::with_capacity(1024));
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        if let Err(error) = poll.poll(&mut events, None)
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error);
        }
        for event in &events {
            let index = event.token().0;
            if event.token() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    relay.open(&poll, stream)?;
                }
            } else if relay.connections.contains(index) {
                if event.is_writable() {
                    relay.mark_dirty(index);
                }
                if event.is_readable() && relay.read(index, &mut buffer).is_err() {
                    relay.close(index);
                }
            }
        }
        relay.write_dirty();
    }
}

impl Relay {
    fn open(&mut self, poll: &Poll, stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let entry = self.connections.vacant_entry();
        let index = entry.key();
        let connection = entry.insert(Connection {
            stream,
            partial: Vec::new(),
            output: Vec::new(),
            written: 0,
            is_dirty: false,
            topic: Vec::new(),
            route: Vec::new(),
            looked_up: 0,
        });
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut connection.stream, Token(index), both)
    }

    fn close(&mut self, index: usize) {
        self.connections.remove(index);
        self.by_topic
            .values_mut()
            .for_each(|all| all.retain(|one| *one != index));
        self.by_prefix
            .retain(|(_, subscriber)| *subscriber != index);
        self.revision += 1;
    }

    fn read(&mut self, index: usize, buffer: &mut [u8]) -> Result<()> {
        loop {
            let connection = &mut self.connections[index];
            let partial = take(&mut connection.partial);
            buffer[..partial.len()].copy_from_slice(&partial);
            let room = buffer.len() - partial.len();
            let count = match connection.stream.read(&mut buffer[partial.len()..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.partial = partial;
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let mut bytes = &buffer[..partial.len() + count];
            while let Some((header_len, len)) = packet_len(bytes).filter(|it| it.1 <= bytes.len()) {
                self.receive(index, &bytes[..len], header_len)?;
                bytes = &bytes[len..];
            }
            self.connections[index].partial = bytes.to_vec();
            if count < room {
                return Ok(());
            }
        }
    }

    /// Takes one packet.
    fn receive(&mut self, index: usize, packet: &[u8], header_len: usize) -> Result<()> {
        let body = &packet[header_len..];
        match packet[0] >> 4 {
            1 => self.send(index, &[0x20, 2, 0, 0]),
            3 => self.receive_publish(index, packet, body),
            5 => self.send(index, &[0x62, 2, body[0], body[1]]),
            6 => self.send(index, &[0x70, 2, body[0], body[1]]),
            8 => self.receive_subscribe(index, body),
            12 => self.send(index, &[0xd0, 0]),
            14 => return Err(ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
        Ok(())
    }

    fn receive_publish(&mut self, index: usize, packet: &[u8], body: &[u8]) {
        let (topic, rest) = split_text(body);
        match packet[0] & 6 {
            2 => self.send(index, &[0x40, 2, rest[0], rest[1]]),
            4 => self.send(index, &[0x50, 2, rest[0], rest[1]]),
            _ => {}
        }
        if self.connections[index].looked_up != self.revision
            || self.connections[index].topic != topic
        {
            self.look_up(index, topic);
        }
        let route = take(&mut self.connections[index].route);
        route
            .iter()
            .for_each(|subscriber| self.send(*subscriber, packet));
        self.connections[index].route = route;
    }

    fn look_up(&mut self, index: usize, topic: &[u8]) {
        let mut route = self.by_topic.get(topic).cloned().unwrap_or_default();
        let by_prefix = self
            .by_prefix
            .iter()
            .filter(|(prefix, _)| topic.starts_with(prefix));
        route.extend(by_prefix.map(|(_, subscriber)| *subscriber));
        let connection = &mut self.connections[index];
        (connection.topic, connection.route) = (topic.to_vec(), route);
        connection.looked_up = self.revision;
    }

    fn receive_subscribe(&mut self, index: usize, body: &[u8]) {
        let (packet_id, mut rest) = body.split_at(2);
        let mut answer = vec![0x90, 2, packet_id[0], packet_id[1]];
        while !rest.is_empty() {
            let (filter, after) = split_text(rest);
            match filter.iter().position(|byte| b"+#".contains(byte)) {
                Some(end) => self.by_prefix.push((filter[..end].to_vec(), index)),
                None => self
                    .by_topic
                    .entry(filter.to_vec())
                    .or_default()
                    .push(index),
            }
            answer.push(after[0]);
            answer[1] += 1;
            rest = &after[1..];
        }
        self.revision += 1;
        self.send(index, &answer);
    }

    fn send(&mut self, index: usize, packet: &[u8]) {
        self.connections[index].output.extend_from_slice(packet);
        self.mark_dirty(index);
    }

    fn mark_dirty(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.is_dirty && !connection.output.is_empty() {
            connection.is_dirty = true;
            self.dirty.push(index);
        }
    }

    /// Writes what this turn has made, one system call for each connection.
    fn write_dirty(&mut self) {
        while let Some(index) = self.dirty.pop() {
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            connection.is_dirty = false;
            // An error comes back as an event.
            while let Ok(count) = connection
                .stream
                .write(&connection.output[connection.written..])
            {
                connection.written += count;
                if connection.written == connection.output.len() {
                    connection.written = 0;
                    connection.output.clear();
                    connection.output.shrink_to(OUTPUT_KEPT_BYTES);
                    break;
                }
            }
        }
    }
}

/// Bytes of the fixed header and of the whole packet, when as much as that has arrived.
fn packet_len(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut len = 0;
    for place in 0..4 {
        let byte = usize::from(*bytes.get(place + 1)?);
        len |= (byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some((place + 2, place + 2 + len));
        }
    }
    None
}

/// A text with its length in front, and what follows.
fn split_text(bytes: &[u8]) -> (&[u8], &[u8]) {
    let len = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    bytes[2..].split_at(len)
}
