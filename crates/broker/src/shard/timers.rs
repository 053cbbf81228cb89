//! Actions when a timer fires.

use martlet_codec::ReasonCode;
use martlet_permission::{Limit, RefusalCause};

use crate::connection::{Phase, Since, keep_alive_ms};
use crate::effect::{ConnectionEffect, QueueOwner};
use crate::id::{ConnectionId, ShardId};
use crate::node::{Cx, Node};
use crate::record::Record;
use crate::retained::EXPIRED_PER_SWEEP;
use crate::shard::{Ending, Shard};
use crate::timer::{SWEEP_INTERVAL_MS, Timer};
use crate::work::{CLOSING, RETAINED_CHANGE};

impl Shard {
    pub(super) fn fire<N: Node>(&mut self, cx: &mut Cx<'_, N>, timer: Timer) {
        match timer {
            Timer::ConnectDeadline(id) => {
                let Some(connection) = self.connections.get_mut(id) else {
                    return;
                };
                connection.deadline = None;
                if connection.held_for_store_since != Since::NONE {
                    // Its CONNECT came in time and waits for the store.
                    return;
                }
                let why = match connection.phase {
                    Phase::Lobby => Limit::ConnectTimeout,
                    Phase::Authenticating | Phase::Challenged => Limit::AuthenticateTimeout,
                    Phase::Accepted | Phase::Closing => return,
                };
                self.refuse(cx, id.index, None, ReasonCode::MaximumConnectTime, why);
            }
            Timer::IdentityEnd(id) => self.check_identity_end(cx, id),
            Timer::ReauthenticationDeadline(id) => self.check_reauthentication(cx, id),
            Timer::KeepAlive(id) => self.check_keep_alive(cx, id),
            Timer::Stalled(id) => self.check_stalled(cx, id),
            Timer::RateOver(id) => self.rate_is_over(id),
            Timer::RateDrops(id) => {
                if self.connections.get(id).is_some() {
                    self.notify_rate_drops(cx, id.index);
                }
            }
            Timer::SessionExpiry(id) => {
                if let Some(session) = self.sessions.live(id) {
                    self.sessions.at(session).expiry_timer = None;
                    self.counters.sessions_expired += 1;
                    self.end_session(cx, session, RefusalCause::SessionExpired);
                }
            }
            Timer::WillDelay(id) => {
                if let Some(session) = self.sessions.live(id) {
                    self.sessions.at(session).will_timer = None;
                    self.send_will(cx, session);
                    if self.sessions.at(session).expiry_secs == 0 {
                        // Remembered across a restart for its Will alone.
                        self.end_session(cx, session, RefusalCause::KeptForWill);
                    }
                }
            }
            Timer::QueueExpiry => self.expire_queues(cx),
            Timer::Losses => self.notify_due_losses(cx),
            Timer::PartLater(id) => self.deliver_later(cx, id),
            Timer::PartQueue(id) => self.look_at_queue_of_part(cx, id),
            Timer::Operation(number) => self.operation_stalled(cx, number),
            Timer::RetainedSweep => self.sweep_retained(cx),
        }
    }

