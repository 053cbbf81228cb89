//! Decodes every case of the packet table and compares the result with the expected one. Then
//! checks general properties with the same packets: encoding restores them, and no truncated
//! packet decodes.

mod support;

use std::collections::HashSet;

use martlet_codec::decode_packet;
use support::{Case, outcome, table};

#[test]
fn each_case_decodes_as_the_table_says() {
    let mut wrong = Vec::new();
    for case in table() {
        let actual = outcome(&case.bytes, case.version);
        if actual != case.expect {
            let Case {
                name,
                version,
                expect,
                ..
            } = case;
            wrong.push(format!(
                "{name} ({version})\n  expected {expect}\n  actual   {actual}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn the_table_is_large_and_its_names_are_unique() {
    let cases = table();
    assert!(cases.len() >= 250, "only {} cases", cases.len());
    let mut names = HashSet::new();
    for case in &cases {
        assert!(
            names.insert(&case.name),
            "two cases are named {}",
            case.name
        );
        assert!(!case.spec.is_empty(), "{} has no spec line", case.name);
    }
}

#[test]
fn a_decoded_packet_is_equal_after_encoding_and_decoding() {
    for case in table() {
        let Ok(Some((packet, _))) = decode_packet(&case.bytes, case.version) else {
            continue;
        };
        let mut encoded = Vec::new();
        packet.encode(case.version, &mut encoded);
        let again = decode_packet(&encoded, case.version);
        assert_eq!(again, Ok(Some((packet, encoded.len()))), "{}", case.name);
    }
}

#[test]
fn no_beginning_of_a_packet_is_a_packet() {
    for case in table() {
        if !matches!(decode_packet(&case.bytes, case.version), Ok(Some(_))) {
            continue;
        }
        for len in 0..case.bytes.len().min(4096) {
            let part = decode_packet(&case.bytes[..len], case.version);
            assert_eq!(part, Ok(None), "{} after {len} bytes", case.name);
        }
    }
}

#[test]
fn bytes_behind_a_packet_are_left_alone() {
    for case in table() {
        let Ok(Some((packet, len))) = decode_packet(&case.bytes, case.version) else {
            continue;
        };
        let mut longer = case.bytes.clone();
        longer.extend_from_slice(&[0xFF; 7]);
        assert_eq!(
            decode_packet(&longer, case.version),
            Ok(Some((packet, len))),
            "{}",
            case.name
        );
    }
}
