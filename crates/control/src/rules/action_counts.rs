//! Counts of actions, by kind and outcome.

use std::sync::atomic::{AtomicU64, Ordering};

use martlet_rules::Action;

/// Kind of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ActionKind {
    Publish,
    Webhook,
    Command,
    Telemetry,
    Alarm,
}

impl ActionKind {
    pub(super) const ALL: [Self; 5] = [
        Self::Publish,
        Self::Webhook,
        Self::Command,
        Self::Telemetry,
        Self::Alarm,
    ];

    pub(super) fn of(action: &Action) -> Self {
        match action {
            Action::Publish { .. } => Self::Publish,
            Action::Webhook { .. } => Self::Webhook,
            Action::Command { .. } => Self::Command,
            Action::Telemetry { .. } => Self::Telemetry,
            Action::Alarm(_) => Self::Alarm,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Webhook => "webhook",
            Self::Command => "command",
            Self::Telemetry => "telemetry",
            Self::Alarm => "alarm",
        }
    }
}

/// Outcome of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ActionOutcome {
    /// The action was done.
    Done,
    /// The action cannot be done.
    Refused,
    /// The action cannot be done now: the rules look at the message again.
    Retried,
}

impl ActionOutcome {
    pub(super) const ALL: [Self; 3] = [Self::Done, Self::Refused, Self::Retried];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Retried => "retried",
        }
    }
}

/// Actions of all rules, by kind and outcome.
#[derive(Debug, Default)]
pub(super) struct ActionCounts([[AtomicU64; ActionOutcome::ALL.len()]; ActionKind::ALL.len()]);

impl ActionCounts {
    pub(super) fn note(&self, kind: ActionKind, outcome: ActionOutcome) {
        let of_kind = self.0.get(kind as usize);
        if let Some(count) = of_kind.and_then(|counts| counts.get(outcome as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self, kind: ActionKind, outcome: ActionOutcome) -> u64 {
        let of_kind = self.0.get(kind as usize);
        let count = of_kind.and_then(|counts| counts.get(outcome as usize));
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}
