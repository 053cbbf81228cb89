//! Sessions that are open.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use martlet_control::callers::Account;

use crate::secret::{are_equal, digest_of, random_text};

/// Time without a request after which a session ends.
pub(super) const IDLE: Duration = Duration::from_secs(30 * 60);

/// Time after its beginning at which a session ends in any case.
pub(super) const ABSOLUTE: Duration = Duration::from_secs(12 * 60 * 60);

/// Sessions at once, at most; the one that has been unused for longest makes room.
const SESSIONS_MAX: usize = 10_000;

/// Bytes that a session takes beside its texts, approximately.
const SESSION_BYTES: usize = 200;

/// Where the token against forged requests is sent.
pub(crate) const CSRF_HEADER: &str = "x-csrf-token";

/// Open sessions, by the digest of the cookie.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<[u8; 32], LoginSession>>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct LoginSession {
    pub(crate) user: String,
    pub(crate) generation: u64,
    pub(super) csrf: String,
    pub(super) begun: Instant,
    used: Instant,
}

impl LoginSession {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) >= IDLE
            || now.saturating_duration_since(self.begun) >= ABSOLUTE
    }

    /// The request shows the token that only pages of this node know.
    pub(crate) fn is_meant(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(CSRF_HEADER);
        shown.is_some_and(|shown| are_equal(shown.as_bytes(), self.csrf.as_bytes()))
    }
}

impl Sessions {
    /// A new one: what its cookie holds, and itself.
    pub(super) fn begin(&self, account: &Account, now: Instant) -> Option<(String, LoginSession)> {
        let cookie = random_text()?;
        let session = LoginSession {
            user: account.name.clone(),
            generation: account.generation,
            csrf: random_text()?,
            begun: now,
            used: now,
        };
        let mut open = self.open();
        open.retain(|_, session| !session.is_over(now));
        if open.len() >= SESSIONS_MAX {
            let oldest = open.iter().min_by_key(|(_, session)| session.used);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                open.remove(&oldest);
            }
        }
        open.insert(digest_of(cookie.as_bytes()), session.clone());
        Some((cookie, session))
    }

    /// The one of this cookie, which is used now.
    pub(crate) fn of_cookie(&self, cookie: &[u8], now: Instant) -> Option<LoginSession> {
        let mut open = self.open();
        let digest = digest_of(cookie);
        let session = open.get_mut(&digest)?;
        if session.is_over(now) {
            open.remove(&digest);
            return None;
        }
        session.used = now;
        Some(session.clone())
    }

    /// Ends it.
    pub(crate) fn end(&self, cookie: &[u8]) {
        self.open().remove(&digest_of(cookie));
    }

    /// Approximate number of bytes that they take.
    pub(crate) fn memory_bytes(&self) -> usize {
        let open = self.open();
        let each = |session: &LoginSession| SESSION_BYTES + session.user.len() + session.csrf.len();
        open.values().map(each).sum()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<[u8; 32], LoginSession>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use martlet_control::principal::Role;

    fn account() -> Account {
        Account {
            name: "ada".to_owned(),
            role: Role::Viewer,
            team: None,
            tenant: martlet_broker::TenantId::default(),
            generation: 1,
        }
    }

    #[test]
    fn a_session_ends_when_it_is_idle_and_when_its_time_is_over() {
        let (sessions, begun) = (Sessions::default(), Instant::now());
        let (cookie, _) = sessions.begin(&account(), begun).unwrap();
        let at = |minutes: u64| begun + Duration::from_secs(minutes * 60);
        assert!(sessions.of_cookie(cookie.as_bytes(), at(29)).is_some());
        assert!(sessions.of_cookie(cookie.as_bytes(), at(58)).is_some());
        assert!(sessions.of_cookie(cookie.as_bytes(), at(88)).is_none());
        let (cookie, _) = sessions.begin(&account(), begun).unwrap();
        for minutes in (0..12 * 60).step_by(20) {
            assert!(sessions.of_cookie(cookie.as_bytes(), at(minutes)).is_some());
        }
        assert!(sessions.of_cookie(cookie.as_bytes(), at(12 * 60)).is_none());
    }
}
