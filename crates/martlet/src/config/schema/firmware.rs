//! Keys of firmware for devices: `[firmware]`.

use super::Kind;
use super::general::Default;

const MIB: u64 = 1024 * 1024;

pub(super) const FIRMWARE: &[(&str, Kind, Default, &str)] = &[
    (
        "firmware.max_bytes",
        Kind::Integer {
            min: 1,
            max: 16 * 1024 * MIB,
        },
        Default::Integer(256 * MIB),
        "Bytes of one file of firmware, at most; see firmware.md. A longer upload is rejected.",
    ),
    (
        "firmware.total_bytes",
        Kind::Integer {
            min: 1,
            max: 1024 * 1024 * MIB,
        },
        Default::Integer(4 * 1024 * MIB),
        "Bytes of all files of firmware in the data directory, at most. An upload beyond that is rejected.",
    ),
    (
        "firmware.mqtt_bytes_per_sec",
        Kind::Integer {
            min: 1024,
            max: 1024 * MIB,
        },
        Default::Integer(8 * MIB),
        "Bytes per second of firmware that are sent to devices by MQTT, at most, all devices together. Further requests wait, one of each device.",
    ),
    (
        "firmware.public_keys",
        Kind::Text,
        Default::Text(""),
        "Public keys of Ed25519 in Base64, separated by commas: firmware is accepted only with a signature that one of them has made over the 32 bytes of the file's SHA-256. Default: none, signatures are kept as they are given.",
    ),
];
