//! When a message at which the sink fails repeatedly is refused.
//!
//! If a target fails at all messages, the target is at fault: after some consecutive refusals
//! without a delivery between them, the next message is retried without end.

use crate::outcome::Outcome;
use crate::words::counted;

/// Maximum number of consecutive messages that are refused.
const IN_A_ROW_MAX: u32 = 3;

/// Failures of the sink at a message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failures {
    /// Failures that count as attempts.
    pub(super) count: u32,
    /// Number of delivered messages when it first got no answer.
    delivered_before: Option<u64>,
    /// Whether an operator skips it: it is refused if the sink fails at it once more.
    pub(super) is_skipped: bool,
}

impl Failures {
    /// Whether the sink has failed at it.
    pub(super) fn are_any(&self) -> bool {
        self.count > 0 || self.delivered_before.is_some()
    }
}

/// Counts the attempts of messages.
#[derive(Debug)]
pub(super) struct GivingUp {
    /// Maximum attempts per message; 0: without end.
    attempts_max: u32,
    /// Messages refused since the last delivered one.
    in_a_row: u32,
}

impl GivingUp {
    pub(super) fn after(attempts_max: u32) -> Self {
        Self {
            attempts_max,
            in_a_row: 0,
        }
    }

    /// The outcome of a message with the earlier `failures`. `delivered`: number of all messages
    /// delivered so far.
    pub(super) fn judged(
        &mut self,
        failures: &mut Failures,
        delivered: u64,
        outcome: Outcome,
    ) -> Outcome {
        let (why, counts) = match outcome {
            Outcome::Done => {
                self.in_a_row = 0;
                return Outcome::Done;
            }
            Outcome::FailedAtMessage(why) => (why, true),
            Outcome::NoAnswer(why) => {
                let first = *failures.delivered_before.get_or_insert(delivered);
                (why, delivered > first)
            }
            other => return other,
        };
        failures.count += u32::from(counts && failures.count < u32::MAX);
        let is_last = self.attempts_max > 0 && failures.count >= self.attempts_max;
        if failures.is_skipped || is_last && self.in_a_row < IN_A_ROW_MAX {
            self.in_a_row += u32::from(!failures.is_skipped);
            let attempts = counted(u64::from(failures.count), "attempt");
            return Outcome::Refused(format!("{why} ({attempts})"));
        }
        Outcome::FailedAtMessage(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Outcome {
        Outcome::FailedAtMessage("500".to_owned())
    }

    fn is_given_up(giving_up: &mut GivingUp, failures: &mut Failures) -> bool {
        match giving_up.judged(failures, 0, failed()) {
            Outcome::Refused(why) => {
                let attempts = counted(u64::from(failures.count), "attempt");
                assert_eq!(why, format!("500 ({attempts})"));
                true
            }
            outcome => {
                assert_eq!(outcome, failed());
                false
            }
        }
    }

    #[test]
    fn a_target_that_answers_nothing_at_all_keeps_its_messages() {
        let (mut giving_up, mut failures) = (GivingUp::after(2), Failures::default());
        let mut judged = |delivered| {
            let silent = Outcome::NoAnswer("silent".to_owned());
            giving_up.judged(&mut failures, delivered, silent)
        };
        let tried_again = Outcome::FailedAtMessage("silent".to_owned());
        assert!((0..100).all(|_| judged(7) == tried_again));
        assert_eq!(judged(8), tried_again);
        let given_up = Outcome::Refused("silent (2 attempts)".to_owned());
        assert_eq!(judged(8), given_up);
    }

    #[test]
    fn what_an_operator_gives_up_is_refused_at_its_next_failure() {
        let mut giving_up = GivingUp::after(0);
        let mut failures = Failures::default();
        assert!(!is_given_up(&mut giving_up, &mut failures));
        failures.is_skipped = true;
        assert!(is_given_up(&mut giving_up, &mut failures));
    }

    #[test]
    fn a_message_is_given_up_after_its_attempts() {
        let (mut giving_up, mut failures) = (GivingUp::after(3), Failures::default());
        let mut is_over = || is_given_up(&mut giving_up, &mut failures);
        assert_eq!([is_over(), is_over(), is_over()], [false, false, true]);
        let (mut never, mut failures) = (GivingUp::after(0), Failures::default());
        assert!((0..100).all(|_| !is_given_up(&mut never, &mut failures)));
        let down = Outcome::Failed("refused".to_owned());
        let (mut once, mut failures) = (GivingUp::after(1), Failures::default());
        assert_eq!(once.judged(&mut failures, 0, down.clone()), down);
    }

    #[test]
    fn a_target_that_fails_at_all_messages_keeps_those_behind_the_first_ones() {
        let mut giving_up = GivingUp::after(1);
        let given_up = (0..10).filter(|_| is_given_up(&mut giving_up, &mut Failures::default()));
        assert_eq!(given_up.count(), 3);
        assert_eq!(
            giving_up.judged(&mut Failures::default(), 0, Outcome::Done),
            Outcome::Done
        );
        assert!(is_given_up(&mut giving_up, &mut Failures::default()));
    }
}
