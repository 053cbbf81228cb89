//! UNSUBSCRIBE: Topic Filters whose subscriptions must end.
//!
//! The filters are validated in one pass when decoding, and read again on iteration. Whether such
//! a subscription exists is checked by the session. MQTT 5.0 §3.10.

use super::layout::put_packet;
use super::subscribe::FiltersLeft;
use crate::error::DecodeError;
use crate::packet_id::PacketId;
use crate::packet_type::PacketType;
use crate::primitive::{self, Reader};
use crate::property::{Block, Owner, UserProperties};
use crate::version::ProtocolVersion;

/// An UNSUBSCRIBE packet.
#[derive(Clone, Copy, Debug)]
pub struct Unsubscribe<'a> {
    /// The Packet Identifier that UNSUBACK answers.
    pub packet_id: PacketId,
    /// User Properties, 5.0 only.
    pub user_properties: UserProperties<'a>,
    /// The validated payload: one filter after the other.
    payload: &'a [u8],
    filter_count: usize,
}

impl<'a> Unsubscribe<'a> {
    /// Decodes the bytes after the Fixed Header.
    ///
    /// # Errors
    /// Malformed: Packet Identifier 0, an empty or badly encoded filter, a property that is not
    /// allowed. Protocol Error: no filter.
    pub fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let mut user_properties = UserProperties::default();
        if version.is_v5() {
            let mut block = Block::take(&mut reader, Owner::UNSUBSCRIBE)?;
            if block.next_id()?.is_some() {
                return Err(Block::not_allowed());
            }
            user_properties = block.user_properties();
        }
        let payload = reader.rest();
        let mut filter_count = 0;
        while !reader.is_empty() {
            if reader.string()?.is_empty() {
                return Err(DecodeError::malformed("empty Topic Filter", "MQTT-4.7.3-1"));
            }
            filter_count += 1;
        }
        if filter_count == 0 {
            return Err(DecodeError::protocol(
                "UNSUBSCRIBE without a filter",
                "MQTT-3.10.3-2",
            ));
        }
        Ok(Self {
            packet_id,
            user_properties,
            payload,
            filter_count,
        })
    }

    /// The Topic Filters in order: not empty, but possibly malformed.
    pub fn filters(&self) -> UnsubscribeFilters<'a> {
        UnsubscribeFilters {
            reader: Reader::new(self.payload),
            left: self.filter_count,
        }
    }

    /// The remaining Topic Filters of a packet that was decoded before, from the position of an
    /// earlier iteration.
    pub fn filters_left(body: &'a [u8], left: FiltersLeft) -> UnsubscribeFilters<'a> {
        UnsubscribeFilters {
            reader: left.reader(body),
            left: left.count,
        }
    }

    /// Number of Topic Filters, at least one.
    pub fn filter_count(&self) -> usize {
        self.filter_count
    }

    /// Appends an UNSUBSCRIBE with these parts; before 5.0 without properties.
    pub fn encode_parts(
        version: ProtocolVersion,
        packet_id: PacketId,
        user_properties: UserProperties<'_>,
        filters: &[&str],
        out: &mut Vec<u8>,
    ) {
        encode(
            version,
            packet_id,
            user_properties,
            filters.iter().copied(),
            out,
        );
    }

    /// Appends the packet; before 5.0 without properties.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        encode(
            version,
            self.packet_id,
            self.user_properties,
            self.filters(),
            out,
        );
    }
}

impl PartialEq for Unsubscribe<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.packet_id == other.packet_id
            && self.user_properties == other.user_properties
            && self.filters().eq(other.filters())
    }
}

impl Eq for Unsubscribe<'_> {}

/// Iterates over the Topic Filters of an [`Unsubscribe`].
#[derive(Clone, Debug)]
pub struct UnsubscribeFilters<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl UnsubscribeFilters<'_> {
    /// The current position, for continuing later.
    pub fn left(&self) -> FiltersLeft {
        FiltersLeft::of(&self.reader, self.left)
    }
}

impl<'a> Iterator for UnsubscribeFilters<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // The bytes were validated before; an error here would only end the iteration.
        primitive::utf8(self.reader.binary().ok()?).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for UnsubscribeFilters<'_> {}

fn encode<'f>(
    version: ProtocolVersion,
    packet_id: PacketId,
    user_properties: UserProperties<'_>,
    filters: impl Iterator<Item = &'f str>,
    out: &mut Vec<u8>,
) {
    put_packet(out, PacketType::Unsubscribe, |out| {
        primitive::put_u16(out, packet_id.get());
        if version.is_v5() {
            primitive::put_with_length(out, |out| user_properties.encode_into(out));
        }
        for filter in filters {
            primitive::put_string(out, filter);
        }
    });
}
