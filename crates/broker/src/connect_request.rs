//! An accepted CONNECT.

use std::sync::Arc;

use martlet_codec::ProtocolVersion;
use martlet_permission::TenantId;

use crate::connected_client::UserName;
use crate::part::interface::PartSpec;
use crate::record::StoredWill;
use crate::session::permit::Permit;

/// An accepted CONNECT, on its way to the shard that owns the session.
#[derive(Debug)]
pub struct ConnectRequest {
    pub(crate) version: ProtocolVersion,
    pub(crate) bridge: bool,
    pub(crate) clean_start: bool,
    pub(crate) keep_alive_secs: u16,
    pub(crate) tenant: TenantId,
    pub(crate) client_id: Arc<str>,
    /// There while it waits to be known who it is.
    pub(crate) asks: Option<Arc<()>>,
    /// The identifier was given by us [MQTT-3.1.3-6].
    pub(crate) assigned: bool,
    pub(crate) user_name: Option<Arc<str>>,
    /// Its identity; none where no credentials are asked for.
    pub(crate) permit: Option<Box<Permit>>,
    /// By which it proves who it is in steps.
    pub(crate) authentication_method: Option<Arc<str>>,
    /// What the last step said.
    pub(crate) authentication_data: Option<Box<[u8]>>,
    pub(crate) will: Option<Arc<StoredWill>>,
    /// As asked for; v3 sessions that are not clean ask for ever.
    pub(crate) session_expiry_secs: u32,
    pub(crate) receive_maximum: u16,
    /// `u32::MAX` is none.
    pub(crate) packet_bytes_max: u32,
    pub(crate) topic_alias_maximum: u16,
    pub(crate) response_information: bool,
    pub(crate) problem_information: bool,
    /// Remaining Length of the CONNECT.
    pub(crate) remaining_bytes: u32,
    /// It is no CONNECT, but a part that attaches.
    pub(crate) part: Option<Box<PartSpec>>,
}

impl ConnectRequest {
    /// Client Identifier, given by the client or assigned.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Its user; until it has proved it, that is what it says.
    pub(crate) fn user(&self) -> Option<UserName> {
        let name = self.user_name.clone()?;
        Some(match self.permit {
            Some(_) => UserName::Proved(name),
            None => UserName::Claimed(name),
        })
    }
}
