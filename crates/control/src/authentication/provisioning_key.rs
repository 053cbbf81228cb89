//! Provisioning keys that clients show, and checking them.

use std::pin::Pin;

use martlet_broker::{Authentication, Password, RefusalCause};
use martlet_registry::may_be_provisioning_key;

/// Why a provisioning key is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// The key is unknown, has expired or was revoked: which of them, also in words.
    NotValid(RefusalCause, String),
    /// The key cannot be looked up now; in words.
    Unavailable(String),
}

/// Checks a provisioning key, and answers its id.
pub type CheckKey = Box<
    dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<String, KeyFault>> + Send>> + Send + Sync,
>;

/// The provisioning key that a client shows as its password, where its listener accepts one.
pub(super) fn shown_key(request: &Authentication) -> Option<&[u8]> {
    request.listener.discovery.as_ref()?;
    let password = request.password.as_ref().map(Password::bytes)?;
    may_be_provisioning_key(password).then_some(password)
}
