//! Batches for the sink, and the outcomes of their messages.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use martlet_broker::{PartOutcome, PartRefusal};
use martlet_codec::QoS;
use martlet_fault::{self as fault, Fault};
use tracing::{error, warn};

use super::super::attempt::Broken;
use super::super::settings::OnReject;
use super::super::unsettled_message::UnsettledMessage;
use super::attachment::Attachment;
use super::call::Call;
use super::retry::RetryTarget;
use super::{Core, Mode};
use crate::order::OrderKey;
use crate::outcome::Outcome;
use crate::sink_message::SinkMessage;

/// Panics of the sink at one message, handed over alone, after which the message is refused.
const PANICS_MAX: u32 = 3;
/// Messages in a row that are refused for panics. After that, the cause is the sink and not the
/// messages: they wait.
const PANICKED_IN_A_ROW_MAX: u32 = 3;

/// Maximum number of extra messages in hand per lane, after failing ones.
const BEHIND_MAX: u16 = 4_000;
/// Maximum bytes of all messages in hand; above it, they take places of others.
const BEHIND_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes that the messages of a lane in hand may have, for a sink that sets how many it wants, if
/// they are more than the minimum.
const IN_HAND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Step in which that number changes.
const IN_HAND_STEP: usize = 250;
/// Minimum number, regardless of their size.
const IN_HAND_MIN: usize = 100;

impl Core {
    /// Reports lost messages when the part ends: messages in hand are delivered again, except QoS
    /// 0 messages that no queue keeps.
    pub(in super::super) fn tell_of_lost(&self) {
        if self.settings.keeps_qos0 {
            return;
        }
        let in_hand = self.handed.iter().chain(&self.held);
        let lost = in_hand.filter(|held| held.message.qos() == QoS::AtMostOnce);
        let lost = lost.count();
        if lost > 0 {
            warn!(
                integration = %self.client_id,
                lost,
                "messages of QoS 0 that were not delivered are lost: keep_qos0 = true keeps them"
            );
        }
    }

    /// Positions, in order, of the messages in hand for the next call of the sink. Empty if there
    /// are none, or if it must not be called now.
    pub(in super::super) fn next_places(&self, now: Duration) -> Vec<usize> {
        if !self.to_sink.is_due(now) {
            return Vec::new();
        }
        let messages_max = match self.alone {
            0 => usize::from(self.settings.batch_messages.max(1)),
            _ => 1,
        };
        self.places(now, messages_max, self.settings.batch_bytes)
    }

    /// Returns the positions for the next call of the sink, with at most this number of messages
    /// and bytes; one message may be larger.
    pub(super) fn places(
        &self,
        now: Duration,
        messages_max: usize,
        bytes_max: usize,
    ) -> Vec<usize> {
        let to_drain = match self.mode {
            Mode::Running => None,
            Mode::Draining { until_ms, .. } => Some(self.to_drain(until_ms)),
            Mode::Paused { .. } | Mode::Stopped { .. } => return Vec::new(),
        };
        let mut places = Vec::with_capacity(messages_max.min(self.held.len()));
        let mut bytes = 0;
        // A message at which the sink failed comes without the ones after it, so that other
        // publishers have places.
        let has_failed = self.handed.iter().filter(|held| held.failures.are_any());
        let mut failing: HashSet<OrderKey<'_>> =
            has_failed.map(UnsettledMessage::order_key).collect();
        for (place, held) in self.held.iter().enumerate() {
            // A drain leaves messages that arrived later; other lanes may have older messages
            // after those.
            if let Some(to_drain) = &to_drain {
                let last = to_drain.get(&held.lane());
                if last.is_none_or(|last| place > *last) {
                    continue;
                }
            }
            if self.waits_until(held).is_some_and(|at| at > now)
                || !failing.is_empty() && failing.contains(&held.order_key())
            {
                continue;
            }
            if held.failures.are_any() {
                failing.insert(held.order_key());
            }
            bytes += held.message.bytes();
            let is_full = places.len() >= messages_max || bytes > bytes_max;
            if is_full && !places.is_empty() {
                break;
            }
            places.push(place);
        }
        places
    }

