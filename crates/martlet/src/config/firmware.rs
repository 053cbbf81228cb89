//! Limits of firmware for devices, and its verification.

use martlet_control::firmware::{DIRECTORY, FirmwareSettings, PublicKey};

use super::data_dir::data_dir;
use super::error::ConfigError;
use super::key;
use super::load::Effective;

/// Key of the public keys.
const PUBLIC_KEYS: &str = key!(firmware.public_keys);

pub(super) fn of(effective: &Effective) -> Result<FirmwareSettings, ConfigError> {
    let firmware = &effective.settings().firmware;
    let keys = firmware.public_keys.items().map(|text| {
        PublicKey::parse(text).map_err(|error| {
            let source = effective.source(PUBLIC_KEYS);
            ConfigError::Unusable(format!("{source}: {PUBLIC_KEYS}: {text:?}: {error}"))
        })
    });
    Ok(FirmwareSettings {
        directory: data_dir(effective)?.join(DIRECTORY),
        max_bytes: firmware.max_bytes,
        total_bytes: firmware.total_bytes,
        team_share: effective.settings().limits.team_share(),
        mqtt_bytes_per_sec: firmware.mqtt_bytes_per_sec,
        public_keys: keys.collect::<Result<_, _>>()?,
    })
}
