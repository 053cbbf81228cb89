//! Authentication of clients: sources of credentials are asked in the order of the configuration,
//! outside the data plane.
//!
//! What was verified is remembered for a while under a keyed digest of *all* credentials, so that a
//! thousand clients that come back at once are not a thousand hashes of passwords, and so that part
//! of another client's credentials is not enough. The same question is asked once, whatever number
//! of clients wait for its answer. Where a source fails, clients are refused.
//!
//! * `applicants`: clients without credentials of their own, which register as devices
//! * `payload_key`: messages that name their device by `api_key`
//! * `elsewhere`: clients of other brokers, and what is to be forgotten
//! * `logins`: logins to the panel, which count too
//! * `proving`: passwords that are proved in steps and not sent
//! * `policy`: the chain of a realm, and the rights of clients without a name
//! * [`sources`]: where credentials are kept
//! * `slots`: the order in which passwords are checked
//! * `verified`: what is remembered

mod applicants;
mod elsewhere;
mod logins;
mod mistaken_key;
mod payload_key;
mod policy;
mod proving;
mod slots;
pub mod sources;
mod verified;
mod why;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use martlet_broker::{
    Authenticated, Authentication, Claim, Identity, LoginWaiter, PartIdentity, Password, Proof,
    Realm, Refusal, RefusalCause, Revocation, RevocationReason, RevokedClients, TenantId,
};
use martlet_codec::ReasonCode;
use martlet_lockout::{Failures, LoginAttempt, refused_for};
use martlet_registry::{Snapshot, may_be_provisioning_key};
use tokio::runtime::Handle;

use crate::text::typed;
use policy::{Decided, SourceSelection};
use slots::Slots;
use sources::Hashing;
use verified::{ClientMark, Digest, Digester, Times, Verified};

pub use applicants::{APPLICANT, key_of_applicant};
pub(crate) use applicants::{names_applicant, response_topic};
pub use elsewhere::Elsewhere;
pub use logins::{Locked, LoginInSlot};
pub use martlet_lockout::{LockedOut, Lockout, LockoutEntry, LockoutTarget};
pub use policy::{
    Chain, CredentialSource, Knowledge, Looking, LookupResult, Policy, Pretending, Refreshing,
    ScramUser, SourceKind, Standing,
};
pub use slots::SlotRequest;
pub(crate) use why::{Admission, NamedParts};
#[cfg(test)]
pub(crate) use why::{AdmissionFacts, Lockout as LockoutFacts};

/// Maximum number of waiting requests. Beyond it clients get an error and may try again.
const WAITING_MAX: usize = 100_000;

/// Bytes of the names and credentials in them, at most.
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes that each of them takes beside that, approximately.
const WAITER_BYTES: usize = 512;

/// The questions and bytes that a client may find in use: strangers leave a quarter of `bytes_max`
/// to clients that have logged in recently.
fn room(is_known: bool, bytes_max: usize) -> (usize, usize) {
    match is_known {
        true => (WAITING_MAX, bytes_max),
        false => (WAITING_MAX / 4 * 3, bytes_max / 4 * 3),
    }
}

/// Writes which credentials were used; whether they stand in the tables then.
pub type WriteUses = Box<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// A client waits no longer until its first use of a secret is written. Then it is accepted, even
/// if the tables cannot be written.
const FIRST_USE_MAX: Duration = Duration::from_secs(2);

/// Receiver of an answer.
type AnswerLogin = Box<dyn FnOnce(Authenticated) + Send>;

/// The chain of a node.
#[derive(Clone)]
pub struct AuthenticationChain(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    digester: Digester,
    /// For verifiers of unknown names.
    fake_verifier_key: [u8; 32],
    /// Where verifiers are looked for.
    hashing: Hashing,
    /// For one login to the panel after the other.
    logins: Slots,
    /// Writes which credentials were used.
    uses: OnceLock<WriteUses>,
    /// Checks provisioning keys.
    provisioning_keys: OnceLock<CheckKey>,
    runtime: Handle,
}

