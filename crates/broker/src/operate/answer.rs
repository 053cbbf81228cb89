//! Answers to operators: at once, or when what they say is durable.

use crate::id::RecordNumber;
use crate::node::{Cx, Node};
use crate::operate::operations::Operation;
use crate::report::{Answer, Report};
use crate::shard::{Gated, Shard};
use crate::timer::{Timer, TimerKey};

impl Shard {
    /// Answers once `record` is durable, or the store has taken too long.
    pub(crate) fn answer_operator<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        request: u64,
        answer: Answer,
        record: RecordNumber,
    ) {
        if self.store.is_open(record) {
            return report(cx, request, answer);
        }
        let number = self.operations.next();
        let timer = self.arm_operation(cx, number);
        let operation = Operation {
            number,
            request,
            timer,
        };
        self.answer_later(cx, operation, answer, record);
    }

    pub(super) fn answer_later<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        operation: Operation,
        answer: Answer,
        record: RecordNumber,
    ) {
        let Operation {
            number,
            request,
            timer,
        } = operation;
        let unanswered = (Report { request, answer }, timer);
        self.operations.unanswered.insert(number, unanswered);
        match self.store.is_open(record) {
            true => self.operation_is_durable(cx, number),
            false => self.gate(cx, record, Gated::Report(number)),
        }
    }

    /// Reports an answer: what it waited for is durable.
    pub(crate) fn operation_is_durable<N: Node>(&mut self, cx: &mut Cx<'_, N>, number: u32) {
        if let Some((report, timer)) = self.operations.unanswered.remove(&number) {
            if let Some(timer) = timer {
                self.timers.wheel.cancel(timer);
            }
            cx.effects.reports.push(report);
        }
    }

    pub(super) fn arm_operation<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        number: u32,
    ) -> Option<TimerKey> {
        let secs = self.settings.limits.store_stalled_secs;
        let due_ms = cx.now.mono_ms + u64::from(secs) * 1000;
        (secs > 0).then(|| self.timers.wheel.arm(due_ms, Timer::Operation(number)))
    }
}

pub(super) fn report<N: Node>(cx: &mut Cx<'_, N>, request: u64, answer: Answer) {
    cx.effects.reports.push(Report { request, answer });
}
