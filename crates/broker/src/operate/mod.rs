//! Requests of operators: messages published, sessions and subscriptions looked through and
//! changed, retained messages read and taken away.
//!
//! What takes more than a moment is a *job*, worked off a step per tick, so that a shard with many
//! sessions goes on serving them. Jobs that write are worked off one after the other, and wait for
//! the store like publishers do; those that only read take turns. A job whose next message a part
//! holds back waits aside, so that the others go on. What must be durable before it is answered
//! waits in the gate.

mod answer;
mod counters;
pub(crate) mod jobs;
pub(crate) mod operations;
pub(crate) mod publish;
mod retained;
mod sessions;
pub(crate) mod step;
mod subscriptions;
mod traffic;

use std::sync::Arc;

use martlet_codec::ReasonCode;

use crate::command::Command;
use crate::event_interest::{EventInterest, Wants};
use crate::fault::{self, Fault};
use crate::node::{Cx, Node};
use crate::notify::observers::TraceScan;
use crate::report::{Answer, Report};
use crate::shard::{Shard, StoreState};
use crate::timer::Timer;
use crate::work::NODE;
use answer::report;
use jobs::clients::ClientScan;
use jobs::publish::PublishJob;
use jobs::retained::{DeleteRetainedJob, RetainedScan};
use jobs::subscriptions::SubscriptionScan;
use jobs::{CountersScan, ScanJob, TrafficScan, WriteJob};
use operations::Operation;
use step::Step;

/// Jobs of operators that a shard works on, at most, including those that wait for the store;
/// further jobs are refused.
const JOBS_MAX: usize = 4096;
/// Jobs among them that wait for parts, at most; further ones are refused.
const HELD_MAX: usize = JOBS_MAX / 4;
/// Time that a job waits for a part where `store_stalled_secs` sets none, seconds.
const HELD_SECS: u32 = 30;
/// Steps of reading jobs in one call of [`Shard::work`].
const SCANS_PER_WORK: usize = 2;
/// Units of work of such a step, about.
const SCAN_STEP: u64 = 512;

impl Shard {
    /// A command whose answer may take more than this call.
    // Table: what each command does.
    pub(crate) fn operate<N: Node>(&mut self, cx: &mut Cx<'_, N>, command: Command) {
        match command {
            Command::Publish {
                request,
                tenant,
                publisher,
                messages,
            } => {
                let job = PublishJob::new(tenant, publisher, messages);
                self.begin_write(cx, request, WriteJob::Publish(job));
            }
            Command::DeleteRetained {
                request,
                tenant,
                filter,
            } => {
                let job = DeleteRetainedJob::new(tenant, filter);
                self.begin_write(cx, request, WriteJob::DeleteRetained(job));
            }
            Command::Clients { request, query } => {
                let job = ScanJob::Clients(ClientScan::new(*query));
                self.begin_scan(cx, request, job);
            }
            Command::Subscriptions { request, query } => {
                let job = ScanJob::Subscriptions(SubscriptionScan::new(*query));
                self.begin_scan(cx, request, job);
            }
            Command::Retained { request, query } => {
                let job = ScanJob::Retained(RetainedScan::new(*query));
                self.begin_scan(cx, request, job);
            }
            Command::Traffic { request, limit } => {
                let job = ScanJob::Traffic(TrafficScan::new(limit));
                self.begin_scan(cx, request, job);
            }
            Command::ClientDetail {
                request,
                tenant,
                client_id,
                limit,
            } => {
                let found = self.client_detail(cx.now, tenant, &client_id, limit);
                report(cx, request, Answer::ClientDetail(found.map(Box::new)));
            }
            Command::GroupDetails {
                request,
                tenant,
                filters,
            } => {
                let found = self.group_details(tenant, &filters);
                report(cx, request, Answer::GroupDetails(found));
            }
            Command::Unmatched { request, tenant } => {
                let found = self.noted.unmatched.of(tenant);
                report(cx, request, Answer::Unmatched(found));
            }
            Command::RetainedEnded {
                request,
                tenant,
                filter,
            } => {
                let found = self.retained_ended(cx, tenant, &filter);
                report(cx, request, Answer::RetainedEnded(found));
            }
            Command::ActiveDevices { request } => {
                let devices = self.noted.active_devices.take();
                report(cx, request, Answer::ActiveDevices(devices));
            }
            Command::TenantUses { request } => {
                let uses = self.tenant_uses(cx);
                report(cx, request, Answer::TenantUses(uses));
            }
            Command::Disconnect {
                request,
                tenant,
                client_id,
                reason,
            } => {
                let found = self.disconnect_client(cx, tenant, &client_id, reason);
                report(cx, request, Answer::Disconnect(found));
            }
            Command::EndSession {
                request,
                tenant,
                client_id,
            } => {
                let (found, record) = self.end_session_of(cx, tenant, &client_id);
                self.answer_operator(cx, request, Answer::EndSession(found), record);
            }
            Command::Subscribe {
                request,
                tenant,
                client_id,
                subscriptions,
            } => self.subscribe_for(cx, request, tenant, &client_id, &subscriptions),
            Command::Unsubscribe {
                request,
                tenant,
                client_id,
                filters,
            } => self.unsubscribe_for(cx, request, tenant, &client_id, &filters),
            // All others are done at once.
            _ => {}
        }
    }

