//! Memory limit of the node.

use super::error::ConfigError;
use super::load::Effective;

/// Smallest memory limit of a node. A typing error, or megabytes for bytes, gives less.
const MEMORY_BYTES_MIN: u64 = 1024 * 1024;

/// Memory limit of the node in bytes.
pub(super) fn memory_bytes_of(effective: &Effective) -> Result<usize, ConfigError> {
    match effective.settings().limits.memory_bytes {
        0 => Ok(default_memory_bytes()),
        bytes if bytes < MEMORY_BYTES_MIN => Err(ConfigError::Unusable(format!(
            "{}: limits.memory_bytes is {bytes}, expected 0 (60 % of the memory) or at least \
             {MEMORY_BYTES_MIN} bytes; no client could connect with less",
            effective.source(key!(limits.memory_bytes))
        ))),
        bytes => Ok(usize::try_from(bytes).unwrap_or(usize::MAX)),
    }
}

/// 60 % of the memory of the control group or the machine.
fn default_memory_bytes() -> usize {
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
            Some(kib * 1024)
        });
    // If neither is known, as on macOS, an amount that every developer's machine has.
    let total = [group, machine]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(8 << 30);
    usize::try_from(total / 5 * 3).unwrap_or(usize::MAX)
}
