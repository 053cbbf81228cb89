//! When a message at which the sink fails again and again is given up.
//!
//! A target that answers all messages with errors is at fault, and not the messages: after some in
//! a row that were given up, with none delivered between them, the next one is tried without end.

use crate::sink::Outcome;

/// Messages in a row that are given up.
const IN_A_ROW_MAX: u32 = 3;

/// Counts the attempts of messages.
#[derive(Debug)]
pub(super) struct GivingUp {
    /// Attempts of one message; 0: without end.
    attempts_max: u32,
    /// Messages that were given up since the last one that was delivered.
    in_a_row: u32,
}

impl GivingUp {
    pub(super) fn after(attempts_max: u32) -> Self {
        Self {
            attempts_max,
            in_a_row: 0,
        }
    }

    /// The outcome of a message for which the sink failed so often before.
    pub(super) fn judged(&mut self, failures: &mut u32, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Done => {
                self.in_a_row = 0;
                Outcome::Done
            }
            Outcome::FailedAtMessage(why) => {
                *failures = failures.saturating_add(1);
                let is_last = self.attempts_max > 0 && *failures >= self.attempts_max;
                if !is_last || self.in_a_row >= IN_A_ROW_MAX {
                    return Outcome::Failed(why);
                }
                self.in_a_row += 1;
                Outcome::Refused(format!("{why} ({failures} attempts)"))
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Outcome {
        Outcome::FailedAtMessage("500".to_owned())
    }

    fn is_given_up(giving_up: &mut GivingUp, failures: &mut u32) -> bool {
        match giving_up.judged(failures, failed()) {
            Outcome::Refused(why) => {
                assert_eq!(why, format!("500 ({failures} attempts)"));
                true
            }
            outcome => {
                assert_eq!(outcome, Outcome::Failed("500".to_owned()));
                false
            }
        }
    }

    #[test]
    fn a_message_is_given_up_after_its_attempts() {
        let (mut giving_up, mut failures) = (GivingUp::after(3), 0);
        let mut is_over = || is_given_up(&mut giving_up, &mut failures);
        assert_eq!([is_over(), is_over(), is_over()], [false, false, true]);
        let (mut never, mut failures) = (GivingUp::after(0), 0);
        assert!((0..100).all(|_| !is_given_up(&mut never, &mut failures)));
        let down = Outcome::Failed("refused".to_owned());
        let (mut once, mut failures) = (GivingUp::after(1), 0);
        assert_eq!(once.judged(&mut failures, down.clone()), down);
    }

    #[test]
    fn a_target_that_fails_at_all_messages_keeps_those_behind_the_first_ones() {
        let mut giving_up = GivingUp::after(1);
        let given_up = (0..10).filter(|_| is_given_up(&mut giving_up, &mut 0));
        assert_eq!(given_up.count(), 3);
        assert_eq!(giving_up.judged(&mut 0, Outcome::Done), Outcome::Done);
        assert!(is_given_up(&mut giving_up, &mut 0));
    }
}
