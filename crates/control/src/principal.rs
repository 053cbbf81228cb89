//! Callers of the control plane and their rights: scopes, roles, principals.

use std::fmt;

use martlet_broker::TenantId;

/// Declares the closed list of scopes.
macro_rules! scopes {
    ($( $name:ident $text:literal $what:literal; )*) => {
        /// Rights in one area.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Scope {
            $( #[doc = $what] $name, )*
        }

        impl Scope {
            /// All there are.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// As it is written, such as `clients:read`.
            pub fn name(self) -> &'static str {
                match self { $( Self::$name => $text, )* }
            }

            /// Rights that it permits, in a phrase.
            pub fn what(self) -> &'static str {
                match self { $( Self::$name => $what, )* }
            }
        }
    };
}

scopes! {
    NodeRead "node:read" "State, traffic and metrics of the node.";
    NodeWrite "node:write" "Stop the node, and reload its configuration and files.";
    BackupRead "backup:read" "Create a backup, which contains all messages and hashes of \
         passwords.";
    ClientsRead "clients:read" "See sessions, their connections, bans and lockouts.";
    ClientsWrite "clients:write" "End connections and sessions.";
    MessagesRead "messages:read" "Receive messages that clients publish: responses to requests, and what the node remembers of topics.";
    MessagesWrite "messages:write" "Publish messages.";
    RetainedRead "retained:read" "See retained messages.";
    RetainedWrite "retained:write" "Change and remove retained messages.";
    DevicesRead "devices:read" "See devices.";
    DevicesWrite "devices:write" "Add, change and remove devices and their credentials.";
    TelemetryRead "telemetry:read" "Read the values that devices send.";
    TelemetryWrite "telemetry:write" "Send values for devices, and delete values.";
    UsersRead "users:read" "See users and teams.";
    UsersWrite "users:write" "Add, change and remove users and teams.";
    KeysRead "keys:read" "List API keys, team tokens and provisioning keys, without the keys.";
    KeysWrite "keys:write" "Add and remove API keys, team tokens and provisioning keys.";
    AclRead "acl:read" "See rules, and which rule decides about an action.";
    AclWrite "acl:write" "Change rules.";
    AuditRead "audit:read" "Read the audit log.";
    EventsRead "events:read" "See what happened to clients.";
    IntegrationsRead "integrations:read" "See integrations, bridges, webhooks, rules and alarms, messages that integrations have rejected, and names of secrets.";
    IntegrationsWrite "integrations:write" "Pause, resume and drain integrations; send and drop dead letters; add, change and remove bridges, webhooks and rules; acknowledge, shelve and clear alarms; set and remove secrets.";
    AuthCheck "auth:check" "Check the credentials of a client, as another broker does.";
    ConfigRead "config:read" "See the configuration, without secrets.";
    ConfigWrite "config:write" "Change the configuration.";
}

impl Scope {
    /// Finds a scope by its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.name() == name)
    }

    fn is_read(self) -> bool {
        self.name().ends_with(":read")
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u32);

impl Scopes {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// All of them.
    pub fn all() -> Self {
        Scope::ALL.iter().copied().collect()
    }

    /// Whether a scope is among them.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }

    /// Scopes that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Scopes that are in one of them.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Scopes whose routes distinguish teams. Callers that see one team have no other scopes, by
    /// which they would see all teams. Clients and topics belong to a team if it owns a tenant.
    pub fn of_team(tenant: TenantId) -> Self {
        let of_tables = [
            Scope::DevicesRead,
            Scope::DevicesWrite,
            Scope::TelemetryRead,
            Scope::TelemetryWrite,
            Scope::UsersRead,
            Scope::UsersWrite,
            Scope::KeysRead,
            Scope::KeysWrite,
            Scope::AuditRead,
        ];
        let of_tenant = [
            Scope::ClientsRead,
            Scope::ClientsWrite,
            Scope::EventsRead,
            Scope::IntegrationsRead,
            Scope::IntegrationsWrite,
            Scope::MessagesRead,
            Scope::MessagesWrite,
            Scope::RetainedRead,
            Scope::RetainedWrite,
        ];
        let of_tenant = of_tenant
            .into_iter()
            .filter(|_| tenant != TenantId::default());
        of_tables.into_iter().chain(of_tenant).collect()
    }

    /// Rights of a member of a team, at most: of a team that owns a tenant.
    pub fn of_any_team() -> Self {
        Self::of_team(TenantId(u32::MAX))
    }

    /// In the order of the list.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        let all = Scope::ALL.iter().copied();
        all.filter(move |scope| self.has(*scope))
    }

    /// Their names.
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(Scope::name).collect()
    }

    /// From names of scopes and roles with `+` between them: `viewer+messages:write`.
    ///
    /// # Errors
    /// The name that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut scopes = Self::NONE;
        for name in text.split('+').map(str::trim) {
            let found = Scope::from_name(name).map(|scope| Self(bit(scope)));
            let role = || Role::from_name(name).map(Role::scopes);
            let found = found.or_else(role).ok_or_else(|| name.to_owned())?;
            scopes.0 |= found.0;
        }
        Ok(scopes)
    }
}

