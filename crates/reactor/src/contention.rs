//! Detects whether a reactor's thread has to wait for a core under load.
//!
//! On a machine whose cores are all busy, the system suspends a thread that never sleeps for some
//! milliseconds, in the middle of a tick, and all its clients wait. A thread that sleeps
//! voluntarily between two ticks lets the others run then, and gets a core at once when a packet
//! arrives. So a reactor that is busy for long and has been suspended rests between its ticks. One
//! that has a core to itself does not.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A thread counts as suspended if the time between two measurements exceeds the time that it ran
/// by this. The measurement itself and interrupts take less.
const SUSPENDED_MIN: Duration = Duration::from_micros(300);

/// Time for which the cores count as busy after the thread was suspended.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// Duration of a rest: about one tick under load.
pub(crate) const REST: Duration = Duration::from_micros(400);

/// State of the detection for one thread.
#[derive(Debug, Default)]
pub(crate) struct Contention {
    /// The last measurement: the time, and the CPU time of the thread.
    last: Option<(Instant, Duration)>,
    /// When the thread was last suspended.
    suspended_at: Option<Instant>,
}

impl Contention {
    /// Whether the thread should rest now. Call this after each tick under load. The thread must
    /// not have slept since the last call.
    pub(crate) fn should_rest(&mut self, now: Instant, ran: Duration) -> bool {
        if let Some((then, had_run)) = self.last.replace((now, ran)) {
            let passed = now.saturating_duration_since(then);
            if passed.saturating_sub(ran.saturating_sub(had_run)) >= SUSPENDED_MIN {
                self.suspended_at = Some(now);
            }
        }
        self.suspended_at
            .is_some_and(|at| now.saturating_duration_since(at) < BUSY_FOR)
    }

    /// Discards the last measurement, because the thread may sleep.
    pub(crate) fn forget_last(&mut self) {
        self.last = None;
    }

    /// Begins anew after a rest.
    pub(crate) fn rested(&mut self, now: Instant, ran: Duration) {
        self.last = Some((now, ran));
    }
}

/// CPU time of the calling thread.
pub(crate) fn time_run() -> Duration {
    let ran = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(ran).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_was_suspended_rests_for_a_while() {
        let mut contention = Contention::default();
        let began = Instant::now();
        let at = |us| began + Duration::from_micros(us);
        let ran = Duration::from_micros;
        assert!(!contention.should_rest(at(0), ran(0)));
        assert!(!contention.should_rest(at(900), ran(890)), "it ran");
        assert!(contention.should_rest(at(4900), ran(900)), "it waited");
        contention.rested(at(5400), ran(901));
        assert!(contention.should_rest(at(5900), ran(1400)), "a while ago");
        assert!(!contention.should_rest(at(1_005_000), ran(1_000_500)));
    }

    #[test]
    fn sleep_is_no_suspension() {
        let mut contention = Contention::default();
        let began = Instant::now();
        let at = |us| began + Duration::from_micros(us);
        assert!(!contention.should_rest(at(0), Duration::ZERO));
        contention.forget_last();
        assert!(!contention.should_rest(at(50_000), Duration::ZERO));
        contention.rested(at(60_000), Duration::ZERO);
        assert!(!contention.should_rest(at(60_100), Duration::from_micros(90)));
    }

    #[test]
    fn the_time_of_a_thread_runs_while_it_works() {
        let began = time_run();
        while time_run() - began < Duration::from_millis(1) {
            std::hint::spin_loop();
        }
    }
}
