//! Whether the target refuses the credentials of the webhook.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::StatusCode;

use crate::sink::AccessRefused;

/// State of the credentials according to the answers of the target.
#[derive(Debug, Default)]
pub(super) struct Access(Mutex<Option<AccessRefused>>);

impl Access {
    /// Handles an answer to a request with messages.
    pub(super) fn answered(&self, status: StatusCode) {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_refusal = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        *refused = is_refusal.then(|| AccessRefused {
            status: status.as_u16(),
            since_ms: match *refused {
                Some(before) if before.status == status.as_u16() => before.since_ms,
                _ => now_ms(),
            },
        });
    }

    /// The refusal in the last answer, if any.
    pub(super) fn refused(&self) -> Option<AccessRefused> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now_ms() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(0, |time| {
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_says_whether_the_credentials_are_refused() {
        let access = Access::default();
        let status = |access: &Access| access.refused().map(|refused| refused.status);
        assert_eq!(status(&access), None);
        access.answered(StatusCode::UNAUTHORIZED);
        let first = access.refused();
        access.answered(StatusCode::UNAUTHORIZED);
        assert_eq!(access.refused(), first);
        access.answered(StatusCode::FORBIDDEN);
        assert_eq!(status(&access), Some(403));
        for other in [StatusCode::NO_CONTENT, StatusCode::BAD_REQUEST] {
            access.answered(StatusCode::UNAUTHORIZED);
            access.answered(other);
            assert_eq!(status(&access), None);
        }
    }
}
