//! Metrics of the host as flat JSON, with the names used by vehicle telemetry and by consumers of
//! Telegraf.
//!
//! Responsible for reading `/proc` and for the JSON. Values that the host does not provide are
//! omitted. When to send metrics is decided elsewhere.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// The agent's own metrics, included in each message.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct OwnMetrics {
    /// Messages in the queue.
    pub(crate) agent_queue_messages: u64,
    /// Size of them in bytes.
    pub(crate) agent_queue_bytes: u64,
    /// Messages acknowledged since the start.
    pub(crate) agent_acknowledged: u64,
    /// Messages dropped since the start because the queue was full.
    pub(crate) agent_dropped: u64,
    /// Messages that the broker has refused since the start.
    pub(crate) agent_refused: u64,
}

/// A message of metrics. Sizes are in bytes; `…_percent` and `…_usage` are percentages.
#[derive(Debug, Default, Serialize)]
struct Metrics<'a> {
    device_id: &'a str,
    /// Seconds since 1970.
    timestamp: f64,
    /// Timestamp as text in UTC.
    datetime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_usage: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ram_usage: Option<f64>,
    #[serde(flatten)]
    memory: Option<Memory>,
    #[serde(flatten)]
    disk: Option<DiskSpace>,
    #[serde(flatten)]
    network: Option<Network>,
    #[serde(flatten)]
    load: Option<Load>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_seconds: Option<f64>,
    #[serde(flatten)]
    own: OwnMetrics,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Memory {
    memory_total: u64,
    memory_used: u64,
    memory_available: u64,
    memory_percent: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct DiskSpace {
    disk_total: u64,
    disk_used: u64,
    disk_free: u64,
    disk_percent: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Network {
    network_bytes_sent: u64,
    network_bytes_recv: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Load {
    load_1m: f64,
    load_5m: f64,
    load_15m: f64,
}

/// CPU time of all processors since the host started, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CpuTime {
    busy: u64,
    all: u64,
}

/// Reads metrics of the host. CPU usage is measured between two readings.
#[derive(Debug)]
pub(crate) struct Host {
    device_id: String,
    last: Option<CpuTime>,
}

impl Host {
    /// Creates a reader. The first reading contains the CPU usage since this call.
    pub(crate) fn new(device_id: String) -> Self {
        let last = proc("stat").and_then(|text| cpu_time(&text));
        Self { device_id, last }
    }

    /// Returns the current metrics as JSON.
    pub(crate) fn read(&mut self, own: OwnMetrics) -> Vec<u8> {
        let now = jiff::Timestamp::now();
        let cpu = proc("stat").and_then(|text| cpu_time(&text));
        let last = std::mem::replace(&mut self.last, cpu);
        let memory = proc("meminfo").and_then(|text| memory(&text));
        let metrics = Metrics {
            device_id: &self.device_id,
            timestamp: now.as_millisecond() as f64 / 1_000.0,
            datetime: format!("{now:.3}"),
            cpu_usage: last.zip(cpu).and_then(|(last, cpu)| usage(last, cpu)),
            ram_usage: memory.map(|memory| memory.memory_percent),
            memory,
            disk: disk(Path::new("/")),
            network: proc("net/dev").map(|text| network(&text)),
            load: proc("loadavg").and_then(|text| load(&text)),
            uptime_seconds: proc("uptime").and_then(|text| first_number(&text)),
            own,
        };
        serde_json::to_vec(&metrics).unwrap_or_default()
    }
}

fn proc(name: &str) -> Option<String> {
    fs::read_to_string(Path::new("/proc").join(name)).ok()
}

/// Parses `/proc/stat`.
fn cpu_time(text: &str) -> Option<CpuTime> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // User, nice, system, idle, iowait, irq, softirq, steal. Guest time is included in the first
    // two.
    let ticks: Vec<u64> = line
        .split_whitespace()
        .take(8)
        .filter_map(|word| word.parse().ok())
        .collect();
    let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0);
    let all: u64 = ticks.iter().sum();
    let busy = all - idle;
    Some(CpuTime { busy, all })
}

fn usage(last: CpuTime, now: CpuTime) -> Option<f64> {
    let all = now.all.checked_sub(last.all).filter(|all| *all > 0)?;
    Some(percent(now.busy.saturating_sub(last.busy), all))
}