    /// The position of the last message in hand that was received by then, per lane. Earlier
    /// messages of its lane are included, regardless of their clock time: the order of a
    /// publisher's messages takes priority over the clock, which may have been set back.
    fn to_drain(&self, until_ms: u64) -> BTreeMap<usize, usize> {
        let all = self.held.iter().enumerate();
        let by_then = all.filter(|(_, held)| held.message.received_ms() <= until_ms);
        by_then.map(|(place, held)| (held.lane(), place)).collect()
    }

    /// Removes the messages at these positions from those in hand.
    pub(super) fn take_out(&mut self, places: &[usize]) -> Vec<UnsettledMessage> {
        if places.last().is_none_or(|last| last + 1 == places.len()) {
            return self.held.drain(..places.len()).collect();
        }
        let mut wanted = places.iter().copied().peekable();
        let (mut taken, mut kept) = (Vec::with_capacity(places.len()), VecDeque::new());
        for (place, held) in std::mem::take(&mut self.held).into_iter().enumerate() {
            match wanted.next_if_eq(&place) {
                Some(_) => taken.push(held),
                None => kept.push_back(held),
            }
        }
        self.held = kept;
        taken
    }

    /// Sets the credit so that the node hands over as many messages as the sink wants in hand,
    /// fewer of large ones.
    pub(in super::super) fn fill_hand(&mut self) {
        let (most, count) = (usize::from(self.settings.in_hand), self.held.len());
        let Attachment::Attached(lanes) = &mut self.attachment else {
            return;
        };
        if most == 0 || count == 0 || self.lends_places {
            return;
        }
        let bytes: usize = self.held.iter().map(|held| held.message.bytes()).sum();
        let fit = IN_HAND_BYTES_MAX / (bytes / count).max(1);
        // In steps: a change by single messages is not worth a call.
        let steps = fit.min(most) / IN_HAND_STEP;
        let credit = (steps * IN_HAND_STEP).max(IN_HAND_MIN);
        lanes.set_credit(u16::try_from(credit).unwrap_or(u16::MAX));
    }

    /// Sets more credit for messages that wait after failing ones, within bounds: so a failing
    /// message, with many of the same publisher after it, leaves places to others. Whether the
    /// sink accepts those shows whether the message or the target is at fault.
    pub(in super::super) fn lend_places(&mut self) {
        let Attachment::Attached(lanes) = &mut self.attachment else {
            return;
        };
        let failing = self.held.iter().filter(|held| held.failures.are_any());
        let failing: HashSet<OrderKey<'_>> = failing.map(UnsettledMessage::order_key).collect();
        if failing.is_empty() && !self.lends_places {
            return;
        }
        let mut behind = BTreeMap::<usize, u16>::new();
        let mut bytes = 0;
        for held in &self.held {
            if !failing.contains(&held.order_key()) {
                continue;
            }
            let of_lane = behind.entry(held.lane()).or_default();
            bytes += held.message.bytes();
            if *of_lane >= BEHIND_MAX || bytes > BEHIND_BYTES_MAX {
                break;
            }
            *of_lane += 1;
        }
        self.lends_places = !behind.is_empty();
        lanes.lend_places(&behind);
    }

    /// When a message of this age, milliseconds, is too old to be delivered; `None`: never.
    pub(super) fn too_old_at(&self, age_ms: u64) -> Option<Duration> {
        let age_max = match self.settings.queue.age_max_secs {
            0 => return None,
            seconds => Duration::from_secs(seconds.into()),
        };
        let left = age_max.saturating_sub(Duration::from_millis(age_ms));
        Some(self.clock.now() + left)
    }

    /// When the first of the messages in hand becomes too old.
    pub(super) fn next_too_old(&self) -> Option<Duration> {
        if self.settings.queue.age_max_secs == 0 {
            return None;
        }
        let held = self.held.iter();
        held.filter_map(|held| held.too_old_at).min()
    }

    /// Drops messages in hand that have waited too long. A message that the sink refused is kept:
    /// it waits to become a dead letter.
    pub(in super::super) fn drop_too_old(&mut self) {
        let now = self.clock.now();
        if self.next_too_old().is_none_or(|at| at > now) {
            return;
        }
        let is_too_old = |held: &UnsettledMessage| held.too_old_at.is_some_and(|at| at <= now);
        let all = self.held.iter().enumerate();
        let places = all.filter_map(|(place, held)| is_too_old(held).then_some(place));
        let places: Vec<usize> = places.collect();
        let dropped = self.take_out(&places);
        self.alone = self.alone.saturating_sub(dropped.len());
        for held in &dropped {
            self.publisher_goes_on(held);
        }
        let settled = dropped.iter().map(|held| (held.token, PartOutcome::TooOld));
        self.settle(settled.collect());
    }

