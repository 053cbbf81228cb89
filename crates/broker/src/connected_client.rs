//! A client that has connected, as its connection, its messages and events know it.

use std::net::IpAddr;
use std::sync::Arc;

use martlet_codec::ProtocolVersion;
use triomphe::Arc as PlainArc;

use crate::flags::flags;
use crate::gauge::MemoryGauge;
use crate::limits::ListenerPolicy;

/// A user name, and what it is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserName {
    /// The client has proved to be that user.
    Proved(Arc<str>),
    /// Claimed by the client: no proof was required, or its proof was wrong.
    Claimed(Arc<str>),
}

impl UserName {
    /// Proved or not.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Proved(name) | Self::Claimed(name) => name,
        }
    }

    /// The client has proved to be that user.
    pub fn is_proved(&self) -> bool {
        matches!(self, Self::Proved(_))
    }
}

/// See [`Event::Connected`](crate::Event::Connected). Shared by all holders: the connection, and
/// its messages.
#[derive(Debug)]
pub struct ConnectedClient {
    /// Client Identifier.
    pub client_id: Arc<str>,
    /// User, proved or not; none is anonymous.
    pub user_name: Option<Arc<str>>,
    /// The listener that it came by.
    pub listener: Arc<ListenerPolicy>,
    /// Where from; none on a Unix socket.
    pub address: Option<(IpAddr, u16)>,
    /// Keep Alive in force, seconds; 0 is none.
    pub keep_alive_secs: u16,
    /// Protocol version.
    pub version: ProtocolVersion,
    /// How it came.
    pub flags: ConnectedFlags,
    /// Counts its bytes as long as it exists; none while it has no names.
    gauge: Option<Arc<MemoryGauge>>,
}

/// A client that many keep. It has one count of references, so that it is a block of 80 bytes.
pub type SharedClient = PlainArc<ConnectedClient>;

flags! {
    /// How a client came. One byte, as there may be a million clients.
    #[derive(PartialEq, Eq)]
    pub ConnectedFlags(u8);
    /// Whether it has proved to be its user.
    0 user_is_proved set_user_is_proved;
    /// Clean Start.
    1 clean_start set_clean_start;
    /// A session was there already.
    2 session_present set_session_present;
    /// Whether its user is a device.
    3 is_device set_is_device;
}

impl ConnectedClient {
    /// A client of this name and this user. Its bytes are not counted.
    pub fn new(client_id: &str, user_name: Option<&str>) -> Self {
        let mut client = Self::unknown(Arc::default(), None);
        client.client_id = client_id.into();
        client.user_name = user_name.map(Into::into);
        client
    }

    /// Lets `gauge` count its bytes.
    #[must_use]
    pub fn counted_by(mut self, gauge: &Arc<MemoryGauge>) -> Self {
        self.uncount();
        self.count_by(Some(Arc::clone(gauge)));
        self
    }

    /// A client before its CONNECT was accepted: only its listener and address are known.
    pub(crate) fn unknown(listener: Arc<ListenerPolicy>, address: Option<(IpAddr, u16)>) -> Self {
        Self {
            client_id: Arc::default(),
            user_name: None,
            listener,
            address,
            keep_alive_secs: 0,
            version: ProtocolVersion::V311,
            flags: ConnectedFlags::default(),
            gauge: None,
        }
    }

    /// Sets its names; `gauge` counts its bytes.
    pub(crate) fn set_names(
        &mut self,
        client_id: Arc<str>,
        user_name: Option<Arc<str>>,
        gauge: &Arc<MemoryGauge>,
    ) {
        self.uncount();
        (self.client_id, self.user_name) = (client_id, user_name);
        self.count_by(Some(Arc::clone(gauge)));
    }

    /// Changes its names.
    pub(crate) fn change_names(
        &mut self,
        change: impl FnOnce(&mut Arc<str>, &mut Option<Arc<str>>),
    ) {
        let gauge = self.uncount();
        change(&mut self.client_id, &mut self.user_name);
        self.count_by(gauge);
    }

    /// The device that it is; none if it is none, or is not known to be one.
    pub fn device(&self) -> Option<&str> {
        let name = self.user_name.as_deref();
        name.filter(|_| self.flags.is_device())
    }

    /// Bytes that it takes with its names.
    fn bytes(&self) -> usize {
        let user_name = self.user_name.as_ref().map_or(0, |name| name.len());
        size_of::<Self>() + self.client_id.len() + user_name
    }

    fn count_by(&mut self, gauge: Option<Arc<MemoryGauge>>) {
        if let Some(gauge) = &gauge {
            gauge.add(self.bytes());
        }
        self.gauge = gauge;
    }

    fn uncount(&mut self) -> Option<Arc<MemoryGauge>> {
        let gauge = self.gauge.take();
        if let Some(gauge) = &gauge {
            gauge.sub(self.bytes());
        }
        gauge
    }

    /// Returns the user; none is anonymous.
    pub fn user(&self) -> Option<UserName> {
        let name = self.user_name.clone()?;
        Some(match self.flags.user_is_proved() {
            true => UserName::Proved(name),
            false => UserName::Claimed(name),
        })
    }
}

impl Clone for ConnectedClient {
    fn clone(&self) -> Self {
        let mut client = Self {
            client_id: Arc::clone(&self.client_id),
            user_name: self.user_name.clone(),
            listener: Arc::clone(&self.listener),
            address: self.address,
            keep_alive_secs: self.keep_alive_secs,
            version: self.version,
            flags: self.flags,
            gauge: None,
        };
        client.count_by(self.gauge.clone());
        client
    }
}

impl PartialEq for ConnectedClient {
    fn eq(&self, other: &Self) -> bool {
        self.client_id == other.client_id
            && self.user_name == other.user_name
            && self.listener == other.listener
            && self.address == other.address
            && self.keep_alive_secs == other.keep_alive_secs
            && self.version == other.version
            && self.flags == other.flags
    }
}

impl Eq for ConnectedClient {}

impl Drop for ConnectedClient {
    fn drop(&mut self) {
        self.uncount();
    }
}
