//! The identity of a session's client: it changes, it ends, and it may be turned away.

use martlet_permission::{Identity, Limit, Proof, Refusal, RefusalCause, Screens};

use crate::authenticate::authentications::IDENTITY_LOOK_MS;
use crate::authenticate::listener::policy_with_authentication;
use crate::connect_request::ConnectingClient;
use crate::fault::{self, Fault};
use crate::id::ConnectionId;
use crate::node::{Cx, Node};
use crate::session::permit::Permit;
use crate::shard::Shard;
use crate::timer::Timer;

/// Returns what the end of the credentials of a client is called.
pub(crate) fn credentials_ended(identity: &Identity) -> RefusalCause {
    match identity.proof {
        Proof::SignedToken => RefusalCause::TokenEnded,
        _ => RefusalCause::CredentialsEnded,
    }
}

impl Shard {
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

    pub(crate) fn identity_end(&mut self, id: ConnectionId) -> Option<u64> {
        let session = self.connections.get(id)?.session()?;
        let permit = self.sessions.at(session).permit.as_deref()?;
        let ends_wall_ms = permit.identity.expires_wall_ms;
        (ends_wall_ms > 0).then_some(ends_wall_ms)
    }

    /// Notes whether a session has restricted rights: until one has, permissions are not checked.
    pub(crate) fn note_restricted(&mut self, permit: Option<&Permit>) {
        self.screenings.is_used |= permit.is_some_and(|permit| permit.identity.screens.any());
        if let Some(permit) = permit {
            self.permits.note(permit);
        }
    }

    /// The time to register is over, if that is what ends with the credentials of this client.
    pub(crate) fn cause_of_identity_end(&mut self, session: u32) -> RefusalCause {
        let permit = self.sessions.at(session).permit.as_ref();
        match permit.map(|permit| &permit.identity) {
            Some(identity) if identity.is_applicant => Limit::DiscoverySecs.into(),
            Some(identity) => credentials_ended(identity),
            None => RefusalCause::CredentialsEnded,
        }
    }
}
