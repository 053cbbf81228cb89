//! A CONNECT, and the identity of its client.

use std::net::IpAddr;
use std::sync::Arc;

use martlet_codec::{Connect, ProtocolVersion};
use martlet_permission::TenantId;

use crate::authentication::LoginWaiter;
use crate::connected_client::UserName;
use crate::limits::{Limits, ListenerPolicy};
use crate::part::interface::PartSpec;
use crate::record::StoredWill;
use crate::session::permit::Permit;

/// Request of a client by its CONNECT.
#[derive(Debug)]
pub(crate) struct ConnectRequest {
    pub(crate) version: ProtocolVersion,
    pub(crate) bridge: bool,
    pub(crate) clean_start: bool,
    pub(crate) keep_alive_secs: u16,
    pub(crate) client_id: Arc<str>,
    /// The identifier was given by us [MQTT-3.1.3-6].
    pub(crate) assigned: bool,
    /// The User Name of the CONNECT, which is not proved.
    pub(crate) user_name: Option<Arc<str>>,
    /// The method by which it proves its identity in steps.
    pub(crate) authentication_method: Option<Arc<str>>,
    pub(crate) will: Option<Arc<StoredWill>>,
    /// As asked for; v3 sessions that are not clean ask for ever.
    pub(crate) session_expiry_secs: u32,
    pub(crate) receive_maximum: u16,
    /// `u32::MAX` is none.
    pub(crate) packet_bytes_max: u32,
    pub(crate) topic_alias_maximum: u16,
    pub(crate) response_information: bool,
    /// A bridge of Martlet, which asks whether this is a node of Martlet too.
    pub(crate) is_bridge: bool,
    pub(crate) problem_information: bool,
    /// Remaining Length of the CONNECT.
    pub(crate) remaining_bytes: u32,
}

/// A CONNECT that waits for the authenticator.
#[derive(Debug)]
pub(crate) struct WaitingConnect {
    pub(crate) request: ConnectRequest,
    /// Held as long as it waits.
    asks: Arc<()>,
}

impl WaitingConnect {
    pub(crate) fn new(request: ConnectRequest) -> Self {
        Self {
            request,
            asks: Arc::default(),
        }
    }

    /// Whether it still waits, for the authenticator.
    pub(crate) fn waiter(&self) -> LoginWaiter {
        LoginWaiter::of(&self.asks)
    }

    /// Bytes of memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.request.remaining_bytes as usize
    }
}

/// The identity of a client, and how it is known.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) tenant: TenantId,
    /// The user that it has proved to be; without a permit, the one that it claims to be.
    pub(crate) user_name: Option<Arc<str>>,
    /// Identity of the client; none where no credentials are asked for.
    pub(crate) permit: Option<Box<Permit>>,
    /// The data of the authenticator's last step, for the client.
    pub(crate) data: Option<Box<[u8]>>,
}

impl Login {
    /// A client that has proved nothing.
    pub(crate) fn claimed(tenant: TenantId, user_name: Option<Arc<str>>) -> Self {
        Self {
            tenant,
            user_name,
            permit: None,
            data: None,
        }
    }

    /// A client that has proved to be this one, whatever it claimed.
    pub(crate) fn proved(permit: Box<Permit>, data: Option<Box<[u8]>>) -> Self {
        Self {
            tenant: permit.identity.tenant,
            user_name: permit.identity.user_name.clone(),
            permit: Some(permit),
            data,
        }
    }

    /// Whether the client has no credentials of its own.
    pub(crate) fn is_applicant(&self) -> bool {
        let permit = self.permit.as_ref();
        permit.is_some_and(|permit| permit.identity.is_applicant)
    }
}

/// A client whose CONNECT may be accepted: its request and its identity. It goes to the shard that
/// owns its session.
#[derive(Debug)]
pub struct ConnectingClient {
    pub(crate) request: ConnectRequest,
    pub(crate) login: Login,
    /// Part that attaches; none: it is a client.
    pub(crate) part: Option<Box<PartSpec>>,
}

impl ConnectingClient {
    pub(crate) fn new(request: ConnectRequest, login: Login) -> Self {
        Self {
            request,
            login,
            part: None,
        }
    }

    /// Client Identifier, given by the client or assigned.
    pub fn client_id(&self) -> &str {
        &self.request.client_id
    }

    /// Whether its session begins anew: it asks for that, or has no right to another.
    pub(crate) fn has_clean_start(&self) -> bool {
        self.request.clean_start || self.login.is_applicant()
    }

    /// Session Expiry Interval in force, seconds: the ceiling is for clients.
    pub(crate) fn session_expiry_secs(&self, limits: &Limits) -> u32 {
        if self.login.is_applicant() {
            return 0;
        }
        let ceiling = match &self.part {
            Some(_) => u32::MAX,
            None => limits.session_expiry_max_secs,
        };
        self.request.session_expiry_secs.min(ceiling)
    }

    /// Returns the user; until it is proved, the claimed one.
    pub(crate) fn user(&self) -> Option<UserName> {
        let name = self.login.user_name.clone()?;
        Some(match self.login.permit {
            Some(_) => UserName::Proved(name),
            None => UserName::Claimed(name),
        })
    }
}

/// The Session Expiry Interval that a CONNECT asks for, seconds; before MQTT 5 a session that is
/// not clean does not expire.
pub(crate) fn requested_expiry_secs(connect: &Connect<'_>) -> u32 {
    match (connect.version.is_v5(), connect.clean_start) {
        (true, _) => connect.properties.session_expiry_secs.unwrap_or(0),
        (false, true) => 0,
        (false, false) => u32::MAX,
    }
}

/// The address of a connection, and its listener.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The peer's address; none on a Unix socket.
    pub address: Option<(IpAddr, u16)>,
    /// The listener's rules.
    pub listener: Arc<ListenerPolicy>,
    /// 16 fresh random bytes, from which an assigned client identifier is made.
    pub entropy: [u8; 16],
}

/// A connection on its way from the lobby of one shard to the shard that owns its session.
#[derive(Debug)]
pub struct Guest {
    /// Where it came from.
    pub peer: Peer,
    /// Client.
    pub client: ConnectingClient,
    /// Bytes that came after the CONNECT.
    pub unread: Vec<u8>,
}
