//! SUBSCRIBE: Topic Filters with the options of their subscriptions.
//!
//! The filters are validated in one pass when decoding, and read again on iteration. Whether a
//! filter is well-formed is not checked here: a server answers that per filter. MQTT 5.0 §3.8.

use super::layout::put_packet;
use crate::error::DecodeError;
use crate::packet_id::PacketId;
use crate::packet_type::PacketType;
use crate::primitive::{self, Reader};
use crate::property::{
    Block, Owner, PropertyId, UserProperties, decode_subscription_id, put_varint_property,
};
use crate::qos::QoS;
use crate::version::ProtocolVersion;

/// A SUBSCRIBE packet.
#[derive(Clone, Copy, Debug)]
pub struct Subscribe<'a> {
    /// The Packet Identifier that SUBACK answers.
    pub packet_id: PacketId,
    /// Subscription Identifier, 1 to 268,435,455, 5.0 only.
    pub subscription_id: Option<u32>,
    /// User Properties, 5.0 only.
    pub user_properties: UserProperties<'a>,
    /// The validated payload: filter and options byte in turn.
    payload: &'a [u8],
    filter_count: usize,
    /// Mask of the bits that are used in each options byte.
    option_bits: u8,
}

/// One Topic Filter of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeFilter<'a> {
    /// The Topic Filter: not empty, but possibly malformed.
    pub filter: &'a str,
    /// The Subscription Options; before 5.0 only the QoS.
    pub options: SubscriptionOptions,
}

/// The options of a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// Maximum QoS.
    pub qos: QoS,
    /// No Local: the subscriber's own messages are not sent to it.
    pub no_local: bool,
    /// Retain As Published: messages keep their RETAIN flag.
    pub retain_as_published: bool,
    /// Retain Handling.
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent for a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RetainHandling {
    /// At each SUBSCRIBE; the only mode before 5.0.
    #[default]
    SendAtSubscribe = 0,
    /// At a SUBSCRIBE that creates a new subscription.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

impl SubscriptionOptions {
    /// The options byte of 5.0; before 5.0, the byte with only the QoS.
    pub fn to_byte(self, version: ProtocolVersion) -> u8 {
        if !version.is_v5() {
            return self.qos.bits();
        }
        self.qos.bits()
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling as u8) << 4
    }

    /// Reads an options byte.
    ///
    /// # Errors
    /// Malformed: QoS 3, reserved bits [MQTT-3.8.3-5]. Protocol Error: Retain Handling 3.
    pub fn from_byte(byte: u8, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let reserved = match version {
            ProtocolVersion::V5 => 0b1100_0000,
            ProtocolVersion::V311 => 0b1111_1100,
            ProtocolVersion::V31 => 0,
        };
        let byte = byte & used_options(version);
        if byte & reserved != 0 {
            return Err(DecodeError::malformed(
                "reserved Subscription Options are set",
                "MQTT-3.8.3-5",
            ));
        }
        let Some(qos) = QoS::from_bits(byte & 0b11) else {
            return Err(DecodeError::malformed(
                "subscription with QoS 3",
                "MQTT-3.8.3-5",
            ));
        };
        let retain_handling = match (byte >> 4) & 0b11 {
            0 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::protocol("Retain Handling 3", "")),
        };
        Ok(Self {
            qos,
            no_local: byte & 0b0100 != 0,
            retain_as_published: byte & 0b1000 != 0,
            retain_handling,
        })
    }
}

impl<'a> Subscribe<'a> {
    /// Decodes the bytes after the Fixed Header.
    ///
    /// # Errors
    /// Malformed: Packet Identifier 0, an empty or badly encoded filter, QoS 3, reserved option
    /// bits. Protocol Error: no filter, Retain Handling 3, No Local on a Shared Subscription,
    /// Subscription Identifier 0 or twice.
    pub fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let mut subscription_id = None;
        let mut user_properties = UserProperties::default();
        if version.is_v5() {
            let mut block = Block::take(&mut reader, Owner::SUBSCRIBE)?;
            while let Some(id) = block.next_id()? {
                match id {
                    PropertyId::SubscriptionIdentifier => {
                        subscription_id = Some(decode_subscription_id(block.value())?);
                    }
                    _ => return Err(Block::not_allowed()),
                }
            }
            user_properties = block.user_properties();
        }
        let payload = reader.rest();
        let mut filter_count = 0;
        while !reader.is_empty() {
            check_filter(&mut reader, version)?;
            filter_count += 1;
        }
        if filter_count == 0 {
            return Err(DecodeError::protocol(
                "SUBSCRIBE without a filter",
                "MQTT-3.8.3-2",
            ));
        }
        Ok(Self {
            packet_id,
            subscription_id,
            user_properties,
            payload,
            filter_count,
            option_bits: used_options(version),
        })
    }

    /// The Topic Filters in order.
    pub fn filters(&self) -> SubscribeFilters<'a> {
        SubscribeFilters {
            reader: Reader::new(self.payload),
            left: self.filter_count,
            option_bits: self.option_bits,
        }
    }

    /// The remaining Topic Filters of a packet that was decoded before, from the position of an
    /// earlier iteration.
    pub fn filters_left(
        body: &'a [u8],
        version: ProtocolVersion,
        left: FiltersLeft,
    ) -> SubscribeFilters<'a> {
        SubscribeFilters {
            reader: left.reader(body),
            left: left.count,
            option_bits: used_options(version),
        }
    }

    /// Number of Topic Filters, at least one.
    pub fn filter_count(&self) -> usize {
        self.filter_count
    }

    /// Appends a SUBSCRIBE with these parts; parts that the version does not support are left out.
    pub fn encode_parts(
        version: ProtocolVersion,
        packet_id: PacketId,
        subscription_id: Option<u32>,
        user_properties: UserProperties<'_>,
        filters: &[SubscribeFilter<'_>],
        out: &mut Vec<u8>,
    ) {
        let filters = filters.iter().copied();
        encode(
            version,
            packet_id,
            subscription_id,
            user_properties,
            filters,
            out,
        );
    }

    /// Appends the packet; parts that the version does not support are left out.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        let Self {
            packet_id,
            subscription_id,
            user_properties,
            ..
        } = *self;
        encode(
            version,
            packet_id,
            subscription_id,
            user_properties,
            self.filters(),
            out,
        );
    }
}

