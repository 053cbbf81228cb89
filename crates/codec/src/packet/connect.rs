//! CONNECT: the identity of the client and the parameters of its session.
//!
//! Implements the layout and the rules for all servers. Whether this server accepts the Client
//! Identifier, the user or the Will is decided elsewhere. MQTT 5.0 §3.1, MQTT 3.1.1 §3.1, MQTT 3.1
//! §3.1.

use std::fmt;

use super::layout::put_packet;
use crate::error::DecodeError;
use crate::packet_type::PacketType;
use crate::primitive::{self, Reader};
use crate::property::{ConnectProperties, PropertyId, PublishProperties, put_u32_property};
use crate::qos::QoS;
use crate::reason::ReasonCode;
use crate::topic::{TopicError, TopicName};
use crate::version::ProtocolVersion;

/// Mosquitto's bridges set this bit of the Protocol Level to identify themselves.
const BRIDGE_BIT: u8 = 0x80;

const RESERVED_FLAG: u8 = 0x01;
const CLEAN_START: u8 = 0x02;
const WILL_FLAG: u8 = 0x04;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD_FLAG: u8 = 0x40;
const USER_NAME_FLAG: u8 = 0x80;

/// A CONNECT packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Protocol version of the client.
    pub version: ProtocolVersion,
    /// Whether the client identifies itself as a bridge (bit 0x80 of the Protocol Level, before
    /// 5.0).
    pub bridge: bool,
    /// Clean Start; Clean Session before 5.0.
    pub clean_start: bool,
    /// Keep Alive in seconds; 0 is none.
    pub keep_alive_secs: u16,
    /// The Client Identifier, possibly empty.
    pub client_id: &'a str,
    /// The User Name.
    pub user_name: Option<&'a str>,
    /// The Password; without a User Name only on 5.0.
    pub password: Option<&'a [u8]>,
    /// The Will.
    pub will: Option<Will<'a>>,
    /// The properties, 5.0 only.
    pub properties: ConnectProperties<'a>,
}

/// The Will Message in a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// The Will Topic, a valid Topic Name.
    pub topic: &'a str,
    /// The Will Payload.
    pub payload: &'a [u8],
    /// The Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Will Delay Interval in seconds, 5.0 only.
    pub delay_secs: Option<u32>,
    /// The other Will Properties, 5.0 only.
    pub properties: PublishProperties<'a>,
}

/// Why a CONNECT is rejected, and the protocol version of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectError<'a> {
    /// The version of the CONNACK for the client; `None` if the protocol is unknown: then the
    /// connection is closed without an answer.
    pub version: Option<ProtocolVersion>,
    /// The Client Identifier, if the packet is valid up to it.
    pub client_id: Option<&'a str>,
    /// The error.
    pub error: DecodeError,
}

impl fmt::Display for ConnectError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CONNECT: {}", self.error)
    }
}

impl std::error::Error for ConnectError<'_> {}

impl<'a> Connect<'a> {
    /// A CONNECT with Clean Start, without Keep Alive, credentials, Will and properties.
    pub fn new(version: ProtocolVersion, client_id: &'a str) -> Self {
        Self {
            version,
            bridge: false,
            clean_start: true,
            keep_alive_secs: 0,
            client_id,
            user_name: None,
            password: None,
            will: None,
            properties: ConnectProperties::default(),
        }
    }

