//! The name in the last rejected client certificate. The library's errors do not contain it, but
//! operators need to know which of their devices was rejected.

use std::cell::Cell;

use crate::identity::{NameFrom, user_name};

thread_local! {
    /// A handshake runs in one call on one thread. The caller reads this value when the handshake
    /// has failed.
    static REFUSED: Cell<Option<String>> = const { Cell::new(None) };
}

/// Stores the name of the certificate (DER) that was rejected.
pub(crate) fn note(certificate: &[u8]) {
    REFUSED.set(shown_name(certificate));
}

/// Returns and clears the name in the certificate that this thread rejected last. The name is
/// unverified.
pub fn take_refused_name() -> Option<String> {
    REFUSED.take()
}

/// The Common Name, or otherwise the whole subject; `None` if neither is a valid name.
fn shown_name(certificate: &[u8]) -> Option<String> {
    let name = |from| user_name(certificate, from).ok();
    name(NameFrom::CommonName).or_else(|| name(NameFrom::Subject))
}
