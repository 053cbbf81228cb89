//! Metrics of this process from the operating system, under the names of Prometheus' client
//! libraries: `process_…`. Only on Linux.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use prometheus_client::encoding::EncodeMetric;

/// Hundredths of a second: what Linux counts processes' time in, on all machines that we know.
const TICKS_PER_SEC: f64 = 100.0;
/// Places after the name in `/proc/self/stat`, proc(5).
const USER_TIME: usize = 11;
const SYSTEM_TIME: usize = 12;
const THREADS: usize = 17;
const START_TIME: usize = 19;
const VIRTUAL_BYTES: usize = 20;

/// This process, as it is when it is asked.
#[derive(Debug)]
pub(crate) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let encoder = &mut encoder;
        if let Some(secs) = cpu_secs() {
            let help = "CPU time, user and system, in seconds";
            put(
                encoder,
                "process_cpu_seconds",
                help,
                &ConstCounter::new(secs),
            )?;
        }
        for (name, help, value) in [
            (
                "resident_memory_bytes",
                "Resident memory in bytes",
                memory_bytes(),
            ),
            (
                "virtual_memory_bytes",
                "Virtual memory in bytes",
                field(VIRTUAL_BYTES),
            ),
            ("threads", "Threads", field(THREADS)),
            ("open_fds", "Open file descriptors", open_fds()),
            (
                "max_fds",
                "Most file descriptors that may be open",
                max_fds(),
            ),
        ] {
            if let Some(value) = value {
                let name = format!("process_{name}");
                put(encoder, &name, help, &ConstGauge::new(value as i64))?;
            }
        }
        if let Some(secs) = started_secs() {
            let help = "When it was started, in seconds since the Unix epoch";
            put(
                encoder,
                "process_start_time_seconds",
                help,
                &ConstGauge::new(secs),
            )?;
        }
        Ok(())
    }
}

/// A number of `/proc/self/stat`.
fn field(place: usize) -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name is in parentheses, and may have blanks.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(place)?.parse().ok()
}

/// CPU time of this process; none where the system does not have it.
pub(crate) fn cpu_secs() -> Option<f64> {
    let ticks = field(USER_TIME)?.checked_add(field(SYSTEM_TIME)?)?;
    Some(ticks as f64 / TICKS_PER_SEC)
}

/// Resident memory of this process; none where the system does not have it.
pub(crate) fn memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    kib.checked_mul(1024)
}

fn open_fds() -> Option<u64> {
    let all = std::fs::read_dir("/proc/self/fd").ok()?;
    // The one that reads them is among them.
    Some((all.count() as u64).saturating_sub(1))
}

fn max_fds() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The start is given in ticks since the start of the machine.
fn started_secs() -> Option<f64> {
    let all = std::fs::read_to_string("/proc/stat").ok()?;
    let booted = all.lines().find_map(|line| line.strip_prefix("btime "))?;
    let booted: u64 = booted.trim().parse().ok()?;
    Some(booted as f64 + field(START_TIME)? as f64 / TICKS_PER_SEC)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn linux_says_what_this_process_takes() {
        assert!(cpu_secs().is_some_and(|secs| secs >= 0.0));
        assert!(memory_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(field(THREADS).is_some_and(|count| (1..10_000).contains(&count)));
        assert!(field(VIRTUAL_BYTES) > memory_bytes());
        assert!(open_fds() <= max_fds() && open_fds() > Some(2));
        let now = crate::wall_clock::now_ms() as f64 / 1000.0;
        assert!(started_secs().is_some_and(|secs| (now - 7200.0..now + 2.0).contains(&secs)));
    }
}

pub(crate) fn put(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> Result<(), Error> {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}
