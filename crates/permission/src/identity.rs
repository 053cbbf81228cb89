//! Identity of a client.

use std::sync::Arc;

use crate::{Realm, Rules, TenantId};

/// What vouches for clients and knows no list of them, such as a key that tokens are signed with:
/// when it is taken back, so are all for whom it vouched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Voucher(pub u32);

impl Voucher {
    /// Nothing of the kind: the client is known by name.
    pub const NONE: Self = Self(0);
}

/// Tells the credentials of one user or device from each other; says nothing of what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialMark(pub u32);

impl CredentialMark {
    /// It is not known by which it came, or there is but one.
    pub const NONE: Self = Self(0);

    /// The mark of a credential with this digest. Two credentials of a device practically never
    /// have the same.
    pub fn of_digest(digest: &[u8; 32]) -> Self {
        let [first, second, third, fourth, ..] = *digest;
        Self(u32::from_be_bytes([first, second, third, fourth]).max(1))
    }
}

/// Kind of proof by which a client was authenticated, as the authenticator says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// It has proved nothing.
    #[default]
    Nothing,
    /// A password that a person chose.
    Password,
    /// A secret that was made for this device.
    DeviceToken,
    /// A certificate.
    Certificate,
    /// A token that says whose it is, and is signed.
    SignedToken,
    /// What an HTTP hook takes for good.
    Hook,
    /// SCRAM-SHA-256: a password, which was not sent.
    Scram,
}

impl Proof {
    /// As it is shown.
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

/// An authenticated client, as the shard knows it. Where no credentials are asked for, all clients
/// have one identity.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The tenant of its topics and Client Identifiers.
    pub tenant: TenantId,
    /// The name it proved to have: what rules, `%u`, takeover and revoking go by. None is
    /// anonymous.
    pub user_name: Option<Arc<str>>,
    /// How it has proved that.
    pub proof: Proof,
    /// Which of those who had that name one after the other, where names are given away again; 0 is
    /// not known. What one of them leaves is not for the next.
    pub holder: u64,
    /// The name is a device's.
    pub is_device: bool,
    /// The Client Identifier is this user's alone, as a device's is: a session that
    /// another made by it gives way.
    pub owns_client_id: bool,
    /// Where its rules are looked up.
    pub realm: Realm,
    /// What it may do; if the shards have a [`RuleBook`](crate::RuleBook), what that says, unless
    /// the rules are the identity's own.
    pub rules: Arc<Rules>,
    /// Sessions that its user may have at most, whatever their Client Identifiers; 0: they are not
    /// counted.
    pub sessions_max: u32,
    /// A session may be taken over only by the same user.
    pub bound: bool,
    /// What vouched for it, if that may be taken back.
    pub voucher: Voucher,
    /// The credential of its user that it came by, if that one alone may be taken back.
    pub credential: CredentialMark,
    /// When its credentials end, wall clock in milliseconds; 0 is never.
    pub expires_wall_ms: u64,
    /// It has no credentials of its own and may register as a device, or name a device in each
    /// message: its session ends with its connection, and it has no Will and no wildcards.
    pub is_applicant: bool,
    /// Which of its messages are screened.
    pub screens: Screens,
}

/// Which messages of a client are screened: looked at by the control plane before they are routed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Screens {
    /// Registrations of devices.
    pub registrations: bool,
    /// Messages that name their device by `api_key` in the payload.
    pub payload_keys: bool,
}

impl Screens {
    /// Some are.
    pub fn any(self) -> bool {
        self.registrations || self.payload_keys
    }
}

impl Identity {
    /// An anonymous client, with the rights that every client has.
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
