//! The token of the link by which the first administrator is made.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::secret::{are_equal, digest_of, random_text};

/// Name of the warning that the node has no administrator yet.
pub const UNCLAIMED: &str = "unclaimed";

/// How long the link is good for.
const VALID: Duration = Duration::from_secs(60 * 60);

/// The link's token, as far as the node knows it.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    made: Mutex<Option<([u8; 32], Instant)>>,
}

impl Setup {
    /// A new token; one that was made before is not good any more.
    pub(crate) fn make(&self) -> Option<String> {
        let token = random_text()?;
        *self.made() = Some((digest_of(token.as_bytes()), Instant::now()));
        Some(token)
    }

    pub(super) fn is_good(&self, token: &str, now: Instant) -> bool {
        let made = *self.made();
        made.is_some_and(|(digest, at)| {
            are_equal(&digest, &digest_of(token.as_bytes()))
                && now.saturating_duration_since(at) < VALID
        })
    }

    pub(super) fn use_up(&self) {
        *self.made() = None;
    }

    fn made(&self) -> MutexGuard<'_, Option<([u8; 32], Instant)>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_an_hour_and_until_it_is_used() {
        let setup = Setup::default();
        let now = Instant::now();
        assert!(!setup.is_good("", now));
        let token = setup.make().unwrap();
        assert!(setup.is_good(&token, now));
        assert!(!setup.is_good(&token, now + VALID + Duration::from_secs(1)));
        let newer = setup.make().unwrap();
        assert!(!setup.is_good(&token, now) && setup.is_good(&newer, now));
        setup.use_up();
        assert!(!setup.is_good(&newer, now));
    }
}
