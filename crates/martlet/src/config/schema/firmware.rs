//! Firmware for devices: `[firmware]`.

use super::section::{List, section};

const MIB: u64 = 1024 * 1024;

section! {
    /// Firmware for devices.
    Firmware {
        /// Maximum size of one firmware file, bytes; see firmware.md. A larger upload is rejected.
        max_bytes: u64 = 256 * MIB, in 1..=16 * 1024 * MIB;
        /// Maximum size of all firmware files in the data directory together, bytes. An upload
        /// above it is rejected.
        total_bytes: u64 = 4 * 1024 * MIB, in 1..=1024 * 1024 * MIB;
        /// Maximum number of bytes of firmware per second that are sent over MQTT, for all devices
        /// together. Further requests wait, one per device.
        mqtt_bytes_per_sec: u64 = 8 * MIB, in 1024..=1024 * MIB;
        /// Comma-separated Ed25519 public keys in Base64: firmware is accepted only with a
        /// signature over the 32 bytes of the file's SHA-256 that one of them verifies. Default:
        /// none, signatures are stored and not verified.
        public_keys: List<String> = "";
    }
}
