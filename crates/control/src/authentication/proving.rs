//! Passwords that are proved and not sent: SCRAM-SHA-256 as enhanced authentication.
//!
//! The state between two steps goes with the answer and comes back with the next step, so nothing
//! is kept here for clients that never continue. A client with an unknown user name gets the same
//! steps as any other and is refused at the last one.

use std::borrow::Cow;
use std::sync::Arc;

use martlet_access::scram::{
    ClientFirst, Exchange, METHOD, Problem, Verifier, nonce, prepared_name,
};
use martlet_broker::{
    Authenticated, Authentication, ExchangeState, Identity, PasswordSource, Proof, Realm, Refusal,
    RefusalCause, Step,
};
use martlet_codec::ReasonCode;
use martlet_lockout::{LoginAttempt, refused_for};

use super::policy::{is_named_as_device, unknown_to};
use super::{
    AnswerLogin, AuthenticationChain, Inner, Policy, ScramUser, SlotRequest, claim_of, room,
    too_many_wait,
};

/// Longest first message of a client, in bytes: what is in it is kept until the last one comes.
const FIRST_BYTES_MAX: usize = 4096;

/// An exchange after its first step.
struct Proving {
    exchange: Exchange,
    client_id: Arc<str>,
    attempt: LoginAttempt,
    /// The user with the password; else why it is refused.
    whose: Result<Identity, Refusal>,
    /// The last revocation when the verifier was looked for.
    last_revocation: u64,
}

impl AuthenticationChain {
    /// A step of a client. Does not block.
    pub(super) fn prove(&self, request: &Authentication, step: &Step, answer: AnswerLogin) {
        match &step.state {
            None => self.begin(request, step, answer),
            Some(state) => self.finish(state, &step.data, answer),
        }
    }

    fn begin(&self, request: &Authentication, step: &Step, answer: AnswerLogin) {
        let policy = self.policy();
        let address = request.address.map(|(address, _)| address);
        let first = match self.first_message(request, step) {
            Ok(first) => first,
            Err(refused) => {
                let banned = policy.banned(request.realm.tenant(), "", None, address);
                let banned = banned.map(|why| refused_for(ReasonCode::Banned, why));
                return answer(banned.unwrap_or(refused));
            }
        };
        let (realm, name) = policy.tenant_of(request.realm, first.user_name());
        let name = Arc::from(name);
        let claim = claim_of(realm, Some(&name));
        let answer = move |found: Authenticated| answer(found.claimed(claim));
        if let Some(why) = policy.banned(realm.tenant(), &request.client_id, Some(&name), address) {
            return answer(refused_for(ReasonCode::Banned, why));
        }
        let attempt = LoginAttempt {
            realm,
            address,
            user_name: Some(Arc::clone(&name)),
            is_proved: false,
        };
        let mut state = self.0.lock();
        if let Some(why) = state.failures.refusal(&attempt, std::time::Instant::now()) {
            drop(state);
            return answer(refused_for(ReasonCode::ConnectionRateExceeded, why));
        }
        let is_known = state
            .failures
            .is_at_home(&attempt, std::time::Instant::now());
        if state.waiting >= room(is_known, 0).0 {
            drop(state);
            return answer(Authenticated::failed(too_many_wait()));
        }
        state.waiting += 1;
        let waits = Waits(Arc::clone(&self.0));
        let (policy, last_revocation) = (Arc::clone(&state.policy), state.revoked);
        let slot_request = SlotRequest::of(&state.failures, &attempt);
        drop(state);
        let waiter = request.waiter.clone();
        let slot_request = SlotRequest {
            is_wanted: Some(Arc::new(move || !waiter.has_ended())),
            ..slot_request
        };
        let client_id = Arc::clone(&request.client_id);
        self.0.runtime.spawn(async move {
            let inner = Arc::clone(&waits.0);
            let begun = inner.hashing.work(&slot_request, move || {
                let (verifier, whose) =
                    policy.scram_user(realm, &name, &client_id, &waits.0.fake_verifier_key);
                let (exchange, data) = Exchange::begin(&first, verifier, &nonce()?);
                let proving = Proving {
                    exchange,
                    client_id,
                    attempt,
                    whose,
                    last_revocation,
                };
                Ok::<_, Problem>((proving, data))
            });
            answer(match begun.await {
                Some(Ok((proving, data))) => Authenticated::Continue {
                    data: data.into_bytes().into(),
                    state: ExchangeState::new(proving),
                },
                Some(Err(why)) => Authenticated::failed(login_failed(why)),
                None => Authenticated::failed(login_failed("the verifier could not be looked for")),
            });
        });
    }

    /// A method that is not known is refused with 0x8C [MQTT-4.12.0-1].
    fn first_message(
        &self,
        request: &Authentication,
        step: &Step,
    ) -> Result<ClientFirst, Authenticated> {
        let policy = self.policy();
        let is_on = policy.scram;
        if !is_on || *step.method != *METHOD {
            let why = match *step.method == *METHOD {
                true => format!("{METHOD} is not switched on (auth.scram)"),
                false => format!("the authentication method {:?} is not known", step.method),
            };
            let why = Refusal::operators_only(RefusalCause::AuthenticationMethod, why);
            return Err(refused_for(ReasonCode::BadAuthenticationMethod, why));
        }
        if step.data.len() > FIRST_BYTES_MAX {
            let why = format!("the first message of {METHOD} has {FIRST_BYTES_MAX} bytes at most");
            return Err(bad_message(why));
        }
        let first = ClientFirst::parse(&step.data).map_err(bad_message)?;
        let other = request.user_name.as_deref();
        // When it proves it again, its name is the one that it has in its tenant.
        let (_, own) = policy.tenant_of(request.realm, first.user_name());
        let is_same = |name| {
            prepared_name(name).is_ok_and(|name| [first.user_name(), own].contains(&name.as_ref()))
        };
        match other.is_some_and(|name| !is_same(name)) {
            true => Err(bad_message(
                "the user name in CONNECT is another than that which is proved",
            )),
            false => Ok(first),
        }
    }

