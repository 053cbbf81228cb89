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
    /// Resident memory in bytes.
    pub(crate) resident_bytes: u64,
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
        resident_bytes,
    })
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
    fn resident_memory_is_in_bytes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    1024 kB\n"), Some(1_048_576));
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error_that_names_the_option() {
        assert!(usage(u32::MAX).unwrap_err().to_string().contains("--pid"));
    }
}
