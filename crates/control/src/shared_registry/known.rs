//! Callers that were known when the tables were last reachable: while they are not, HTTP callers
//! that were accepted before remain accepted, as clients do that the chain remembers. Rights cannot
//! be revoked meanwhile either.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use crate::callers::Account;
use crate::principal::Principal;

/// Entries that are kept of each kind; the one that was requested longest ago makes room.
const KEPT: usize = 1_000;

/// Pause after a failed look-up, in which entries that are kept are not looked up again.
const PAUSE: Duration = Duration::from_secs(1);

/// Callers that keys and names stood for.
#[derive(Debug, Default)]
pub(super) struct KnownCallers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Principals by the digest of the key, with when it ends: milliseconds, 0 for never.
    keys: LastUsed<[u8; SHA256_OUTPUT_LEN], (Principal, i64)>,
    accounts: LastUsed<String, Account>,
    failed: Option<Instant>,
}

#[derive(Debug)]
struct LastUsed<K, V> {
    all: HashMap<K, (V, u64)>,
    turn: u64,
}

impl<K, V> Default for LastUsed<K, V> {
    fn default() -> Self {
        Self {
            all: HashMap::new(),
            turn: 0,
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> LastUsed<K, V> {
    fn remember(&mut self, key: K, found: Option<V>) {
        self.turn += 1;
        let Some(found) = found else {
            self.all.remove(&key);
            return;
        };
        if self.all.len() >= KEPT && !self.all.contains_key(&key) {
            let oldest = self.all.iter().min_by_key(|(_, (_, turn))| *turn);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.all.remove(&oldest);
            }
        }
        self.all.insert(key, (found, self.turn));
    }

    fn get(&self, key: &K) -> Option<V> {
        self.all.get(key).map(|(value, _)| value.clone())
    }
}

/// Digest of a key. No key is kept.
fn of_key(key: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut bytes = [0; SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(digest(&SHA256, key).as_ref());
    bytes
}

impl KnownCallers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tables have just failed, so cached callers need not wait for that again.
    pub(super) fn is_pausing(&self, now: Instant) -> bool {
        let failed = self.lock().failed;
        failed.is_some_and(|at| now.saturating_duration_since(at) < PAUSE)
    }

    pub(super) fn fail(&self, now: Instant) {
        self.lock().failed = Some(now);
    }

    /// Something was changed that decides about people and keys: they are asked about again.
    pub(super) fn forget(&self) {
        let mut state = self.lock();
        state.keys = LastUsed::default();
        state.accounts = LastUsed::default();
    }

    /// The last result of the tables for a key.
    pub(super) fn remember_key(&self, key: &[u8], found: Option<(Principal, i64)>) {
        let mut state = self.lock();
        state.failed = None;
        state.keys.remember(of_key(key), found);
    }

    /// The last result; none: none, or the key has expired since.
    pub(super) fn key(&self, key: &[u8], now_ms: i64) -> Option<Principal> {
        let (principal, expires_ms) = self.lock().keys.get(&of_key(key))?;
        (expires_ms == 0 || expires_ms > now_ms).then_some(principal)
    }

    /// The last result of the tables for a user.
    pub(super) fn remember_account(&self, name: &str, found: Option<Account>) {
        let mut state = self.lock();
        state.failed = None;
        state.accounts.remember(name.to_owned(), found);
    }

    /// The last result.
    pub(super) fn account(&self, name: &str) -> Option<Account> {
        self.lock().accounts.get(&name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Scopes;

    #[test]
    fn a_key_is_known_until_it_ends_or_is_taken_back() {
        let known = KnownCallers::default();
        let principal = Principal::anonymous(Scopes::all());
        known.remember_key(b"a", Some((principal.clone(), 10)));
        known.remember_key(b"b", Some((principal.clone(), 0)));
        assert_eq!(known.key(b"a", 9), Some(principal.clone()));
        assert_eq!(known.key(b"a", 10), None);
        assert_eq!(known.key(b"b", i64::MAX), Some(principal));
        assert_eq!(known.key(b"c", 0), None);
        known.remember_key(b"b", None);
        assert_eq!(known.key(b"b", 0), None);
        known.remember_key(b"b", Some((Principal::anonymous(Scopes::NONE), 0)));
        known.forget();
        assert_eq!(known.key(b"b", 0), None);
    }

    #[test]
    fn who_was_asked_about_longest_ago_makes_room() {
        let known = KnownCallers::default();
        let principal = Principal::anonymous(Scopes::NONE);
        for number in 0..=KEPT {
            let key = number.to_string();
            known.remember_key(key.as_bytes(), Some((principal.clone(), 0)));
            known.remember_key(b"0", Some((principal.clone(), 0)));
        }
        assert!(known.key(b"0", 0).is_some() && known.key(b"1", 0).is_none());
        assert!(known.key(KEPT.to_string().as_bytes(), 0).is_some());
    }

    #[test]
    fn after_a_failure_those_who_are_kept_do_not_wait() {
        let (known, now) = (KnownCallers::default(), Instant::now());
        assert!(!known.is_pausing(now));
        known.fail(now);
        assert!(known.is_pausing(now) && !known.is_pausing(now + PAUSE));
        known.remember_account("ann", None);
        assert!(!known.is_pausing(now));
    }
}
