//! Working out hashes of passwords: each takes a core for tens of milliseconds, so few are worked
//! out at once, and one that was right is not worked out again for a while.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::{hmac, rand};
use martlet_broker::{Authentication, Password, Refusal, RefusalCause};
use martlet_lockout::Aging;

use super::LookupResult;
use crate::authentication::Pretending;
use crate::authentication::slots::{SlotRequest, Slots};

/// Passwords remembered at most; when there are more, the oldest go.
const REMEMBERED_MAX: usize = 100_000;

/// Bytes of memory for a right password, and for two hashes if one replaced the other.
const PROOF_BYTES: usize = 160;
const RENEWED_BYTES: usize = 400;

/// Hashes of passwords are worked out on a few threads at once. All clones share them, and what
/// they remember.
#[derive(Clone)]
pub struct Hashing {
    slots: Slots,
    right: Arc<Right>,
    /// Time of recent hashes, microseconds, see [`Hashing::lately`]; 0 before the first one.
    lately_us: Arc<AtomicU64>,
    /// How long a password that was right is remembered.
    remembered: Duration,
}

/// Passwords that were right, by digests that cannot be made without the key of this process.
struct Right {
    key: hmac::Key,
    until: Mutex<Aging<Proof, Instant>>,
    /// Hashes that took the place of another of the same password, with that.
    renewed: Mutex<HashMap<String, String>>,
}

/// Proof that a password belongs to a hash. It stays valid when files and tables change: another
/// password has another hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Proof([u8; 32]);

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashing")
    }
}

impl Hashing {
    /// `at_once` hashes at the same time at most.
    pub fn new(at_once: usize) -> Self {
        let mut key = [0; 32];
        // Without randomness nothing else works either; nothing is remembered then.
        let is_random = rand::fill(&mut key).is_ok();
        Self {
            slots: Slots::new(at_once),
            right: Arc::new(Right {
                key: hmac::Key::new(hmac::HMAC_SHA256, &key),
                until: Mutex::default(),
                renewed: Mutex::default(),
            }),
            lately_us: Arc::default(),
            remembered: match is_random {
                true => Duration::from_secs(300),
                false => Duration::ZERO,
            },
        }
    }

    /// Hashing that remembers for another time, otherwise the same.
    #[must_use]
    pub fn remembering(&self, remembered: Duration) -> Self {
        Self {
            remembered: match self.remembered.is_zero() {
                true => Duration::ZERO,
                false => remembered,
            },
            ..self.clone()
        }
    }

    /// Does `work`, when it is its turn, where it blocks no other task.
    pub(super) async fn run(
        &self,
        slot_request: &SlotRequest,
        work: impl FnOnce() -> LookupResult + Send + 'static,
    ) -> LookupResult {
        let done = self.work(slot_request, self.measured(work)).await;
        done.unwrap_or_else(|| {
            let detail = "the hash could not be worked out";
            LookupResult::Failed(Refusal::operators_only(RefusalCause::LoginFailed, detail))
        })
    }

    /// Does any work likewise; none if it came to no end, or was not waited for any more.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        slot_request: &SlotRequest,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let turn = self.slots.take(slot_request).await?;
        let work = move || {
            // Held while a core computes the hash, even after the client has disconnected.
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await.ok()
    }

    /// Does `work` with the password of a client only for the time that it takes.
    pub(super) fn pretend<'a>(
        &'a self,
        request: &Authentication,
        slot_request: &'a SlotRequest,
        work: impl FnOnce(&[u8]) + Send + 'static,
    ) -> Pretending<'a> {
        let password = request.password.clone();
        let work = move || work(password.as_ref().map_or(&[][..], Password::bytes));
        Box::pin(async move {
            // Whether it was done or not waited for.
            let _done = self.work(slot_request, self.measured(work)).await;
        })
    }

    /// How long hashes take at present; none before the first one. The time of a slow one fades
    /// only by a sixteenth with each that follows, which may be as slow.
    pub(crate) fn lately(&self) -> Option<Duration> {
        let lately = self.lately_us.load(Ordering::Relaxed);
        (lately > 0).then(|| Duration::from_micros(lately))
    }

    fn measured<T, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> impl FnOnce() -> T + Send + use<T, F> {
        let lately = Arc::clone(&self.lately_us);
        move || {
            let begun = Instant::now();
            let done = work();
            let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            let before = lately.load(Ordering::Relaxed);
            lately.store(took.max(before - before / 16).max(1), Ordering::Relaxed);
            done
        }
    }

    /// Approximate number of bytes of what is remembered.
    pub(crate) fn memory_bytes(&self) -> usize {
        let renewed = self.right.renewed();
        self.right.lock().len() * PROOF_BYTES + renewed.len() * RENEWED_BYTES
    }

    /// `newer` took the place of `older`, as a stronger hash of the same password.
    pub(super) fn renewed(&self, older: String, newer: String) {
        let mut renewed = self.right.renewed();
        if renewed.len() >= REMEMBERED_MAX {
            renewed.clear();
        }
        renewed.insert(newer, older);
    }

    /// Whether it did.
    pub(super) fn is_renewal(&self, older: &str, newer: &str) -> bool {
        let renewed = self.right.renewed();
        renewed.get(newer).is_some_and(|found| found == older)
    }

    /// Proof that is remembered if this password belongs to this user's hash.
    pub(super) fn proof(&self, user_name: &str, hash: &str, password: &[u8]) -> Proof {
        let mut context = hmac::Context::with_key(&self.right.key);
        for part in [user_name, hash] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.update(password);
        let mut proof = [0; 32];
        proof.copy_from_slice(context.sign().as_ref());
        Proof(proof)
    }

    /// Whether it was worked out recently, and is true.
    pub(super) fn is_known(&self, proof: &Proof) -> bool {
        let until = self.right.lock().get(proof).copied();
        !self.remembered.is_zero() && until.is_some_and(|until| Instant::now() < until)
    }

    /// Remembers a proof that was worked out, and is true.
    pub(super) fn remember(&self, proof: Proof) {
        if self.remembered.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut right = self.right.lock();
        right.put(proof, now + self.remembered);
        while right.len() > REMEMBERED_MAX && right.take_oldest().is_some() {}
    }
}

impl Right {
    fn lock(&self) -> std::sync::MutexGuard<'_, Aging<Proof, Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renewed(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_right_is_known_for_its_hash_and_password_alone_and_for_a_while() {
        let hashing = Hashing::new(1);
        let proof = hashing.proof("user", "hash", b"password");
        assert!(!hashing.is_known(&proof));
        hashing.remember(proof);
        assert!(hashing.is_known(&hashing.proof("user", "hash", b"password")));
        assert!(!hashing.is_known(&hashing.proof("user", "other", b"password")));
        assert!(!hashing.is_known(&hashing.proof("user", "hashp", b"assword")));
        assert!(!hashing.is_known(&hashing.proof("other", "hash", b"password")));
        assert!(!Hashing::new(1).is_known(&proof));
        let forgetful = hashing.remembering(Duration::ZERO);
        assert!(!forgetful.is_known(&proof));
        let short = hashing.remembering(Duration::from_nanos(1));
        short.remember(proof);
        assert!(!short.is_known(&proof));
    }
}