    fn finish(&self, state: &ExchangeState, data: &[u8], answer: AnswerLogin) {
        let Some(proving) = state.get::<Proving>() else {
            return answer(Authenticated::failed(login_failed(
                "the exchange is not known",
            )));
        };
        let found = proving.finish(data);
        let attempt = &proving.attempt;
        let mut state = self.0.lock();
        let policy = Arc::clone(&state.policy);
        let (found, wait) = state.judge(found, attempt, &policy);
        drop(state);
        let (tenant, name) = (attempt.realm.tenant(), attempt.user_name.as_deref());
        // It may have been banned since its first step.
        let banned = policy.banned(tenant, &proving.client_id, name, attempt.address);
        let found = banned.map_or(found, |why| refused_for(ReasonCode::Banned, why));
        let found = found.claimed(claim_of(attempt.realm, attempt.user_name.as_ref()));
        if wait.is_zero() {
            return answer(found);
        }
        self.0.runtime.spawn(async move {
            tokio::time::sleep(wait).await;
            answer(found);
        });
    }
}

impl Proving {
    fn finish(&self, data: &[u8]) -> Authenticated {
        let why = match (&self.whose, self.exchange.finish(data)) {
            (Ok(identity), Ok(shown)) => {
                return Authenticated::Accepted {
                    identity: Identity {
                        proof: Proof::Scram,
                        ..identity.clone()
                    },
                    last_revocation: self.last_revocation,
                    data: Some(shown.into_bytes().into()),
                };
            }
            (Err(why), _) => why.clone(),
            // The name need not stand in CONNECT.
            (Ok(identity), Err(why)) => {
                let name = identity.user_name.as_deref().unwrap_or_default();
                // A password file cannot prove names in this way: it is the registry's user.
                let cause = RefusalCause::WrongPassword(PasswordSource::Registry);
                Refusal::operators_only(cause, format!("{METHOD} as {name}: {why}"))
            }
        };
        refused_for(ReasonCode::BadUserNameOrPassword, why)
    }
}

impl Policy {
    /// Finds the verifier that proves a name, and whose name it is; may take some milliseconds.
    fn scram_user(
        &self,
        realm: Realm,
        name: &str,
        client_id: &str,
        fake_verifier_key: &[u8; 32],
    ) -> (Verifier, Result<Identity, Refusal>) {
        let chain = self.realms.get(&realm);
        let sources = chain.map_or(&[][..], |chain| &chain.sources);
        // For every name, so that the time does not show which names exist.
        let fake_verifier_key = self.fake_verifier_key.as_ref().unwrap_or(fake_verifier_key);
        let fake_verifier = Verifier::made_up(fake_verifier_key, name);
        for source in sources {
            match source.scram(name, client_id) {
                ScramUser::Unknown if !source.has_user(name) => {}
                // The source that knows the name decides, as with a password.
                ScramUser::Unknown | ScramUser::WithoutVerifier => {
                    let why = format!(
                        "no SCRAM verifier is stored for {name}: set the password again while \
                         auth.scram is on"
                    );
                    let why = Refusal::operators_only(RefusalCause::NoScramVerifier, why);
                    return (fake_verifier, Err(why));
                }
                ScramUser::Barred(why) => return (fake_verifier, Err(why)),
                ScramUser::Known(verifier, mut identity) => {
                    let mut all = sources.iter();
                    let barred = all.find_map(|source| source.admits(name, client_id).err());
                    let named = || is_named_as_device(sources, &**source, name);
                    if let Some(why) = barred.or_else(named) {
                        return (fake_verifier, Err(why));
                    }
                    identity.tenant = realm.tenant();
                    if identity.realm != Realm::OWN_RULES {
                        identity.realm = realm;
                    }
                    return (verifier, Ok(identity));
                }
            }
        }
        let names: Vec<String> = sources.iter().map(|source| source.name()).collect();
        let why = match names.is_empty() {
            true => Refusal::operators_only(RefusalCause::NoSource, RefusalCause::NoSource.text()),
            false => {
                let detail = format!("no SCRAM verifier of {name} is in {}", names.join(", "));
                unknown_to(sources, detail)
            }
        };
        (fake_verifier, Err(why))
    }
}

/// A first message that is malformed, or names another user than CONNECT.
fn bad_message(why: impl Into<Cow<'static, str>>) -> Authenticated {
    Authenticated::refused(Refusal::operators_only(
        RefusalCause::AuthenticationMessage,
        why,
    ))
}

fn login_failed(why: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::operators_only(RefusalCause::LoginFailed, why)
}

/// A question that is counted while it is under way.
struct Waits(Arc<Inner>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

#[cfg(test)]
mod tests;
