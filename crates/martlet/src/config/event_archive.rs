//! Which events are archived, and for how long.

use martlet_control::event_archive::{ArchiveSettings, DIRECTORY};
use martlet_control::feed::Kinds;

use super::load::{ConfigError, Effective};
use super::resolve::data_dir;

const KINDS: &str = "events.archive_kinds";
const MS_OF_DAY: u64 = 86_400_000;

/// None: no events are archived.
pub(super) fn of(effective: &Effective) -> Result<Option<ArchiveSettings>, ConfigError> {
    let text = effective.text(KINDS);
    let kinds = Kinds::parse(text).map_err(|error| {
        ConfigError::Unusable(format!("{}: {KINDS}: {error}", effective.source(KINDS)))
    })?;
    let days = effective.integer("events.archive_days");
    let settings = ArchiveSettings {
        directory: data_dir(effective)?.join(DIRECTORY),
        kinds,
        age_ms: (days > 0).then_some(days * MS_OF_DAY),
        bytes: effective.integer("events.archive_bytes"),
    };
    let is_on = text.split(',').any(|kind| !kind.trim().is_empty());
    Ok(is_on.then_some(settings))
}
