//! Turns of the loop: publish, write, wait, read, until a time or a condition.
//!
//! Responsible for following the schedule, for showing progress, and for stopping if there is no
//! more progress. Measuring is done elsewhere.

use std::time::{Duration, Instant};

use super::driver::Driver;
use super::interrupt;
use super::options::Options;
use super::progress::{PROGRESS_INTERVAL, Progress};
use super::traffic::Traffic;

/// Time without a delivery or acknowledgement after which a measurement is stopped.
pub(super) const STALL: Duration = Duration::from_secs(3);

/// Longest time that a turn waits.
const TURN_MAX: Duration = Duration::from_millis(50);

/// Connections and their messages, turn by turn.
pub(super) struct Course {
    pub(super) driver: Driver,
    pub(super) traffic: Traffic,
    pub(super) progress: Progress,
    /// Name of what the progress line counts.
    what: &'static str,
    last_progress: Instant,
    last_count: u64,
    /// Whether it was stopped for lack of progress.
    pub(super) stalled: bool,
}

impl Course {
    /// Creates the initial state.
    pub(super) fn new(options: &Options, driver: Driver, traffic: Traffic) -> Self {
        Self {
            driver,
            traffic,
            progress: Progress::new(options),
            what: "delivered",
            last_progress: Instant::now(),
            last_count: 0,
            stalled: false,
        }
    }

    /// Continues until a time or a signal, or until there is no point in continuing.
    pub(super) fn drive_until(&mut self, end: Instant) -> anyhow::Result<()> {
        loop {
            let now = Instant::now();
            if now >= end || interrupt::is_to_end() || self.is_over(now) {
                return Ok(());
            }
            self.turn(now, (end - now).min(TURN_MAX))?;
        }
    }

    /// Continues until `done`, or until there is no point in continuing; the progress line counts
    /// `what`.
    pub(super) fn drive_while(
        &mut self,
        what: &'static str,
        mut busy: impl FnMut(&Traffic) -> bool,
    ) -> anyhow::Result<()> {
        self.what = what;
        self.last_progress = Instant::now();
        let mut ends = None;
        loop {
            let now = Instant::now();
            if ends.is_none() && interrupt::is_to_end() {
                ends = Some(now + interrupt::PATIENCE);
            }
            let is_late = ends.is_some_and(|ends| now >= ends);
            if !busy(&self.traffic) || is_late || self.is_over(now) {
                self.progress.clear();
                return Ok(());
            }
            self.turn(now, TURN_MAX)?;
        }
    }

    /// Stops sending and waits until everything has arrived.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        self.traffic.stop();
        self.drive_while("delivered", |traffic| !traffic.is_settled())
    }

    fn turn(&mut self, now: Instant, at_most: Duration) -> anyhow::Result<()> {
        self.traffic.publish(&mut self.driver, now);
        self.driver.write_dirty();
        let idle = self
            .traffic
            .idle_time(now)
            .min(at_most)
            .min(PROGRESS_INTERVAL);
        // The timeout of the poll is in milliseconds. Below one millisecond the loop spins, to keep
        // the schedule.
        let timeout = Duration::from_millis(idle.as_millis() as u64);
        self.driver.turn(timeout, &mut self.traffic)?;
        let count = self.traffic.progress();
        if count > self.last_count {
            self.last_count = count;
            self.last_progress = now;
        }
        self.progress.show(now, self.what, count);
        Ok(())
    }

    /// Whether there is no point in continuing.
    fn is_over(&mut self, now: Instant) -> bool {
        if self.traffic.is_settled() {
            self.last_progress = now;
        } else if now.saturating_duration_since(self.last_progress) > STALL {
            self.stalled = true;
        }
        self.stalled || self.driver.first_error.is_some()
    }
}
