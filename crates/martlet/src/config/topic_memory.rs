//! Settings of the topic memory.

use std::sync::Arc;

use martlet_codec::TopicFilter;
use martlet_control::part_of_memory;
use martlet_control::topic_memory::{TopicMemory, TopicMemoryLimits};

use super::error::ConfigError;
use super::key;
use super::load::Effective;
use super::memory::memory_bytes_of;

/// The topic memory; `None` if it is off.
pub(super) fn of(effective: &Effective) -> Result<Option<Arc<TopicMemory>>, ConfigError> {
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
