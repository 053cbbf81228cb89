//! The credentials of a client: that it has none, or none any more, and that others show its own;
//! and certificates of listeners that clients take for expired.

use super::facts::AdmissionFacts;
use crate::authentication::Standing;
use crate::cause::{Bearing, Cause};
use crate::journal::Entry;
use crate::rfc3339;
use crate::shared_registry::Spent;
use crate::why::{Asked, Finding, Found};

/// Findings.
pub(super) fn credentials(asked: &Asked, facts: &AdmissionFacts, found: &mut Found) {
    if let Some(spent) = &facts.account.spent
        && (spent.has_certificate || !facts.by_certificate)
        && !facts.by_team_token
    {
        found.push((Bearing::Present, none_left(facts, spent)));
    }
    found.extend(never_had_one(asked, facts));
    found.extend(token_shown_by_another(asked, facts));
}

/// The device has no credential, and has logged in by no other way.
fn never_had_one(asked: &Asked, facts: &AdmissionFacts) -> Option<(Bearing, Finding)> {
    let is_by_others = facts.by_certificate || facts.by_team_token;
    let was_let_in = asked.presence.is_some() || asked.session.is_some();
    let refused = asked.refused.as_ref();
    let is_for_that = refused.is_none_or(|run| run.cause == Some(Cause::WrongPassword));
    // Of a device that others prove, it is not known.
    if !facts.account.has_no_credential
        || is_by_others
        || was_let_in
        || !is_for_that
        || asked.standing != Some(Standing::Known)
    {
        return None;
    }
    let sentence = format!(
        "the device {} has no credential, and never had one, so it cannot log in",
        asked.question.name
    );
    let rotate = &facts.account.rotate;
    let cause = Cause::NoCredentials;
    let finding = Finding::advised(cause, sentence, "give it a credential", rotate);
    let finding = match refused {
        Some(run) => finding.when(run),
        None => finding,
    };
    Some((Bearing::Barred, finding))
}

/// The API has refused the user, which has no rights there.
pub(super) fn no_api_role(asked: &Asked, facts: &AdmissionFacts) -> Option<(Bearing, Finding)> {
    let (refused_ms, command) = facts.account.no_api_role.as_ref()?;
    let sentence = format!(
        "the user {} logged in to the API or the panel with the right password, and was refused: it \
         has no role there (api_role is none, and none in a team)",
        asked.question.name
    );
    let remedy = "give it a role: viewer, operator or administrator";
    let finding = Finding::advised(Cause::ApiRefused, sentence, remedy, command).at(*refused_ms);
    let bearing = match asked.is_recent(*refused_ms) {
        true => Bearing::Happened,
        false => Bearing::Remark,
    };
    Some((bearing, finding))
}

/// The client has no valid credential left, so every login is refused.
fn none_left(facts: &AdmissionFacts, spent: &Spent) -> Finding {
    let at = rfc3339::in_words(spent.last_ms);
    let ended = match (spent.all_revoked, spent.all_expired) {
        (true, _) => "were revoked",
        (_, true) => "have expired",
        _ => "were revoked or have expired",
    };
    let sentence = match (spent.count, spent.all_revoked) {
        (1, true) => format!("its only credential was revoked on {at}"),
        (1, false) => format!("its only credential expired on {at}"),
        (count, _) => format!("all {count} of its credentials {ended}, the last on {at}"),
    };
    let (cause, rotate) = (Cause::CredentialExpired, &facts.account.rotate);
    Finding::advised(cause, sentence, "give it another credential", rotate).since(spent.last_ms)
}

/// Another client was refused because its token is for this one.
fn token_shown_by_another(asked: &Asked, facts: &AdmissionFacts) -> Option<(Bearing, Finding)> {
    let shown = facts.token_shown_by.iter().rev();
    let is_recent = |at_ms: u64| asked.is_recent(at_ms);
    let last = shown.clone().find(|entry| is_recent(entry.at_ms))?;
    let (other, own) = (&last.client_id, &asked.client_id);
    let of_other = shown.filter(|entry| entry.client_id == *other);
    let sentence = format!(
        "the client {other} was refused, because its token is for the Client Identifier {own}"
    );
    let mut finding = Finding::new(Cause::TokenBad, sentence).last(last.at_ms);
    finding.count = Some(of_other.clone().count() as u64);
    finding.since_ms = of_other.map(|entry| entry.at_ms).min();
    let remedy = format!(
        "if {other} is this client, set its Client Identifier to {own}; else give {other} a token of \
         its own"
    );
    Some((Bearing::Refused, finding.remedy(remedy)))
}

/// Why a client was refused, and the remedy, in words.
pub(super) fn in_words(facts: &AdmissionFacts, refused: &Entry) -> (String, Option<String>) {
    match taken_for_expired(facts, refused) {
        Some((why, remedy)) => (why, Some(remedy)),
        None => (
            refused.why.clone().unwrap_or_default(),
            refused.remedy.clone(),
        ),
    }
}

/// Reason of a refusal in truth, and the remedy, if a client took the certificate of a listener
/// for expired; none: it is about something else.
fn taken_for_expired(facts: &AdmissionFacts, refused: &Entry) -> Option<(String, String)> {
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
