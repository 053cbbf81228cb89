//! Identity of a client.

use std::sync::Arc;

use crate::{Realm, Rules, TenantId};

/// A trust anchor that vouches for clients without listing them, such as a key that signs tokens.
/// When it is revoked, all clients that it vouched for are revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Voucher(pub u32);

impl Voucher {
    /// No voucher: the client is listed by name.
    pub const NONE: Self = Self(0);
}

/// Distinguishes the credentials of one user or device, without revealing them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialMark(pub u32);

impl CredentialMark {
    /// The credential is unknown, or there is only one.
    pub const NONE: Self = Self(0);

    /// The mark of a credential with this digest. A collision between two credentials of a device
    /// is practically impossible.
    pub fn of_digest(digest: &[u8; 32]) -> Self {
        let [first, second, third, fourth, ..] = *digest;
        Self(u32::from_be_bytes([first, second, third, fourth]).max(1))
    }
}

/// Kind of proof by which a client was authenticated, as reported by the authenticator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// No proof: the client is anonymous.
    #[default]
    Nothing,
    /// A password chosen by a person.
    Password,
    /// A secret generated for this device.
    DeviceToken,
    /// A TLS client certificate.
    Certificate,
    /// A signed token that contains the user name.
    SignedToken,
    /// The answer of an HTTP hook.
    Hook,
    /// SCRAM-SHA-256: proves a password without sending it.
    Scram,
}

impl Proof {
    /// The name for output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Password => "password",
            Self::DeviceToken => "device_token",
            Self::Certificate => "certificate",
            Self::SignedToken => "jwt",
            Self::Hook => "hook",
            Self::Scram => "scram-sha-256",
        }
    }
}

/// An authenticated client, as seen by the shard. Without credentials, all clients have the same
/// identity.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The tenant of the client's topics and Client Identifiers.
    pub tenant: TenantId,
    /// The authenticated user name, which is used for rules, `%u`, takeover and revocation. `None`
    /// for an anonymous client.
    pub user_name: Option<Arc<str>>,
    /// Kind of proof of the user name.
    pub proof: Proof,
    /// Number of the holder of that name, if names can be reassigned; 0 means unknown. Sessions of
    /// one holder do not pass to the next.
    pub holder: u64,
    /// Whether the name is that of a device.
    pub is_device: bool,
    /// Whether the Client Identifier belongs to this user only, as a device's does. A session that
    /// another user created with it is ended.
    pub owns_client_id: bool,
    /// The realm in which its rules are looked up.
    pub realm: Realm,
    /// Rules of the client. If the shards have a [`RuleBook`](crate::RuleBook), its rules replace
    /// these, unless the identity has its own rules.
    pub rules: Arc<Rules>,
    /// Most sessions of the user, over all Client Identifiers; 0 means that they are not counted.
    pub sessions_max: u32,
    /// Whether only the same user may take over a session.
    pub bound: bool,
    /// Voucher for the client, if it can be revoked.
    pub voucher: Voucher,
    /// The credential that the client used, if it can be revoked separately.
    pub credential: CredentialMark,
    /// When the credentials expire, in milliseconds of the wall clock; 0 means never.
    pub expires_wall_ms: u64,
    /// Whether the client has no credentials of its own, but may register as a device or name a
    /// device in each message. Its session ends with its connection, and it may have no Will and
    /// use no wildcards.
    pub is_applicant: bool,
    /// Which of the client's messages are screened.
    pub screens: Screens,
}

/// Which messages of a client are screened, that is checked by the control plane before routing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Screens {
    /// Registrations of devices.
    pub registrations: bool,
    /// Messages that identify their device by `api_key` in the payload.
    pub payload_keys: bool,
}

impl Screens {
    /// Whether any messages are screened.
    pub fn any(self) -> bool {
        self.registrations || self.payload_keys
    }
}

impl Identity {
    /// An anonymous client, with the rights of every client.
    pub fn anyone() -> Self {
        Self {
            tenant: TenantId(0),
            user_name: None,
            proof: Proof::Nothing,
            holder: 0,
            is_device: false,
            owns_client_id: false,
            sessions_max: 0,
            realm: Realm::COMMON,
            rules: Arc::new(Rules::open()),
            bound: false,
            voucher: Voucher::NONE,
            credential: CredentialMark::NONE,
            expires_wall_ms: 0,
            is_applicant: false,
            screens: Screens::default(),
        }
    }
}