    /// Handles the end of a call: `handed` messages that were not settled, with the `outcomes`
    /// that the sink reported for them; `call` has the settled ones.
    pub(super) fn delivered(
        &mut self,
        mut handed: Vec<UnsettledMessage>,
        outcomes: Vec<Option<Outcome>>,
        call: &Call,
        broken: Option<Broken>,
    ) {
        let (outcomes, mut error, why) = match broken {
            None => (outcomes, None, PartRefusal::Rejected),
            Some(broken) => self.outcomes(&mut handed, broken),
        };
        let now_ms = self.host.now_ms();
        let (mut settled, mut left, mut stop) = (Vec::new(), Vec::new(), None);
        let (mut delivered, mut tried) = (0_usize, call.delivered + call.refused);
        let (mut failing, mut error_at_message) = (Vec::new(), None);
        let mut after = Duration::ZERO;
        let mut skips = std::mem::take(&mut self.skips);
        let count = handed.len();
        for (mut held, outcome) in handed.into_iter().zip(outcomes) {
            let so_far = self.counts.delivered + delivered as u64;
            let failures = &mut held.failures;
            let outcome = outcome.map(|one| self.giving_up.judged(failures, so_far, one));
            if matches!(outcome, Some(Outcome::Done | Outcome::Refused(_))) {
                self.publisher_goes_on(&held);
            }
            let is_untried = matches!(
                outcome,
                None | Some(Outcome::NotTried | Outcome::SentWithOthers)
            );
            tried += usize::from(!is_untried);
            match outcome {
                Some(Outcome::Done) => {
                    delivered += 1;
                    self.counts.repeated += u64::from(held.message.repeated());
                    settled.push((held.token, PartOutcome::Done));
                }
                Some(Outcome::Refused(reason)) => {
                    let stops = self.settings.on_reject == OnReject::Stop;
                    if stops && !std::mem::take(&mut skips) {
                        self.counts.refused += 1;
                        stop.get_or_insert_with(|| stop_text(&held.message, &reason));
                        held.message.repeated = true;
                        left.push(held);
                    } else {
                        self.refuse(held, reason, why);
                    }
                }
                Some(Outcome::FailedAtMessage(failure) | Outcome::NoAnswer(failure)) => {
                    error_at_message.get_or_insert(failure);
                    failing.push((held.order_key().into_owned(), held.failures.count));
                    held.message.repeated = true;
                    left.push(held);
                }
                Some(Outcome::Failed(failure)) => {
                    error.get_or_insert(failure);
                    held.message.repeated = !fault::is(Fault::SinkRepeatedForgotten);
                    left.push(held);
                }
                Some(Outcome::Later(failure, time)) => {
                    error.get_or_insert(failure);
                    after = after.max(time);
                    held.message.repeated = true;
                    left.push(held);
                }
                None if fault::is(Fault::SinkSilenceIsDone) => {
                    settled.push((held.token, PartOutcome::Done));
                }
                Some(Outcome::SentWithOthers) => {
                    held.message.repeated = true;
                    left.push(held);
                }
                Some(Outcome::NotTried) | None => left.push(held),
            }
        }
        self.alone = self.alone.saturating_sub(count - left.len());
        self.hold_again(left);
        if self.is_stopping && fault::is(Fault::SinkStopForgets) {
            settled.clear();
        }
        self.settle(settled);
        if delivered > 0 {
            self.counts.delivered += delivered as u64;
            self.delivered_ms = Some(now_ms);
            self.panicked_in_a_row = 0;
        }
        let delivered = delivered + call.delivered;
        if error.is_none() && delivered > 0 {
            self.publishers_wait(failing, error_at_message);
        } else {
            error = error.or(error_at_message);
        }
        if error.is_none() && tried == 0 {
            error = Some("the sink returned no outcome".to_owned());
        }
        self.call_ended(error, delivered > 0, after);
        if let Some(why) = stop {
            self.stop(why, now_ms);
        }
    }

