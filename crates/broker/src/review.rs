//! Reviews: how new rules and revocations reach all sessions, of a million clients too.
//!
//! A change begins a walk over all sessions, which goes on over turns. Until the walk has reached a
//! session, the session is reviewed when its client sends something, or before something is sent to
//! it: so the change is in force from the call on, and no call takes longer the more sessions there
//! are.

use std::collections::VecDeque;
use std::sync::Arc;

use martlet_codec::ReasonCode;

use crate::fault::{self, Fault};
use crate::id::{ConnectionId, SessionId};
use crate::node::{Cx, Node};
use crate::refusal::RefusalCause;
use crate::session::permit::Permit;
use crate::shard::{Ending, Shard};
use crate::work::{NODE, REVIEW};

/// Part of a turn that reviews may take, as a divisor.
const PART_OF_TURN: u64 = 8;
/// Changes of rules that are told apart while sessions are reviewed. Where there are more, all
/// rules are looked up.
const CHANGES_MAX: usize = 16;

/// Whose rules a new book of rules may have changed.
#[derive(Clone, Debug)]
pub(crate) enum Affected {
    /// Everybody's.
    All,
    /// Those of these users, in ascending order.
    Users(Arc<[Arc<str>]>),
}

impl Affected {
    fn has(&self, user_name: Option<&str>) -> bool {
        match (self, user_name) {
            (Self::All, _) => true,
            (Self::Users(_), None) => false,
            (Self::Users(users), Some(name)) => {
                let found = users.binary_search_by(|user| (**user).cmp(name));
                found.is_ok()
            }
        }
    }
}

/// The walk over the sessions, and what is to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Reviews {
    /// Number of the last change.
    last: u32,
    /// New books of rules that some sessions have not looked into, each with its number.
    books: VecDeque<(u32, Affected)>,
    /// The place that is visited next.
    next: u32,
    /// Number of places at the last change. What comes to later ones follows the change already.
    places: u32,
    /// Number of them that have not been visited since.
    left: u32,
    /// Sessions whose credentials were revoked, and which may hold messages of share groups.
    revoked: Vec<SessionId>,
    /// Whether a session with restricted rights is or was here.
    has_restricted: bool,
}

impl Reviews {
    /// Number of the last change, which a permit that is made now follows.
    pub(crate) fn last(&self) -> u32 {
        self.last
    }

    /// Whether sessions are still to be reviewed.
    #[inline(always)]
    pub(crate) fn is_under_way(&self) -> bool {
        self.left > 0
    }

    /// Whether something is left to be done in later turns.
    pub(crate) fn has_work(&self) -> bool {
        self.is_under_way() || !self.revoked.is_empty()
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.revoked.capacity() * size_of::<SessionId>()
    }

    fn begin(&mut self, places: u32, book: Option<Affected>) {
        self.last += 1;
        self.places = places;
        self.left = places;
        if let Some(affected) = book {
            if self.books.len() >= CHANGES_MAX {
                self.books.clear();
                self.books.push_back((self.last, Affected::All));
            } else {
                self.books.push_back((self.last, affected));
            }
        }
        if places == 0 {
            self.books.clear();
        }
    }

    /// The next place to visit.
    fn next_place(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let place = if self.next < self.places {
            self.next
        } else {
            0
        };
        self.next = place + 1;
        Some(place)
    }

    /// Whether there is a new book since the change of this number, and whether it concerns this
    /// user.
    fn new_book(&self, since: u32, user_name: Option<&str>) -> (bool, bool) {
        let new = self.books.iter().filter(|(number, _)| *number > since);
        let concerns = new.clone().any(|(_, affected)| affected.has(user_name));
        (new.count() > 0, concerns)
    }
}

impl Shard {
    /// Notes whether a session has restricted rights: until one has, permissions are not checked.
    pub(crate) fn note_restricted(&mut self, permit: Option<&Permit>) {
        if permit.is_some_and(Permit::is_restricted) {
            self.reviews.has_restricted = true;
            self.has_restricted = true;
        }
    }

