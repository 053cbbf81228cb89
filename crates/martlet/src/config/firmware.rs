//! What firmware for devices is bounded by, and how it is verified.

use martlet_control::firmware::{DIRECTORY, FirmwareSettings, PublicKey};

use super::load::{ConfigError, Effective};
use super::resolve::data_dir;

/// Key of the public keys.
const PUBLIC_KEYS: &str = "firmware.public_keys";

pub(super) fn of(effective: &Effective) -> Result<FirmwareSettings, ConfigError> {
    let keys = effective.text(PUBLIC_KEYS).split(',').map(str::trim);
    let keys = keys.filter(|text| !text.is_empty()).map(|text| {
        PublicKey::parse(text).map_err(|error| {
            let source = effective.source(PUBLIC_KEYS);
            ConfigError::Unusable(format!("{source}: {PUBLIC_KEYS}: {text:?}: {error}"))
        })
    });
    Ok(FirmwareSettings {
        directory: data_dir(effective)?.join(DIRECTORY),
        max_bytes: effective.integer("firmware.max_bytes"),
        total_bytes: effective.integer("firmware.total_bytes"),
        mqtt_bytes_per_sec: effective.integer("firmware.mqtt_bytes_per_sec"),
        public_keys: keys.collect::<Result<_, _>>()?,
    })
}
