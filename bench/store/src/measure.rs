//! CPU time of the process, bytes that reached the disk, memory, percentiles.

use std::path::Path;
use std::time::Instant;

/// Since when what was used.
pub struct Meter {
    began: Instant,
    cpu_us: u64,
    disk_bytes: u64,
    device: String,
}

/// Resources that were used.
#[derive(Debug)]
pub struct Used {
    /// Seconds.
    pub secs: f64,
    /// User and system time, microseconds.
    pub cpu_us: u64,
    /// Bytes that the device took, others' too.
    pub disk_bytes: u64,
}

impl Meter {
    /// From now on, for the device that holds this directory.
    pub fn new(directory: &Path) -> Self {
        let device = device(directory).unwrap_or_default();
        Meter {
            began: Instant::now(),
            cpu_us: cpu_us(),
            disk_bytes: disk_bytes(&device),
            device,
        }
    }

    pub fn used(&self) -> Used {
        Used {
            secs: self.began.elapsed().as_secs_f64(),
            cpu_us: cpu_us() - self.cpu_us,
            disk_bytes: disk_bytes(&self.device) - self.disk_bytes,
        }
    }
}

fn cpu_us() -> u64 {
    // The sum of the threads: the times of the process are in hundredths of a second.
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
    {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanos += text
            .split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
    }
    nanos / 1000
}

/// Name under /sys/block of the disk with this directory.
fn device(directory: &Path) -> Option<String> {
    let stat = rustix::fs::stat(directory).ok()?;
    let (major, minor) = (
        rustix::fs::major(stat.st_dev),
        rustix::fs::minor(stat.st_dev),
    );
    let text = std::fs::read_to_string("/proc/diskstats").ok()?;
    let line = text.lines().find(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[0] == major.to_string() && fields[1] == minor.to_string()
    })?;
    Some(line.split_whitespace().nth(2)?.to_owned())
}

fn disk_bytes(device: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/diskstats").unwrap_or_default();
    let line = text
        .lines()
        .find(|line| line.split_whitespace().nth(2) == Some(device));
    let sectors = line.and_then(|line| line.split_whitespace().nth(9)?.parse::<u64>().ok());
    sectors.unwrap_or(0) * 512
}

/// Resident memory, MB.
pub fn resident_mb() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = text
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0.0);
    pages * 4096.0 / 1e6
}

/// Bytes of all files in a directory.
pub fn directory_mb(directory: &Path) -> f64 {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let bytes: u64 = files
        .filter_map(|file| file.metadata().ok())
        .map(|metadata| metadata.len())
        .sum();
    bytes as f64 / 1e6
}

/// Latencies, microseconds.
#[derive(Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    pub fn add(&mut self, began: Instant, now: Instant, times: usize) {
        let micros = now.duration_since(began).as_micros() as u32;
        self.0.extend(std::iter::repeat_n(micros, times));
    }

    /// p50, p99, p99.9, maximum: milliseconds.
    pub fn summary(&mut self) -> String {
        self.0.sort_unstable();
        let at = |part: f64| {
            let index = ((self.0.len() as f64 * part) as usize).min(self.0.len().saturating_sub(1));
            f64::from(self.0.get(index).copied().unwrap_or(0)) / 1000.0
        };
        format!(
            "p50 {:.2} p99 {:.2} p99.9 {:.2} max {:.1} ms",
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        )
    }
}
