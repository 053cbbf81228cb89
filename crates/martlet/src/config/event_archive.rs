//! Settings of the event archive.

use martlet_control::event_archive::{ArchiveSettings, DIRECTORY};
use martlet_control::feed::Kinds;

use super::data_dir::data_dir;
use super::error::ConfigError;
use super::key;
use super::load::Effective;

const KINDS: &str = key!(events.archive_kinds);
const MS_OF_DAY: u64 = 86_400_000;

/// The settings; `None` if no events are archived.
pub(super) fn of(effective: &Effective) -> Result<Option<ArchiveSettings>, ConfigError> {
    let events = &effective.settings().events;
    let kinds = Kinds::parse(&events.archive_kinds).map_err(|error| {
        ConfigError::Unusable(format!("{}: {KINDS}: {error}", effective.source(KINDS)))
    })?;
    let days = events.archive_days;
    let settings = ArchiveSettings {
        directory: data_dir(effective)?.join(DIRECTORY),
        kinds,
        age_ms: (days > 0).then_some(days * MS_OF_DAY),
        bytes: events.archive_bytes,
    };
    let is_on = events.archive_kinds.items().next().is_some();
    Ok(is_on.then_some(settings))
}
