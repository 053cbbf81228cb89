//! The rules in force, and to which sessions they have been applied.

use std::fmt;
use std::sync::Arc;

use martlet_permission::RuleBook;

use crate::review::reviews::{Affected, Reviews};
use crate::session::permit::{Permit, PermitTokens};
use crate::share::message::RulesVersion;

/// The rules in force, and to which sessions they have been applied.
#[derive(Default)]
pub(crate) struct Permits {
    /// Whether permissions are checked: a session with restricted rights is or was here, or
    /// sessions are being reviewed.
    is_checked: bool,
    /// Whether a session with restricted rights is or was here, reviews aside.
    has_restricted: bool,
    /// Which sessions are still to be looked at.
    pub(crate) reviews: Reviews,
    tokens: PermitTokens,
    /// Where rules are looked up, if anywhere.
    book: Option<Arc<dyn RuleBook>>,
    rules_version: RulesVersion,
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits")
            .field("is_checked", &self.is_checked)
            .field("reviews", &self.reviews)
            .field("rules_version", &self.rules_version)
            .finish_non_exhaustive()
    }
}

impl Permits {
    /// Whether permissions are checked.
    #[inline(always)]
    pub(crate) fn is_checked(&self) -> bool {
        self.is_checked
    }

    /// Version of the rules in force.
    pub(crate) fn rules_version(&self) -> RulesVersion {
        self.rules_version
    }

    /// Rules are looked up here from now on.
    pub(crate) fn set_book(&mut self, book: Arc<dyn RuleBook>) {
        self.book = Some(book);
        self.rules_version = self.rules_version.next();
    }

    /// Makes a permit what a session gets with its connection: the rules are those of this moment,
    /// whenever the identity was decided.
    pub(crate) fn in_force(&mut self, mut permit: Box<Permit>) -> Box<Permit> {
        permit.token = self.tokens.next();
        permit.reviewed = self.reviews.last();
        if let Some(book) = &self.book {
            permit.look_up(&**book);
        }
        permit
    }

    /// Gives a permit the rules of the present book.
    pub(crate) fn renew(&mut self, permit: &mut Permit) {
        if let Some(book) = &self.book {
            permit.look_up(&**book);
            permit.token = self.tokens.next();
            self.has_restricted |= permit.is_restricted();
        }
    }

    /// Notes whether a session has restricted rights: until one has, permissions are not checked.
    pub(crate) fn note(&mut self, permit: &Permit) {
        if permit.is_restricted() {
            self.has_restricted = true;
            self.is_checked = true;
        }
    }

    /// Begins to review the sessions at the first `places` places. Returns whether there is any.
    pub(crate) fn begin_review(&mut self, places: u32, book: Option<Affected>) -> bool {
        self.reviews.begin(places, book);
        let is_begun = self.reviews.is_under_way();
        // Each receiver of a message is asked for meanwhile, which reviews it.
        self.is_checked |= is_begun;
        is_begun
    }

    /// All sessions have been reviewed.
    pub(crate) fn end_review(&mut self) {
        self.reviews.end();
        self.is_checked = self.has_restricted;
    }
}
