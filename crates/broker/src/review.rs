//! Reviews: how new rules and revocations reach all sessions, of a million clients too.
//!
//! A change begins a walk over all sessions, which goes on over turns. Until the walk has reached a
//! session, the session is reviewed when its client sends something, or before something is sent to
//! it: so the change is in force from the call on, and no call takes longer the more sessions there
//! are.

pub(crate) mod reviews;

use martlet_codec::ReasonCode;
use martlet_permission::RefusalCause;

use crate::fault::{self, Fault};
use crate::id::ConnectionId;
use crate::review::reviews::Affected;
use crate::shard::{Ending, Shard};
use crate::work::REVIEW;

impl Shard {
    /// Begins to review all sessions. `book`: whose rules a new book has changed.
    pub(crate) fn begin_review(&mut self, book: Option<Affected>) {
        let places = self.sessions.places();
        if self.permits.begin_review(places, book) {
            // Each route is computed anew.
            if !fault::is(Fault::RouteOutlivesRules) {
                self.subscribers.raise_all_epochs();
            }
        }
    }

    /// Reviews the session of a connection, if it has one.
    #[cold]
    pub(crate) fn review_connection(&mut self, id: ConnectionId) {
        let connection = self.connections.get(id);
        if let Some(session) = connection.and_then(|connection| connection.session()) {
            self.review(session);
        }
    }

    /// Applies all changes to a session: from now on it has the rules that are in force. Returns
    /// true if its credentials were revoked, or if its client must authenticate now: then the
    /// client is no longer obeyed and is sent nothing more.
    #[cold]
    pub(crate) fn review(&mut self, session: u32) -> bool {
        let last = self.permits.reviews.last;
        let state = self.sessions.at(session);
        let connection = state.connection();
        let has_groups = state.subscriptions.groups().next().is_some();
        if connection.is_none() && fault::is(Fault::ReviewSkipsAway) {
            return false;
        }
        let Some(permit) = &mut state.permit else {
            let is_requested =
                connection.is_some_and(|connection| self.review_listener(connection));
            if is_requested && has_groups {
                self.groups.reads_changed.push(self.sessions.id_of(session));
            }
            return is_requested;
        };
        let since = core::mem::replace(&mut permit.reviewed, last);
        if since == last {
            return false;
        }
        self.work.add(REVIEW);
        let (is_new, concerns) = self.permits.reviews.new_book(since, permit.user_name());
        if concerns {
            self.permits.renew(permit);
        }
        let revoked = self
            .lobby
            .authentications
            .revocation_of(&permit.identity, permit.last_revocation)
            .filter(|_| !fault::is(Fault::RevokedStays));
        let is_revoked = revoked.is_some();
        // Groups wait for the rules of all of their members, also of those whose are the same.
        if (is_new || is_revoked) && has_groups {
            self.groups.reads_changed.push(self.sessions.id_of(session));
        }
        if let Some(reason) = revoked {
            self.permits
                .reviews
                .revoked
                .push(self.sessions.id_of(session));
            if let Some(connection) = connection {
                let ending = Ending::with_disconnect(
                    ReasonCode::NotAuthorized,
                    RefusalCause::Revoked(reason),
                );
                self.stop_obeying(connection, ending);
            }
        }
        is_revoked
    }
}