    /// Stops: nothing is handed to the sink until an operator resumes the integration.
    fn stop(&mut self, why: String, now_ms: u64) {
        error!(integration = %self.client_id, why, "the integration has stopped: resume it to go on");
        self.last_error = Some((why.clone(), now_ms));
        let is_saved = false;
        self.mode = Mode::Stopped { why, is_saved };
    }

    /// Puts messages that are handed over again at the front, in their order.
    fn hold_again(&mut self, left: Vec<UnsettledMessage>) {
        for held in left.into_iter().rev() {
            match fault::is(Fault::SinkRetriesBehind) {
                true => self.held.push_back(held),
                false => self.held.push_front(held),
            }
        }
    }

    /// Updates whether the sink works, by its last call. After an error it is called again after a
    /// pause of at least `after`.
    fn call_ended(&mut self, error: Option<String>, has_delivered: bool, after: Duration) {
        let Some(error) = error else {
            return self.succeed(RetryTarget::Sink);
        };
        self.counts.failed_attempts += 1;
        // The sink makes progress: restart the pauses from the shortest.
        if let Some(failure) = self.to_sink.failure.as_mut().filter(|_| has_delivered) {
            failure.attempts = 0;
        }
        self.fail(RetryTarget::Sink, error);
        self.pause_sink(after);
    }

    /// The sink accepted messages of others: these publishers pause alone.
    fn publishers_wait(&mut self, failing: Vec<(OrderKey<'static>, u32)>, error: Option<String>) {
        let now = self.clock.now();
        for (publisher, failures) in failing {
            let pause = self.settings.backoff.pause(failures, self.host.random());
            self.waiting.insert(publisher, now + pause);
        }
        if let Some(error) = error {
            self.counts.failed_attempts += 1;
            self.fail(RetryTarget::Messages, error);
        }
    }

    /// Handles the first message of a paused publisher that is delivered or refused.
    pub(super) fn publisher_goes_on(&mut self, held: &UnsettledMessage) {
        if self.waiting.is_empty() {
            return;
        }
        self.waiting.remove(&held.order_key().into_owned());
        if self.waiting.is_empty() {
            self.succeed(RetryTarget::Messages);
        }
    }

    /// A call that blocked has returned: retry the sink at once.
    pub(in super::super) fn sink_returned(&mut self) {
        (self.to_sink.at, self.to_letters.at) = (self.asked_until, self.asked_until);
    }

    /// The other system requested no calls for that time.
    pub(super) fn pause_sink(&mut self, time: Duration) {
        if time > Duration::ZERO {
            let asked = self.clock.now() + time;
            self.asked_until = Some(asked);
            self.to_sink.at = Some(self.to_sink.at.map_or(asked, |at| at.max(asked)));
        }
    }

    /// Outcomes of an aborted call: it fails for all messages of the sink, or for one at which it
    /// panicked. With the failure, or the reason of the refusal.
    fn outcomes(
        &mut self,
        handed: &mut [UnsettledMessage],
        broken: Broken,
    ) -> (Vec<Option<Outcome>>, Option<String>, PartRefusal) {
        let error = broken.to_string();
        let failed = vec![Some(Outcome::Failed(error.clone())); handed.len()];
        let Broken::Panicked(_) = broken else {
            return (failed, Some(error), PartRefusal::Failed);
        };
        // One of these messages may be the cause: each is handed over alone until all are done.
        if handed.len() > 1 {
            self.alone = self.alone.max(handed.len());
        }
        let [held] = handed else {
            return (failed, Some(error), PartRefusal::Failed);
        };
        held.panics += 1;
        if held.panics < PANICS_MAX || self.panicked_in_a_row >= PANICKED_IN_A_ROW_MAX {
            return (failed, Some(error), PartRefusal::Failed);
        }
        self.panicked_in_a_row += 1;
        let reason = format!("{error} ({PANICS_MAX} times at this message)");
        (
            vec![Some(Outcome::Refused(reason))],
            None,
            PartRefusal::Failed,
        )
    }
}

fn stop_text(message: &SinkMessage, reason: &str) -> String {
    let (id, topic) = (message.id(), message.topic());
    format!("the message {id} on {topic:?} was refused: {reason}")
}
