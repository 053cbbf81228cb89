//! A blocking MQTT client that writes and reads packets, with only the functions that the loads
//! need.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{PoisonError, RwLockReadGuard};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use martlet_codec::{
    Connect, ConnectProperties, OutgoingPublish, Packet, PacketId, ProtocolVersion,
    PublishProperties, QoS, RetainHandling, Subscribe, SubscribeFilter, SubscriptionOptions,
    UserProperties, Will, decode_fixed_header, decode_packet,
};

use super::left_behind::LeftBehind;
use crate::connection::other_protocol;
use crate::random;
use crate::target::Target;

const V5: ProtocolVersion = ProtocolVersion::V5;

/// Time limit of a read, after which the broker counts as hung.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The broker under test, and unique names for this run.
#[derive(Clone, Debug)]
pub(super) struct Broker {
    addresses: Vec<SocketAddr>,
    username: Option<String>,
    password: Option<Vec<u8>>,
    /// Unique part of every Client Identifier and topic of this run.
    pub(super) run: String,
    /// State of this run that outlives its connections.
    pub(super) left: LeftBehind,
}

/// Properties of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner<'a> {
    pub(super) session_expiry_secs: u32,
    /// Topic, payload and Will Delay Interval.
    pub(super) will: Option<(&'a str, &'a [u8], u32)>,
}

impl Broker {
    pub(super) fn new(target: &Target) -> anyhow::Result<Self> {
        ensure!(
            target.tls.is_none(),
            "fairness is measured without TLS: leave --cafile out"
        );
        let place = (target.host.as_str(), target.port);
        let addresses: Vec<_> = place
            .to_socket_addrs()
            .with_context(|| format!("{}:{} has no address", place.0, place.1))?
            .collect();
        Ok(Self {
            addresses,
            username: target.username.clone(),
            password: target.password.clone(),
            run: format!("{:08x}", random::number() as u32),
            left: LeftBehind::default(),
        })
    }

    /// A copy for cleaning up, which may still connect after closing.
    pub(super) fn unhindered(&self) -> Self {
        Self {
            left: LeftBehind::default(),
            ..self.clone()
        }
    }

    /// Takes a lock to be held while state is being left in the broker.
    ///
    /// # Errors
    /// Leaving state has been closed.
    pub(super) fn may_leave(&self) -> anyhow::Result<RwLockReadGuard<'_, bool>> {
        let closed = self.left.closed.read();
        let closed = closed.unwrap_or_else(PoisonError::into_inner);
        ensure!(!*closed, "interrupted");
        Ok(closed)
    }

    /// A topic or Client Identifier that is unique to this run.
    pub(super) fn name(&self, what: &str) -> String {
        format!("bench-{}-{what}", self.run)
    }

    /// Encodes a CONNECT.
    pub(super) fn connect_packet(&self, client_id: &str, manner: Manner<'_>) -> Vec<u8> {
        let will = manner.will.map(|(topic, payload, delay_secs)| Will {
            topic,
            payload,
            qos: QoS::AtMostOnce,
            retain: false,
            delay_secs: Some(delay_secs),
            properties: PublishProperties::default(),
        });
        let packet = Connect {
            user_name: self.username.as_deref(),
            password: self.password.as_deref(),
            will,
            properties: ConnectProperties {
                session_expiry_secs: Some(manner.session_expiry_secs),
                ..ConnectProperties::default()
            },
            ..Connect::new(V5, client_id)
        };
        let mut bytes = Vec::new();
        packet.encode(&mut bytes);
        bytes
    }

    /// Opens a socket to the broker.
    pub(super) fn open(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(self.addresses.as_slice()).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        Ok(stream)
    }

    /// Connects a client and waits for its CONNACK.
    pub(super) fn connect(&self, client_id: &str, manner: Manner<'_>) -> anyhow::Result<Peer> {
        let _may = self.may_leave()?;
        let mut peer = Peer {
            stream: self.open()?,
            input: Vec::new(),
        };
        peer.write(&self.connect_packet(client_id, manner))?;
        peer.read_until(|packet| match packet {
            Packet::ConnAck(connack) if connack.reason.is_error() => {
                bail!("{client_id} was refused: {}", connack.reason.name())
            }
            Packet::ConnAck(_) => Ok(true),
            _ => Ok(false),
        })?;
        Ok(peer)
    }
}

/// A connected client.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    input: Vec<u8>,
}

impl Peer {
    pub(super) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).context("cannot write")
    }

    /// Reads packets until `seen` returns true.
    pub(super) fn read_until(
        &mut self,
        mut seen: impl FnMut(&Packet<'_>) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        loop {
            let mut done = 0;
            let mut found = false;
            let rest = &self.input[..];
            let fault = |error| match other_protocol(rest) {
                Some(other) => anyhow!(other),
                None => anyhow::Error::from(error),
            };
            while !found
                && let Some(header) = decode_fixed_header(&rest[done..]).map_err(fault)?
                && rest.len() - done >= header.packet_len()
            {
                if let Some((packet, _)) = decode_packet(&rest[done..], V5).map_err(fault)? {
                    found = seen(&packet)?;
                }
                done += header.packet_len();
            }
            self.input.drain(..done);
            if found {
                return Ok(());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0; 64 * 1024];
        let count = self.stream.read(&mut buffer).context("cannot read")?;
        ensure!(count > 0, "the broker closed the connection");
        self.input.extend_from_slice(&buffer[..count]);
        Ok(())
    }

    /// Sends a PINGREQ and waits for its answer: the broker has then processed everything sent
    /// before.
    pub(super) fn ping(&mut self) -> anyhow::Result<()> {
        self.write(&[0xC0, 0])?;
        self.read_until(|packet| Ok(matches!(packet, Packet::PingResp)))
    }

    /// Subscribes and waits for the SUBACK.
    pub(super) fn subscribe(&mut self, filters: &[String], qos: QoS) -> anyhow::Result<()> {
        self.write(&subscribe_packet(filters, qos))?;
        self.read_until(|packet| Ok(matches!(packet, Packet::SubAck(_))))
    }
}

/// Encodes a SUBSCRIBE.
pub(super) fn subscribe_packet(filters: &[String], qos: QoS) -> Vec<u8> {
    let options = SubscriptionOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    };
    let filters: Vec<SubscribeFilter<'_>> = filters
        .iter()
        .map(|filter| SubscribeFilter { filter, options })
        .collect();
    let none = UserProperties::default();
    let mut bytes = Vec::new();
    Subscribe::encode_parts(V5, PacketId::MIN, None, none, &filters, &mut bytes);
    bytes
}

/// Encodes an UNSUBSCRIBE.
pub(super) fn unsubscribe_packet(filters: &[String]) -> Vec<u8> {
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    let mut bytes = Vec::new();
    let none = UserProperties::default();
    martlet_codec::Unsubscribe::encode_parts(V5, PacketId::MIN, none, &filters, &mut bytes);
    bytes
}

/// Appends a PUBLISH. QoS 1 uses Packet Identifier 1.
pub(super) fn publish(out: &mut Vec<u8>, topic: &str, payload: &[u8], qos: QoS, retain: bool) {
    let packet = OutgoingPublish {
        dup: false,
        qos,
        retain,
        topic: topic.as_bytes(),
        packet_id: (qos > QoS::AtMostOnce).then_some(PacketId::MIN),
        topic_alias: None,
        message_expiry_secs: None,
        subscription_ids: &[],
        forwarded: &[],
        payload,
    };
    packet.encode(V5, out);
}
