//! A request to the control plane to check a message before it is routed, and its answer:
//! registrations of devices, and messages that name their device by `api_key`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use martlet_codec::{ProtocolVersion, ReasonCode};

use crate::id::ConnectionId;
use crate::limits::ListenerPolicy;
use martlet_permission::{Identity, Refusal, RefusalCause, TenantId};

/// Kind of a screened message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScreeningKind {
    /// The message asks for a device to be registered.
    Registration,
    /// The message may name its device by `api_key` in its payload.
    PayloadKey,
}

/// A message that the control plane looks at. Answered with
/// [`Shard::screened`](crate::Shard::screened). Its client waits: what it sends behind the message
/// is worked off after the answer.
#[derive(Clone)]
pub struct Screening {
    /// To be named by the answer.
    pub connection: ConnectionId,
    /// Kind of the message.
    pub kind: ScreeningKind,
    /// The listener that its client came by.
    pub listener: Arc<ListenerPolicy>,
    /// Address of the client; none on a Unix socket.
    pub address: Option<(IpAddr, u16)>,
    /// Protocol version.
    pub version: ProtocolVersion,
    /// Tenant of the client.
    pub tenant: TenantId,
    /// Client Identifier.
    pub client_id: Arc<str>,
    /// User Name that the client has proved; none is anonymous.
    pub user_name: Option<Arc<str>>,
    /// Whether the client has no credentials of its own.
    pub is_applicant: bool,
    /// Topic Name.
    pub topic: Box<str>,
    /// Payload, which may have a secret in it.
    pub payload: Box<[u8]>,
}

impl fmt::Debug for Screening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screening")
            .field("connection", &self.connection)
            .field("kind", &self.kind)
            .field("client_id", &self.client_id)
            .field("topic", &self.topic)
            .field("payload", &"***")
            .finish_non_exhaustive()
    }
}

/// The answer: what the shard does with the message.
#[derive(Clone)]
pub enum Screened {
    /// The message names no device: it is its client's own, by the client's rules.
    OfClient,
    /// The message is this device's, and is routed by the device's rules.
    OfDevice {
        /// The device.
        identity: Box<Identity>,
        /// The number of the last revocation that was known when this was decided.
        last_revocation: u64,
        /// The payload to be routed, without the key.
        payload: Box<[u8]>,
    },
    /// The message is not routed. Only its client gets a message.
    Answered {
        /// Topic Name of that message.
        topic: Box<str>,
        /// Payload, which may have a secret in it.
        payload: Box<[u8]>,
        /// Why what it asked for was not done; none: it was.
        refused: Option<(ReasonCode, Refusal)>,
    },
    /// The message is not routed.
    Refused {
        /// The reason code for clients of MQTT 5.
        reason: ReasonCode,
        /// Why.
        why: Refusal,
    },
}

impl Screened {
    /// There is no answer: the message is not routed.
    pub fn failed() -> Self {
        let detail = "the check of the message was not completed";
        Self::Refused {
            reason: ReasonCode::ImplementationSpecificError,
            why: Refusal::operators_only(RefusalCause::LoginFailed, detail),
        }
    }
}

impl fmt::Debug for Screened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfClient => f.write_str("OfClient"),
            Self::OfDevice { identity, .. } => {
                let name = &identity.user_name;
                f.debug_struct("OfDevice").field("device", name).finish()
            }
            Self::Answered { topic, refused, .. } => {
                let answered = &mut f.debug_struct("Answered");
                answered.field("topic", topic).field("refused", refused);
                answered.finish()
            }
            Self::Refused { reason, why } => {
                let refused = &mut f.debug_struct("Refused");
                refused.field("reason", reason).field("why", why).finish()
            }
        }
    }
}
