//! Parts that events have in common: the head (tenant, client, user, address), the cause, the limit
//! and the reason. Readers ask here, so that each kind of event is listed once.

use std::net::IpAddr;
use std::sync::Arc;

use martlet_permission::TenantId;

use crate::connected_client::{ConnectedClient, UserName};
use crate::shortened::is_of_name;

/// A user name, and whether the client has proved to be that user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRef<'a> {
    /// The name.
    pub name: &'a str,
    /// The client has proved to be that user. Otherwise it only claims so.
    pub is_proved: bool,
}

impl<'a> UserRef<'a> {
    /// The user of a client that has connected; none is anonymous.
    pub fn of(client: &'a ConnectedClient) -> Option<Self> {
        Some(Self {
            name: client.user_name.as_deref()?,
            is_proved: client.flags.user_is_proved(),
        })
    }
}

impl<'a> From<&'a UserName> for UserRef<'a> {
    fn from(user: &'a UserName) -> Self {
        Self {
            name: user.as_str(),
            is_proved: user.is_proved(),
        }
    }
}

/// The client that an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventHead {
    /// The tenant of the client or topic; the common one, where that is not known.
    pub tenant: TenantId,
    /// Client Identifier, or the Topic Filter of a share group. Empty if that is not known.
    pub client_id: Arc<str>,
    /// User; none: anonymous, or not in this event.
    pub user: Option<UserName>,
    /// Address of the client; none on a Unix socket, or where the event has none.
    pub address: Option<(IpAddr, u16)>,
    /// The Client Identifier was long, and is cut.
    pub(crate) is_cut: bool,
    /// The claimed user name says in which tenant the Client Identifier is, and nobody has looked
    /// it up yet.
    pub is_tenant_open: bool,
}

impl EventHead {
    /// Head of an event with no more than this.
    pub fn new(tenant: TenantId, client_id: impl Into<Arc<str>>) -> Self {
        Self {
            tenant,
            client_id: client_id.into(),
            user: None,
            address: None,
            is_cut: false,
            is_tenant_open: false,
        }
    }

    /// Head of an event about a client that is not known.
    pub fn unknown() -> Self {
        Self::new(TenantId::default(), Arc::default())
    }

    /// Head of an event about a client that has connected.
    pub fn of_client(tenant: TenantId, client: &ConnectedClient) -> Self {
        Self::new(tenant, Arc::clone(&client.client_id))
            .with_user(client.user())
            .with_address(client.address)
    }

    /// Returns the head with this user.
    #[must_use]
    pub fn with_user(self, user: Option<UserName>) -> Self {
        Self { user, ..self }
    }

    /// Returns the head with this address.
    #[must_use]
    pub fn with_address(self, address: Option<(IpAddr, u16)>) -> Self {
        Self { address, ..self }
    }

    /// Returns the head, with whether its tenant is yet to be found by the claimed user name.
    #[must_use]
    pub(crate) fn with_open_tenant(self, is_tenant_open: bool) -> Self {
        Self {
            is_tenant_open,
            ..self
        }
    }

    /// The user.
    pub fn user(&self) -> Option<UserRef<'_>> {
        self.user.as_ref().map(UserRef::from)
    }

    /// The user name, proved or not.
    pub fn user_name(&self) -> Option<&str> {
        self.user.as_ref().map(UserName::as_str)
    }

    /// The user name, where it is proved.
    pub fn proved(&self) -> Option<&str> {
        let user = self.user.as_ref().filter(|user| user.is_proved());
        user.map(UserName::as_str)
    }

    /// The user name, where the client only claims it.
    pub fn claimed(&self) -> Option<&str> {
        let user = self.user.as_ref().filter(|user| !user.is_proved());
        user.map(UserName::as_str)
    }

    /// The address without the port.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.map(|(ip, _)| ip)
    }

    /// Whether it is about this client.
    pub fn is_of_client(&self, client_id: &str) -> bool {
        match self.is_cut {
            true => is_of_name(&self.client_id, client_id),
            false => *self.client_id == *client_id,
        }
    }

    /// Returns the Client Identifier, if that is whole.
    pub fn whole_client_id(&self) -> Option<&str> {
        Some(&*self.client_id).filter(|_| !self.is_cut)
    }
}
