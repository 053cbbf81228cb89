//! What the broker's process has used, read from `/proc`.
//!
//! Responsible for CPU time and resident memory of one process id. It does not know what the
//! process is, and elsewhere than on Linux it says that it cannot tell.

use std::time::Duration;

use anyhow::Context;

/// CPU time and memory of a process at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// CPU time in user mode since the process began, of all its threads.
    pub(crate) user: Duration,
    /// CPU time in the kernel since the process began, of all its threads.
    pub(crate) system: Duration,
    /// CPU time of the threads that are there now, to the nanosecond; zero if not to be had.
    pub(crate) precise: Duration,
    /// Resident memory in bytes.
    pub(crate) resident_bytes: u64,
}

/// How far the clock ticks that user and system time are counted in may be off, at most: two
/// times a tick of 10 ms, for each of two figures.
const TICKS_OFF: Duration = Duration::from_millis(40);

impl Usage {
    /// CPU time between an earlier moment and this one, as exactly as the system tells.
    pub(crate) fn cpu_since(&self, before: &Self) -> Duration {
        let ticks = (self.user + self.system).saturating_sub(before.user + before.system);
        let precise = self.precise.saturating_sub(before.precise);
        // A thread that ended has taken its precise time with it.
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
        precise: precise(pid).unwrap_or_default(),
        resident_bytes,
    })
}

/// Nanoseconds that each thread ran, the first field of its `schedstat`, summed up.
fn precise(pid: u32) -> Option<Duration> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let nanos = threads.flatten().map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    nanos.sum::<Option<u64>>().map(Duration::from_nanos)
}

/// `utime` and `stime`, fields 14 and 15 of `stat`; the second field may hold blanks and brackets.
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
    fn cpu_time_is_precise_unless_a_thread_has_ended() {
        let usage = |ticks, precise| Usage {
            user: Duration::from_millis(ticks),
            precise: Duration::from_micros(precise),
            ..Usage::default()
        };
        let before = usage(100, 104_321);
        let micros = |after: Usage| after.cpu_since(&before).as_micros();
        assert_eq!(micros(usage(160, 168_322)), 64_001);
        assert_eq!(micros(usage(160, 2000)), 60_000);
        assert_eq!(micros(usage(160, 0)), 60_000);
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