    /// Goes on with what operators asked for. Called once per tick.
    pub(crate) fn work_for_operators<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        while self.may_write_for_operators() && !self.has_done_enough() {
            if !self.write_step(cx) {
                break;
            }
        }
        for _ in 0..SCANS_PER_WORK.min(self.operations.scans.len()) {
            self.scan_step(cx);
        }
    }

    /// There is something to go on with.
    pub(crate) fn has_work_for_operators(&self) -> bool {
        !self.operations.scans.is_empty() || self.may_write_for_operators()
    }

    /// The first job that writes need not wait, as publishers do not, or has to wait aside.
    fn may_write_for_operators(&self) -> bool {
        let Some((_, job)) = self.operations.writes.front() else {
            return false;
        };
        let for_store = self.store.state == StoreState::Behind && job.grows_store();
        !self.waiting.held_back.congested && (!for_store || self.is_held_by_part(job))
    }

    fn is_held_by_part(&self, job: &WriteJob) -> bool {
        self.parts.holds.any()
            && job.is_held_by(&self.parts.holds)
            && !fault::is(Fault::HoldSparesOperators)
    }

    /// A job of the same caller waits aside, and has to come first.
    fn is_behind_held(&mut self, job: &WriteJob) -> bool {
        let WriteJob::Publish(job) = job else {
            return false;
        };
        let held = self.operations.held.iter();
        self.work.add(held.len() as u64);
        held.into_iter().any(|(_, earlier)| match earlier {
            WriteJob::Publish(earlier) => job.is_behind(earlier),
            WriteJob::DeleteRetained(_) => false,
        })
    }

    /// A part holds back the next message of a job: it waits aside, for a limited time.
    fn set_aside<N: Node>(&mut self, cx: &mut Cx<'_, N>, mut operation: Operation, job: WriteJob) {
        self.work.add(NODE);
        if self.operations.held.len() >= HELD_MAX {
            return self.give_up_write(cx, operation, job, true);
        }
        if operation.timer.is_none() {
            let due_ms = cx.now.mono_ms + u64::from(HELD_SECS) * 1000;
            let timer = Timer::Operation(operation.number);
            operation.timer = Some(self.timers.wheel.arm(due_ms, timer));
        }
        self.operations.held.push_back((operation, job));
    }

    /// A job has waited too long, for a part if `is_held`: reports to its operator what is done.
    fn give_up_write<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        operation: Operation,
        job: WriteJob,
        is_held: bool,
    ) {
        if let Some(timer) = operation.timer {
            self.timers.wheel.cancel(timer);
        }
        let answer = match job {
            WriteJob::Publish(job) => job.given_up(is_held),
            WriteJob::DeleteRetained(job) => job.given_up(),
        };
        report(cx, operation.request, answer.unpromised());
    }

    fn begin_write<N: Node>(&mut self, cx: &mut Cx<'_, N>, request: u64, job: WriteJob) {
        if self.operations.len() >= JOBS_MAX {
            return report(cx, request, Answer::Refused(ReasonCode::ServerBusy));
        }
        let number = self.operations.next();
        let timer = self.arm_operation(cx, number);
        let operation = Operation {
            number,
            request,
            timer,
        };
        self.operations.writes.push_back((operation, job));
        if self.operations.writes.len() == 1 && self.may_write_for_operators() {
            self.write_step(cx);
        }
    }

    fn begin_scan<N: Node>(&mut self, cx: &mut Cx<'_, N>, request: u64, job: ScanJob) {
        if self.operations.len() >= JOBS_MAX {
            return report(cx, request, Answer::Refused(ReasonCode::ServerBusy));
        }
        self.operations.scans.push_front((request, job));
        self.scan_step(cx);
    }

    /// Begins to report the counters, which is never refused.
    pub(crate) fn begin_counters<N: Node>(&mut self, cx: &mut Cx<'_, N>, request: u64) {
        let job = ScanJob::Counters(CountersScan::default());
        self.operations.scans.push_front((request, job));
        self.scan_step(cx);
    }

    /// Begins to look for the sessions that are traced now, anew if that was under way.
    pub(crate) fn begin_tracing<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        let is_other = |(_, job): &(u64, ScanJob)| !matches!(job, ScanJob::Trace(_));
        self.operations.scans.retain(is_other);
        let job = ScanJob::Trace(TraceScan::default());
        self.operations.scans.push_front((0, job));
        self.scan_step(cx);
    }

    /// A step of the first job that reads, which is the last then.
    fn scan_step<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        let Some((request, mut job)) = self.operations.scans.pop_front() else {
            return;
        };
        self.work.add(SCAN_STEP);
        let step = match &mut job {
            ScanJob::Counters(scan) => self.scan_counters(cx, scan),
            ScanJob::Clients(scan) => self.scan_clients(scan),
            ScanJob::Subscriptions(scan) => self.scan_subscriptions(scan),
            ScanJob::Retained(scan) => scan.step(cx),
            ScanJob::Traffic(scan) => self.scan_traffic(scan),
            ScanJob::Trace(scan) => match self.scan_traced(scan) {
                true => Step::More,
                false => Step::Ended,
            },
        };
        match step {
            Step::More => self.operations.scans.push_back((request, job)),
            Step::Done(answer, _) => report(cx, request, answer),
            Step::Ended => {}
        }
    }

    /// A step of the first job that writes; false if it did nothing.
    fn write_step<N: Node>(&mut self, cx: &mut Cx<'_, N>) -> bool {
        let Some((operation, mut job)) = self.operations.writes.pop_front() else {
            return false;
        };
        if self.is_held_by_part(&job) || self.is_behind_held(&job) {
            self.set_aside(cx, operation, job);
            return true;
        }
        let step = match &mut job {
            WriteJob::Publish(job) => self.publish_step(cx, job),
            WriteJob::DeleteRetained(job) => self.delete_retained_step(cx, job),
        };
        match step {
            Step::More => self.operations.writes.push_front((operation, job)),
            Step::Done(answer, record) => self.answer_later(cx, operation, answer, record),
            Step::Ended => {}
        }
        true
    }

    /// An operation has waited too long: for its turn, or for the store. Its operator gets what a
    /// client would be [limit store_stalled_secs].
    pub(crate) fn operation_stalled<N: Node>(&mut self, cx: &mut Cx<'_, N>, number: u32) {
        if let Some((stalled, _)) = self.operations.unanswered.remove(&number) {
            let Report { request, answer } = stalled;
            return report(cx, request, answer.unpromised());
        }
        if let Some(((mut operation, job), is_held)) = self.operations.take_waiting(number) {
            // It is over.
            operation.timer = None;
            self.give_up_write(cx, operation, job, is_held);
        }
    }

    /// Sets which events observers want. Clients that are traced by name are traced at once,
    /// clients that are traced by address when the scan reaches them.
    pub(crate) fn set_events<N: Node>(&mut self, cx: &mut Cx<'_, N>, interest: Arc<EventInterest>) {
        self.observers.wants = Wants::of(&interest);
        for (tenant, client_id) in &interest.traced.clients {
            if let Some(session) = self.sessions.find(*tenant, client_id) {
                self.trace(session, true);
            }
        }
        let has_addresses = !interest.traced.addresses.is_empty();
        self.observers.interest = interest;
        if has_addresses || !self.observers.traced.is_empty() {
            self.begin_tracing(cx);
        }
    }
}
