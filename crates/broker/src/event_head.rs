//! What events have in common: the head (tenant, client, user, address), the cause, the limit and
//! the reason. Readers ask here, so that each kind of event is listed once.

use std::net::IpAddr;
use std::sync::Arc;

use crate::decision::Reached;
use crate::event::{ConnectedClient, Event, SharedClient, Told, UserName};
use crate::id::TenantId;
use crate::refusal::{Refusal, RefusalCause};
use crate::shortened::is_of_name;

/// A user name, and whether the client has proved to be that user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRef<'a> {
    /// The name.
    pub name: &'a str,
    /// The client has proved to be that user; else it says so.
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

/// Who an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventHead {
    /// The tenant of the client or topic; the common one, where that is not known.
    pub tenant: TenantId,
    /// Client Identifier, or the Topic Filter of a share group. Empty if that is not known.
    pub client_id: Arc<str>,
    /// User; none: anonymous, or the event does not say it.
    pub user: Option<UserName>,
    /// Address of the client; none on a Unix socket, or where the event does not say it.
    pub address: Option<(IpAddr, u16)>,
    /// The Client Identifier was long, and is cut.
    pub(crate) is_cut: bool,
}

impl EventHead {
    /// Head of an event that says no more than this.
    pub fn new(tenant: TenantId, client_id: impl Into<Arc<str>>) -> Self {
        Self {
            tenant,
            client_id: client_id.into(),
            user: None,
            address: None,
            is_cut: false,
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

    /// The same head with this user.
    #[must_use]
    pub fn with_user(self, user: Option<UserName>) -> Self {
        Self { user, ..self }
    }

    /// The same head with this address.
    #[must_use]
    pub fn with_address(self, address: Option<(IpAddr, u16)>) -> Self {
        Self { address, ..self }
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

    /// The user name, where the client only says so.
    pub fn claimed(&self) -> Option<&str> {
        let user = self.user.as_ref().filter(|user| !user.is_proved());
        user.map(UserName::as_str)
    }

    /// The address without the port.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.map(|(ip, _)| ip)
    }

    /// It is about this client.
    pub fn is_of_client(&self, client_id: &str) -> bool {
        match self.is_cut {
            true => is_of_name(&self.client_id, client_id),
            false => *self.client_id == *client_id,
        }
    }

    /// Its Client Identifier, if that is whole.
    pub fn whole_client_id(&self) -> Option<&str> {
        Some(&*self.client_id).filter(|_| !self.is_cut)
    }
}

impl Told {
    /// An event about a client that has connected.
    pub fn connected(tenant: TenantId, client: SharedClient) -> Self {
        Self {
            head: EventHead::of_client(tenant, &client),
            event: Event::Connected(client),
        }
    }
}

impl Event {
    /// Why something was refused or ended; none: it is about something else.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { why, .. }
            | Self::ReauthenticationRefused { why, .. }
            | Self::Disconnected { why, .. }
            | Self::PublishRefused { why, .. }
            | Self::SubscribeRefused { why, .. } => Some(why),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub(crate) fn refusal_mut(&mut self) -> Option<&mut Refusal> {
        match self {
            Self::Refused { why, .. }
            | Self::ReauthenticationRefused { why, .. }
            | Self::Disconnected { why, .. }
            | Self::PublishRefused { why, .. }
            | Self::SubscribeRefused { why, .. } => Some(why),
            _ => None,
        }
    }

    /// The cause of a refusal, an end, or a drop by a limit.
    pub fn cause(&self) -> Option<RefusalCause> {
        match self {
            Self::SessionEnded { cause, .. } => Some(*cause),
            _ => match self.refusal() {
                Some(refusal) => Some(refusal.cause),
                None => self.reached().map(|reached| reached.limit.into()),
            },
        }
    }

    /// The limit that messages were dropped or delayed for, with its value.
    pub fn reached(&self) -> Option<Reached> {
        match self {
            Self::Dropped { limit, .. } | Self::MessagesLost { limit, .. } => *limit,
            Self::QueueFull { limit, .. }
            | Self::RateExceeded { limit, .. }
            | Self::PublishesDelayed { limit, .. } => Some(*limit),
            _ => None,
        }
    }

    /// The name of its reason code, or of the reason of a drop.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Refused { reason, .. }
            | Self::ReauthenticationRefused { reason, .. }
            | Self::Disconnected { reason, .. }
            | Self::PublishRefused { reason, .. }
            | Self::SubscribeRefused { reason, .. } => Some(reason.name()),
            Self::Dropped { reason, .. } | Self::MessagesLost { reason, .. } => Some(reason.name()),
            _ => None,
        }
    }

    /// How many messages it is about, where it counts them.
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::MessagesLost { count, .. } => Some(*count),
            Self::RateExceeded { count, .. } | Self::PublishesDelayed { count, .. } => {
                Some(u64::from(*count))
            }
            _ => None,
        }
    }
}
