//! Whatever decodes must, once encoded, decode to the same packet; and encoding that again must
//! give the same bytes. The first byte picks the version.
#![no_main]

use libfuzzer_sys::fuzz_target;
use martlet_codec::{ProtocolVersion, decode_packet};

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let version = match first % 3 {
        0 => ProtocolVersion::V31,
        1 => ProtocolVersion::V311,
        _ => ProtocolVersion::V5,
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
});
