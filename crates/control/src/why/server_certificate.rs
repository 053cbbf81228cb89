//! Certificates of listeners that clients take for expired.

use super::facts::Facts;
use crate::cause::Cause;
use crate::journal::Entry;
use crate::rfc3339;

/// Why a client was refused, and the remedy, in words.
pub(super) fn in_words(facts: &Facts, refused: &Entry) -> (String, Option<String>) {
    match taken_for_expired(facts, refused) {
        Some((why, remedy)) => (why, Some(remedy)),
        None => (
            refused.why.clone().unwrap_or_default(),
            refused.remedy.clone(),
        ),
    }
}

/// What a refusal is about in truth, and the remedy, if a client took the certificate of a listener
/// for expired; none: it is about something else.
fn taken_for_expired(facts: &Facts, refused: &Entry) -> Option<(String, String)> {
    if refused.cause != Some(Cause::ServerCertificateExpired) {
        return None;
    }
    let ended = facts.server_certificates.iter();
    let mut ended = ended.filter(|(_, ends_ms)| *ends_ms <= refused.at_ms);
    Some(match ended.next() {
        Some((file, ends_ms)) => (
            format!(
                "the listener's certificate {file} expired on {}",
                rfc3339::in_words(*ends_ms)
            ),
            format!(
                "replace it: write a new certificate to {file} (martlet cert server --help), and \
                 reload the node (martlet reload)"
            ),
        ),
        None => (
            "the client rejects the listener's certificate as expired, but it is valid".to_owned(),
            "set the clock of the client".to_owned(),
        ),
    })
}
