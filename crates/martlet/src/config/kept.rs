//! Settings of what a node keeps: topics with their last messages, messages, events, and firmware
//! for devices.

use std::sync::Arc;

use martlet_codec::TopicFilter;
use martlet_control::event_archive::{self, ArchiveSettings};
use martlet_control::feed::Kinds;
use martlet_control::firmware::{self, FirmwareSettings, PublicKey};
use martlet_control::message_log::MessagesKept;
use martlet_control::part_of_memory;
use martlet_control::topic_memory::{TopicMemory, TopicMemoryLimits};

use super::data_dir::data_dir;
use super::error::ConfigError;
use super::load::Effective;
use super::memory::memory_bytes_of;

const MS_OF_DAY: u64 = 86_400_000;
const ARCHIVE_KINDS: &str = key!(events.archive_kinds);
const PUBLIC_KEYS: &str = key!(firmware.public_keys);

/// The topic memory; `None` if it is off.
pub(super) fn topic_memory(effective: &Effective) -> Result<Option<Arc<TopicMemory>>, ConfigError> {
    let memory = &effective.settings().topic_memory;
    let filters = filters(effective, key!(topic_memory.filters), &memory.filters)?;
    if filters.is_empty() {
        return Ok(None);
    }
    let limits = TopicMemoryLimits {
        payloads: memory.payloads,
        payload_bytes: memory.payload_bytes,
        age_ms: match memory.max_age_secs {
            0 => u64::MAX,
            secs => secs.saturating_mul(1_000),
        },
        topics: memory.topics,
        bytes: memory
            .bytes
            .min(part_of_memory(memory_bytes_of(effective)?)),
    };
    Ok(Some(Arc::new(TopicMemory::new(filters, limits))))
}

/// The Topic Filters of a key, without `$share`.
pub(super) fn filters(
    effective: &Effective,
    key: &str,
    text: &str,
) -> Result<Vec<String>, ConfigError> {
    let filters = text.split(',').map(str::trim);
    let filters: Vec<String> = filters
        .filter(|filter| !filter.is_empty())
        .map(str::to_owned)
        .collect();
    match filters.iter().find(|filter| !is_filter(filter)) {
        None => Ok(filters),
        Some(filter) => Err(ConfigError::Unusable(format!(
            "{}: {key}: {filter:?} is not a valid Topic Filter: expected one such as \
             devices/+/state or sensors/#, without $share",
            effective.source(key)
        ))),
    }
}

fn is_filter(text: &str) -> bool {
    TopicFilter::new(text).is_ok() && !text.starts_with("$share/")
}

/// Settings of the message log.
#[derive(Clone, Debug)]
pub(crate) struct MessageLogConfig {
    /// Topic Filters of messages that are stored in addition to those of `POST /publish`.
    pub(crate) filters: Vec<String>,
    /// Limits of the stored messages.
    pub(crate) kept: MessagesKept,
}

/// The settings of the message log.
pub(super) fn message_log(effective: &Effective) -> Result<MessageLogConfig, ConfigError> {
    let messages = &effective.settings().messages;
    Ok(MessageLogConfig {
        filters: filters(effective, key!(messages.keep), &messages.keep)?,
        kept: MessagesKept {
            messages: messages.kept,
            bytes: messages.kept_bytes,
            age_ms: match messages.kept_days {
                0 => u64::MAX,
                days => days * MS_OF_DAY,
            },
        },
    })
}

/// The settings; `None` if no events are archived.
pub(super) fn event_archive(effective: &Effective) -> Result<Option<ArchiveSettings>, ConfigError> {
    let events = &effective.settings().events;
    let kinds = Kinds::parse(&events.archive_kinds).map_err(|error| {
        ConfigError::Unusable(format!(
            "{}: {ARCHIVE_KINDS}: {error}",
            effective.source(ARCHIVE_KINDS)
        ))
    })?;
    let days = events.archive_days;
    let settings = ArchiveSettings {
        directory: data_dir(effective)?.join(event_archive::DIRECTORY),
        kinds,
        age_ms: (days > 0).then_some(days * MS_OF_DAY),
        bytes: events.archive_bytes,
    };
    let is_on = events.archive_kinds.items().next().is_some();
    Ok(is_on.then_some(settings))
}

/// Limits of firmware for devices, and its verification.
pub(super) fn firmware(effective: &Effective) -> Result<FirmwareSettings, ConfigError> {
    let settings = &effective.settings().firmware;
    let keys = settings.public_keys.items().map(|text| {
        PublicKey::parse(text).map_err(|error| {
            let source = effective.source(PUBLIC_KEYS);
            ConfigError::Unusable(format!("{source}: {PUBLIC_KEYS}: {text:?}: {error}"))
        })
    });
    Ok(FirmwareSettings {
        directory: data_dir(effective)?.join(firmware::DIRECTORY),
        max_bytes: settings.max_bytes,
        total_bytes: settings.total_bytes,
        team_share: effective.settings().limits.team_share(),
        mqtt_bytes_per_sec: settings.mqtt_bytes_per_sec,
        public_keys: keys.collect::<Result<_, _>>()?,
    })
}
