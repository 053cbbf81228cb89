//! The users of a run: their tenants, permissions and login states. Every change creates a new
//! version, and all versions are kept, so that checks can determine which version applies to a
//! packet.
//!
//! Permissions are decided here by a simple scan of the rules. The broker uses a different
//! algorithm.

mod authenticator;
mod change;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use martlet_broker::{Actions, Realm, Rule, RuleBook, Rules, TenantId};
use martlet_lockout::Lockout;

use crate::facts::{ClientIndex, MessageIndex};
use crate::node::LinkIndex;
use crate::topics::{FilterIndex, TopicIndex, Topics};

pub use authenticator::{Authenticator, Judged, LoginVerdict};
pub use change::Change;

/// A user of the run.
pub type UserIndex = u16;
/// The number of a version.
pub type Version = usize;

/// Number of clients per user.
const CLIENTS_OF_ONE: u16 = 2;
/// Number of addresses of clients.
const ADDRESSES: u16 = 3;

/// Login state of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The user may log in with its password.
    Active,
    /// The user exists, and is refused.
    Disabled,
    /// The user does not exist.
    Deleted,
}

/// One rule of a user; the first that matches decides.
#[derive(Clone, Copy, Debug)]
pub struct RuleRow {
    /// Whether it permits; otherwise it forbids.
    pub allows: bool,
    /// The actions.
    pub actions: Actions,
    /// The topics.
    pub filter: FilterIndex,
}

/// A user in one version.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Tenant of the user.
    pub tenant: TenantId,
    /// Number that distinguishes users who had this name in turn.
    pub holder: u64,
    /// Login state.
    pub state: State,
    /// Number of its password.
    pub password: u32,
    /// Rules of the user.
    pub rules: Vec<RuleRow>,
    /// Permissions if no rule matches.
    pub default: Actions,
}

impl Standing {
    fn new(holder: u64, tenant: TenantId) -> Self {
        Self {
            tenant,
            holder,
            state: State::Active,
            password: 0,
            rules: Vec::new(),
            default: Actions::ALL,
        }
    }

    /// Whether the rules permit this; all are scanned, in order.
    fn permits(&self, action: Actions, topic: TopicIndex, topics: &Topics) -> bool {
        let mut rules = self.rules.iter();
        let first =
            rules.find(|rule| rule.actions.has(action) && topics.matches(rule.filter, topic));
        first.map_or(self.default.has(action), |rule| rule.allows)
    }

    fn compile(&self, topics: &Topics) -> Rules {
        if self.rules.is_empty() && self.default == Actions::ALL {
            return Rules::open();
        }
        let rules = self.rules.iter().map(|rule| Rule {
            actions: rule.actions,
            allows: rule.allows,
            filter: topics.filter(rule.filter).into(),
            source: "the run".into(),
        });
        Rules::compile(rules.collect(), self.default).expect("filters of the run are valid")
    }
}

/// All users in one version.
#[derive(Clone, Debug)]
struct VersionRow {
    users: Vec<Standing>,
    /// Whether it was confirmed to be in force.
    answered: bool,
    /// For connections of that time: number of bytes produced for their clients before.
    marks: BTreeMap<LinkIndex, u64>,
}

/// The login of an accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: UserIndex,
    /// Tenant of the user.
    pub tenant: TenantId,
    /// Which of the users that had this name.
    pub holder: u64,
    /// Number of its password.
    pub password: u32,
}

/// All users, and all versions of them.
#[derive(Debug)]
pub struct People {
    versions: Vec<VersionRow>,
    logins: BTreeMap<LinkIndex, Login>,
    /// The connections over which each message was sent, and the versions in force then.
    sent: BTreeMap<MessageIndex, Vec<(LinkIndex, Version)>>,
    holders: u64,
    /// Limits of failed logins that lead to a lockout.
    pub lockout: Lockout,
    /// Percentage of logins with a wrong password.
    pub wrong_percent: u64,
}

impl People {
    /// The users of this number of clients, all in the first version, which is in force.
    pub fn new(clients: usize, lockout: Lockout, wrong_percent: u64) -> Self {
        let users = clients.div_ceil(usize::from(CLIENTS_OF_ONE));
        let user = |user| Standing::new(user as u64 + 1, TenantId(user as u32 % TENANTS));
        let first = VersionRow {
            users: (0..users).map(user).collect(),
            answered: true,
            marks: BTreeMap::new(),
        };
        Self {
            versions: vec![first],
            logins: BTreeMap::new(),
            sent: BTreeMap::new(),
            holders: users as u64,
            lockout,
            wrong_percent,
        }
    }

    /// The user of a client.
    pub fn user_of(client: ClientIndex) -> UserIndex {
        client / CLIENTS_OF_ONE
    }

    /// The name of a user.
    pub fn name(user: UserIndex) -> String {
        format!("u{user}")
    }

    /// The user of that name.
    fn find(name: &str) -> Option<UserIndex> {
        name.strip_prefix('u')?.parse().ok()
    }

    /// The address of a client.
    pub fn address(client: ClientIndex) -> IpAddr {
        [10, 0, 0, (client % ADDRESSES) as u8].into()
    }

    /// All users in the last version.
    pub fn current(&self) -> &[Standing] {
        let last = self.versions.last();
        last.map_or(&[], |version| &version.users)
    }

