//! Listeners that require authentication from now on, and the clients that they have let in.

use std::sync::Arc;

use martlet_codec::ReasonCode;
use martlet_permission::{Identity, RefusalCause};

use crate::limits::ListenerPolicy;
use crate::session::permit::Permit;
use crate::shard::{Ending, Shard};

/// The policy of this listener that requires authentication, if the policy in use does not.
pub(super) fn policy_with_authentication(
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

impl Shard {
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
}
