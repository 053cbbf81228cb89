//! Authentication of clients: the authenticator is asked while the connection waits in the lobby,
//! under a deadline (MQTT 5 section 3.1.4).
//!
//! The result is an identity and its rules, or a refusal. `identity`, `listener` and `rules` have
//! how both are taken back later: rules that change, credentials that are revoked.

pub(crate) mod authentications;
pub(crate) mod identity;
mod listener;
pub(crate) mod permits;
mod request;
mod rules;

use martlet_codec::ReasonCode;
use martlet_permission::{Actions, Identity, Names, Refusal, RefusalCause, Screens};

use crate::authenticate::identity::credentials_ended;
use crate::authentication::Authenticated;
use crate::connect_request::{ConnectRequest, ConnectingClient, Login};
use crate::connection::Phase;
use crate::id::ConnectionId;
use crate::lobby::Admission;
use crate::node::{Cx, Node};
use crate::screen::may_have_key;
use crate::session::permit::Permit;
use crate::shard::{Ending, Shard};

impl Shard {
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
                self.identified(cx, id, request, identity, last_revocation, data);
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

    fn identified<N: Node>(
        &mut self,
        cx: &mut Cx<'_, N>,
        id: ConnectionId,
        request: ConnectRequest,
        mut identity: Identity,
        last_revocation: u64,
        data: Option<Box<[u8]>>,
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
}

impl Permit {
    pub(crate) fn names<'a>(&'a self, client_id: &'a str) -> Names<'a> {
        Names {
            client_id,
            user_name: self.user_name().unwrap_or_default(),
        }
    }
}
