//! Who a client is: sources of credentials, asked in the order of the configuration, away from the
//! data plane.
//!
//! What was verified is remembered for a while under a keyed digest of *all* credentials, so that a
//! thousand clients that come back at once are not a thousand hashes of passwords, and so that
//! nobody gets in on half of what somebody else had. The same question is asked once, however many
//! wait for its answer. Where a source fails nobody gets in.
//!
//! * `failures`: who tries passwords, and is slowed down and locked out
//! * `proving`: passwords that are proved in steps and not sent
//! * `policy`: the chain of a realm, and what becomes of who has no name
//! * [`sources`]: where credentials are kept
//! * `verified`: what is remembered

mod failures;
mod policy;
mod proving;
pub mod sources;
mod verified;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use martlet_broker::{Authenticated, Authentication, Revocation};
use martlet_codec::ReasonCode;
use tokio::runtime::Handle;

pub use failures::Lockout;
pub use policy::{Chain, Finding, Knowledge, Looking, Policy, Source, Standing};
pub use proving::ScramUser;

use failures::{Caller, Failures};
use sources::Hashing;
use verified::{Digest, Digester, Verified};

/// Questions that wait at most: beyond, clients are told to come again.
const WAITING_MAX: usize = 100_000;

/// Bytes of names and credentials in them at most.
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What an answer is given to.
type Answer = Box<dyn FnOnce(Authenticated) + Send>;

/// The gate of a node.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    digester: Digester,
    /// For verifiers of names that nobody has.
    made_up_key: [u8; 32],
    /// Where verifiers are looked for.
    hashing: Hashing,
    runtime: Handle,
}

struct State {
    policy: Arc<Policy>,
    verified: Verified,
    failures: Failures,
    /// Questions under way, with all who wait for the answer.
    asking: HashMap<Digest, Vec<Answer>>,
    waiting: usize,
    /// Bytes of the questions under way.
    waiting_bytes: usize,
    /// The number of the last revocation.
    revoked: u64,
    /// And when each user was last revoked.
    revoked_users: HashMap<Arc<str>, u64>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

impl Gate {
    /// A gate whose sources are asked on `runtime`. `key` is random and this process's alone.
    pub fn new(policy: Arc<Policy>, runtime: Handle, key: &[u8; 32]) -> Self {
        let digester = Digester::new(key);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Inner {
            made_up_key: digester.key_for(b"made-up verifiers"),
            hashing: Hashing::new(cores),
            state: Mutex::new(State {
                policy,
                verified: Verified::default(),
                failures: Failures::default(),
                asking: HashMap::new(),
                waiting: 0,
                waiting_bytes: 0,
                revoked: 0,
                revoked_users: HashMap::new(),
            }),
            digester,
            runtime,
        }))
    }

    /// Who is this? Does not block; what is known is answered at once, on this thread.
    pub fn ask(&self, asked: Authentication, answer: impl FnOnce(Authenticated) + Send + 'static) {
        if let Some(step) = &asked.step {
            return self.prove(&asked, step, Box::new(answer));
        }
        let mut state = self.0.lock();
        if asked.user_name.is_none() && asked.password.is_none() && asked.certificate.is_none() {
            let (policy, known) = (Arc::clone(&state.policy), state.revoked);
            drop(state);
            return answer(policy.anonymous(&asked, known));
        }
        let digest = self.0.digester.of(&asked);
        if let Some(verified) = state.verified.get(&digest, Instant::now()) {
            drop(state);
            return answer(verified);
        }
        let caller = Caller {
            address: asked.address.map(|(address, _)| address),
            user_name: asked.user_name.clone(),
        };
        if let Some(why) = state.failures.locked(&caller, Instant::now()) {
            drop(state);
            let reason = ReasonCode::ConnectionRateExceeded;
            return answer(Authenticated::Refused { reason, why });
        }
        let bytes = bytes_of(&asked);
        if state.waiting >= WAITING_MAX || state.waiting_bytes + bytes > WAITING_BYTES_MAX {
            drop(state);
            return answer(Authenticated::failed(
                "too many clients wait to be authenticated",
            ));
        }
        state.waiting += 1;
        match state.asking.entry(digest) {
            Entry::Occupied(mut others) => others.get_mut().push(Box::new(answer)),
            Entry::Vacant(first) => {
                first.insert(vec![Box::new(answer)]);
                state.waiting_bytes += bytes;
                let (policy, known) = (Arc::clone(&state.policy), state.revoked);
                drop(state);
                self.find_out(policy, asked, digest, known, caller);
            }
        }
    }

    fn find_out(
        &self,
        policy: Arc<Policy>,
        asked: Authentication,
        digest: Digest,
        known: u64,
        caller: Caller,
    ) {
        let inner = Arc::clone(&self.0);
        let mut question = Question {
            inner,
            digest,
            bytes: bytes_of(&asked),
            is_answered: false,
        };
        self.0.runtime.spawn(async move {
            let mut found = policy.decide(&asked, known).await;
            if let (Authenticated::Accepted { .. }, Some(why)) = (
                &found,
                question
                    .inner
                    .lock()
                    .failures
                    .locked(&caller, Instant::now()),
            ) {
                // Others asked from there meanwhile, and were wrong too often: one of many guesses
                // that were sent at once.
                let reason = ReasonCode::ConnectionRateExceeded;
                found = Authenticated::Refused { reason, why };
            }
            let wait = question.inner.lock().judge(&found, &caller, &policy);
            tokio::time::sleep(wait).await;
            question.answer(found, &policy);
        });
    }

    /// From now on this holds. What was verified by the old one is forgotten; users who would not
    /// be let in any more are revoked, and the answer is what has to be told to all shards.
    pub fn set_policy(&self, policy: Arc<Policy>) -> Vec<Revocation> {
        let mut state = self.0.lock();
        let old = std::mem::replace(&mut state.policy, Arc::clone(&policy));
        state.verified = Verified::default();
        drop(state);
        let users = old.no_longer_valid(&policy);
        users.iter().map(|user| self.revoke(user)).collect()
    }

    /// What holds.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.0.lock().policy)
    }

    /// The credentials of a user are not valid any more: what has to be told to all shards. Whoever
    /// is being authenticated meanwhile is not let in by what was known before.
    pub fn revoke(&self, user_name: &str) -> Revocation {
        let mut state = self.0.lock();
        state.revoked += 1;
        let (user_name, number): (Arc<str>, u64) = (user_name.into(), state.revoked);
        state.verified.forget(&user_name);
        state.revoked_users.insert(Arc::clone(&user_name), number);
        Revocation { user_name, number }
    }

    /// Forgets all that was verified: each client is asked for again when it connects.
    pub fn forget_all(&self) {
        self.0.lock().verified = Verified::default();
    }
}

