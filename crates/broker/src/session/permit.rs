//! Proof of what a session's client is, and what follows from it. Clients that need not prove who
//! they are have none.

use core::hash::BuildHasher;
use std::borrow::Cow;
use std::sync::Arc;

use martlet_permission::{
    Actions, CredentialMark, Identity, Names, Proof, Realm, Refusal, RefusalCause, RuleBook,
    RuleDecision, Rules, Screens, TenantId, Voucher, may_publish, why_own,
};

use crate::fault::{self, Fault};
use crate::hash::Seed;
use crate::record::SessionOwner;

/// Tells a permit from all others of the shard, and from itself with other rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PermitToken(u32);

impl PermitToken {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn number(self) -> u32 {
        self.0
    }
}

/// Gives out tokens.
#[derive(Debug, Default)]
pub(crate) struct PermitTokens(u32);

impl PermitTokens {
    /// Returns the next token; [`PermitToken::NONE`] once all have been used: then nothing is
    /// remembered.
    pub(crate) fn next(&mut self) -> PermitToken {
        self.0 = self.0.saturating_add(1);
        PermitToken(self.0 % u32::MAX)
    }
}

/// An identity in use.
#[derive(Clone, Debug)]
pub(crate) struct Permit {
    pub(crate) identity: Identity,
    /// The last revocation that was known when it was decided.
    pub(crate) last_revocation: u64,
    /// Recent decisions, since a client's topics repeat: the topic's hash, whose last bit is the
    /// decision; 0 is nothing. The shard has its own seed, so clients cannot choose topics of one
    /// hash.
    verdicts: [u64; VERDICTS],
    /// The token by which routes remember that it may publish to their topics.
    pub(crate) token: PermitToken,
    /// Number of the last change that it follows (`review.rs`).
    pub(crate) reviewed: u32,
    /// Round in which its device was last listed (`active_devices.rs`).
    pub(crate) listed_in_round: u8,
    /// Bytes of the user name, and of the rules that no other has.
    text_bytes: u32,
}

/// Verdicts remembered.
const VERDICTS: usize = 8;

impl Permit {
    pub(crate) fn new(identity: Identity, last_revocation: u64) -> Self {
        let name = identity.user_name.as_ref().map_or(0, |name| name.len());
        let rules = match identity.realm {
            Realm::OWN_RULES => identity.rules.memory_bytes(),
            _ => 0,
        };
        Self {
            text_bytes: (name + rules) as u32,
            identity,
            last_revocation,
            verdicts: [0; VERDICTS],
            token: PermitToken::NONE,
            reviewed: 0,
            listed_in_round: 0,
        }
    }

    /// The permit of a session that came back from the store. Whatever waits for its client is
    /// looked at again when that is known, and its Will was permitted when it came: nothing is
    /// forbidden until the rules are looked up.
    pub(crate) fn restored(owner: &SessionOwner, tenant: TenantId) -> Self {
        let identity = Identity {
            tenant,
            user_name: owner.user_name.clone(),
            proof: Proof::Nothing,
            holder: owner.holder,
            is_device: false,
            owns_client_id: false,
            sessions_max: if owner.is_counted { u32::MAX } else { 0 },
            realm: owner.realm,
            rules: Arc::new(Rules::open()),
            bound: owner.bound,
            voucher: Voucher::NONE,
            credential: CredentialMark::NONE,
            expires_wall_ms: 0,
            is_applicant: false,
            screens: Screens::default(),
        };
        Self::new(identity, 0)
    }