    /// Begins to review all sessions. `book`: whose rules a new book has changed.
    pub(crate) fn begin_review(&mut self, book: Option<Affected>) {
        let places = self.sessions.places();
        self.reviews.begin(places, book);
        if self.reviews.is_under_way() {
            // Each receiver of a message is asked for, which reviews it, and each route is computed
            // anew.
            self.has_restricted = true;
            self.epochs.any += u64::from(!fault::is(Fault::RouteOutlivesRules));
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
        let last = self.reviews.last;
        let state = self.sessions.at(session);
        let connection = state.connection();
        let has_groups = state.subscriptions.groups().next().is_some();
        if connection.is_none() && fault::is(Fault::ReviewSkipsAway) {
            return false;
        }
        let Some(permit) = &mut state.permit else {
            let is_asked = connection.is_some_and(|connection| self.review_listener(connection));
            if is_asked && has_groups {
                self.reads_changed.push(self.sessions.id_of(session));
            }
            return is_asked;
        };
        let since = core::mem::replace(&mut permit.reviewed, last);
        if since == last {
            return false;
        }
        self.work.add(REVIEW);
        let (is_new, concerns) = self.reviews.new_book(since, permit.user_name());
        if concerns && let Some(book) = &self.authentications.book {
            permit.look_up(&**book);
            permit.token = self.permit_tokens.next();
            self.reviews.has_restricted |= permit.is_restricted();
        }
        let revoked = self
            .authentications
            .is_revoked(&permit.identity, permit.known)
            .filter(|_| !fault::is(Fault::RevokedStays));
        let is_revoked = revoked.is_some();
        // Groups wait for the rules of all of their members, also of those whose are the same.
        if (is_new || is_revoked) && has_groups {
            self.reads_changed.push(self.sessions.id_of(session));
        }
        if let Some(reason) = revoked {
            self.reviews.revoked.push(self.sessions.id_of(session));
            if let Some(connection) = connection {
                let ending = Ending::told(ReasonCode::NotAuthorized, RefusalCause::Revoked(reason));
                self.stop_obeying(connection, ending);
            }
        }
        is_revoked
    }

    /// Goes on with reviews, for a part of this turn.
    pub(crate) fn go_on_reviewing<N: Node>(&mut self, cx: &mut Cx<'_, N>) {
        let began = self.work.done;
        let units = self.settings.work.turn / PART_OF_TURN;
        while self.work.done - began < units {
            if let Some(id) = self.reviews.revoked.pop() {
                if let Some(session) = self.live_session(id) {
                    self.return_all_shared(cx, session);
                }
            } else if let Some(place) = self.reviews.next_place() {
                if self.sessions.look_at(place).is_some() {
                    self.review(place);
                }
            } else {
                self.end_review();
                break;
            }
            self.work.add(NODE);
            self.settle(cx);
        }
    }

    fn end_review(&mut self) {
        self.reviews.books.clear();
        self.reviews.revoked = Vec::new();
        self.has_restricted = self.reviews.has_restricted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_visited_after_the_last_change_however_often_there_is_one() {
        let mut reviews = Reviews::default();
        reviews.begin(100, None);
        let mut visited = Vec::new();
        for _ in 0..70 {
            visited.extend(reviews.next_place());
        }
        reviews.begin(100, None);
        visited.clear();
        while let Some(place) = reviews.next_place() {
            visited.push(place);
        }
        // It goes on where it was, so that frequent changes do not keep it from the last places.
        assert_eq!(visited[0], 70);
        visited.sort_unstable();
        assert_eq!(visited, (0..100).collect::<Vec<u32>>());
    }

    #[test]
    fn a_book_for_some_users_concerns_those_alone() {
        let mut reviews = Reviews::default();
        let users =
            |names: &[&str]| Affected::Users(names.iter().map(|name| (*name).into()).collect());
        reviews.begin(1, Some(users(&["a", "b"])));
        reviews.begin(1, Some(users(&["c"])));
        assert_eq!(reviews.new_book(0, Some("b")), (true, true));
        assert_eq!(reviews.new_book(1, Some("b")), (true, false));
        assert_eq!(reviews.new_book(1, Some("c")), (true, true));
        assert_eq!(reviews.new_book(0, None), (true, false));
        assert_eq!(reviews.new_book(2, Some("c")), (false, false));
        for _ in 0..CHANGES_MAX {
            reviews.begin(1, Some(users(&["d"])));
        }
        assert_eq!(reviews.new_book(1, Some("b")), (true, true));
    }
}
