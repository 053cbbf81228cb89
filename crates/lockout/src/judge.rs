//! The effect of failed logins on an answer: wrong credentials count and are answered later. A
//! client that is locked out by then is refused in any case.

use std::time::{Duration, Instant};

use martlet_broker::{Authenticated, Refusal};
use martlet_codec::ReasonCode;
use martlet_fault::Fault;

use crate::failures::{Failures, Lockout, LoginAttempt};

/// A refusal with this reason code.
pub fn refused_for(reason: ReasonCode, why: Refusal) -> Authenticated {
    Authenticated::Refused {
        reason,
        why,
        claim: None,
    }
}

impl Failures {
    /// The answer to a client for this result, which is counted, and how long the answer is
    /// delayed.
    pub fn judge(
        &mut self,
        found: Authenticated,
        attempt: &LoginAttempt,
        lockout: Lockout,
        now: Instant,
    ) -> (Authenticated, Duration) {
        let found = self.unless_locked(found, attempt, now);
        let wait = self.count_answer(&found, attempt, lockout, now);
        (found, wait)
    }

    /// The result, unless too many other attempts from the address or for the name failed
    /// meanwhile. Then it is one of many guesses at once, and the answer does not show whether it
    /// was right.
    fn unless_locked(
        &self,
        found: Authenticated,
        attempt: &LoginAttempt,
        now: Instant,
    ) -> Authenticated {
        let is_told = match &found {
            Authenticated::Accepted { .. } => true,
            Authenticated::Refused { reason, .. } => matches!(
                *reason,
                ReasonCode::BadUserNameOrPassword | ReasonCode::ServerUnavailable
            ),
            Authenticated::Continue { .. } => false,
        };
        match self.refusal(attempt, now) {
            Some(why) if is_told && !martlet_fault::is(Fault::LockoutForgottenForWaiting) => {
                refused_for(ReasonCode::ConnectionRateExceeded, why)
            }
            _ => found,
        }
    }

    fn count_answer(
        &mut self,
        found: &Authenticated,
        attempt: &LoginAttempt,
        lockout: Lockout,
        now: Instant,
    ) -> Duration {
        match found {
            // A login by another proof does not show that the client knows this name's password.
            Authenticated::Accepted { identity, .. }
                if attempt.user_name.is_none() || identity.user_name == attempt.user_name =>
            {
                self.succeeded(attempt, now);
            }
            Authenticated::Accepted { .. } => {}
            Authenticated::Refused { reason, .. }
                if *reason == ReasonCode::BadUserNameOrPassword =>
            {
                return self.failed(attempt, lockout, now);
            }
            Authenticated::Refused { .. } | Authenticated::Continue { .. } => {}
        }
        Duration::ZERO
    }
}
