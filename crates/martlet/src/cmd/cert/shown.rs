//! Output of certificates as text and as JSON.

use std::path::Path;

use martlet_certificates::Facts;
use martlet_certificates::authority::IssuedCertificate;

use super::time::date;

/// The fields of a certificate, one per line.
pub(super) fn facts_text(facts: &Facts) -> String {
    let names = match facts.names.is_empty() {
        true => String::new(),
        false => format!("  names        {}\n", facts.names.join(", ")),
    };
    format!(
        "  subject      {}\n  issuer       {}\n{names}  for          {}\n  valid        {} to {}\n  \
         serial       {}\n  fingerprint  {}\n",
        facts.subject,
        facts.issuer,
        facts.purposes.join(", "),
        date(facts.not_before_secs),
        date(facts.not_after_secs),
        facts.serial,
        facts.fingerprint
    )
}

pub(super) fn json(path: &Path, facts: &Facts) -> serde_json::Value {
    serde_json::json!({
        "certificate": path.display().to_string(),
        "subject": facts.subject,
        "issuer": facts.issuer,
        "names": facts.names,
        "purposes": facts.purposes,
        "not_before": date(facts.not_before_secs),
        "not_after": date(facts.not_after_secs),
        "serial": facts.serial,
        "fingerprint_sha256": facts.fingerprint,
    })
}

/// The entry of a certificate without a file.
pub(super) fn entry_json(entry: &IssuedCertificate) -> serde_json::Value {
    serde_json::json!({
        "certificate": null,
        "name": entry.name,
        "not_before": date(entry.not_before_secs),
        "not_after": date(entry.not_after_secs),
        "serial": entry.serial,
        "fingerprint_sha256": entry.fingerprint,
        "revoked": false,
    })
}
