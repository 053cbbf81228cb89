//! Answers that were verified recently, by digests that cannot be made without the key of this
//! process.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use martlet_broker::{Authenticated, Authentication, Password, Realm};
use martlet_lockout::Aging;

use super::Policy;

/// A digest of all credentials.
pub(super) type Digest = [u8; 32];

/// A digest of realm, user name and Client Identifier.
pub(super) type ClientMark = [u8; 8];

/// Entries remembered at most; when there are more, the oldest go.
const ENTRIES_MAX: usize = 200_000;

/// Makes digests.
pub(super) struct Digester(hmac::Key);

impl Digester {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// A key for something else.
    pub(super) fn key_for(&self, what: &[u8]) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(hmac::sign(&self.0, what).as_ref());
        key
    }

    /// Makes the key of the answers that belong to a client by name.
    pub(super) fn client(
        &self,
        realm: Realm,
        user_name: Option<&str>,
        client_id: &str,
    ) -> ClientMark {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&realm.0.to_be_bytes());
        for part in [user_name, Some(client_id)] {
            let len = part.map_or(u64::MAX, |part| part.len() as u64);
            context.update(&len.to_be_bytes());
            context.update(part.unwrap_or_default().as_bytes());
        }
        let mut mark = [0; size_of::<ClientMark>()];
        mark.copy_from_slice(&context.sign().as_ref()[..size_of::<ClientMark>()]);
        mark
    }

    /// Makes the digest of everything that an answer may depend on, each with its length. So no two
    /// sets of credentials have the same input.
    pub(super) fn of(&self, request: &Authentication) -> Digest {
        let mut context = hmac::Context::with_key(&self.0);
        let password = request.password.as_ref().map(Password::bytes);
        // All of the listener that an answer depends on.
        let listener = &request.listener;
        context.update(&listener.realm.0.to_be_bytes());
        context.update(&request.realm.0.to_be_bytes());
        context.update(&[
            u8::from(listener.allow_anonymous),
            u8::from(listener.authenticate),
        ]);
        let parts = [
            Some(listener.name.as_bytes()),
            Some(request.client_id.as_bytes()),
            request.user_name.as_ref().map(|name| name.as_bytes()),
            password,
            request.certificate.as_deref(),
        ];
        for part in parts {
            let len = part.map_or(u64::MAX, |part| part.len() as u64);
            context.update(&len.to_be_bytes());
            context.update(part.unwrap_or_default());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}

/// How long answers are remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    accepted: Duration,
    refused: Duration,
}

impl Times {
    pub(super) fn of(policy: &Policy) -> Self {
        Self {
            accepted: policy.remembered,
            refused: policy.refusal_remembered,
        }
    }

    /// Times that are no longer than this, otherwise the same.
    pub(super) fn within(self, most: Option<Duration>) -> Self {
        let most = most.unwrap_or(Duration::MAX);
        Self {
            accepted: self.accepted.min(most),
            refused: self.refused.min(most),
        }
    }
}

/// An answer, and until when it is remembered.
#[derive(Debug)]
struct VerifiedLogin {
    until: Instant,
    client: ClientMark,
    found: Authenticated,
}

/// Answers by digest.
#[derive(Debug, Default)]
pub(super) struct Verified {
    answers: Aging<Digest, VerifiedLogin>,
    /// Number of rules that the answers contain.
    weight: usize,
    /// Bytes of the names and texts in them.
    text: usize,
    /// Bytes of all answers, approximately, at most; none: no limit beside that of the entries.
    bytes_max: Option<usize>,
}

/// Rules in all answers, at most, about 1 KiB each; the oldest answers make room.
const WEIGHT_MAX: usize = 50_000;

/// Bytes that an answer takes beside its rules.
const ANSWER_BYTES: usize = 400;

fn weight(answer: &Authenticated) -> usize {
    match answer {
        Authenticated::Accepted { identity, .. } if identity.realm == Realm::OWN_RULES => {
            identity.rules.rules().len()
        }
        _ => 0,
    }
}

fn text_bytes(answer: &Authenticated) -> usize {
    match answer {
        Authenticated::Accepted { identity, .. } => {
            identity.user_name.as_ref().map_or(0, |name| name.len())
        }
        Authenticated::Refused { why, claim, .. } => {
            let claim = claim.as_ref().and_then(|claim| claim.user_name.as_ref());
            why.text_bytes() + claim.map_or(0, |name| name.len())
        }
        Authenticated::Continue { data, .. } => data.len(),
    }
}

impl Verified {
    /// Sets the number of bytes that it takes, approximately, at most.
    pub(super) fn set_bytes_max(&mut self, bytes: usize) {
        self.bytes_max = Some(bytes);
    }

    /// Forgets all answers.
    pub(super) fn clear(&mut self) {
        *self = Self {
            bytes_max: self.bytes_max,
            ..Self::default()
        };
    }

    fn is_full(&self) -> bool {
        self.answers.len() > ENTRIES_MAX
            || self.weight > WEIGHT_MAX
            || self.bytes_max.is_some_and(|max| self.memory_bytes() > max)
    }