    /// Decodes the bytes after the Fixed Header.
    ///
    /// With `version: None`: an unknown protocol name, or the packet ends before the level. With
    /// `UnsupportedProtocolVersion`: a known name with another level, which must be answered in
    /// the style of 3.1.1 below level 5 and of 5.0 above. Otherwise: errors that the specification
    /// defines.
    pub fn decode(flags: u8, body: &'a [u8]) -> Result<Self, ConnectError<'a>> {
        let mut reader = Reader::new(body);
        let (version, bridge) = decode_protocol(&mut reader)?;
        // MQTT 3.1 §3.1: the flags of the Fixed Header are not used.
        if flags != 0 && version != ProtocolVersion::V31 {
            return Err(ConnectError {
                version: None,
                client_id: None,
                error: DecodeError::malformed("CONNECT with flags", "MQTT-2.1.3-1"),
            });
        }
        let mut client_id = None;
        decode_after_protocol(reader, version, bridge, &mut client_id).map_err(|error| {
            ConnectError {
                version: Some(version),
                client_id,
                error,
            }
        })
    }

    /// Appends the packet in its own version. Before 5.0, properties and a password without a user
    /// name are left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_packet(out, PacketType::Connect, |out| {
            let name = if self.version == ProtocolVersion::V31 {
                "MQIsdp"
            } else {
                "MQTT"
            };
            primitive::put_string(out, name);
            let bridge = self.bridge && !self.version.is_v5();
            out.push(self.version.level() | if bridge { BRIDGE_BIT } else { 0 });
            out.push(self.connect_flags());
            primitive::put_u16(out, self.keep_alive_secs);
            if self.version.is_v5() {
                primitive::put_with_length(out, |out| self.properties.encode_into(out));
            }
            primitive::put_string(out, self.client_id);
            if let Some(will) = &self.will {
                will.encode(self.version, out);
            }
            if let Some(user_name) = self.user_name {
                primitive::put_string(out, user_name);
            }
            if let Some(password) = self.encoded_password() {
                primitive::put_binary(out, password);
            }
        });
    }

    fn connect_flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL_FLAG | (will.qos.bits() << WILL_QOS_SHIFT);
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.user_name.is_some() {
            flags |= USER_NAME_FLAG;
        }
        if self.encoded_password().is_some() {
            flags |= PASSWORD_FLAG;
        }
        flags
    }

    fn encoded_password(&self) -> Option<&'a [u8]> {
        self.password
            .filter(|_| self.version.is_v5() || self.user_name.is_some())
    }
}

impl<'a> Will<'a> {
    fn decode(
        reader: &mut Reader<'a>,
        qos: QoS,
        retain: bool,
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        let (properties, delay_secs) = if version.is_v5() {
            PublishProperties::decode_will(reader)?
        } else {
            (PublishProperties::default(), None)
        };
        let topic = reader.string()?;
        TopicName::new(topic).map_err(|error| {
            let statement = match error {
                TopicError::WildcardInName => "MQTT-3.3.2-2",
                _ => "MQTT-4.7.3-1",
            };
            DecodeError::of(
                ReasonCode::TopicNameInvalid,
                "Will Topic is not a valid Topic Name",
                statement,
            )
        })?;
        let payload = reader.binary()?;
        Ok(Self {
            topic,
            payload,
            qos,
            retain,
            delay_secs,
            properties,
        })
    }

    fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        if version.is_v5() {
            primitive::put_with_length(out, |out| {
                put_u32_property(out, PropertyId::WillDelayInterval, self.delay_secs);
                let expiry = self.properties.message_expiry_secs;
                put_u32_property(out, PropertyId::MessageExpiryInterval, expiry);
                self.properties.encode_forwarded(out);
            });
        }
        primitive::put_string(out, self.topic);
        primitive::put_binary(out, self.payload);
    }
}

/// Reads protocol name and level; returns the version and whether the bridge bit is set.
fn decode_protocol(
    reader: &mut Reader<'_>,
) -> Result<(ProtocolVersion, bool), ConnectError<'static>> {
    use ProtocolVersion::{V5, V31, V311};
    let unknown = |error| ConnectError {
        version: None,
        client_id: None,
        error,
    };
    let name = reader.binary().map_err(unknown)?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(unknown(DecodeError::of(
            ReasonCode::UnsupportedProtocolVersion,
            "unknown protocol name",
            "MQTT-3.1.2-1",
        )));
    }
    let level = reader.u8().map_err(unknown)?;
    match (name, level) {
        (b"MQTT", 5) => return Ok((V5, false)),
        (b"MQTT", 4) => return Ok((V311, false)),
        (b"MQIsdp", 3) => return Ok((V31, false)),
        (b"MQTT", 0x84) => return Ok((V311, true)),
        (b"MQIsdp", 0x83) => return Ok((V31, true)),
        _ => {}
    }
    // The answer uses the version that is closest to the client's name and level.
    let older = name == b"MQIsdp" || level & !BRIDGE_BIT < 5;
    Err(ConnectError {
        version: Some(if older { V311 } else { V5 }),
        client_id: None,
        error: DecodeError::of(
            ReasonCode::UnsupportedProtocolVersion,
            "unsupported Protocol Level",
            "MQTT-3.1.2-2",
        ),
    })
}