/// Parses `/proc/meminfo`, which has values in KiB.
fn memory(text: &str) -> Option<Memory> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib * 1024)
    };
    let (total, available) = (value("MemTotal:")?, value("MemAvailable:")?);
    let used = total.saturating_sub(available);
    Some(Memory {
        memory_total: total,
        memory_used: used,
        memory_available: available,
        memory_percent: percent(used, total),
    })
}

/// Returns the use of the path's file system. Used and free space are those available to users
/// without privileges.
fn disk(path: &Path) -> Option<DiskSpace> {
    let found = rustix::fs::statvfs(path).ok()?;
    let used = found.f_blocks.saturating_sub(found.f_bfree) * found.f_frsize;
    let free = found.f_bavail * found.f_frsize;
    Some(DiskSpace {
        disk_total: found.f_blocks * found.f_frsize,
        disk_used: used,
        disk_free: free,
        disk_percent: percent(used, used + free),
    })
}

/// Parses `/proc/net/dev`: sums of all interfaces except loopback.
fn network(text: &str) -> Network {
    let mut sum = Network {
        network_bytes_sent: 0,
        network_bytes_recv: 0,
    };
    for (name, counters) in text.lines().filter_map(|line| line.split_once(':')) {
        let mut counters = counters
            .split_whitespace()
            .map(|word| word.parse().unwrap_or(0));
        if name.trim() != "lo" {
            sum.network_bytes_recv += counters.next().unwrap_or(0);
            sum.network_bytes_sent += counters.nth(7).unwrap_or(0);
        }
    }
    sum
}

/// Parses `/proc/loadavg`.
fn load(text: &str) -> Option<Load> {
    let mut words = text.split_whitespace().map(str::parse);
    let mut next = || words.next()?.ok();
    Some(Load {
        load_1m: next()?,
        load_5m: next()?,
        load_15m: next()?,
    })
}

fn first_number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// A percentage with one decimal.
fn percent(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        _ => (part as f64 * 1_000.0 / whole as f64).round() / 10.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_usage_is_the_busy_part_between_two_readings() {
        let last = cpu_time("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3").unwrap();
        assert_eq!(
            last,
            CpuTime {
                busy: 200,
                all: 1_000
            }
        );
        let now = cpu_time("cpu  130 0 120 800 150 0 0 0 0 0\n").unwrap();
        assert_eq!(usage(last, now), Some(25.0));
        assert_eq!(usage(now, now), None);
        assert_eq!(cpu_time("nothing"), None);
    }

    #[test]
    fn memory_network_and_load_are_read_from_what_the_kernel_writes() {
        let text = "MemTotal:  1000 kB\nMemFree: 10 kB\nMemAvailable:    250 kB\n";
        let found = memory(text).unwrap();
        assert_eq!(
            (found.memory_used, found.memory_percent),
            (750 * 1024, 75.0)
        );
        assert_eq!(memory("MemTotal: 1 kB\n"), None);
        let text = "Inter-|   Receive\n face |bytes packets\n    lo: 5 1 0 0 0 0 0 0 5 1\n  eth0: \
                    100 2 0 0 0 0 0 0 70 3 0\n wlan0:1 0 0 0 0 0 0 0 2 0\n";
        let expected = Network {
            network_bytes_sent: 72,
            network_bytes_recv: 101,
        };
        assert_eq!(network(text), expected);
        assert_eq!(load("0.50 1.25 2.00 1/234 5").unwrap().load_5m, 1.25);
    }

    #[test]
    fn the_metrics_of_this_host_are_flat_and_have_all_fields() {
        let own = OwnMetrics {
            agent_dropped: 3,
            ..OwnMetrics::default()
        };
        let json = Host::new("tractor-\"7\"".to_owned()).read(own);
        let found: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let found = found.as_object().unwrap();
        assert_eq!(found["device_id"], "tractor-\"7\"");
        assert_eq!(found["agent_dropped"], 3);
        assert!(
            found
                .values()
                .all(|value| value.is_number() || value.is_string())
        );
        for name in [
            "timestamp",
            "datetime",
            "ram_usage",
            "memory_total",
            "memory_used",
            "memory_available",
            "memory_percent",
            "disk_total",
            "disk_used",
            "disk_free",
            "disk_percent",
            "network_bytes_sent",
            "network_bytes_recv",
            "load_1m",
            "uptime_seconds",
        ] {
            assert!(found.contains_key(name), "{name}");
        }
    }
}
