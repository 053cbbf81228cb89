//! Which sessions are still to be looked at.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::id::SessionId;

/// Number of changes of rules that are distinguished while sessions are reviewed. If there are
/// more, all rules are looked up.
const CHANGES_MAX: usize = 16;

/// Clients whose rules a new book of rules may have changed.
#[derive(Clone, Debug)]
pub(crate) enum Affected {
    /// Everybody's.
    All,
    /// Clients of these users, in ascending order.
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
    pub(crate) last: u32,
    /// New books of rules that some sessions have not looked into, each with its number.
    pub(crate) books: VecDeque<(u32, Affected)>,
    /// The place that is visited next.
    next: u32,
    /// Number of places at the last change. What comes to later ones follows the change already.
    places: u32,
    /// Number of them that have not been visited since.
    left: u32,
    /// Sessions whose credentials were revoked, and which may hold messages of share groups.
    pub(crate) revoked: Vec<SessionId>,
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

    /// All sessions have been reviewed.
    pub(crate) fn end(&mut self) {
        self.books.clear();
        self.revoked = Vec::new();
    }

    /// Whether something is left to be done in later turns.
    pub(crate) fn has_work(&self) -> bool {
        self.is_under_way() || !self.revoked.is_empty()
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.revoked.capacity() * size_of::<SessionId>()
    }

    pub(crate) fn begin(&mut self, places: u32, book: Option<Affected>) {
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
    pub(crate) fn next_place(&mut self) -> Option<u32> {
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
    pub(crate) fn new_book(&self, since: u32, user_name: Option<&str>) -> (bool, bool) {
        let new = self.books.iter().filter(|(number, _)| *number > since);
        let concerns = new.clone().any(|(_, affected)| affected.has(user_name));
        (new.count() > 0, concerns)
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