    /// One shard does it for all: the retained store is the node's.
    fn sweep_retained<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        let (after, now_ms) = (self.subscribing.retained_reads.sweep.take(), cx.now.mono_ms);
        if self.id != ShardId(0) {
            return;
        }
        let (mut ended, mut expired) = (Vec::new(), Vec::new());
        let mut interval_ms = IDLE_SWEEP_INTERVAL_MS;
        self.subscribing.retained_reads.sweep = cx.node.retained(|store| {
            if store.sweep_cleared(CLEARED_PER_SWEEP, now_ms, &mut ended) {
                interval_ms = 1;
                return after;
            }
            let next = store.sweep(after, SWEEP_STEPS, now_ms, &mut expired);
            if ended.len() + expired.len() >= EXPIRED_PER_SWEEP {
                interval_ms = 1;
            } else if store.needs_sweep() {
                interval_ms = SWEEP_INTERVAL_MS;
            }
            next
        });
        for message in &expired {
            self.note_expired(cx.now, message);
            ended.push(message.id());
        }
        self.work.add(ended.len() as u64 * RETAINED_CHANGE);
        for message in ended {
            self.append(cx, Record::RetainedEnded(message));
        }
        self.timers
            .wheel
            .arm(now_ms + interval_ms, Timer::RetainedSweep);
    }

    pub(super) fn check_keep_alive<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        let now_ms = cx.now.mono_ms;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.deadline = None;
        if connection.session().is_none() {
            return;
        }
        if connection.flags.reading_paused() || !connection.flags.admitted() {
            // It is the server that does not read, or that owes a CONNACK.
            connection.received(now_ms);
        }
        let quiet_ms = connection.quiet_ms(now_ms);
        if let Some(left_ms) = connection.keep_alive_ms().checked_sub(quiet_ms)
            && left_ms > 0
        {
            let due_ms = now_ms + u64::from(left_ms);
            connection.deadline = Some(self.timers.wheel.arm(due_ms, Timer::KeepAlive(id)));
            return;
        }
        self.counters.keep_alive_timeouts += 1;
        // The ceiling, where that is in force.
        let ceiling_ms = keep_alive_ms(self.settings.limits.keep_alive_max_secs);
        let cause = match self.connections.at(id.index).keep_alive_ms() == ceiling_ms {
            true => RefusalCause::Limit(Limit::KeepAliveMax),
            false => RefusalCause::KeepAlive,
        };
        // [MQTT-3.1.2-22]
        let ending = Ending::with_disconnect(ReasonCode::KeepAliveTimeout, cause);
        self.end_connection(cx, id.index, ending);
    }

    /// Looks for expired messages in the queues whose time has come, at some entries at a time.
    fn expire_queues<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        for _ in 0..QUEUES_PER_EXPIRY {
            let Some((due_ms, owner)) = self.timers.expiring.take_due(cx.now.mono_ms) else {
                break;
            };
            let more = match owner {
                QueueOwner::Session(id) => {
                    let index = self.sessions.live(id);
                    index.is_some_and(|index| self.expire_queued(cx, index, ENTRIES_PER_EXPIRY))
                }
                QueueOwner::Group(id) => self.expire_group(cx, id, ENTRIES_PER_EXPIRY),
            };
            if more {
                // It is the first again, and others have their turn before.
                self.timers.expiring.push(due_ms, owner);
                break;
            }
            if let Some(queue) = self.queue_of(owner) {
                queue.expiry_watched();
            }
            self.watch_queue_expiry(owner);
        }
        self.timers.await_expiry();
    }

    pub(super) fn check_stalled<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.stalled = None;
        if connection.flags.ending() {
            return;
        }
        let now_ms = cx.now.mono_ms;
        match self.stalled_at(cx.now.mono_ms, id.index) {
            None => return,
            Some(due_ms) if due_ms > now_ms => return self.watch_stalled(cx, id),
            Some(_) => {}
        }
        let connection = self.connections.at(id.index);
        if connection.phase == Phase::Lobby {
            return self.refuse_held(cx, id.index);
        }
        // One that was refused has had its CONNACK [MQTT-3.2.0-2].
        if connection.session().is_some() && !connection.flags.admitted() {
            return self.refuse_unrecorded(cx, id.index);
        }
        let output_ms = u64::from(self.settings.limits.output_stalled_secs) * 1000;
        let connection = self.connections.at(id.index);
        let output = connection.output_waits_since_ms();
        let output_due =
            output_ms > 0 && output.is_some_and(|since_ms| since_ms + output_ms <= now_ms);
        if !output_due {
            let limit = self.store_limit_for(id.index);
            let ending = Ending::with_disconnect(ReasonCode::QuotaExceeded, limit);
            return self.end_connection(cx, id.index, ending);
        }
        // It reads nothing, so a DISCONNECT would not reach it.
        self.end_connection(cx, id.index, Ending::lost(Limit::OutputStalled));
        self.forget_connection(id);
        self.work.add(CLOSING);
        cx.effects.connections.push(ConnectionEffect::Abort(id));
    }

    /// The clock may have been set since: whether it is over is seen now.
    fn check_identity_end<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        match self.identity_end(id) {
            None => {}
            Some(ends_wall_ms) if ends_wall_ms > cx.now.wall_ms => self.arm_identity_end(cx, id),
            Some(_) => {
                let session = self.connections.at(id.index).session();
                let cause = session.map(|session| self.cause_of_identity_end(session));
                let cause = cause.unwrap_or(RefusalCause::CredentialsEnded);
                let ending = Ending::with_disconnect(ReasonCode::NotAuthorized, cause);
                self.end_connection(cx, id.index, ending);
            }
        }
    }
}

/// Queues looked through at once for what has expired.
const QUEUES_PER_EXPIRY: usize = 64;
/// Entries of a queue looked at at once because they may have expired.
const ENTRIES_PER_EXPIRY: usize = 256;
/// Clearings of retained messages that are taken away per sweep: another follows soon.
const CLEARED_PER_SWEEP: usize = 128;
/// Retained topics looked at per sweep.
const SWEEP_STEPS: usize = 1024;
/// How soon the sweep looks again while nothing that is retained expires.
const IDLE_SWEEP_INTERVAL_MS: u64 = 30_000;