    /// Approximate number of bytes of what is remembered.
    pub(super) fn memory_bytes(&self) -> usize {
        self.answers.len() * ANSWER_BYTES + self.weight * 1024 + self.text
    }

    pub(super) fn get(&self, digest: &Digest, now: Instant) -> Option<Authenticated> {
        let answer = self.answers.get(digest)?;
        (now < answer.until).then(|| answer.found.clone())
    }

    /// Until when credentials of a client that were right are accepted without a check. None: there
    /// are none.
    pub(super) fn accepted_until(&self, client: ClientMark, now: Instant) -> Option<Instant> {
        let answers = self.answers.youngest().map(|(_, answer)| answer);
        let is_its_own = |answer: &&VerifiedLogin| {
            answer.client == client
                && now < answer.until
                && matches!(answer.found, Authenticated::Accepted { .. })
        };
        answers.filter(is_its_own).map(|answer| answer.until).max()
    }

    /// Caches an answer. Its time differs a little from one to the next, so that clients that came
    /// together are not checked together again.
    pub(super) fn put(
        &mut self,
        (digest, client): (Digest, ClientMark),
        answer: Authenticated,
        now: Instant,
        times: Times,
    ) {
        let time = match &answer {
            Authenticated::Accepted { .. } => times.accepted,
            // What may be otherwise the next moment is asked for again.
            Authenticated::Refused { reason, .. }
                if *reason == martlet_codec::ReasonCode::ServerUnavailable =>
            {
                Duration::ZERO
            }
            Authenticated::Refused { .. } => times.refused,
            Authenticated::Continue { .. } => Duration::ZERO,
        };
        if time.is_zero() {
            return;
        }
        let part = u32::from(digest[0]);
        let until = now + time - time * part / (10 * 256);
        // Rules that came with an answer are kept with it.
        self.weight += weight(&answer);
        self.text += text_bytes(&answer);
        let answer = VerifiedLogin {
            until,
            client,
            found: answer,
        };
        if let Some(old) = self.answers.put(digest, answer) {
            self.forget(&old.found);
        }
        while self.is_full() && self.forget_oldest() {}
    }

    /// Forgets the answers to these clients; how many there were.
    pub(super) fn forget_clients(&mut self, clients: &[ClientMark]) -> usize {
        let answers = self.answers.youngest();
        let of_clients = answers.filter(|(_, answer)| clients.contains(&answer.client));
        let digests: Vec<Digest> = of_clients.map(|(digest, _)| *digest).collect();
        let mut forgotten = 0;
        for digest in &digests {
            if let Some(old) = self.answers.take(digest) {
                self.forget(&old.found);
                forgotten += 1;
            }
        }
        forgotten
    }

    fn forget_oldest(&mut self) -> bool {
        let oldest = self.answers.take_oldest();
        if let Some(old) = &oldest {
            self.forget(&old.found);
        }
        oldest.is_some()
    }

    /// Subtracts an answer that is not kept any more from what is counted.
    fn forget(&mut self, old: &Authenticated) {
        self.weight -= weight(old);
        self.text -= text_bytes(old);
    }

    /// Forgets the oldest until it takes a quarter of what it may.
    pub(super) fn give_back(&mut self) {
        let bytes_max = self.bytes_max.unwrap_or(ENTRIES_MAX * ANSWER_BYTES) / 4;
        while self.memory_bytes() > bytes_max && self.forget_oldest() {}
    }
}

#[cfg(test)]
mod tests {
    use martlet_broker::{Refusal, RefusalCause};

    use super::*;

    #[test]
    fn while_memory_is_short_the_latest_quarter_of_the_answers_stays() {
        let mut policy = Policy::new([].into());
        policy.refusal_remembered = Duration::from_secs(60);
        let times = Times::of(&policy);
        let (mut verified, now) = (Verified::default(), Instant::now());
        verified.set_bytes_max(100 * ANSWER_BYTES);
        let digest = |number: u8| [number; 32];
        for number in 0..80 {
            verified.put(
                (digest(number), [0; 8]),
                Authenticated::refused(Refusal::operators_only(RefusalCause::Forbidden, "no")),
                now,
                times,
            );
        }
        verified.give_back();
        assert!(verified.get(&digest(79), now).is_some());
        assert!(verified.get(&digest(55), now).is_none());
        assert_eq!(verified.memory_bytes(), 24 * (ANSWER_BYTES + 2));
        let detail = "x".repeat(20 * ANSWER_BYTES);
        let long = Authenticated::refused(Refusal::operators_only(RefusalCause::Forbidden, detail));
        for number in 0..80 {
            verified.put((digest(number), [0; 8]), long.clone(), now, times);
            assert!(verified.memory_bytes() <= 100 * ANSWER_BYTES);
        }
        assert!(verified.get(&digest(79), now).is_some());
        verified.clear();
        assert_eq!(verified.memory_bytes(), 0);
        for number in 0..200 {
            verified.put(
                (digest(number), [0; 8]),
                Authenticated::refused(Refusal::operators_only(RefusalCause::Forbidden, "no")),
                now,
                times,
            );
        }
        assert!(
            verified.memory_bytes() <= 100 * ANSWER_BYTES,
            "the bound stays"
        );
    }
}