    /// Bytes of the user name, and of the rules that no other has.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text_bytes as usize
    }

    pub(crate) fn user_name(&self) -> Option<&str> {
        self.identity.user_name.as_deref()
    }

    /// Whether it is the same user: of that name, and known to the same sources. In another realm
    /// the name is another user's.
    pub(crate) fn is_of_same_user(&self, other: &Identity) -> bool {
        let realm = |identity: &Identity| identity.realm.of_names();
        let (own, other) = (&self.identity, other);
        own.user_name == other.user_name && (own.user_name.is_none() || realm(own) == realm(other))
    }

    /// Whether the session that its client left is not for the present client, because the name or
    /// the Client Identifier belongs to another user now.
    pub(crate) fn gives_way_to(&self, now: &Identity) -> bool {
        let own = self.identity.holder;
        let is_given_away = own != 0 && now.holder != 0 && own != now.holder;
        let is_given_away = is_given_away && !fault::is(Fault::SessionForNextHolder);
        is_given_away || now.owns_client_id && !self.is_of_same_user(now)
    }

    /// Both permit the same.
    pub(crate) fn is_same(one: Option<&Self>, other: Option<&Self>) -> bool {
        match (one, other) {
            (None, None) => true,
            (Some(one), Some(other)) => {
                Arc::ptr_eq(&one.identity.rules, &other.identity.rules)
                    && one.identity.user_name == other.identity.user_name
            }
            (Some(one), None) | (None, Some(one)) => !one.is_restricted(),
        }
    }

    /// Something may be forbidden.
    pub(crate) fn is_restricted(&self) -> bool {
        !self.identity.rules.is_open() || self.identity.screens.any()
    }

    /// The rules are those of the book, if they are not its own.
    pub(crate) fn look_up(&mut self, book: &dyn RuleBook) {
        let Identity {
            realm, user_name, ..
        } = &self.identity;
        if *realm != Realm::OWN_RULES {
            self.identity.rules = book.rules_of(*realm, user_name.as_deref());
            self.verdicts = [0; VERDICTS];
        }
    }

    /// Returns what is remembered of it with the session.
    pub(crate) fn owner(&self) -> SessionOwner {
        SessionOwner {
            realm: self.identity.realm,
            user_name: self.identity.user_name.clone(),
            holder: self.identity.holder,
            bound: self.identity.bound,
            is_counted: self.identity.sessions_max > 0,
        }
    }

    /// Whether the topic may be published to or received from.
    pub(crate) fn may_cached(
        &mut self,
        seed: &Seed,
        action: Actions,
        topic: &str,
        client_id: &str,
    ) -> bool {
        if !self.is_restricted() {
            return true;
        }
        if action == Actions::PUBLISH && self.identity.screens.any() {
            // The caller checks the message first: see `screen.rs`.
            return false;
        }
        let hash = seed.hash_one((action, topic)) | 2;
        let slot = (hash >> 32) as usize % VERDICTS;
        if self.verdicts[slot] & !1 == hash & !1 {
            return self.verdicts[slot] & 1 != 0;
        }
        let names = Names {
            client_id,
            user_name: self.identity.user_name.as_deref().unwrap_or_default(),
        };
        let allowed = self.identity.rules.topic(action, topic, names).allowed;
        self.verdicts[slot] = hash & !1 | u64::from(allowed);
        allowed
    }

    /// As [`Permit::may_cached`], with what forbids it.
    pub(crate) fn may(
        &self,
        action: Actions,
        topic: &str,
        names: Names<'_>,
    ) -> Result<(), Refusal> {
        if action == Actions::PUBLISH && !may_publish(topic) {
            return Err(why_own(topic).into());
        }
        let rules = &self.identity.rules;
        self.check(rules.topic(action, topic, names))
    }

    pub(crate) fn may_subscribe(&self, filter: &str, names: Names<'_>) -> Result<(), Refusal> {
        self.check(self.identity.rules.filter(filter, names))
    }

    fn check(&self, decision: RuleDecision) -> Result<(), Refusal> {
        if decision.allowed {
            return Ok(());
        }
        let rules = self.identity.rules.rules();
        let rule = decision.rule.and_then(|number| rules.get(number as usize));
        let detail = match rule {
            Some(rule) => format!("{} forbids {}", rule.source, rule.filter).into(),
            None => Cow::Borrowed("no rule permits it"),
        };
        Err(Refusal::operators_only(RefusalCause::Forbidden, detail))
    }
}
