//! What of the topics is remembered.

use std::sync::Arc;

use martlet_codec::TopicFilter;
use martlet_control::topic_memory::{TopicMemory, TopicMemoryLimits};

use super::load::{ConfigError, Effective};

/// The topic memory; none: nothing is remembered.
pub(super) fn of(effective: &Effective) -> Result<Option<Arc<TopicMemory>>, ConfigError> {
    let filters = filters(effective, "topic_memory.filters")?;
    if filters.is_empty() {
        return Ok(None);
    }
    let number = |key: &str| usize::try_from(effective.integer(key)).unwrap_or(usize::MAX);
    let limits = TopicMemoryLimits {
        payloads: number("topic_memory.payloads"),
        payload_bytes: number("topic_memory.payload_bytes"),
        age_ms: match effective.integer("topic_memory.max_age_secs") {
            0 => u64::MAX,
            secs => secs.saturating_mul(1_000),
        },
        topics: number("topic_memory.topics"),
        bytes: number("topic_memory.bytes"),
    };
    Ok(Some(Arc::new(TopicMemory::new(filters, limits))))
}

/// The Topic Filters of a key, without `$share`.
pub(super) fn filters(effective: &Effective, key: &str) -> Result<Vec<String>, ConfigError> {
    let filters = effective.text(key).split(',').map(str::trim);
    let filters: Vec<String> = filters
        .filter(|filter| !filter.is_empty())
        .map(str::to_owned)
        .collect();
    match filters.iter().find(|filter| !is_filter(filter)) {
        None => Ok(filters),
        Some(filter) => Err(ConfigError::Unusable(format!(
            "{}: {key}: {filter:?} is no Topic Filter: expected one such as devices/+/state or \
             sensors/#, without $share",
            effective.source(key)
        ))),
    }
}

fn is_filter(text: &str) -> bool {
    TopicFilter::new(text).is_ok() && !text.starts_with("$share/")
}
