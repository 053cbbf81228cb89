//! Resource usage of the broker's process, read from `/proc`.
//!
//! Responsible for CPU time and resident memory of one process id, of any process. Not supported on
//! systems other than Linux, where it returns an error.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;

/// CPU time and memory of a process at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    /// CPU time in user mode since the process began, of all its threads.
    pub(crate) user: Duration,
    /// CPU time in the kernel since the process began, of all its threads.
    pub(crate) system: Duration,
    /// CPU time of each existing thread by its id, with nanosecond precision; empty if the system
    /// does not report it.
    pub(crate) threads: BTreeMap<u32, Duration>,
    /// Resident memory in bytes.
    pub(crate) resident_bytes: u64,
}

/// Largest error of the clock ticks in which user and system time are counted: twice a tick of 10
/// ms, for each of two figures.
const TICKS_OFF: Duration = Duration::from_millis(40);

impl Usage {
    /// CPU time between an earlier sample and this one, as precisely as the system reports it.
    pub(crate) fn cpu_since(&self, before: &Self) -> Duration {
        let ticks = (self.user + self.system).saturating_sub(before.user + before.system);
        let precise: Duration = self
            .threads
            .iter()
            .map(|(id, now)| {
                now.saturating_sub(before.threads.get(id).copied().unwrap_or_default())
            })
            .sum();
        // The time of a thread that has ended meanwhile is counted only in ticks.
        if precise.abs_diff(ticks) <= TICKS_OFF {
            precise
        } else {
            ticks
        }
    }
}

/// Reads the usage of process `pid`.
///
/// # Errors
/// There is no such process, or the system has no `/proc`.
pub(crate) fn usage(pid: u32) -> anyhow::Result<Usage> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        std::fs::read_to_string(&path).with_context(|| format!("--pid {pid}: cannot read {path}"))
    };
    let (user, system) = cpu_times(&read("stat")?).context("/proc/<pid>/stat: not understood")?;
    let resident_bytes = resident(&read("status")?).context("/proc/<pid>/status: no VmRSS")?;
    Ok(Usage {
        user,
        system,
        threads: threads(pid).unwrap_or_default(),
        resident_bytes,
    })
}

/// Run time of each thread: the first field of its `schedstat`, in nanoseconds. A thread that ends
/// while it is read is skipped.
fn threads(pid: u32) -> Option<BTreeMap<u32, Duration>> {
    let found = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let times = found.flatten().filter_map(|thread| {
        let id = thread.file_name().to_str()?.parse().ok()?;
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let nanos = text.split(' ').next()?.parse().ok()?;
        Some((id, Duration::from_nanos(nanos)))
    });
    Some(times.collect())
}

/// `utime` and `stime`, fields 14 and 15 of `stat`; the second field may contain spaces and
/// brackets.
fn cpu_times(stat: &str) -> Option<(Duration, Duration)> {
    let after_name = stat.get(stat.rfind(')')? + 1..)?;
    let mut fields = after_name.split_whitespace().skip(11);
    let ticks_per_sec = rustix::param::clock_ticks_per_second();
    let mut time = || {
        let ticks: u64 = fields.next()?.parse().ok()?;
        Some(Duration::from_secs_f64(ticks as f64 / ticks_per_sec as f64))
    };
    Some((time()?, time()?))
}

fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_blanks_and_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 250 75 0 0 20 0 1 0 9 9 9";
        let (user, system) = cpu_times(stat).unwrap();
        assert!(user > system && system > Duration::ZERO);
    }

    #[test]
    fn cpu_time_is_precise_and_a_thread_that_ends_takes_away_its_own_alone() {
        let usage = |ticks, threads: &[(u32, u64)]| Usage {
            user: Duration::from_millis(ticks),
            threads: threads
                .iter()
                .map(|(id, micros)| (*id, Duration::from_micros(*micros)))
                .collect(),
            ..Usage::default()
        };
        let before = usage(100, &[(1, 104_321), (2, 500)]);
        let micros = |after: Usage| after.cpu_since(&before).as_micros();
        assert_eq!(micros(usage(160, &[(1, 168_322), (2, 500)])), 64_001);
        assert_eq!(micros(usage(100, &[(1, 104_400)])), 79);
        assert_eq!(micros(usage(110, &[(1, 104_321), (3, 7_000)])), 7_000);
        assert_eq!(micros(usage(160, &[(1, 106_321)])), 60_000);
        assert_eq!(micros(usage(160, &[])), 60_000);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    1024 kB\n"), Some(1_048_576));
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error_that_names_the_option() {
        assert!(usage(u32::MAX).unwrap_err().to_string().contains("--pid"));
    }
}