impl PartialEq for Subscribe<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.packet_id == other.packet_id
            && self.subscription_id == other.subscription_id
            && self.user_properties == other.user_properties
            && self.filters().eq(other.filters())
    }
}

impl Eq for Subscribe<'_> {}

/// Iterates over the Topic Filters of a [`Subscribe`].
#[derive(Clone, Debug)]
pub struct SubscribeFilters<'a> {
    reader: Reader<'a>,
    left: usize,
    option_bits: u8,
}

impl SubscribeFilters<'_> {
    /// The current position, for continuing later.
    pub fn left(&self) -> FiltersLeft {
        FiltersLeft::of(&self.reader, self.left)
    }
}

/// Position of an iteration over the Topic Filters of a packet. They are the last field of the
/// packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FiltersLeft {
    /// Bytes of the remaining filters.
    pub(super) bytes: usize,
    /// Number of the remaining filters.
    pub(super) count: usize,
}

impl FiltersLeft {
    pub(super) fn of(reader: &Reader<'_>, count: usize) -> Self {
        let bytes = reader.rest().len();
        Self { bytes, count }
    }

    pub(super) fn reader(self, body: &[u8]) -> Reader<'_> {
        let begin = body.len().saturating_sub(self.bytes);
        Reader::new(body.get(begin..).unwrap_or_default())
    }
}

impl<'a> Iterator for SubscribeFilters<'a> {
    type Item = SubscribeFilter<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // The bytes were validated before; an error here would only end the iteration. The byte of
        // an older version equals one of 5.0 with the other options off.
        let filter = primitive::utf8(self.reader.binary().ok()?).ok()?;
        let byte = self.reader.u8().ok()? & self.option_bits;
        let options = SubscriptionOptions::from_byte(byte, ProtocolVersion::V5).ok()?;
        Some(SubscribeFilter { filter, options })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for SubscribeFilters<'_> {}

fn encode<'f>(
    version: ProtocolVersion,
    packet_id: PacketId,
    subscription_id: Option<u32>,
    user_properties: UserProperties<'_>,
    filters: impl Iterator<Item = SubscribeFilter<'f>>,
    out: &mut Vec<u8>,
) {
    put_packet(out, PacketType::Subscribe, |out| {
        primitive::put_u16(out, packet_id.get());
        if version.is_v5() {
            primitive::put_with_length(out, |out| {
                if let Some(id) = subscription_id {
                    put_varint_property(out, PropertyId::SubscriptionIdentifier, id);
                }
                user_properties.encode_into(out);
            });
        }
        for SubscribeFilter { filter, options } in filters {
            primitive::put_string(out, filter);
            out.push(options.to_byte(version));
        }
    });
}

/// The bits of an options byte that have a meaning or must be 0. MQTT 3.1 §3.8: the upper six are
/// not used.
fn used_options(version: ProtocolVersion) -> u8 {
    match version {
        ProtocolVersion::V31 => 0b11,
        _ => 0xFF,
    }
}

fn check_filter(reader: &mut Reader<'_>, version: ProtocolVersion) -> Result<(), DecodeError> {
    let filter = reader.string()?;
    if filter.is_empty() {
        return Err(DecodeError::malformed("empty Topic Filter", "MQTT-4.7.3-1"));
    }
    let options = SubscriptionOptions::from_byte(reader.u8()?, version)?;
    if options.no_local && filter.starts_with("$share/") {
        return Err(DecodeError::protocol(
            "No Local on a Shared Subscription",
            "MQTT-3.8.3-4",
        ));
    }
    Ok(())
}