fn decode_after_protocol<'a>(
    mut reader: Reader<'a>,
    version: ProtocolVersion,
    bridge: bool,
    known_client_id: &mut Option<&'a str>,
) -> Result<Connect<'a>, DecodeError> {
    let flags = reader.u8()?;
    check_connect_flags(flags, version)?;
    let keep_alive_secs = reader.u16()?;
    let properties = if version.is_v5() {
        ConnectProperties::decode(&mut reader)?
    } else {
        ConnectProperties::default()
    };
    let client_id = reader.string()?;
    *known_client_id = Some(client_id);
    let will = match QoS::from_bits((flags >> WILL_QOS_SHIFT) & 0b11) {
        Some(qos) if flags & WILL_FLAG != 0 => Some(Will::decode(
            &mut reader,
            qos,
            flags & WILL_RETAIN != 0,
            version,
        )?),
        _ => None,
    };
    // MQTT 3.1 §3.1: texts may be missing although their flags are set.
    let has_text = |flag, reader: &Reader<'_>| {
        flags & flag != 0 && !(version == ProtocolVersion::V31 && reader.is_empty())
    };
    let user_name = if has_text(USER_NAME_FLAG, &reader) {
        Some(reader.string()?)
    } else {
        None
    };
    let password = if has_text(PASSWORD_FLAG, &reader) {
        Some(reader.binary()?)
    } else {
        None
    };
    reader.finish()?;
    Ok(Connect {
        version,
        bridge,
        clean_start: flags & CLEAN_START != 0,
        keep_alive_secs,
        client_id,
        user_name,
        password,
        will,
        properties,
    })
}

fn check_connect_flags(flags: u8, version: ProtocolVersion) -> Result<(), DecodeError> {
    // Bits that MQTT 3.1 calls unused may have any value (§3.1).
    let has_unused = version == ProtocolVersion::V31;
    if flags & RESERVED_FLAG != 0 && !has_unused {
        return Err(DecodeError::malformed(
            "reserved Connect Flag is set",
            "MQTT-3.1.2-3",
        ));
    }
    let will_qos = (flags >> WILL_QOS_SHIFT) & 0b11;
    if flags & WILL_FLAG == 0 && has_unused {
        return check_credentials_flags(flags, version);
    }
    if flags & WILL_FLAG == 0 {
        if will_qos != 0 {
            return Err(DecodeError::malformed(
                "Will QoS without a Will",
                "MQTT-3.1.2-11",
            ));
        }
        if flags & WILL_RETAIN != 0 {
            return Err(DecodeError::malformed(
                "Will Retain without a Will",
                "MQTT-3.1.2-13",
            ));
        }
    } else if will_qos == 3 {
        return Err(DecodeError::malformed("Will QoS 3", "MQTT-3.1.2-12"));
    }
    check_credentials_flags(flags, version)
}

fn check_credentials_flags(flags: u8, version: ProtocolVersion) -> Result<(), DecodeError> {
    if flags & PASSWORD_FLAG != 0 && flags & USER_NAME_FLAG == 0 && !version.is_v5() {
        return Err(DecodeError::malformed(
            "password without user name",
            "MQTT-3.1.1/3.1.2-22",
        ));
    }
    Ok(())
}