/// Bytes that a question takes while it waits.
fn bytes_of(asked: &Authentication) -> usize {
    let password = asked
        .password
        .as_ref()
        .map_or(0, |password| password.bytes().len());
    let name = asked.user_name.as_ref().map_or(0, |name| name.len());
    let certificate = asked.certificate.as_ref().map_or(0, |found| found.len());
    512 + asked.client_id.len() + name + password + certificate
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question under way. Who waits for it gets an answer, whatever becomes of it.
struct Question {
    inner: Arc<Inner>,
    digest: Digest,
    bytes: usize,
    /// Who asks the same from now on asks another question, which this one is not to answer.
    is_answered: bool,
}

impl Question {
    fn answer(&mut self, found: Authenticated, policy: &Arc<Policy>) {
        let mut state = self.inner.lock();
        if Arc::ptr_eq(&state.policy, policy) && !state.is_revoked_since(&found) {
            let (digest, now) = (self.digest, Instant::now());
            state.verified.put(digest, found.clone(), now, policy);
        }
        let waiting = state.take_waiting(&self.digest);
        self.is_answered = true;
        drop(state);
        for answer in waiting {
            answer(found.clone());
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        state.waiting_bytes -= self.bytes;
        if self.is_answered {
            return;
        }
        let waiting = state.take_waiting(&self.digest);
        drop(state);
        for answer in waiting {
            answer(Authenticated::failed(
                "authentication did not come to an end",
            ));
        }
    }
}

impl State {
    /// Counts what came of a question; how long its answer is to wait.
    fn judge(&mut self, found: &Authenticated, caller: &Caller, policy: &Policy) -> Duration {
        let now = Instant::now();
        match found {
            // Who may come by another proof has not shown to know that name's.
            Authenticated::Accepted { identity, .. } if identity.user_name == caller.user_name => {
                self.failures.succeeded(caller, now);
            }
            Authenticated::Accepted { .. } => {}
            Authenticated::Refused { reason, .. }
                if *reason == ReasonCode::BadUserNameOrPassword =>
            {
                return self.failures.failed(caller, policy.lockout, now);
            }
            Authenticated::Refused { .. } | Authenticated::Continue { .. } => {}
        }
        Duration::ZERO
    }

    fn take_waiting(&mut self, digest: &Digest) -> Vec<Answer> {
        let waiting = self.asking.remove(digest).unwrap_or_default();
        self.waiting -= waiting.len();
        waiting
    }

    fn is_revoked_since(&self, found: &Authenticated) -> bool {
        let Authenticated::Accepted {
            identity, known, ..
        } = found
        else {
            return false;
        };
        let name = identity.user_name.as_ref();
        let revoked = name.and_then(|name| self.revoked_users.get(name));
        revoked.is_some_and(|number| number > known)
    }
}

#[cfg(test)]
mod tests;
