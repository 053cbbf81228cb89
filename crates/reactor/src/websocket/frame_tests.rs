//! Valid and invalid client frames.

use proptest::prelude::*;

use super::*;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const FIN: u8 = 0x80;
const PAYLOAD_MAX: u64 = 100_000;

/// A masked frame with the shortest valid length.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        0..=125 => bytes.push(0x80 | payload.len() as u8),
        126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    bytes
}

/// Reads `bytes` in pieces of `read_len`. Returns the payload, the payloads of Pings and the end.
fn read_all(bytes: &[u8], read_len: usize) -> (Vec<u8>, Vec<Vec<u8>>, Option<FramesEnd>) {
    let mut reader = FrameReader::new(PAYLOAD_MAX);
    let (mut data, mut pings) = (Vec::new(), Vec::new());
    for chunk in bytes.chunks(read_len) {
        let mut chunk = chunk.to_vec();
        let found = reader.read(&mut chunk);
        data.extend_from_slice(&chunk[..found.data_len]);
        pings.extend(found.ping);
        if found.end.is_some() {
            return (data, pings, found.end);
        }
    }
    (data, pings, None)
}

fn violation_code(bytes: &[u8]) -> Option<u16> {
    let whole = read_all(bytes, bytes.len()).2;
    assert_eq!(
        whole,
        read_all(bytes, 1).2,
        "the same end, however the bytes are cut"
    );
    match whole {
        Some(FramesEnd::Violation(violation)) => Some(violation.code),
        _ => None,
    }
}

#[test]
fn packets_may_span_frames_and_frames_may_hold_many_packets() {
    let mut bytes = frame(FIN | 0x2, &[0xC0]);
    bytes.extend(frame(FIN | 0x2, &[0x00, 0xC0, 0x00, 0xC0]));
    bytes.extend(frame(0x2, &[0x00]));
    bytes.extend(frame(FIN | 0x9, b"between fragments"));
    bytes.extend(frame(0x0, &[]));
    bytes.extend(frame(FIN, &[0xC0, 0x00]));
    for read_len in 1..=bytes.len() {
        let (data, pings, end) = read_all(&bytes, read_len);
        assert_eq!(data, [0xC0, 0, 0xC0, 0, 0xC0, 0, 0xC0, 0]);
        assert_eq!(pings, [b"between fragments"]);
        assert_eq!(end, None);
    }
}

#[test]
fn text_frames_are_refused_as_unsupported_data() {
    // [MQTT-6.0.0-1]
    assert_eq!(violation_code(&frame(FIN | 0x1, b"x")), Some(1003));
}

#[test]
fn frames_that_break_the_protocol_are_refused() {
    assert_eq!(
        violation_code(&[FIN | 0x2, 0x01, 0xC0]),
        Some(1002),
        "not masked"
    );
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        assert_eq!(
            violation_code(&frame(FIN | opcode, b"x")),
            Some(1002),
            "opcode {opcode}"
        );
    }
    for reserved in [0x10, 0x20, 0x40] {
        assert_eq!(
            violation_code(&frame(FIN | reserved | 0x2, b"x")),
            Some(1002),
            "{reserved}"
        );
    }
    for opcode in [0x8, 0x9, 0xA] {
        assert_eq!(
            violation_code(&frame(FIN | opcode, &[7; 126])),
            Some(1002),
            "long control"
        );
        assert_eq!(
            violation_code(&frame(opcode, b"x")),
            Some(1002),
            "fragmented control"
        );
    }
    assert_eq!(
        violation_code(&frame(FIN, b"x")),
        Some(1002),
        "continuation of nothing"
    );
    let twice = [frame(0x2, b"x"), frame(FIN | 0x2, b"y")].concat();
    assert_eq!(
        violation_code(&twice),
        Some(1002),
        "message inside a message"
    );
    let long_form = [FIN | 0x2, 0x80 | 126, 0, 5, 0, 0, 0, 0];
    assert_eq!(
        violation_code(&long_form),
        Some(1002),
        "length not in its shortest form"
    );
}

