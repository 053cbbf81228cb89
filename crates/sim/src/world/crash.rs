//! Crashes, stops and restarts of the node, and steps of its clock.

use super::World;
use crate::agenda::{Due, SECOND};
use crate::facts::Fact;
use crate::store::CrashKind;

/// Maximum time of a clean stop of the node, microseconds.
const STOP_US: u64 = 5 * SECOND;

impl World {
    /// Crashes the node in the middle of its work.
    pub(super) fn crash(&mut self) {
        if self.settled || !self.node.is_up() || self.crash_at > self.agenda.now_us() {
            return;
        }
        self.crash_at = u64::MAX;
        if !self.stopping && self.random.percent(self.disturbance.stop_percent) {
            self.stopping = true;
            self.observer.fact(&Fact::Stopping);
            return match self.sinks.is_empty() {
                true => self.begin_stop(),
                false => self.stop_sinks(),
            };
        }
        let kind = match self.random.percent(60) {
            true => CrashKind::Power,
            false => CrashKind::Kill,
        };
        self.end(kind);
    }

    /// Integrations stop before the node.
    pub(super) fn stop_sinks(&mut self) {
        self.sinks_stop = true;
        self.with_sinks(|sink, io| sink.stop(io));
        let patience_us = self.random.pick(&[50_000, SECOND, STOP_US]);
        let at_us = self.agenda.now_us() + patience_us;
        self.agenda.enter(at_us, Due::Stop);
    }

    pub(super) fn begin_stop(&mut self) {
        self.with_sinks(|sink, io| sink.node_stops(io));
        self.node.begin_stop();
        for shard in 0..self.node.shard_count() {
            self.wake_shard_soon(shard);
        }
        let patience_us = self.random.pick(&[0, 50_000, STOP_US]);
        let at_us = self.agenda.now_us() + patience_us;
        self.agenda.enter(at_us, Due::Stop);
    }

    /// Stops the node: the time for messages in flight is over.
    pub(super) fn stop(&mut self) {
        let were_sinks = core::mem::take(&mut self.sinks_stop);
        if were_sinks && self.stopping && self.node.is_up() && !self.settled {
            return self.begin_stop();
        }
        if core::mem::take(&mut self.stopping) && self.node.is_up() && !self.settled {
            self.end(CrashKind::Stop);
        }
    }

    pub(super) fn end(&mut self, kind: CrashKind) {
        let power = kind == CrashKind::Power;
        (self.stopping, self.sinks_stop) = (false, false);
        let durable = match kind {
            CrashKind::Stop => self.node.store.borrow().appended(),
            _ => self.node.store.borrow().durable(),
        };
        self.observer.fact(&Fact::Crashed {
            power,
            stopped: kind == CrashKind::Stop,
            durable,
        });
        for link in self.node.crash(kind) {
            // A machine without power sends nothing.
            let half_open = power && self.random.percent(50);
            self.network.cut(&mut self.agenda, link, half_open);
        }
        self.mail.clear();
        self.moves.clear();
        self.ticks.clear();
        self.people_crashed();
        self.with_parts(|part, io| part.crashed(io));
        self.with_sinks(|sink, io| sink.node_ended(io, kind == CrashKind::Stop));
        let down_us = self.random.around(self.disturbance.down_us);
        self.agenda
            .enter(self.agenda.now_us() + down_us, Due::Restart);
    }

    pub(super) fn restart(&mut self) {
        if self.node.is_up() {
            return;
        }
        let shards = match self.random.percent(self.disturbance.reshard_percent) {
            true => self.random.between(1, 4) as u16,
            false => self.disturbance.shards,
        };
        self.disturbance.shards = shards;
        if self.random.percent(self.disturbance.rot_percent) {
            let rotten = self.node.store.borrow_mut().rot();
            match rotten {
                Ok(lost) => {
                    for message in lost {
                        self.observer.fact(&Fact::Rotted { message });
                    }
                }
                Err(what) => return self.observer.complain("damage", what),
            }
        }
        if self.disturbance.clock_us > 0 && self.random.percent(50) {
            self.step_clock_once();
        }
        self.observer.fact(&Fact::Restarted);
        self.start(shards);
        self.plan_crash(self.agenda.now_us());
    }

    pub(super) fn step_clock(&mut self) {
        if self.settled {
            return;
        }
        self.step_clock_once();
        let next = self.random.around(self.disturbance.clock_us);
        self.agenda.enter(self.agenda.now_us() + next, Due::Clock);
    }

    pub(super) fn step_clock_once(&mut self) {
        let ms = self.random.pick(&[1, 1_500, 60_000, 3_600_000]);
        let ms = if self.random.percent(50) { ms } else { -ms };
        self.node.step_clock(ms);
        self.observer.fact(&Fact::ClockStepped { ms });
    }

    pub(super) fn plan_crash(&mut self, now_us: u64) {
        self.crash_at = now_us + self.random.around(self.disturbance.crash_us);
        self.agenda.enter(self.crash_at, Due::Crash);
    }

    pub(super) fn is_sound(&self) -> bool {
        self.observer.findings.violations.is_empty()
    }
}
