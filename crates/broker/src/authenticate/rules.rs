//! Rules: which are in force, and what they permit a session.

use std::sync::Arc;

use martlet_permission::{
    Actions, Realm, Refusal, RefusalCause, Revocation, RuleBook, TenantId, may_publish,
};

use crate::fault::{self, Fault};
use crate::limits::ListenerPolicy;
use crate::report::SessionRules;
use crate::review::reviews::Affected;
use crate::session::permit::PermitToken;
use crate::shard::Shard;

impl Shard {
    /// From now on rules are looked up here, also those of sessions whose clients are away.
    pub fn set_rule_book(&mut self, book: Arc<dyn RuleBook>) {
        self.new_rule_book(book, Affected::All);
    }

    /// Sets a book whose rules may differ from those of the book before; all share groups are
    /// notified, also of members that may get the same as before: they wait for all of them.
    pub(crate) fn new_rule_book(&mut self, book: Arc<dyn RuleBook>, affected: Affected) {
        self.permits.set_book(book);
        self.begin_review(Some(affected));
    }

    /// All connections of revoked users end, and clients of theirs on the way in are refused.
    pub(crate) fn revoke(&mut self, now_ms: u64, revocations: &[Revocation]) {
        self.lobby.authentications.revoke(now_ms, revocations);
        self.begin_review(None);
    }

    /// Sets the listeners that require authentication now.
    pub(crate) fn require_authentication_at(&mut self, listeners: Arc<[Arc<ListenerPolicy>]>) {
        self.lobby.authentications.authenticating = listeners;
        self.begin_review(None);
    }

    /// Whether a session may publish to this topic.
    #[inline]
    pub(crate) fn may_publish(&mut self, session: u32, topic: &str) -> bool {
        if !self.permits.is_checked() || fault::is(Fault::PublishUnchecked) {
            return true;
        }
        let state = self.sessions.at(session);
        let (tenant, permit) = (state.tenant, &state.permit);
        let token = permit
            .as_ref()
            .map_or(PermitToken::NONE, |permit| permit.token);
        if token != PermitToken::NONE && self.router.cache.permits(tenant, topic, token) {
            return true;
        }
        let permits = self.rules_permit(session, Actions::PUBLISH, topic);
        if permits {
            self.router.cache.set_permitted(tenant, topic, token);
        }
        permits
    }

    /// Whether a session may publish to this topic, or gets messages of it.
    #[inline]
    pub(crate) fn permits(&mut self, session: u32, action: Actions, topic: &str) -> bool {
        !self.permits.is_checked() || self.rules_permit(session, action, topic)
    }

    /// The rules have changed, and those of this session are not looked up yet.
    pub(crate) fn review_if_due(&mut self, session: u32) {
        if self.permits.reviews.is_under_way() {
            self.review(session);
        }
    }

    fn rules_permit(&mut self, session: u32, action: Actions, topic: &str) -> bool {
        self.review_if_due(session);
        let session = self.sessions.at(session);
        match &mut session.permit {
            None => true,
            Some(permit) => permit.may_cached(&self.seed, action, topic, &session.client_id),
        }
    }

    /// Returns what the client of this identifier may do, if it is connected here.
    pub(crate) fn session_rules(
        &mut self,
        tenant: TenantId,
        client_id: &str,
    ) -> Option<SessionRules> {
        let session = self.sessions.find(tenant, client_id)?;
        self.sessions.at(session).connection()?;
        self.review(session);
        let user = self.user_of(session);
        let permit = self.sessions.at(session).permit.as_ref();
        let identity = permit.map(|permit| &permit.identity);
        Some(SessionRules {
            user,
            rules: identity.map(|identity| Arc::clone(&identity.rules)),
            has_own_rules: identity.is_some_and(|identity| identity.realm == Realm::OWN_RULES),
        })
    }

    /// Returns what forbids a session this action on a topic.
    pub(crate) fn why_not(&mut self, session: u32, action: Actions, topic: &str) -> Refusal {
        let session = self.sessions.at(session);
        let refused = session.permit.as_ref().and_then(|permit| {
            if permit.identity.is_applicant {
                let detail = "a client without credentials of its own may register as a device, or \
                              name its device by api_key in the payload, where its listener \
                              permits that, and nothing else";
                return Some(Refusal::operators_only(RefusalCause::Forbidden, detail));
            }
            let names = permit.names(&session.client_id);
            permit.may(action, topic, names).err()
        });
        refused.unwrap_or_else(|| Refusal::operators_only(RefusalCause::Forbidden, ""))
    }

    /// Whether a session may subscribe to this Topic Filter; else what forbids it.
    pub(crate) fn may_subscribe(&mut self, session: u32, filter: &str) -> Result<(), Refusal> {
        if self.permits.reviews.is_under_way() {
            self.review(session);
        }
        let session = self.sessions.at(session);
        match &session.permit {
            None => Ok(()),
            Some(permit) => permit.may_subscribe(filter, permit.names(&session.client_id)),
        }
    }

    /// Whether the rules of a client permit a message of its own, such as its Will: one that shows
    /// no key of a device.
    pub(crate) fn may_publish_own(&mut self, session: u32, topic: &str) -> bool {
        if !may_publish(topic) {
            return false;
        }
        self.review_if_due(session);
        let session = self.sessions.at(session);
        let permit = session.permit.as_ref();
        permit.is_none_or(|permit| {
            let names = permit.names(&session.client_id);
            permit.may(Actions::PUBLISH, topic, names).is_ok()
        })
    }
}
