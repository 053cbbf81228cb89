//! Warnings for operators about the node's memory.

use martlet_broker::{Growth, MemoryUse};

/// Parts that are named at most, largest first.
const NAMED: usize = 4;
/// A part that is less than one in this many is not named.
const SMALL_PART: usize = 100;

/// Warning about what uses the memory, and what is refused, if memory is short or something may not
/// grow.
pub(crate) fn warning(memory: &MemoryUse) -> Option<String> {
    let limit = memory.limit?;
    let growth = match memory.is_watched() {
        true => memory.growth(),
        false => Growth::default(),
    };
    if growth == Growth::default() && !memory.is_short() {
        return None;
    }
    let parts = memory.parts();
    let large = |(_, bytes): &&(&str, usize)| bytes.saturating_mul(SMALL_PART) >= memory.used;
    let parts = parts.iter().filter(large).take(NAMED);
    let parts: Vec<String> = parts
        .map(|(what, bytes)| format!("{what} {}", megabytes(*bytes)))
        .collect();
    let (used, limit) = (megabytes(memory.used), megabytes(limit));
    let mut text = format!(
        "{used} of the {limit} of limits.memory_bytes are in use: {}.",
        parts.join(", ")
    );
    let kinds = [
        (growth.retained_stops, "retained messages"),
        (growth.wills_stop, "Wills"),
        (growth.subscriptions_stop, "subscriptions"),
        (growth.sessions_stop, "sessions"),
    ];
    let refused = kinds.iter().filter(|(stops, _)| *stops);
    let refused: Vec<&str> = refused.map(|(_, kind)| *kind).collect();
    if !refused.is_empty() {
        text.push_str(&format!(" New {} are refused.", refused.join(", ")));
    }
    Some(text)
}

fn megabytes(bytes: usize) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use martlet_broker::ShardMemory;

    use super::*;

    #[test]
    fn what_uses_most_of_the_memory_is_named_with_its_bytes() {
        let mut memory = MemoryUse {
            used: 152_000_000,
            limit: Some(200_000_000),
            outside: 2_000_000,
            retained: 150_000_000,
            shards: ShardMemory {
                messages: 150_400_000,
                ..ShardMemory::default()
            },
        };
        let text = "152.0 MB of the 200.0 MB of limits.memory_bytes are in use: retained messages \
                    150.0 MB, tables and what is remembered about clients 2.0 MB. New retained messages are refused.";
        assert_eq!(warning(&memory).as_deref(), Some(text));
        memory.retained = 100_000_000;
        memory.used = 110_000_000;
        assert_eq!(warning(&memory), None);
        memory.used = 180_000_000;
        memory.shards.messages = 178_000_000;
        let text = warning(&memory).unwrap_or_default();
        assert!(text.contains("messages that wait for clients 78.0 MB"));
        assert!(!text.contains("refused"), "{text}");
    }
}
