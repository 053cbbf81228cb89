//! Firmware for devices: `[firmware]`.

use super::section::{List, section};

const MIB: u64 = 1024 * 1024;

section! {
    /// Firmware for devices.
    Firmware {
        /// Bytes of one file of firmware, at most; see firmware.md. A longer upload is rejected.
        max_bytes: u64 = 256 * MIB, in 1..=16 * 1024 * MIB;
        /// Bytes of all files of firmware in the data directory, at most. An upload beyond that is
        /// rejected.
        total_bytes: u64 = 4 * 1024 * MIB, in 1..=1024 * 1024 * MIB;
        /// Bytes per second of firmware that are sent to devices over MQTT, at most, all devices
        /// together. Further requests wait, one of each device.
        mqtt_bytes_per_sec: u64 = 8 * MIB, in 1024..=1024 * MIB;
        /// Public keys of Ed25519 in Base64, separated by commas: firmware is accepted only with a
        /// signature that one of them has made over the 32 bytes of the file's SHA-256. Default:
        /// none, signatures are kept as they are given.
        public_keys: List<String> = "";
    }
}
