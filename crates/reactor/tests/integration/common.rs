//! A node on loopback, and clients that send and check MQTT as bytes, over TCP and over WebSocket,
//! so that no assertion depends on our own packet code.

#![allow(dead_code, missing_docs, unreachable_pub)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{Settings, Share};
use martlet_reactor::{
    ListenAddress, ListenerConfig, ReactorConfig, Running, StoreRoom, Transport, start,
};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

/// Longer than any wait takes, so that only failures reach it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// No limit of the disk, and memory for the longest backlog of the store.
pub const ROOM: StoreRoom = StoreRoom {
    disk: 0,
    memory: 1 << 30,
    tenant_share: Share::ALL,
};

pub struct Node {
    pub running: Running,
    pub tcp: SocketAddr,
    pub web: SocketAddr,
}

pub fn config(threads: usize, settings: Settings) -> ReactorConfig {
    let mut config = ReactorConfig::new(Arc::new(settings));
    config.threads = threads;
    let web = Transport::WebSocket {
        path: "/mqtt".into(),
        origins: martlet_reactor::Origins::All,
    };
    for (name, transport) in [("tcp", Transport::Tcp), ("web", web)] {
        config.listeners.push(ListenerConfig {
            address: ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()),
            accept_rate: 0,
            proxies: Vec::new(),
            transport,
            tls: None,
            policy: Arc::default(),
            name: name.into(),
        });
    }
    config
}

pub fn run(config: ReactorConfig) -> Node {
    let running = start(config).unwrap();
    let addresses = running.local_addresses();
    Node {
        running,
        tcp: addresses[0].1.socket().unwrap(),
        web: addresses[1].1.socket().unwrap(),
    }
}

pub fn node(threads: usize) -> Node {
    run(config(threads, Settings::default()))
}

impl Node {
    pub fn tcp(&self) -> Client {
        Client::tcp(self.tcp)
    }

    pub fn web(&self) -> Client {
        let stream = TcpStream::connect(self.web).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = format!("ws://{}/mqtt", self.web)
            .into_client_request()
            .unwrap();
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
        let (web, response) = tungstenite::client(request, stream).unwrap();
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "mqtt");
        Client {
            wire: Wire::Web(Box::new(web)),
            read: Vec::new(),
        }
    }

    /// Waits until the node has exactly `count` sockets of clients.
    pub fn await_connections(&self, count: usize) {
        await_that("connections are gone", || {
            self.running.open_connections() == count
        });
    }
}

/// Polls a state for which there is no event.
pub fn await_that(what: &str, is_so: impl Fn() -> bool) {
    let end = std::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(std::time::Instant::now() < end, "not so in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A stream that carries MQTT.
pub trait ReadWrite: Read + Write + Send {}

impl<T: Read + Write + Send> ReadWrite for T {}

enum Wire {
    Tcp(TcpStream),
    Other(Box<dyn ReadWrite>),
    OtherWeb(Box<WebSocket<Box<dyn ReadWrite>>>),
    Web(Box<WebSocket<TcpStream>>),
}

pub struct Client {
    wire: Wire,
    read: Vec<u8>,
}

impl Client {
    /// Connects over TCP without sending anything.
    pub fn tcp(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            wire: Wire::Tcp(stream),
            read: Vec::new(),
        }
    }

    /// Uses any stream.
    pub fn over(stream: Box<dyn ReadWrite>) -> Self {
        Self {
            wire: Wire::Other(stream),
            read: Vec::new(),
        }
    }

    /// Uses WebSocket over any stream.
    pub fn web_over(stream: Box<dyn ReadWrite>) -> Self {
        let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
        let Ok((web, _)) = tungstenite::client(request, stream) else {
            panic!("the request for WebSocket was refused");
        };
        Self {
            wire: Wire::OtherWeb(Box::new(web)),
            read: Vec::new(),
        }
    }

    pub fn stream(&self) -> &TcpStream {
        match &self.wire {
            Wire::Tcp(stream) => stream,
            Wire::Web(web) => web.get_ref(),
            Wire::Other(_) | Wire::OtherWeb(_) => panic!("no TCP connection"),
        }
    }

    pub fn web_socket(&mut self) -> &mut WebSocket<TcpStream> {
        match &mut self.wire {
            Wire::Web(web) => web,
            _ => panic!("not a WebSocket client"),
        }
    }

    /// Sends the bytes unchanged; over WebSocket as one frame.
    pub fn send(&mut self, bytes: &[u8]) {
        match &mut self.wire {
            Wire::Tcp(stream) => stream.write_all(bytes).unwrap(),
            Wire::Web(web) => web.send(Message::binary(bytes.to_vec())).unwrap(),
            Wire::Other(stream) => stream
                .write_all(bytes)
                .and_then(|()| stream.flush())
                .unwrap(),
            Wire::OtherWeb(web) => web.send(Message::binary(bytes.to_vec())).unwrap(),
        }
    }

    /// Like `send`, for a connection that may already be closed.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        match &mut self.wire {
            Wire::Tcp(stream) => stream.write_all(bytes).is_ok(),
            Wire::Web(web) => web.send(Message::binary(bytes.to_vec())).is_ok(),
            Wire::Other(stream) => stream
                .write_all(bytes)
                .and_then(|()| stream.flush())
                .is_ok(),
            Wire::OtherWeb(web) => web.send(Message::binary(bytes.to_vec())).is_ok(),
        }
    }

    /// The next complete packet; `None` if the connection is closed.
    pub fn packet(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = packet_len(&self.read)
                && self.read.len() >= length
            {
                return Some(self.read.drain(..length).collect());
            }
            if !self.fill() {
                assert!(
                    self.read.is_empty(),
                    "closed in the middle of a packet: {:?}",
                    self.read
                );
                return None;
            }
        }
    }

    pub fn expect(&mut self, packet: &[u8]) {
        let got = self.packet();
        assert_eq!(got.as_deref(), Some(packet));
    }

    pub fn expect_closed(&mut self) {
        assert_eq!(self.packet(), None);
    }

    fn fill(&mut self) -> bool {
        match &mut self.wire {
            Wire::Tcp(stream) => fill_from(stream, &mut self.read),
            Wire::Other(stream) => fill_from(stream, &mut self.read),
            Wire::Web(web) => fill_from_web(web, &mut self.read),
            Wire::OtherWeb(web) => fill_from_web(web, &mut self.read),
        }
    }

    /// Sends a CONNECT of 3.1.1 with Clean Session, and receives its CONNACK.
    pub fn connect(mut self, client_id: &str) -> Self {
        self.send(&connect(client_id, 0x02, None));
        self.expect(&[0x20, 2, 0, 0]);
        self
    }

    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        self.send(&subscribe(filter, qos));
        self.expect(&[0x90, 3, 0, 1, qos]);
    }
}