#[test]
fn a_frame_that_announces_too_much_is_refused_on_its_header() {
    let mut huge = vec![FIN | 0x2, 0x80 | 127];
    huge.extend_from_slice(&(1u64 << 63).to_be_bytes());
    huge.extend_from_slice(&MASK);
    assert_eq!(
        violation_code(&huge),
        Some(1002),
        "the highest bit must be 0"
    );
    huge[2..10].copy_from_slice(&(i64::MAX as u64).to_be_bytes());
    assert_eq!(violation_code(&huge), Some(1009));
    huge[2..10].copy_from_slice(&(PAYLOAD_MAX + 1).to_be_bytes());
    assert_eq!(violation_code(&huge), Some(1009));
    huge[2..10].copy_from_slice(&PAYLOAD_MAX.to_be_bytes());
    assert_eq!(violation_code(&huge), None);
}

#[test]
fn empty_frames_are_counted_until_payload_comes() {
    let mut few = frame(FIN | 0x2, &[]).repeat(usize::from(EMPTY_FRAMES_MAX));
    few.extend(frame(FIN | 0x2, b"x"));
    assert_eq!(violation_code(&few.repeat(5)), None);
    assert_eq!(
        violation_code(&frame(FIN | 0x2, &[]).repeat(1_000_000)),
        Some(1008)
    );
}

#[test]
fn payload_before_a_violation_is_still_handed_on() {
    let bytes = [frame(FIN | 0x2, b"before"), frame(FIN | 0x1, b"text")].concat();
    let (data, _, end) = read_all(&bytes, bytes.len());
    assert_eq!(data, b"before");
    assert!(matches!(end, Some(FramesEnd::Violation(_))));
}

#[test]
fn close_frames_name_their_code_and_bad_ones_are_violations() {
    let end = |payload: &[u8]| read_all(&frame(FIN | 0x8, payload), 100).2;
    assert_eq!(end(&[]), Some(FramesEnd::Close(None)));
    assert_eq!(
        end(&[0x03, 0xE8, b'o', b'k']),
        Some(FramesEnd::Close(Some(1000)))
    );
    assert_eq!(violation_code(&frame(FIN | 0x8, &[3])), Some(1002));
    assert_eq!(
        violation_code(&frame(FIN | 0x8, &1006u16.to_be_bytes())),
        Some(1002)
    );
    assert_eq!(
        violation_code(&frame(FIN | 0x8, &[0x03, 0xE8, 0xFF])),
        Some(1007)
    );
}

#[test]
fn of_many_pings_in_one_read_the_last_is_answered_and_pongs_are_ignored() {
    let bytes = [
        frame(FIN | 0x9, b"1"),
        frame(FIN | 0xA, b"?"),
        frame(FIN | 0x9, b"2"),
    ]
    .concat();
    let (data, pings, end) = read_all(&bytes, bytes.len());
    assert_eq!((data.as_slice(), end), (&[][..], None));
    assert_eq!(pings, [b"2"]);
}

#[test]
fn server_headers_have_the_shortest_length() {
    let header = |len| {
        let mut header = [0; SERVER_HEADER_MAX];
        let used = binary_header(len, &mut header);
        header[..used].to_vec()
    };
    assert_eq!(header(125), [0x82, 125]);
    assert_eq!(header(126), [0x82, 126, 0, 126]);
    assert_eq!(header(0xFFFF), [0x82, 126, 0xFF, 0xFF]);
    assert_eq!(header(0x1_0000), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
}

proptest! {
    #[test]
    fn payload_is_the_same_however_it_is_framed_and_cut(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..400), 1..12),
        read_len in 1usize..700,
    ) {
        let bytes: Vec<u8> = payloads.iter().flat_map(|part| frame(FIN | 0x2, part)).collect();
        let (data, _, end) = read_all(&bytes, read_len);
        prop_assert_eq!(data, payloads.concat());
        prop_assert_eq!(end, None);
    }

    #[test]
    fn no_bytes_whatever_make_the_reader_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let found = FrameReader::new(PAYLOAD_MAX).read(&mut bytes);
        prop_assert!(found.data_len <= bytes.len());
    }
}
