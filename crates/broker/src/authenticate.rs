//! Authentication of clients: the authenticator is asked while the connection waits in the lobby,
//! under a deadline (MQTT 5 section 3.1.4).
//!
//! What comes of it are an identity and its rules, or a refusal. Here too is how both are taken
//! back later: rules that change, credentials that are revoked.

pub(crate) mod authentications;
pub(crate) mod permits;

use std::sync::Arc;

use martlet_codec::ReasonCode;
use martlet_permission::{
    Actions, Identity, Names, Realm, Refusal, RefusalCause, Revocation, RuleBook, Screens, TenantId,
};

use crate::authenticate::authentications::IDENTITY_LOOK_MS;
use crate::authentication::{Authenticated, Authentication, Password, Step};
use crate::connect_request::{ConnectRequest, ConnectingClient, Login, WaitingConnect};
use crate::connection::Phase;
use crate::exchange::state::Exchange;
use crate::fault::{self, Fault};
use crate::id::ConnectionId;
use crate::limits::ListenerPolicy;
use crate::lobby::Admission;
use crate::node::{Cx, Node};
use crate::report::SessionRules;
use crate::review::reviews::Affected;
use crate::screen::{credentials_ended, may_have_key};
use crate::session::permit::{Permit, PermitToken};
use crate::shard::{Ending, Shard};
use crate::timer::Timer;