struct State {
    policy: Arc<Policy>,
    verified: Verified,
    failures: Failures,
    /// Requests in progress, with all that wait for the answer.
    asking: HashMap<Digest, Asking>,
    /// Number of the last request.
    last_number: u64,
    waiting: usize,
    /// Bytes of the questions under way.
    waiting_bytes: usize,
    /// Bytes of the questions under way, at most.
    waiting_bytes_max: usize,
    /// Number of the last revocation.
    revoked: u64,
}

/// A lockout, as it is for one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedClient {
    /// For how long, and why.
    pub why: String,
    /// The user name is locked out; else the address is.
    pub is_of_name: bool,
    /// How long the client is accepted nevertheless, with the credentials that were right before:
    /// they are remembered. None: it is kept out.
    pub accepted_for: Option<Duration>,
}

/// A question under way.
struct Asking {
    number: u64,
    client: ClientMark,
    /// Whether its answer is not remembered.
    is_forgotten: bool,
    waiting: Vec<(LoginWaiter, AnswerLogin)>,
}

impl fmt::Debug for AuthenticationChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthenticationChain")
    }
}

impl AuthenticationChain {
    /// A chain whose sources are asked on `runtime`. `key` is random and this process's alone. What
    /// it remembers takes about `bytes_max` at most; none: limits of its own.
    pub fn new(
        policy: Arc<Policy>,
        runtime: Handle,
        key: &[u8; 32],
        bytes_max: Option<usize>,
    ) -> Self {
        let mut verified = Verified::default();
        let mut failures = Failures::new(typed);
        let mut waiting_bytes_max = WAITING_BYTES_MAX;
        if let Some(part) = bytes_max.map(|bytes| bytes / 4) {
            failures.set_bytes_max(part);
            verified.set_bytes_max(part);
            // The longest password fits in.
            waiting_bytes_max = WAITING_BYTES_MAX.min((2 * part).max(1 << 20));
        }
        let digester = Digester::new(key);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Inner {
            fake_verifier_key: digester.key_for(b"made-up verifiers"),
            hashing: Hashing::new(cores),
            logins: Slots::new(1),
            uses: OnceLock::new(),
            provisioning_keys: OnceLock::new(),
            state: Mutex::new(State {
                policy,
                verified,
                failures,
                asking: HashMap::new(),
                last_number: 0,
                waiting: 0,
                waiting_bytes: 0,
                waiting_bytes_max,
                revoked: 0,
            }),
            digester,
            runtime,
        }))
    }

    /// From now on the first use of a device's secret is written before the device is accepted.
    pub fn write_uses_by(&self, write: WriteUses) {
        // It is set once, before the node takes clients.
        let _ = self.0.uses.set(write);
    }

    /// Authenticates a client. Does not block: cached answers are given at once, on this thread.
    pub fn ask(
        &self,
        mut request: Authentication,
        answer: impl FnOnce(Authenticated) + Send + 'static,
    ) {
        let address = request.address.map(|(address, _)| address);
        let policy = self.policy();
        let is_applicant = shown_key(&request).is_some();
        if is_applicant {
            // Wrong keys count for the address: the name is nobody's yet.
            request.user_name = None;
        }
        let shown = match request.step {
            None if !is_applicant => policy.settle_tenant(&mut request),
            _ => None,
        };
        // The tenant of a client that authenticates in steps is known once it has named itself.
        if let Some(step) = &request.step {
            return self.prove(&request, step, Box::new(answer));
        }
        let name = request.user_name.as_deref();
        let tenant = request.realm.tenant();
        let claim = claim_of(request.realm, shown.as_ref().or(request.user_name.as_ref()));
        let answer = move |found: Authenticated| answer(found.claimed(claim));
        if let Some(why) = policy.banned(tenant, &request.client_id, name, address) {
            return answer(refused_for(ReasonCode::Banned, why));
        }
        let mut state = self.0.lock();
        if !request.listener.authenticate && !state.policy.realms.contains_key(&request.realm) {
            // Nothing but a ban keeps it out. Its identity is not looked at.
            let last_revocation = state.revoked;
            drop(state);
            return answer(Authenticated::Accepted {
                identity: Identity::anyone(),
                last_revocation,
                data: None,
            });
        }
        if request.user_name.is_none()
            && request.password.is_none()
            && request.certificate.is_none()
        {
            let (policy, last_revocation) = (Arc::clone(&state.policy), state.revoked);
            drop(state);
            return answer(policy.anonymous(&request, last_revocation));
        }
        let digest = self.0.digester.of(&request);
        if let Some(verified) = state.verified.get(&digest, Instant::now()) {
            drop(state);
            return answer(verified);
        }
        let attempt = LoginAttempt {
            realm: request.realm,
            address,
            user_name: request.user_name.clone(),
            // TLS has seen to it that the certificate is the client's: there is nothing to guess.
            is_proved: request.certificate.is_some() && request.password.is_none(),
        };
        if let Some(why) = state.failures.refusal(&attempt, Instant::now()) {
            drop(state);
            return answer(refused_for(ReasonCode::ConnectionRateExceeded, why));
        }
        let bytes = bytes_of(&request);
        let is_known = state.failures.is_at_home(&attempt, Instant::now());
        let (waiting_max, bytes_max) = room(is_known, state.waiting_bytes_max);
        if state.waiting >= waiting_max || state.waiting_bytes + bytes > bytes_max {
            drop(state);
            return answer(Authenticated::failed(too_many_wait()));
        }
        state.waiting += 1;
        let number = state.last_number + 1;
        let waiter: (LoginWaiter, AnswerLogin) = (request.waiter.clone(), Box::new(answer));
        match state.asking.entry(digest) {
            Entry::Occupied(mut others) => others.get_mut().waiting.push(waiter),
            Entry::Vacant(first) => {
                let client = self.client_mark(request.realm, name, &request.client_id);
                first.insert(Asking {
                    number,
                    client,
                    is_forgotten: false,
                    waiting: vec![waiter],
                });
                state.last_number = number;
                state.waiting_bytes += bytes;
                let decided_by = (Arc::clone(&state.policy), state.revoked);
                let slot_request = self.slot_request(&state, &attempt, digest, number);
                let question = LoginQuestion {
                    inner: Arc::clone(&self.0),
                    digest,
                    client,
                    number,
                    bytes,
                };
                drop(state);
                self.find_out(question, decided_by, request, attempt, slot_request);
            }
        }
    }

    /// A request for a slot. It is dropped when all its connections have ended, or the client is
    /// locked out meanwhile.
    fn slot_request(
        &self,
        state: &State,
        attempt: &LoginAttempt,
        digest: Digest,
        number: u64,
    ) -> SlotRequest {
        let (inner, asks) = (Arc::downgrade(&self.0), attempt.clone());
        let is_wanted = move || {
            let Some(inner) = inner.upgrade() else {
                return false;
            };
            let mut state = inner.lock();
            let is_locked = state.failures.locked(&asks, Instant::now()).is_some();
            let removed = state.take_abandoned(&digest, number);
            drop(state);
            removed.is_none() && !is_locked
        };
        SlotRequest {
            is_wanted: Some(Arc::new(is_wanted)),
            ..SlotRequest::of(&state.failures, attempt)
        }
    }

    fn find_out(
        &self,
        question: LoginQuestion,
        (policy, last_revocation): (Arc<Policy>, u64),
        request: Authentication,
        attempt: LoginAttempt,
        slot_request: SlotRequest,
    ) {
        self.0.runtime.spawn(async move {
            let decided = (SourceSelection::AllSources, last_revocation);
            let inner = &question.inner;
            let found = inner.find_out(&request, &policy, decided, &attempt, &slot_request);
            let found = found.await;
            question.answer(found, &policy);
        });
    }

    /// Sets the policy. What was verified by the old policy is forgotten; clients that would no
    /// longer be accepted are revoked, and these revocations are returned for all shards. Clients
    /// that are being authenticated are not accepted by the old policy.
    pub fn set_policy(&self, policy: Arc<Policy>) -> Vec<Revocation> {
        // Without the lock: there may be a hundred thousand users.
        let old = self.policy();
        policy.inherit(&old);
        let removed = old.no_longer_valid(&policy);
        self.put_policy(policy, removed)
    }

    fn put_policy(
        &self,
        policy: Arc<Policy>,
        removed: Vec<(Realm, RevokedClients)>,
    ) -> Vec<Revocation> {
        let removed = removed.into_iter().map(|(realm, whose)| {
            let reason = policy.revoked_for(realm, &whose);
            (realm, whose, reason)
        });
        let removed = removed.collect();
        let mut state = self.0.lock();
        state.policy = policy;
        state.revoke(removed)
    }

    /// From now on the bans and teams of these tables apply, against which no login is checked.
    pub fn set_idle_tables(&self, tables: Option<Arc<Snapshot>>) {
        let mut state = self.0.lock();
        state.policy = Arc::new(state.policy.with_idle_tables(tables));
    }

    /// Replaces the tables by newer ones, which differ in these users and devices. Does the same as
    /// [`AuthenticationChain::set_policy`], which takes longer the more users there are. Returns
    /// the policy too.
    pub fn set_tables(
        &self,
        tables: &Arc<Snapshot>,
        names: &[Arc<str>],
    ) -> (Arc<Policy>, Vec<Revocation>) {
        let old = self.policy();
        let policy = Arc::new(old.with_tables(tables));
        let removed = old.removed_from_tables(&policy, names);
        (Arc::clone(&policy), self.put_policy(policy, removed))
    }

    /// Refreshes what changes elsewhere, such as the keys of a server. Returns the revocations for
    /// all shards.
    pub async fn refresh(&self) -> Vec<Revocation> {
        let policy = self.policy();
        let mut removed = Vec::new();
        for (realm, chain) in &policy.realms {
            for source in &chain.sources {
                let Some(refreshing) = source.refresh() else {
                    continue;
                };
                let whose = refreshing.await.into_iter();
                removed.extend(whose.map(|whose| (*realm, whose)));
            }
        }
        match removed.is_empty() {
            true => Vec::new(),
            false => {
                let reason = RevocationReason::Credentials;
                let removed = removed.into_iter();
                let removed = removed.map(|(realm, whose)| (realm, whose, reason));
                self.0.lock().revoke(removed.collect())
            }
        }
    }

    fn client_mark(&self, realm: Realm, user_name: Option<&str>, client_id: &str) -> ClientMark {
        self.0.digester.client(realm, user_name, client_id)
    }

    /// The lockout of this name of this realm, from this address or from any address without an
    /// earlier login, as it is for this client.
    pub fn locked(
        &self,
        realm: Realm,
        user_name: &str,
        client_id: &str,
        address: Option<IpAddr>,
    ) -> Option<LockedClient> {
        let client = self.client_mark(realm, Some(user_name), client_id);
        let attempt = LoginAttempt {
            realm,
            address,
            user_name: Some(user_name.into()),
            is_proved: false,
        };
        let now = Instant::now();
        let state = self.0.lock();
        let why = state.failures.locked(&attempt, now)?;
        let accepted_until = state.verified.accepted_until(client, now);
        Some(LockedClient {
            why,
            is_of_name: state.failures.is_locked_by_name(&attempt, now),
            accepted_for: accepted_until.map(|until| until.saturating_duration_since(now)),
        })
    }

    /// Memory is short: of the answers that are remembered, the latest are enough.
    pub(crate) fn give_back(&self) {
        self.0.lock().verified.give_back();
    }

    /// Approximate number of bytes of what is remembered of clients and of the questions under way.
    pub(crate) fn memory_bytes(&self) -> usize {
        let state = self.0.lock();
        let waiting = state.waiting_bytes + state.waiting * WAITER_BYTES;
        let hashing = self.0.hashing.memory_bytes();
        waiting + state.verified.memory_bytes() + state.failures.memory_bytes() + hashing
    }

    /// The lockouts in force now.
    pub fn locked_out(&self) -> LockedOut {
        self.0.lock().failures.locked_out(Instant::now())
    }

    /// A user or device of a tenant, by whose rules a part publishes.
    ///
    /// # Errors
    /// No user or device of this name may log in; the reason in words.
    pub fn identity(&self, tenant: TenantId, name: &str) -> Result<PartIdentity, String> {
        let (policy, last_revocation) = {
            let state = self.0.lock();
            (Arc::clone(&state.policy), state.revoked)
        };
        let identity = policy.identity_of(Realm::of_tenant(tenant), name)?;
        Ok(PartIdentity {
            identity,
            last_revocation,
        })
    }

    /// The rules in force.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.0.lock().policy)
    }
}

