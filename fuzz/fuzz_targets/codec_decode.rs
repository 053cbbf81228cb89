//! Decodes a stream of packets out of arbitrary bytes, in the version that the first byte picks,
//! and reads every list of what comes out. Fails on a panic, and on a packet that claims no bytes
//! or more than there are.
#![no_main]

use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use martlet_codec::{Packet, ProtocolVersion, SubscriptionFilter, decode_packet};

fuzz_target!(|data: &[u8]| {
    let Some((first, mut rest)) = data.split_first() else {
        return;
    };
    let mut version = match first % 3 {
        0 => ProtocolVersion::V31,
        1 => ProtocolVersion::V311,
        _ => ProtocolVersion::V5,
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
});

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
