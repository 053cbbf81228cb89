//! Whether a reactor's thread has to wait for a core while it has much to do.
//!
//! On a machine whose cores are all busy, a thread that never sleeps is suspended by the system
//! for some milliseconds at a time, in the middle of a tick, and all its clients wait. A thread
//! that sleeps of its own accord between two ticks lets the others run then, and has a core at
//! once when a packet comes. So a reactor that has work for long and has been suspended rests
//! between its ticks; one that has a core for itself does not.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Time between two looks beyond what the thread ran that says that it was suspended. The look
/// itself and interrupts take less.
const SUSPENDED_MIN: Duration = Duration::from_micros(300);

/// Time for which the cores are taken to be busy after the thread was suspended.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// Time of a rest: about as long as a tick with much to do.
pub(crate) const REST: Duration = Duration::from_micros(400);

/// What a thread knows about its cores.
#[derive(Debug, Default)]
pub(crate) struct Contention {
    /// The last look: the time, and the time that the thread had run.
    last: Option<(Instant, Duration)>,
    /// When the thread was suspended the last time.
    suspended_at: Option<Instant>,
}

impl Contention {
    /// Whether the thread should rest now; asked after each tick while it has much to do. It must
    /// not have slept since the last look.
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

    /// The thread may have slept, or may sleep from now on.
    pub(crate) fn forget_last(&mut self) {
        self.last = None;
    }

    /// Begins anew after a rest.
    pub(crate) fn rested(&mut self, now: Instant, ran: Duration) {
        self.last = Some((now, ran));
    }
}

/// Time that the calling thread has run.
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