/// Wrong credentials are answered at the end of such a step of time after the request. So the time
/// of an answer does not show whether the name is a user's, a device's or unknown, which are looked
/// up in different ways.
const REFUSAL_STEP: Duration = Duration::from_millis(50);

/// However long a hash takes, a step is not longer.
const REFUSAL_STEP_MAX: Duration = Duration::from_secs(1);

/// A hash fits in a step twice: it may have to wait for a core.
fn refusal_step(hash_time: Duration) -> Duration {
    let least = REFUSAL_STEP.as_micros();
    let steps = (2 * hash_time.as_micros()).div_ceil(least).max(1);
    Duration::from_micros((steps * least) as u64).min(REFUSAL_STEP_MAX)
}

/// How long an answer waits until the step has ended.
fn until_answered(step: Duration, past: Duration) -> Duration {
    let past = past.as_micros() % step.as_micros();
    step - Duration::from_micros(past as u64)
}

fn is_wrong(found: &Authenticated) -> bool {
    matches!(found, Authenticated::Refused { reason, .. }
        if *reason == ReasonCode::BadUserNameOrPassword)
}

/// Refusal of a client for which there is no place among those that wait.
fn too_many_wait() -> Refusal {
    let cause = RefusalCause::LoginsWait;
    Refusal::operators_only(cause, cause.text())
}

