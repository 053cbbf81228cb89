//! A caller, with the objects that it sees and its rights.

use martlet_broker::TenantId;
use martlet_registry::{Actor, Visibility};

use crate::principal::{Principal, Scopes};

/// The caller of a use case: a request or a command.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The caller as the audit log names it, and what it sees.
    pub actor: Actor,
    /// Rights: scopes and roles.
    pub scopes: Scopes,
    /// The tenant of its team, if the team owns one.
    tenant: TenantId,
}

/// The caller lacks these scopes. A caller can grant only rights that it has itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this needs scopes that the caller lacks: {}", .0.names().join(", "))]
pub struct LackingScopes(pub Scopes);

impl Caller {
    /// The caller with this principal, which the audit log names so.
    pub fn new(actor: Actor, principal: &Principal) -> Self {
        Self {
            actor,
            scopes: principal.scopes,
            tenant: principal.tenant,
        }
    }

    /// The user of this process, at the command line, with all rights.
    pub fn local() -> Self {
        Self {
            actor: Actor::local(),
            scopes: Scopes::all(),
            tenant: TenantId::default(),
        }
    }

    /// Caller that sees only the team of this id.
    #[must_use]
    pub fn in_team(mut self, id: String) -> Self {
        self.actor.visibility = Visibility::Team(id);
        self
    }

    /// Which objects it sees.
    pub fn visibility(&self) -> Visibility {
        self.actor.visibility.clone()
    }

    /// Whether it sees the objects of all teams.
    pub fn sees_all(&self) -> bool {
        self.actor.visibility == Visibility::All
    }

    /// Name of the user, if the caller is one.
    pub(crate) fn user(&self) -> Option<&str> {
        self.actor.who.strip_prefix("user:")
    }

    /// Scopes that a key of the caller can have, at most, if it is a team's.
    pub(crate) fn scopes_of_team(&self) -> Scopes {
        match self.sees_all() {
            // Its team may own a tenant.
            true => Scopes::of_any_team(),
            false => Scopes::of_team(self.tenant),
        }
    }

    /// Whether users that it adds share topics by default. Users that a team without a tenant adds
    /// do not.
    pub(crate) fn gives_topics(&self) -> bool {
        self.sees_all() || self.tenant != TenantId::default()
    }

    /// All scopes for the objects that it sees: those of a tenant, if the tenant is a team's.
    pub(crate) fn scopes_of_everything(&self) -> Scopes {
        match self.sees_all() {
            true => Scopes::all(),
            false => Scopes::of_any_team(),
        }
    }

    /// Checks that it may add devices: what lets devices in by themselves needs that too.
    ///
    /// # Errors
    /// It may not.
    pub(crate) fn check_adds_devices(&self) -> Result<(), LackingScopes> {
        self.check_scopes([crate::principal::Scope::DevicesWrite].into())
    }

    /// Checks that it has all of these scopes.
    ///
    /// # Errors
    /// It lacks some.
    pub fn check_scopes(&self, needed: Scopes) -> Result<(), LackingScopes> {
        let lacking = |scope: &crate::principal::Scope| !self.scopes.has(*scope);
        let lacking: Scopes = needed.iter().filter(lacking).collect();
        match lacking == Scopes::NONE {
            true => Ok(()),
            false => Err(LackingScopes(lacking)),
        }
    }
}
