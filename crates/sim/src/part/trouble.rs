//! Troubles of a part.

use martlet_broker::{LaneOrder, PartCall, PartOutcome, Settlement};

use super::{NEVER, Part, PartFact, PartTrouble, Phase};
use crate::agenda::SECOND;
use crate::world::Io;

impl Part {
    pub(super) fn choose_credit(&mut self, io: &Io<'_>) -> u16 {
        let credit = self.random.between(1, self.plan.credit_max) as u16;
        credit.min(io.node.in_flight_max())
    }

    pub(super) fn detach(&mut self, io: &mut Io<'_>, ends: bool) {
        match ends {
            true => self.each_lane(io, PartCall::End),
            false => self.each_lane(io, PartCall::Detach),
        }
        self.fact(io, PartFact::Left { ends });
        self.is_away(io);
    }

    /// Notes that it has no attachment any more, and that its sink has lost its deliveries.
    pub(super) fn is_away(&mut self, io: &Io<'_>) {
        self.phase = Phase::Away;
        self.answers.clear();
        self.lanes.clear();
        self.order = LaneOrder::new(0);
        self.untaken = 0;
        let away_us = match self.settling {
            true => SECOND,
            false => self.plan.away_us,
        };
        self.attach_at = io.now_us() + self.random.around(away_us);
    }

    pub(super) fn get_into_trouble(&mut self, io: &mut Io<'_>) {
        if self.phase == Phase::Away {
            return;
        }
        match self.random.pick(&self.plan.troubles) {
            PartTrouble::Hang => {
                self.hangs_until = io.now_us() + self.random.around(self.plan.away_us);
                self.fact(io, PartFact::Hangs(true));
            }
            PartTrouble::Fail => self.detach(io, false),
            PartTrouble::TakeOver => {
                for answer in std::mem::take(&mut self.answers) {
                    let settlement = Settlement {
                        token: answer.token,
                        outcome: PartOutcome::Done,
                    };
                    let old = self.lane_attachment(answer.lane);
                    match self.late.iter_mut().find(|(of, _)| *of == old) {
                        Some((_, all)) => all.push(settlement),
                        None => self.late.push((old, vec![settlement])),
                    }
                }
                self.attach(io);
                if self.attach_at != NEVER {
                    // The node is about to stop.
                    self.detach(io, false);
                }
            }
            PartTrouble::Credit => {
                let credit = self.choose_credit(io);
                self.each_lane(io, |id| PartCall::Credit(id, credit));
                let all = if self.plan.is_lanes {
                    self.lanes_ever.max(8)
                } else {
                    1
                };
                self.fact(io, PartFact::Credit(credit.saturating_mul(all)));
                let queues = &self.plan.queues;
                if self.plan.is_lanes && queues.iter().all(|queue| queue.bytes_max < 1 << 30) {
                    let bytes_max = self.random.between(6, 40) * 1_000;
                    self.each_lane(io, |id| PartCall::QueueBytes(id, bytes_max));
                }
            }
            PartTrouble::End => self.detach(io, true),
        }
    }
}
