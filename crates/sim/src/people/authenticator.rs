//! The authenticator: authenticates clients for the node, like the control plane. It takes time,
//! and its data may change meanwhile. Failed logins are counted, and lead to lockouts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use martlet_broker::{
    Authenticated, Authentication, ConnectionId, CredentialMark, Identity, Password,
    PasswordSource, Proof, Realm, RefusalCause, Voucher,
};
use martlet_codec::ReasonCode;
use martlet_lockout::{Failures, Lockout, LockoutTarget, LoginAttempt, refused_for};

use super::{Login, People, State};
use crate::node::LinkIndex;
use crate::random::Random;
use crate::topics::Topics;

/// Decision of the authenticator about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginVerdict {
    /// Accepted as its user.
    Accepted,
    /// The credentials are wrong.
    Wrong,
    /// Right or wrong: the name or the address is locked out.
    LockedOut,
    /// They are right, but the user is disabled.
    NotNow,
}

/// A decision.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// The connection.
    pub link: LinkIndex,
    /// The decision.
    pub verdict: LoginVerdict,
    /// The tenant in which its name was looked up.
    pub tenant: u32,
    /// The login, if it was accepted.
    pub login: Option<Login>,
}

/// A client that waits.
#[derive(Debug)]
struct WaitingClient {
    at_us: u64,
    shard: usize,
    connection: ConnectionId,
    link: LinkIndex,
    realm: Realm,
    /// `None` after the decision.
    attempt: Option<LoginAttempt>,
    answer: Authenticated,
    login: Option<Login>,
}

/// The authenticator.
#[derive(Debug)]
pub struct Authenticator {
    failures: Failures,
    lockout: Lockout,
    /// Start of the run: the failure counter does not use virtual time.
    origin: Instant,
    random: Random,
    /// Maximum time of a lookup, microseconds.
    look_us: u64,
    /// Number of the last revocation.
    pub(super) revoked: u64,
    waiting: Vec<WaitingClient>,
}

impl Authenticator {
    /// An authenticator with these lockout settings.
    pub fn new(lockout: Lockout, look_us: u64, random: Random) -> Self {
        Self {
            failures: Failures::new(str::to_owned),
            lockout,
            origin: Instant::now(),
            random,
            look_us,
            revoked: 0,
            waiting: Vec::new(),
        }
    }

    fn moment(&self, now_us: u64) -> Instant {
        self.origin + Duration::from_micros(now_us)
    }

    /// The node has ended, with all waiting clients.
    pub fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Lifts all lockouts.
    pub fn lift_all(&mut self, now_us: u64) {
        let now = self.moment(now_us);
        self.failures.lift(None, &LockoutTarget::Everybody, now);
    }

