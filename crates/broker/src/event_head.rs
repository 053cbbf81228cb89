//! What all events have in common: the head (tenant, client, user, address), the cause, the limit
//! and the reason. Readers ask here, so that each kind of event is listed once.

use std::net::IpAddr;

use crate::decision::Reached;
use crate::event::{ConnectedClient, Event, Told, UserName};
use crate::id::TenantId;
use crate::refusal::{Refusal, RefusalCause};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHead<'e> {
    /// The tenant of the client or topic.
    pub tenant: TenantId,
    /// Client Identifier, or the Topic Filter of a share group. Empty if that is not known.
    pub client_id: &'e str,
    /// User; none: anonymous, or not known.
    pub user: Option<UserRef<'e>>,
    /// Address of the client; none on a Unix socket, or where the event does not say it.
    pub address: Option<(IpAddr, u16)>,
}

impl<'e> EventHead<'e> {
    /// The user name, where it is proved.
    pub fn proved(&self) -> Option<&'e str> {
        self.user
            .filter(|user| user.is_proved)
            .map(|user| user.name)
    }

    /// The user name, where the client only says so.
    pub fn claimed(&self) -> Option<&'e str> {
        self.user
            .filter(|user| !user.is_proved)
            .map(|user| user.name)
    }
}

impl Told {
    /// Who it is about.
    pub fn head(&self) -> EventHead<'_> {
        self.event.head(self.tenant)
    }
}

impl Event {
    /// Who it is about, in this tenant.
    pub fn head(&self, tenant: TenantId) -> EventHead<'_> {
        EventHead {
            tenant,
            client_id: self.client_id(),
            user: self.user(),
            address: self.address(),
        }
    }

    /// Whose it is; of a share group its Topic Filter. Empty if that is not known.
    pub fn client_id(&self) -> &str {
        match self {
            Self::Connected(client) => &client.client_id,
            Self::Refused { client_id, .. }
            | Self::ReauthenticationRefused { client_id, .. }
            | Self::Disconnected { client_id, .. }
            | Self::Dropped { client_id, .. }
            | Self::PublishRefused { client_id, .. }
            | Self::RateExceeded { client_id, .. }
            | Self::PublishesDelayed { client_id, .. }
            | Self::MessagesLost { client_id, .. }
            | Self::SubscribeRefused { client_id, .. } => client_id,
            Self::Authenticated { client_id, .. }
            | Self::TakenOver { client_id, .. }
            | Self::SessionEnded { client_id, .. }
            | Self::Subscribed { client_id, .. }
            | Self::Unsubscribed { client_id, .. }
            | Self::Packet { client_id, .. } => client_id,
            Self::Published(message) => &message.client_id,
            Self::Delivered(message) => &message.client_id,
            Self::QueueFull { owner, .. } => owner,
        }
    }

    /// Its user, as far as the event says it.
    pub fn user(&self) -> Option<UserRef<'_>> {
        let user = match self {
            Self::Connected(client) => return UserRef::of(client),
            Self::Authenticated { user, .. }
            | Self::Refused { user, .. }
            | Self::ReauthenticationRefused { user, .. }
            | Self::Disconnected { user, .. }
            | Self::Dropped { user, .. }
            | Self::PublishRefused { user, .. }
            | Self::RateExceeded { user, .. }
            | Self::PublishesDelayed { user, .. }
            | Self::MessagesLost { user, .. }
            | Self::SubscribeRefused { user, .. } => user,
            Self::QueueFull { .. }
            | Self::TakenOver { .. }
            | Self::SessionEnded { .. }
            | Self::Subscribed { .. }
            | Self::Unsubscribed { .. }
            | Self::Published(_)
            | Self::Delivered(_)
            | Self::Packet { .. } => return None,
        };
        user.as_ref().map(UserRef::from)
    }

    /// The address of its client, as far as the event says it.
    pub fn address(&self) -> Option<(IpAddr, u16)> {
        match self {
            Self::Connected(client) => client.address,
            Self::Authenticated { address, .. }
            | Self::Refused { address, .. }
            | Self::PublishRefused { address, .. }
            | Self::RateExceeded { address, .. }
            | Self::PublishesDelayed { address, .. }
            | Self::TakenOver { address, .. }
            | Self::SubscribeRefused { address, .. } => *address,
            _ => None,
        }
    }

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
