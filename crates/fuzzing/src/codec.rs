//! Bytes into packets and back. The first byte picks the protocol version.

use core::hint::black_box;

use martlet_codec::{Packet, ProtocolVersion, SubscriptionFilter, decode_packet};

/// Decodes a stream of packets and reads every list of what comes out. Panics on a packet that
/// claims no bytes or more than there are.
pub fn codec_decode(data: &[u8]) {
    let Some((mut version, mut rest)) = version_and_rest(data) else {
        return;
    };
    while let Ok(Some((packet, len))) = decode_packet(rest, version) {
        assert!(len >= 2 && len <= rest.len());
        // A CONNECT in the stream sets the version of what follows, as on a connection.
        if let Packet::Connect(connect) = &packet {
            version = connect.version;
        }
        read_lists(&packet);
        rest = &rest[len..];
    }
}

/// Whatever decodes must, once encoded, decode to the same packet; and encoding that again must
/// give the same bytes.
pub fn codec_roundtrip(data: &[u8]) {
    let Some((version, rest)) = version_and_rest(data) else {
        return;
    };
    let Ok(Some((packet, _))) = decode_packet(rest, version) else {
        return;
    };
    let mut encoded = Vec::new();
    packet.encode(version, &mut encoded);
    let again = decode_packet(&encoded, version);
    assert_eq!(again, Ok(Some((packet, encoded.len()))));
    let mut twice = Vec::new();
    if let Ok(Some((packet, _))) = again {
        packet.encode(version, &mut twice);
    }
    assert_eq!(encoded, twice);
}

fn version_and_rest(data: &[u8]) -> Option<(ProtocolVersion, &[u8])> {
    let (first, rest) = data.split_first()?;
    let version = match first % 3 {
        0 => ProtocolVersion::V31,
        1 => ProtocolVersion::V311,
        _ => ProtocolVersion::V5,
    };
    Some((version, rest))
}

fn read_lists(packet: &Packet<'_>) {
    match packet {
        Packet::Connect(packet) => {
            let properties = packet.properties.user_properties;
            assert_eq!(properties.iter().count(), properties.count());
        }
        Packet::Publish(packet) => {
            let properties = &packet.properties;
            let user = properties.user_properties;
            assert_eq!(user.iter().count(), user.count());
            let ids = properties.subscription_ids;
            assert_eq!(ids.iter().count(), ids.count());
        }
        Packet::Subscribe(packet) => {
            assert_eq!(packet.filters().count(), packet.filter_count());
            for filter in packet.filters() {
                let _ = black_box(SubscriptionFilter::parse(filter.filter));
            }
        }
        Packet::Unsubscribe(packet) => {
            assert_eq!(packet.filters().count(), packet.filter_count());
        }
        _ => {}
    }
}
