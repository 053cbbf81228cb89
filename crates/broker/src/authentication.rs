//! Requests to authenticate a client, and their answers.

use std::any::Any;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use martlet_codec::{ProtocolVersion, ReasonCode};
use martlet_permission::{Identity, Realm, Refusal, RefusalCause, TenantId};

use crate::id::ConnectionId;
use crate::limits::ListenerPolicy;

/// A password. `Debug` never prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<[u8]>);

impl Password {
    /// Returns the bytes. MQTT does not define their meaning.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Password {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Whether a connection still waits for its authentication. If it has ended, nothing need be looked
/// up.
#[derive(Clone, Debug, Default)]
pub struct LoginWaiter(Option<Weak<()>>);

impl LoginWaiter {
    /// The connection waits as long as this is held.
    pub fn of(asks: &Arc<()>) -> Self {
        Self(Some(Arc::downgrade(asks)))
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        let asks = self.0.as_ref();
        asks.is_some_and(|asks| asks.strong_count() == 0)
    }
}

/// A request to authenticate a client. Answered with
/// [`Shard::authenticated`](crate::Shard::authenticated), or never: then the connection ends at its
/// deadline.
#[derive(Clone, Debug)]
pub struct Authentication {
    /// To be named by the answer.
    pub connection: ConnectionId,
    /// The listener that accepted the connection.
    pub listener: Arc<ListenerPolicy>,
    /// The realm of its names: the listener's, until the client's own is known.
    pub realm: Realm,
    /// Address of the client; none on a Unix socket.
    pub address: Option<(IpAddr, u16)>,
    /// Protocol version.
    pub version: ProtocolVersion,
    /// Client Identifier, given by the client or assigned.
    pub client_id: Arc<str>,
    /// User Name.
    pub user_name: Option<Arc<str>>,
    /// Password.
    pub password: Option<Password>,
    /// The certificate that the client has proved to have, in DER.
    pub certificate: Option<Arc<[u8]>>,
    /// Whether the connection still waits.
    pub waiter: LoginWaiter,
    /// The step of a client that proves its identity in several, by the method that it names; it
    /// has no password then, whatever its CONNECT contains.
    pub step: Option<Step>,
}

/// State of the authenticator until the client's next step.
#[derive(Clone)]
pub struct ExchangeState(Arc<dyn Any + Send + Sync>);

impl ExchangeState {
    /// Remembers `state`.
    pub fn new<T: Any + Send + Sync>(state: T) -> Self {
        Self(Arc::new(state))
    }

    /// Returns what was remembered, if it is of this kind.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for ExchangeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A step of an enhanced authentication.
#[derive(Clone)]
pub struct Step {
    /// Authentication Method.
    pub method: Arc<str>,
    /// Authentication Data; empty if there is none.
    pub data: Box<[u8]>,
    /// State that the answer to the step before gave to be remembered; none: this is the first.
    pub state: Option<ExchangeState>,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = if self.state.is_none() {
            "first"
        } else {
            "next"
        };
        write!(f, "Step({:?}, {number})", self.method)
    }
}

/// The answer.
#[derive(Clone, Debug)]
pub enum Authenticated {
    /// The client is accepted: its identity is proved, or none is required.
    Accepted {
        /// Identity of the client.
        identity: Identity,
        /// The number of the last revocation that was known when this was decided: a client that is
        /// revoked later is not accepted by it.
        last_revocation: u64,
        /// The last Authentication Data for a client that proved it in steps.
        data: Option<Box<[u8]>>,
    },
    /// Another step of the client is needed; only to a [`Step`].
    Continue {
        /// Authentication Data for the client.
        data: Box<[u8]>,
        /// To be handed back with the next step.
        state: ExchangeState,
    },
    /// The client is refused.
    Refused {
        /// The reason code of CONNACK: 0x86, 0x87, 0x88 or another one.
        reason: ReasonCode,
        /// Why.
        why: Refusal,
        /// The user that it claims; none: no known one.
        claim: Option<Claim>,
    },
}

/// Identity that a client claims before it is accepted, in the form for the authenticator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The tenant that its name is in.
    pub tenant: TenantId,
    /// Name in that tenant; none: the client names none.
    pub user_name: Option<Arc<str>>,
}

impl Authenticated {
    /// Gives a refusal the claims of the client, but no secret.
    #[must_use]
    pub fn claimed(mut self, mut claimant: Claim) -> Self {
        if let Self::Refused { claim, why, .. } = &mut self {
            if why.cause == RefusalCause::SecretAsUserName {
                claimant.user_name = why.subject().map(Arc::from);
            }
            *claim = Some(claimant);
        }
        self
    }

    /// The client is not authorized: 0x87, and "not authorized" before MQTT 5.
    pub fn refused(why: Refusal) -> Self {
        Self::Refused {
            reason: ReasonCode::NotAuthorized,
            why,
            claim: None,
        }
    }

    /// Refuses the client, because it cannot be known now: 0x88, and the client may come again.
    pub fn failed(why: Refusal) -> Self {
        Self::Refused {
            reason: ReasonCode::ServerUnavailable,
            why,
            claim: None,
        }
    }
}
