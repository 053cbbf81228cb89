//! Authentication of callers of the API (API keys, users, administrators), and the audit log. The
//! tables implement it.
//!
//! * `caller`: a caller, with the objects that it sees and its rights
//! * `rights`: rights that a caller needs to grant, change or end something

mod caller;
pub(crate) mod rights;

pub use caller::{Caller, LackingScopes};

use std::future::Future;
use std::pin::Pin;

use martlet_broker::TenantId;

use crate::principal::{Principal, Role, Scopes};

/// The future of a look-up.
pub type Looked<'a, T> = Pin<Box<dyn Future<Output = Result<T, CallersError>> + Send + 'a>>;

/// Why names cannot be looked up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallersError {
    /// The node has none.
    #[error("this node has no users for HTTP; use an API key of http.api_keys, or admin.sock")]
    None,
    /// The source of users does not answer.
    #[error("{0}")]
    Unavailable(String),
}

/// A user as the panel knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User name.
    pub name: String,
    /// Role, which says what they may do.
    pub role: Role,
    /// Only devices of this team are visible; none: all.
    pub team: Option<String>,
    /// The tenant whose clients and topics are visible: the team's, if it owns one.
    pub tenant: TenantId,
    /// Another number for each password they have had, so that sessions end with the password.
    pub generation: u64,
}

impl Account {
    /// Rights that the role permits; for a caller of one team only, of what is a team's.
    pub fn scopes(&self) -> Scopes {
        match self.team {
            Some(_) => self.role.scopes().and(Scopes::of_team(self.tenant)),
            None => self.role.scopes(),
        }
    }
}

/// Result of making the first administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstAdministrator {
    /// The administrator is there now.
    Made(Account),
    /// There is one already: it was not made.
    NotFirst,
    /// Name or password will not do; why, in a sentence.
    Refused(String),
}

/// An entry of the audit log: the caller, the change and the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The caller, as text of its [`Principal`].
    pub principal: String,
    /// Where from; none by `admin.sock`.
    pub address: Option<String>,
    /// Id of the team whose people may see it; none: of no team's.
    pub team: Option<String>,
    /// Action that was done: method and path, without what is secret.
    pub action: String,
    /// Details of the request, a JSON object without secrets.
    pub changed: String,
    /// Status of the answer.
    pub status: u16,
    /// Number of the request, as in the log.
    pub request_id: String,
    /// The caller need not wait until it is written.
    pub is_soon: bool,
}

/// The look-ups.
pub trait Callers: Send + Sync + 'static {
    /// The owner of this key; none if it is unknown, or not valid any more.
    fn api_key<'a>(&'a self, key: &'a [u8]) -> Looked<'a, Option<Principal>>;

    /// The user, if the password is theirs. It takes as long for a user that does not exist.
    fn check_password<'a>(
        &'a self,
        name: &'a str,
        password: &'a str,
    ) -> Looked<'a, Option<Account>>;

    /// The user as of now; none if there is none, or none that may log in.
    fn account<'a>(&'a self, name: &'a str) -> Looked<'a, Option<Account>>;

    /// Whether the node has an administrator.
    fn has_administrator(&self) -> Looked<'_, bool>;

    /// Whether the node has or had an administrator, or a key with the same rights.
    fn is_claimed(&self) -> Looked<'_, bool> {
        self.has_administrator()
    }

    /// Makes the first one. Of two at once one succeeds.
    fn make_first_administrator<'a>(
        &'a self,
        name: &'a str,
        password: &'a str,
    ) -> Looked<'a, FirstAdministrator>;

    /// Writes an entry of the audit log.
    fn audit(&self, entry: AuditEntry) -> Looked<'_, ()>;
}

/// There is none: every look-up returns that.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCallers;

fn none<'a, T: Send + 'a>() -> Looked<'a, T> {
    Box::pin(std::future::ready(Err(CallersError::None)))
}

impl Callers for NoCallers {
    fn api_key<'a>(&'a self, _: &'a [u8]) -> Looked<'a, Option<Principal>> {
        none()
    }

    fn check_password<'a>(&'a self, _: &'a str, _: &'a str) -> Looked<'a, Option<Account>> {
        none()
    }

    fn account<'a>(&'a self, _: &'a str) -> Looked<'a, Option<Account>> {
        none()
    }

    fn has_administrator(&self) -> Looked<'_, bool> {
        none()
    }

    fn make_first_administrator<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> Looked<'a, FirstAdministrator> {
        none()
    }

    fn audit(&self, _: AuditEntry) -> Looked<'_, ()> {
        none()
    }
}