/// The claims of a client in this realm.
fn claim_of(realm: Realm, user_name: Option<&Arc<str>>) -> Claim {
    Claim {
        tenant: realm.tenant(),
        user_name: user_name.cloned(),
    }
}

/// Bytes that a question takes while it waits.
fn bytes_of(request: &Authentication) -> usize {
    let password = request
        .password
        .as_ref()
        .map_or(0, |password| password.bytes().len());
    let name = request.user_name.as_ref().map_or(0, |name| name.len());
    let certificate = request.certificate.as_ref().map_or(0, |found| found.len());
    512 + request.client_id.len() + name + password + certificate
}

impl Inner {
    /// Asks the sources. What is wrong counts, and is answered later.
    async fn find_out(
        &self,
        request: &Authentication,
        policy: &Policy,
        decided: (SourceSelection, u64),
        attempt: &LoginAttempt,
        slot_request: &SlotRequest,
    ) -> Decided {
        let begun = Instant::now();
        let (found, limit) = match shown_key(request) {
            Some(key) => (
                self.applicant_by_key(request, policy, decided.1, key).await,
                // It may be revoked at any time, and is shown once.
                Some(Duration::ZERO),
            ),
            None => {
                let (which, last_revocation) = decided;
                let found = policy.decide(request, which, last_revocation, slot_request);
                found.await
            }
        };
        self.write_first_use(request, &found, policy).await;
        let (found, wait) = self.lock().judge(found, attempt, policy);
        let wait = match is_wrong(&found) {
            true => {
                let step = refusal_step(policy.hash_time(request, slot_request).await);
                wait.max(until_answered(step, begun.elapsed()))
            }
            false => wait,
        };
        tokio::time::sleep(wait).await;
        (found, limit)
    }