impl Shard {
    /// Requests the authentication of a client before its CONNECT is accepted.
    pub(crate) fn request_authentication<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        index: u32,
        request: ConnectRequest,
        password: Option<Password>,
        step: Option<Step>,
    ) {
        let id = self.connections.id_of(index);
        let timeout_ms = u64::from(self.settings.limits.authenticate_timeout_secs) * 1000;
        let timer = Timer::ConnectDeadline(id);
        let timer = self.timers.wheel.arm(cx.now.mono_ms + timeout_ms, timer);
        let connection = self.connections.at(index);
        connection.phase = Phase::Authenticating;
        let certificate = connection
            .lobby_mut()
            .and_then(|state| state.certificate.take());
        // The client has done its part: the authenticator has a deadline of its own.
        if let Some(deadline) = connection.deadline.replace(timer) {
            self.timers.wheel.cancel(deadline);
        }
        let waiting = WaitingConnect::new(request);
        let request = &waiting.request;
        cx.effects.authentications.push(Authentication {
            connection: id,
            listener: Arc::clone(connection.listener()),
            realm: connection.listener().realm,
            address: connection.address(),
            version: request.version,
            client_id: Arc::clone(&request.client_id),
            user_name: request.user_name.clone(),
            password,
            certificate,
            waiter: waiting.waiter(),
            step,
        });
        if let Some(method) = &request.authentication_method {
            let exchange = Exchange::requested(Arc::clone(method));
            connection.make_rare().exchange = Some(Box::new(exchange));
        }
        let bytes = waiting.bytes();
        if let Some(state) = connection.lobby_mut() {
            state.waiting = Some(Box::new(waiting));
        }
        self.change_held(id, |held| held.request = bytes as u32);
    }

    /// The client of a connection that has sent no CONNECT yet has proved to have this certificate.
    pub fn has_certificate(&mut self, id: ConnectionId, certificate: Arc<[u8]>) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.phase == Phase::Lobby
            && let Some(state) = connection.lobby_mut()
        {
            state.certificate = Some(certificate);
        }
    }

    /// The answer to an [`Authentication`]; too late for a connection that has ended.
    pub fn authenticated<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        answer: Authenticated,
    ) {
        match self.connections.get(id).map(|found| found.phase) {
            Some(Phase::Authenticating) => self.answer_waiting(cx, id, answer),
            Some(Phase::Accepted) => self.reauthenticated(cx, id, answer),
            _ => return,
        }
        self.settle(cx);
    }

    fn answer_waiting<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        answer: Authenticated,
    ) {
        if let Authenticated::Continue { data, state } = answer {
            return self.challenge(cx, id.index, &data, state);
        }
        let Some(request) = self.take_waiting(id.index) else {
            return;
        };
        self.connections.at(id.index).phase = Phase::Lobby;
        match answer {
            Authenticated::Accepted {
                identity,
                last_revocation,
                data,
            } => {
                if !self.connections.at(id.index).listener().authenticate {
                    // It was checked because it may be banned. Its claims remain.
                    let login = self.claimed_login(id.index, &request);
                    return self.go_on(cx, id, ConnectingClient::new(request, login));
                }
                let data = data.filter(|_| request.authentication_method.is_some());
                self.identified(cx, id, request, (identity, last_revocation, data));
            }
            Authenticated::Refused { reason, why, claim } => {
                let login = match claim {
                    Some(claim) => {
                        let user_name = claim.user_name.or_else(|| request.user_name.clone());
                        Login::claimed(claim.tenant, user_name)
                    }
                    None => self.claimed_login(id.index, &request),
                };
                let client = ConnectingClient::new(request, login);
                self.refuse_client(cx, id.index, &client, reason, why);
            }
            // Answered above.
            Authenticated::Continue { .. } => {}
        }
    }

    /// Takes the CONNECT of a client that waits to be known.
    pub(crate) fn take_waiting(&mut self, index: u32) -> Option<ConnectRequest> {
        let waiting = self.connections.at(index).lobby_mut()?.waiting.take()?;
        Some(waiting.request)
    }

    fn identified<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        request: ConnectRequest,
        (mut identity, last_revocation, data): (Identity, u64, Option<Box<[u8]>>),
    ) {
        let ends_wall_ms = identity.expires_wall_ms;
        if ends_wall_ms > 0 && ends_wall_ms <= cx.now.wall_ms {
            let (reason, cause) = (ReasonCode::NotAuthorized, credentials_ended(&identity));
            let login = self.claimed_login(id.index, &request);
            let client = ConnectingClient::new(request, login);
            return self.refuse_client(cx, id.index, &client, reason, cause);
        }
        let listener = self.connections.at(id.index).listener();
        identity.screens = Screens {
            registrations: listener.discovery.is_some(),
            payload_keys: listener.payload_api_key,
        };
        let permit = self
            .permits
            .in_force(Box::new(Permit::new(identity, last_revocation)));
        let names = permit.names(&request.client_id);
        let will_refused = request.will.as_ref().and_then(|will| {
            if permit.identity.screens.payload_keys && may_have_key(&will.payload) {
                let detail = "a Will cannot show the key of a device: leave api_key out of it";
                return Some(Refusal::operators_only(
                    RefusalCause::PayloadKeyUnreadable,
                    detail,
                ));
            }
            let refused = permit.may(Actions::PUBLISH, &will.topic, names).err()?;
            let (topic, why) = (&will.topic, refused.detail());
            let detail = format!("the Will on {topic:?} is refused: {why}");
            Some(Refusal::operators_only(RefusalCause::WillForbidden, detail))
        });
        let client = ConnectingClient::new(request, Login::proved(permit, data));
        if let Some(why) = will_refused {
            let reason = ReasonCode::NotAuthorized;
            return self.refuse_client(cx, id.index, &client, reason, why);
        }
        self.go_on(cx, id, client);
    }

    /// The client is accepted, and what came behind its CONNECT is worked off.
    fn go_on<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId, client: ConnectingClient) {
        let unread = self.connections.at(id.index).input.take();
        let bytes = unread.as_ref().map_or(&[][..], |unread| &unread.bytes);
        match self.let_in(cx, id.index, client, bytes) {
            Admission::Moved => {}
            Admission::Here => {
                if let Some(connection) = self.connections.get_mut(id)
                    && connection.phase != Phase::Closing
                {
                    connection.input = unread;
                    self.queue_input(id.index);
                }
            }
        }
    }

    /// A session's client is the same user by another identity.
    pub(crate) fn change_permit(&mut self, session: u32, mut permit: Box<Permit>) {
        let old = self.sessions.at(session).permit.as_deref();
        permit.identity.sessions_max = old.map_or(0, |old| old.identity.sessions_max);
        permit.identity.screens = old.map_or_else(Screens::default, |old| old.identity.screens);
        let permit = self.permits.in_force(permit);
        self.note_restricted(Some(&permit));
        let old = self.sessions.set_permit(session, Some(permit));
        let new = self.sessions.at(session).permit.as_deref();
        if !Permit::is_same(old.as_deref(), new) {
            self.raise_epochs_of(session);
            self.groups.reads_changed.push(self.sessions.id_of(session));
        }
    }

    /// Why a connection whose identity was decided some time ago may not go on: its user has been
    /// revoked meanwhile, or the session is another user's.
    pub(crate) fn is_turned_away(
        &mut self,
        index: u32,
        client: &ConnectingClient,
    ) -> Option<Refusal> {
        let listener = self.connections.at(index).listener();
        // It was on its way from another shard when that changed.
        if policy_with_authentication(&self.lobby.authentications.authenticating, listener)
            .is_some()
        {
            return Some(RefusalCause::CredentialsRequired.into());
        }
        let ConnectingClient { request, login, .. } = client;
        let permit = login.permit.as_ref();
        if let Some(permit) = permit
            && let Some(reason) = self
                .lobby
                .authentications
                .revocation_of(&permit.identity, permit.last_revocation)
                .filter(|_| !fault::is(Fault::RevokedWhileWaiting))
        {
            return Some(RefusalCause::Revoked(reason).into());
        }
        let old = self.sessions.find(login.tenant, &request.client_id)?;
        let owner = self.sessions.at(old).permit.as_deref()?;
        let is_theirs = permit.is_some_and(|permit| {
            permit.identity.owns_client_id || owner.is_of_same_user(&permit.identity)
        });
        (owner.identity.bound && !is_theirs).then(|| {
            let detail = "the session of this Client Identifier is another user's";
            Refusal::operators_only(RefusalCause::ClientIdTaken, detail)
        })
    }

    /// The identity that a connection came with lasts until a moment: the connection no longer.
    pub(crate) fn arm_identity_end<N: Node>(&mut self, cx: &Cx<'_, N>, id: ConnectionId) {
        let Some(ends_wall_ms) = self.identity_end(id) else {
            return;
        };
        let left_ms = ends_wall_ms.saturating_sub(cx.now.wall_ms);
        let left_ms = left_ms.min(IDENTITY_LOOK_MS);
        let timer = Timer::IdentityEnd(id);
        self.timers.wheel.arm(cx.now.mono_ms + left_ms, timer);
    }

    /// The clock may have been set since: whether it is over is seen now.
    pub(crate) fn check_identity_end<N: Node>(&mut self, cx: &mut Cx<'_, N>, id: ConnectionId) {
        match self.identity_end(id) {
            None => {}
            Some(ends_wall_ms) if ends_wall_ms > cx.now.wall_ms => self.arm_identity_end(cx, id),
            Some(_) => {
                let session = self.connections.at(id.index).session();
                let cause = session.map(|session| self.cause_of_identity_end(session));
                let cause = cause.unwrap_or(RefusalCause::CredentialsEnded);
                let ending = Ending::with_disconnect(ReasonCode::NotAuthorized, cause);
                self.end_connection(cx, id.index, ending);
            }
        }
    }

    fn identity_end(&mut self, id: ConnectionId) -> Option<u64> {
        let session = self.connections.get(id)?.session()?;
        let permit = self.sessions.at(session).permit.as_deref()?;
        let ends_wall_ms = permit.identity.expires_wall_ms;
        (ends_wall_ms > 0).then_some(ends_wall_ms)
    }

    /// All connections of revoked users end, and clients of theirs on the way in are refused.
    pub(crate) fn revoke(&mut self, now_ms: u64, revocations: &[Revocation]) {
        self.lobby.authentications.revoke(now_ms, revocations);
        self.begin_review(None);
    }

    /// The number of the listener by which a connection came.
    pub fn listener_of(&self, id: ConnectionId) -> Option<u16> {
        Some(self.connections.get(id)?.listener().number)
    }

    /// Ends a connection, because what its client was accepted by, below MQTT, does not hold any
    /// more.
    pub fn is_not_let_in<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        cause: RefusalCause,
    ) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        match connection.phase {
            Phase::Accepted => {
                let ending = Ending::with_disconnect(ReasonCode::NotAuthorized, cause);
                self.end_connection(cx, id.index, ending);
            }
            Phase::Lobby | Phase::Authenticating | Phase::Challenged => {
                self.refuse(cx, id.index, None, ReasonCode::NotAuthorized, cause);
            }
            Phase::Closing => {}
        }
        self.settle(cx);
    }

    /// Sets the listeners that require authentication now.
    pub(crate) fn require_authentication_at(&mut self, listeners: Arc<[Arc<ListenerPolicy>]>) {
        self.lobby.authentications.authenticating = listeners;
        self.begin_review(None);
    }

    /// Ends the connection of an accepted client if its listener requires authentication now.
    /// Returns whether it does.
    pub(crate) fn review_listener(&mut self, index: u32) -> bool {
        let is_requested = self.renew_listener(index) && !self.stays_anonymous(index);
        if is_requested {
            let ending = Ending::with_disconnect(
                ReasonCode::NotAuthorized,
                RefusalCause::CredentialsRequired,
            );
            self.stop_obeying(index, ending);
        }
        is_requested
    }

    /// Whether a client that has named no user stays, since its listener accepts anonymous clients.
    /// It gets their rules.
    fn stays_anonymous(&mut self, index: u32) -> bool {
        let connection = self.connections.at(index);
        let listener = Arc::clone(connection.listener());
        let (session, is_named) = (connection.session(), connection.user_name().is_some());
        let Some(session) = session.filter(|_| listener.allow_anonymous && !is_named) else {
            return false;
        };
        let tenant = self.sessions.at(session).tenant;
        if listener.realm.tenant() != tenant {
            return false;
        }
        let identity = Identity {
            tenant,
            realm: listener.realm,
            ..Identity::anyone()
        };
        self.change_permit(session, Box::new(Permit::new(identity, 0)));
        true
    }

    /// Gives a connection the present policy of its listener, if that asks now and did not before.
    pub(crate) fn renew_listener(&mut self, index: u32) -> bool {
        if self.lobby.authentications.authenticating.is_empty() {
            return false;
        }
        let listener = self.connections.at(index).listener();
        let Some(now) =
            policy_with_authentication(&self.lobby.authentications.authenticating, listener)
        else {
            return false;
        };
        self.connections.at(index).client_mut().listener = now;
        true
    }

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
}

impl Permit {
    pub(crate) fn names<'a>(&'a self, client_id: &'a str) -> Names<'a> {
        Names {
            client_id,
            user_name: self.user_name().unwrap_or_default(),
        }
    }
}

/// The policy of this listener that requires authentication, if the policy in use does not.
fn policy_with_authentication(
    authenticating: &[Arc<ListenerPolicy>],
    listener: &ListenerPolicy,
) -> Option<Arc<ListenerPolicy>> {
    let mut authenticating = authenticating
        .iter()
        .filter(|now| now.authenticate && !listener.authenticate);
    authenticating
        .find(|now| now.number == listener.number)
        .cloned()
}