    /// All tenants.
    pub fn tenants() -> impl Iterator<Item = TenantId> {
        (0..TENANTS).map(TenantId)
    }

    /// The current tenant of a client.
    pub fn tenant_of(&self, client: ClientIndex) -> TenantId {
        self.current()[usize::from(Self::user_of(client))].tenant
    }

    /// The password of a user.
    pub fn password(&self, user: UserIndex) -> String {
        let number = self.current()[usize::from(user)].password;
        format!("{}-{number}", Self::name(user))
    }

    /// Begins a new version, which is not yet confirmed to be in force.
    fn begin(&mut self, users: Vec<Standing>) -> Version {
        self.versions.push(VersionRow {
            users,
            answered: false,
            marks: BTreeMap::new(),
        });
        self.versions.len() - 1
    }

    /// Marks this version as in force, in place of all before it. Exempt are bytes already
    /// produced for clients: of each connection, up to this byte.
    pub fn answered(&mut self, version: Version, marks: BTreeMap<LinkIndex, u64>) {
        let found = &mut self.versions[version];
        found.answered = true;
        found.marks = marks;
    }

    /// The last version.
    pub fn last(&self) -> Version {
        self.versions.len() - 1
    }

    /// The node starts with the last version. Data produced for these connections before is exempt
    /// from it.
    pub fn restarted(&mut self, links: impl Iterator<Item = LinkIndex>) {
        let marks = links.map(|link| (link, u64::MAX)).collect();
        self.answered(self.last(), marks);
    }

    /// The last version in force when this byte was produced for the client of a connection; its
    /// effects must comply with this version or a later one.
    pub fn in_force_at(&self, link: LinkIndex, byte: u64) -> Version {
        let followed = |version: &VersionRow| {
            let mark = version.marks.get(&link).copied().unwrap_or(0);
            version.answered && mark <= byte
        };
        self.versions.iter().rposition(followed).unwrap_or(0)
    }

    /// The last version that is in force.
    pub fn in_force(&self) -> Version {
        let answered = self.versions.iter().rposition(|version| version.answered);
        answered.unwrap_or(0)
    }

    /// The login of a connection that was accepted.
    pub fn login(&self, link: LinkIndex) -> Option<Login> {
        self.logins.get(&link).copied()
    }

    /// Records the login of an accepted connection.
    pub fn accept(&mut self, link: LinkIndex, login: Login) {
        self.logins.insert(link, login);
    }

    /// Records that a message is sent by a connection, or is its Will.
    pub fn send(&mut self, message: MessageIndex, link: LinkIndex) {
        let version = self.in_force();
        self.sent.entry(message).or_default().push((link, version));
    }

    /// The logins with which a message was sent, the latest first, and the versions in force then.
    pub fn sent(&self, message: MessageIndex) -> impl Iterator<Item = (Login, Version)> {
        let sent = self.sent.get(&message).into_iter().flatten().rev();
        sent.filter_map(|(link, version)| Some((self.login(*link)?, *version)))
    }

    /// Whether this version, or a later one, permits this to the user.
    pub fn may_since(
        &self,
        version: Version,
        login: Login,
        action: Actions,
        topic: TopicIndex,
        topics: &Topics,
    ) -> bool {
        self.standings(version, login).any(|user| {
            user.holder == login.holder
                && user.password == login.password
                && user.permits(action, topic, topics)
        })
    }

    /// Whether this is permitted for a Will, which is checked by the current rules of its user
    /// name: a changed password ends the connection that set it.
    pub fn may_leave(
        &self,
        version: Version,
        login: Login,
        topic: TopicIndex,
        topics: &Topics,
    ) -> bool {
        let mut standings = self.standings(version, login);
        standings.any(|user| user.permits(Actions::PUBLISH, topic, topics))
    }

    /// The active users of this name and tenant in a version and later ones.
    fn standings(&self, version: Version, login: Login) -> impl Iterator<Item = &Standing> {
        let versions = self.versions[version..].iter();
        let users = versions.map(move |version| &version.users[usize::from(login.user)]);
        users.filter(move |user| user.state == State::Active && user.tenant == login.tenant)
    }

    /// The source of rules for the node.
    pub fn book(&self, topics: &Topics) -> Arc<dyn RuleBook> {
        let users = self.current().iter().map(|user| match user.state {
            State::Active => Some((Realm::of_tenant(user.tenant), user.compile(topics).into())),
            State::Disabled | State::Deleted => None,
        });
        Arc::new(Book {
            users: users.collect(),
            closed: Arc::new(Rules::closed()),
        })
    }
}

/// Tenants of a run.
pub const TENANTS: u32 = 2;

/// The rules of all active users, by user.
struct Book {
    users: Vec<Option<(Realm, Arc<Rules>)>>,
    closed: Arc<Rules>,
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Book")
    }
}

impl RuleBook for Book {
    fn rules_of(&self, realm: Realm, user_name: Option<&str>) -> Arc<Rules> {
        let user = user_name.and_then(People::find);
        let found = user.and_then(|user| self.users.get(usize::from(user))?.as_ref());
        let rules = found.filter(|(of, _)| *of == realm);
        Arc::clone(rules.map_or(&self.closed, |(_, rules)| rules))
    }
}
