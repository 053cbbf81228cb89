//! Trouble of integrations, in words.

use martlet_broker::{OnFull, PartQueueState, TenantId};
use martlet_integrate::{Activity, State, counted};

/// Part of its bound, in percent, at which a queue is near it.
const NEAR_PERCENT: u64 = 80;

/// The state of an integration, for health and alarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Kind and name of the integration: `webhook/crm`.
    pub(crate) name: String,
    pub(crate) tenant: TenantId,
    /// Trouble of the integration, as a predicate; none if it delivers.
    pub(crate) trouble: Option<String>,
    /// How far it is behind.
    pub(crate) lag: Lag,
}

/// How far an integration is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lag {
    /// Messages that wait for it; none if unknown.
    pub(crate) messages: Option<u64>,
    /// Age of the oldest of them, milliseconds; 0 if none waits.
    pub(crate) age_ms: u64,
}

impl Lag {
    pub(super) fn of(state: &State, now_ms: u64) -> Self {
        let oldest_ms = state.oldest_received_ms.unwrap_or(now_ms);
        Self {
            messages: state.lag,
            age_ms: now_ms.saturating_sub(oldest_ms),
        }
    }

    /// How many messages wait, in words; none if that is unknown.
    pub(crate) fn words(&self) -> Option<String> {
        self.messages.map(|messages| match messages {
            0 => "no message waits".to_owned(),
            1 => "1 message waits".to_owned(),
            messages => format!("{messages} messages wait"),
        })
    }
}

/// Trouble of an integration, as a predicate; none if it delivers, or was paused and has room in
/// its queue.
pub(super) fn trouble(state: &State, on_full: OnFull) -> Option<String> {
    let queue = state.queue.and_then(|queue| queue_trouble(&queue, on_full));
    let delivery = delivery_trouble(state);
    match (delivery, queue) {
        (Some(delivery), Some(queue)) => Some(format!("{delivery}; {queue}")),
        (Some(delivery), None) => Some(delivery),
        (None, Some(queue)) if state.activity == Activity::Paused => {
            Some(format!("is paused, and {queue}"))
        }
        (None, queue) => queue.map(|queue| format!("falls behind: {queue}")),
    }
}

/// That an operator has paused it, as a predicate; none if it is not paused.
pub(super) fn pause(state: &State) -> Option<String> {
    let since_ms = state.paused_since_ms?;
    Some(format!(
        "has been paused since {}",
        crate::rfc3339::in_words(since_ms)
    ))
}

fn delivery_trouble(state: &State) -> Option<String> {
    if let Some(why) = &state.stopped_because {
        return Some(format!("has stopped: {why}. Resume it to continue"));
    }
    match state.activity {
        Activity::Paused => return None,
        Activity::Ended => {
            return Some("has ended: restart the node, and report it with the log".to_owned());
        }
        Activity::Starting if state.failure.is_none() => {
            return Some("is starting and delivers nothing yet".to_owned());
        }
        _ => {}
    }
    if let Some(failure) = &state.failure {
        // An alarm keeps this text: a time stays true in it, and a duration does not.
        let since = crate::rfc3339::in_words(failure.since_ms);
        let (error, attempts) = (&failure.error, failure.attempts);
        if attempts == 0 {
            return Some(format!(
                "has not been able to deliver since {since}: {error}"
            ));
        }
        let attempts = counted(u64::from(attempts), "attempt");
        return Some(format!(
            "has not delivered since {since} ({attempts}): {error}"
        ));
    }
    let health = state.sink_health.as_ref()?;
    Some(format!("delivers, but: {health}"))
}

/// A queue that is full, or near its bound, in words.
pub(crate) fn queue_trouble(queue: &PartQueueState, on_full: OnFull) -> Option<String> {
    if queue.holds {
        return Some("its queue is full, and clients that publish for it wait".to_owned());
    }
    let percent = u128::from(queue.bytes) * 100 / u128::from(queue.bytes_max.max(1));
    let (of, then) = match on_full {
        OnFull::DropOldest => ("`max_bytes`", "the oldest messages are dropped"),
        OnFull::Hold => ("`max_bytes`", "clients that publish for it wait"),
        // Rules have no key for it.
        OnFull::HoldFromOutside => ("its limit", "clients that publish for it wait"),
    };
    (percent >= u128::from(NEAR_PERCENT))
        .then(|| format!("its queue uses {percent} % of {of}, at which {then}"))
}

#[cfg(test)]
mod tests {
    use martlet_integrate::Failure;

    use super::*;

    fn state(bytes: u64, holds: bool) -> State {
        State {
            activity: Activity::Running,
            queue: Some(PartQueueState {
                bytes,
                bytes_max: 1_000,
                holds,
                ..PartQueueState::default()
            }),
            ..State::default()
        }
    }

    #[test]
    fn a_pause_is_no_trouble_and_is_told_with_its_begin() {
        let mut paused = state(1, false);
        paused.activity = Activity::Paused;
        paused.paused_since_ms = Some(1_700_000_000_000);
        assert_eq!(trouble(&paused, OnFull::Hold), None);
        let text = pause(&paused);
        assert_eq!(
            text.as_deref(),
            Some("has been paused since 2023-11-14 22:13:20 UTC")
        );
    }

    #[test]
    fn a_queue_near_its_bound_is_told() {
        assert_eq!(trouble(&state(799, false), OnFull::DropOldest), None);
        let text = trouble(&state(800, false), OnFull::DropOldest);
        assert_eq!(
            text.as_deref(),
            Some(
                "falls behind: its queue uses 80 % of `max_bytes`, at which the oldest messages \
                 are dropped"
            )
        );
        let mut failing = state(1_010, true);
        failing.failure = Some(Failure {
            error: "no route".to_owned(),
            since_ms: 1_700_000_000_000,
            attempts: 1,
        });
        let text = trouble(&failing, OnFull::Hold);
        assert_eq!(
            text.as_deref(),
            Some(
                "has not delivered since 2023-11-14 22:13:20 UTC (1 attempt): no route; its queue \
                 is full, and clients that publish for it wait"
            )
        );
        let (rules, on_full) = (state(800, false), OnFull::HoldFromOutside);
        let text = trouble(&rules, on_full).unwrap_or_default();
        assert!(
            text.contains("uses 80 % of its limit, at which clients"),
            "{text}"
        );
        let mut paused = state(900, false);
        paused.activity = Activity::Paused;
        let text = trouble(&paused, OnFull::Hold);
        assert!(text.is_some_and(|text| text.starts_with("is paused, and its queue uses 90 %")));
    }
}