    /// A shard requests authentication of a client. Returns when there is work.
    pub fn ask(
        &mut self,
        now_us: u64,
        shard: usize,
        link: LinkIndex,
        request: &Authentication,
        people: &People,
        topics: &Topics,
    ) -> u64 {
        let address = request.address.map(|(address, _)| address);
        let name = request.user_name.as_deref().unwrap_or_default();
        let user = People::find(name);
        let standing = user.and_then(|user| people.current().get(usize::from(user)));
        let realm = standing.map_or(Realm::COMMON, |found| Realm::of_tenant(found.tenant));
        let attempt = LoginAttempt {
            realm,
            address,
            user_name: request.user_name.clone(),
            is_proved: false,
        };
        let mut waiting = WaitingClient {
            at_us: now_us,
            shard,
            connection: request.connection,
            link,
            realm,
            attempt: None,
            answer: Authenticated::refused(RefusalCause::Forbidden.into()),
            login: None,
        };
        if let Some(why) = self.failures.refusal(&attempt, self.moment(now_us)) {
            waiting.answer = refused_for(ReasonCode::ConnectionRateExceeded, why);
            self.waiting.push(waiting);
            return now_us;
        }
        let password = request.password.as_ref().map(Password::bytes);
        let found = user.zip(standing).filter(|(user, found)| {
            let right = people.password(*user);
            found.state != State::Deleted && password == Some(right.as_bytes())
        });
        waiting.answer = match found {
            None => {
                let cause = RefusalCause::WrongPassword(PasswordSource::Other);
                refused_for(ReasonCode::BadUserNameOrPassword, cause.into())
            }
            Some((_, found)) if found.state == State::Disabled => {
                Authenticated::refused(RefusalCause::UserDisabled.into())
            }
            Some((user, found)) => {
                waiting.login = Some(Login {
                    user,
                    tenant: found.tenant,
                    holder: found.holder,
                    password: found.password,
                });
                let identity = Identity {
                    tenant: found.tenant,
                    user_name: request.user_name.clone(),
                    proof: Proof::Password,
                    holder: found.holder,
                    is_device: false,
                    owns_client_id: false,
                    sessions_max: 0,
                    realm,
                    rules: Arc::new(found.compile(topics)),
                    bound: true,
                    voucher: Voucher::NONE,
                    credential: CredentialMark::NONE,
                    ..Identity::anyone()
                };
                Authenticated::Accepted {
                    identity,
                    last_revocation: self.revoked,
                    data: None,
                }
            }
        };
        waiting.attempt = Some(attempt);
        waiting.at_us += self.random.below(self.look_us + 1);
        let at_us = waiting.at_us;
        self.waiting.push(waiting);
        at_us
    }

    /// Processes due clients: returns the decisions, the next due time, and the answers for the
    /// shards.
    pub fn work(&mut self, now_us: u64) -> Work {
        let now = self.moment(now_us);
        let mut work = Work::default();
        for mut waiting in core::mem::take(&mut self.waiting) {
            if waiting.at_us > now_us {
                self.waiting.push(waiting);
                continue;
            }
            if let Some(attempt) = waiting.attempt.take() {
                let (answer, wait) =
                    self.failures
                        .judge(waiting.answer, &attempt, self.lockout, now);
                waiting.answer = answer;
                work.judged.push(waiting.judged());
                if wait > Duration::ZERO {
                    waiting.at_us = now_us + wait.as_micros() as u64;
                    self.waiting.push(waiting);
                    continue;
                }
            } else if waiting.is_locked_out_at_once() {
                work.judged.push(waiting.judged());
            }
            let answer = (waiting.shard, waiting.connection, waiting.answer);
            work.answers.push(answer);
        }
        let next = self.waiting.iter().map(|waiting| waiting.at_us);
        work.next_us = next.min();
        work
    }
}

/// Result of processing waiting clients.
#[derive(Debug, Default)]
pub struct Work {
    /// Decisions.
    pub judged: Vec<Judged>,
    /// Answers for shards.
    pub answers: Vec<(usize, ConnectionId, Authenticated)>,
    /// Time of the next work.
    pub next_us: Option<u64>,
}

impl WaitingClient {
    fn is_locked_out_at_once(&self) -> bool {
        self.login.is_none() && self.verdict() == LoginVerdict::LockedOut
    }

    fn verdict(&self) -> LoginVerdict {
        match &self.answer {
            Authenticated::Accepted { .. } | Authenticated::Continue { .. } => {
                LoginVerdict::Accepted
            }
            Authenticated::Refused { reason, .. } => match *reason {
                ReasonCode::BadUserNameOrPassword => LoginVerdict::Wrong,
                ReasonCode::ConnectionRateExceeded => LoginVerdict::LockedOut,
                _ => LoginVerdict::NotNow,
            },
        }
    }

    fn judged(&self) -> Judged {
        let verdict = self.verdict();
        Judged {
            link: self.link,
            verdict,
            tenant: self.realm.tenant().0,
            login: self.login.filter(|_| verdict == LoginVerdict::Accepted),
        }
    }
}
