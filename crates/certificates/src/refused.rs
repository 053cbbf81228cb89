//! Whose certificate was refused: the library's errors do not say it, and those who operate a node
//! want to know which of their devices it was.

use std::cell::Cell;

use crate::identity::{NameFrom, user_name};

thread_local! {
    /// A handshake goes on in one call on one thread, which looks here when it has failed.
    static REFUSED: Cell<Option<String>> = const { Cell::new(None) };
}

/// The certificate (DER) that a client has shown is not good.
pub(crate) fn note(certificate: &[u8]) {
    REFUSED.set(shown_name(certificate));
}

/// Whom the certificate says to be about that was refused last on this thread, since this was asked
/// last. Nobody has proved that it is theirs.
pub fn take_refused_name() -> Option<String> {
    REFUSED.take()
}

/// Its Common Name, or else its whole subject; none: neither is a name.
fn shown_name(certificate: &[u8]) -> Option<String> {
    let name = |from| user_name(certificate, from).ok();
    name(NameFrom::CommonName).or_else(|| name(NameFrom::Subject))
}