    /// The first use of a device's secret is written before the client is accepted. After that, a
    /// repeated request to add the device gives no new secret.
    async fn write_first_use(
        &self,
        request: &Authentication,
        found: &Authenticated,
        policy: &Policy,
    ) {
        let Authenticated::Accepted { identity, .. } = found else {
            return;
        };
        let (Proof::DeviceToken, Some(name), Some(secret), Some(tables), Some(write)) = (
            identity.proof,
            &identity.user_name,
            &request.password,
            policy.tables(),
            self.uses.get(),
        ) else {
            return;
        };
        let (tenant, secret) = (identity.tenant.0, secret.bytes());
        if !tables.is_first_use(tenant, name, secret) {
            return;
        }
        let written = tokio::time::timeout(FIRST_USE_MAX, write()).await;
        if written == Ok(true) {
            tables.use_is_written(tenant, name, secret);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in progress. All that wait for it get an answer, even if it fails. A later request
/// with the same credentials is a new one.
struct LoginQuestion {
    inner: Arc<Inner>,
    digest: Digest,
    client: ClientMark,
    number: u64,
    bytes: usize,
}

impl LoginQuestion {
    fn answer(&self, (found, limit): Decided, policy: &Arc<Policy>) {
        let mut state = self.inner.lock();
        let asking = state.asking.get(&self.digest);
        let asking = asking.filter(|asking| asking.number == self.number);
        let is_forgotten = asking.is_some_and(|asking| asking.is_forgotten);
        if Arc::ptr_eq(&state.policy, policy) && !is_forgotten {
            let (key, now) = ((self.digest, self.client), Instant::now());
            let times = Times::of(policy).within(limit);
            state.verified.put(key, found.clone(), now, times);
        }
        let waiting = state.take_waiting(&self.digest, self.number);
        drop(state);
        for (_, answer) in waiting {
            answer(found.clone());
        }
    }
}

impl Drop for LoginQuestion {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        state.waiting_bytes -= self.bytes;
        let waiting = state.take_waiting(&self.digest, self.number);
        drop(state);
        for (_, answer) in waiting {
            let detail = "authentication was not completed";
            let why = Refusal::operators_only(RefusalCause::LoginFailed, detail);
            answer(Authenticated::failed(why));
        }
    }
}

impl State {
    /// Forgets what was verified. Returns the revocations for all shards.
    fn revoke(
        &mut self,
        removed: Vec<(Realm, RevokedClients, RevocationReason)>,
    ) -> Vec<Revocation> {
        self.verified.clear();
        self.revoked += u64::from(!removed.is_empty());
        let number = self.revoked;
        let revocation = |(realm, whose, reason)| Revocation {
            realm,
            whose,
            number,
            reason,
        };
        removed.into_iter().map(revocation).collect()
    }

    /// Answer that is given, which counts, and how long that is to wait.
    fn judge(
        &mut self,
        found: Authenticated,
        attempt: &LoginAttempt,
        policy: &Policy,
    ) -> (Authenticated, Duration) {
        let (lockout, now) = (policy.lockout, Instant::now());
        self.failures.judge(found, attempt, lockout, now)
    }

    /// Ends a question, if it is still this one.
    fn take_waiting(&mut self, digest: &Digest, number: u64) -> Vec<(LoginWaiter, AnswerLogin)> {
        match self.asking.get(digest) {
            Some(asking) if asking.number == number => {}
            _ => return Vec::new(),
        }
        let found = self.asking.remove(digest);
        let waiting = found.map_or_else(Vec::new, |asking| asking.waiting);
        self.waiting -= waiting.len();
        waiting
    }

    /// Ends a question likewise, if all its connections have ended.
    fn take_abandoned(
        &mut self,
        digest: &Digest,
        number: u64,
    ) -> Option<Vec<(LoginWaiter, AnswerLogin)>> {
        let asking = self.asking.get(digest);
        let asking = asking.filter(|asking| asking.number == number);
        let is_wanted =
            |asking: &Asking| asking.waiting.iter().any(|(waiter, _)| !waiter.has_ended());
        let is_abandoned = !asking.is_some_and(is_wanted);
        is_abandoned.then(|| self.take_waiting(digest, number))
    }
}

/// Why a provisioning key is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// The key is unknown, has expired or was revoked: which of them, also in words.
    NotValid(RefusalCause, String),
    /// The key cannot be looked up now; in words.
    Unavailable(String),
}

/// Checks a provisioning key, and answers its id.
pub type CheckKey = Box<
    dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<String, KeyFault>> + Send>> + Send + Sync,
>;

/// The provisioning key that a client shows as its password, where its listener accepts one.
fn shown_key(request: &Authentication) -> Option<&[u8]> {
    request.listener.discovery.as_ref()?;
    let password = request.password.as_ref().map(Password::bytes)?;
    may_be_provisioning_key(password).then_some(password)
}

#[cfg(test)]
mod tests;