fn fill_from(stream: &mut impl Read, read: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 65536];
    match stream.read(&mut buffer) {
        Ok(0) => false,
        Ok(count) => {
            read.extend_from_slice(&buffer[..count]);
            true
        }
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
        Err(error) => panic!("nothing came: {error}"),
    }
}

fn fill_from_web(web: &mut WebSocket<impl Read + Write>, read: &mut Vec<u8>) -> bool {
    match web.read() {
        Ok(Message::Binary(bytes)) => {
            read.extend_from_slice(&bytes);
            true
        }
        Ok(Message::Close(_)) => false,
        Ok(other) => panic!("neither binary nor Close: {other:?}"),
        Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed) => false,
        Err(error) => panic!("nothing came: {error}"),
    }
}

fn packet_len(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(2 + index + length);
        }
    }
    None
}

pub fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = vec![first];
    loop {
        let more = if length > 0x7F { 0x80 } else { 0 };
        bytes.push((length & 0x7F) as u8 | more);
        length >>= 7;
        if more == 0 {
            break;
        }
    }
    bytes.extend(parts.concat());
    bytes
}

pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// CONNECT of 3.1.1, Keep Alive 0, with a Will of QoS 0 if given.
pub fn connect(client_id: &str, flags: u8, will: Option<(&str, &str)>) -> Vec<u8> {
    let (flags, will) = match will {
        Some((topic, payload)) => (flags | 0x04, [text(topic), text(payload)].concat()),
        None => (flags, Vec::new()),
    };
    packet(
        0x10,
        &[b"\0\x04MQTT\x04", &[flags, 0, 0], &text(client_id), &will],
    )
}

/// CONNECT of 5.0 with Clean Start and no properties.
pub fn connect_v5(client_id: &str) -> Vec<u8> {
    packet(0x10, &[b"\0\x04MQTT\x05\x02\0\0\0", &text(client_id)])
}

/// SUBSCRIBE of 3.1.1 with Packet Identifier 1.
pub fn subscribe(filter: &str, qos: u8) -> Vec<u8> {
    packet(0x82, &[&[0, 1], &text(filter), &[qos]])
}

/// PUBLISH of 3.1.1 with QoS 0.
pub fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    packet(0x30, &[&text(topic), payload])
}

/// PUBLISH of 3.1.1 with QoS 1.
pub fn publish_qos1(topic: &str, packet_id: u16, payload: &[u8]) -> Vec<u8> {
    packet(0x32, &[&text(topic), &packet_id.to_be_bytes(), payload])
}

pub const PINGREQ: [u8; 2] = [0xC0, 0];
pub const PINGRESP: [u8; 2] = [0xD0, 0];
pub const DISCONNECT: [u8; 2] = [0xE0, 0];