impl<const N: usize> From<[Scope; N]> for Scopes {
    fn from(scopes: [Scope; N]) -> Self {
        scopes.into_iter().collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | bit(scope)))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

fn bit(scope: Scope) -> u32 {
    1 << scope as u32
}

/// A set of scopes with a name, as people have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// May do everything.
    Administrator,
    /// Operates the node: sees everything except who has which key, and changes neither users nor
    /// rules nor the configuration.
    Operator,
    /// Sees how the node is, and changes nothing.
    Viewer,
}

impl Role {
    /// All there are.
    pub const ALL: &'static [Self] = &[Self::Administrator, Self::Operator, Self::Viewer];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
        }
    }

    /// Finds a role by its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.name() == name)
    }

    /// Scopes that it permits.
    pub fn scopes(self) -> Scopes {
        // What only an administrator sees: who logged in by which credentials, and copies of
        // everything.
        let is_close = |scope: &Scope| matches!(scope, Scope::BackupRead | Scope::KeysRead);
        let reads = |scope: &Scope| scope.is_read() && !is_close(scope);
        let all = Scope::ALL.iter().copied();
        match self {
            Self::Administrator => Scopes::all(),
            Self::Operator => all
                .filter(|scope| {
                    reads(scope)
                        || matches!(
                            scope,
                            Scope::NodeWrite
                                | Scope::ClientsWrite
                                | Scope::MessagesWrite
                                | Scope::RetainedWrite
                                | Scope::DevicesWrite
                                | Scope::TelemetryWrite
                        )
                })
                .collect(),
            Self::Viewer => all
                .filter(|scope| {
                    reads(scope)
                        && !matches!(
                            scope,
                            Scope::AuditRead | Scope::ConfigRead | Scope::MessagesRead
                        )
                })
                .collect(),
        }
    }
}

/// Kind of a caller's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrincipalKind {
    /// Came by `admin.sock`, which its file mode locks.
    Socket,
    /// An API key.
    ApiKey {
        /// The id of the key, or the name of one of the configuration.
        id: String,
        /// Name for people: several keys may have the same.
        name: String,
    },
    /// A user of the panel, by a session.
    User {
        /// User name.
        name: String,
    },
    /// A device, by its own key.
    Device {
        /// Id of the device.
        id: String,
    },
    /// No credentials are needed there: an open route, or a node without administrator yet.
    Anonymous,
}

/// The caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The kind of the caller.
    pub kind: PrincipalKind,
    /// Scopes of the caller.
    pub scopes: Scopes,
    /// Only devices of this team are visible; none: all.
    pub team: Option<String>,
    /// The tenant whose clients and topics are visible: the team's, if it owns one.
    pub tenant: TenantId,
}

impl Principal {
    /// A caller at `admin.sock`.
    pub fn socket() -> Self {
        Self {
            kind: PrincipalKind::Socket,
            scopes: Scopes::all(),
            team: None,
            tenant: TenantId::default(),
        }
    }

    /// For messages to people: of a key the name, too.
    pub fn words(&self) -> String {
        match &self.kind {
            PrincipalKind::ApiKey { id, name } if id != name => {
                format!("the API key {name} (key:{id})")
            }
            _ => self.to_string(),
        }
    }

    /// That it lacks a scope, in words.
    pub fn lacks(&self, scope: Scope) -> String {
        format!("{} lacks the scope {scope}", self.words())
    }

    /// A caller that did not have to authenticate.
    pub fn anonymous(scopes: Scopes) -> Self {
        Self {
            kind: PrincipalKind::Anonymous,
            scopes,
            team: None,
            tenant: TenantId::default(),
        }
    }
}

impl fmt::Display for Principal {
    /// For logs and the audit: one word for each, by which no two are the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            PrincipalKind::Socket => f.write_str("admin.sock"),
            PrincipalKind::ApiKey { id, .. } => write!(f, "key:{id}"),
            PrincipalKind::User { name } => write!(f, "user:{name}"),
            PrincipalKind::Device { id } => write!(f, "device:{id}"),
            PrincipalKind::Anonymous => f.write_str("anonymous"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_scopes_are_read_as_they_are_written() {
        for scope in Scope::ALL {
            assert_eq!(Scope::from_name(scope.name()), Some(*scope));
        }
        let some = Scopes::parse("clients:read+messages:write").unwrap();
        assert_eq!(some.names(), ["clients:read", "messages:write"]);
        assert_eq!(Scopes::parse("administrator").unwrap(), Scopes::all());
        assert_eq!(
            Scopes::parse("clients:raed"),
            Err("clients:raed".to_owned())
        );
        assert_eq!(Scopes::parse(""), Err(String::new()));
    }

    #[test]
    fn a_viewer_changes_nothing_and_sees_no_secret() {
        let viewer = Role::Viewer.scopes();
        assert!(viewer.iter().all(|scope| scope.name().ends_with(":read")));
        assert!(!viewer.has(Scope::BackupRead) && !viewer.has(Scope::KeysRead));
        let operator = Role::Operator.scopes();
        assert_eq!(viewer.and(operator), viewer);
        for scope in [
            Scope::UsersWrite,
            Scope::KeysWrite,
            Scope::AclWrite,
            Scope::BackupRead,
        ] {
            assert!(!operator.has(scope), "{scope}");
        }
    }
}
