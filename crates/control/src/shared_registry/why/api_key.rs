//! A key of the API that was asked about by name.

use super::facts::{NamedApiKey, RefusedToKey};
use crate::cause::Cause;
use crate::rfc3339;
use crate::why::{Finding, RECENT_MS, times_in_words};

/// How a key is that was not revoked.
pub(super) fn of_named(now_ms: u64, key: &NamedApiKey) -> Finding {
    let name = &key.name;
    let about = about(key);
    let what = format!("{name} is an API key, which is for HTTP, and no client");
    if let Some(at_ms) = key.revoked_ms {
        let sentence = format!(
            "{what}; it was revoked on {} ({about})",
            rfc3339::in_words(at_ms)
        );
        return ended(key, sentence, at_ms);
    }
    match key.expires_ms.filter(|at_ms| *at_ms <= now_ms) {
        Some(at_ms) => {
            let sentence = format!(
                "{what}; it expired on {} ({about})",
                rfc3339::in_words(at_ms)
            );
            ended(key, sentence, at_ms)
        }
        None => {
            if let Some(barred) = &key.barred {
                let sentence = format!("{what}; it is not accepted: {} ({about})", barred.why);
                return Finding::new(barred.cause, sentence)
                    .remedy(barred.remedy)
                    .command(&barred.command);
            }
            let until = match key.expires_ms {
                Some(at_ms) => format!("valid until {}", rfc3339::in_words(at_ms)),
                None => "valid, and does not expire".to_owned(),
            };
            let sentence = format!("{what}; it is {until} ({about})");
            match &key.refused {
                Some(refused) => with_refused(now_ms, key, (refused, &what, &until)),
                None => Finding::new(Cause::NothingWrong, sentence),
            }
        }
    }
}

/// A request with it was refused.
fn with_refused(
    now_ms: u64,
    key: &NamedApiKey,
    (refused, what, until): (&RefusedToKey, &str, &str),
) -> Finding {
    let entry = &refused.entry;
    let why = entry.why.as_deref().unwrap_or_default();
    let about = about(key);
    let elsewhere = match &*refused.elsewhere {
        [] => String::new(),
        [one] => format!("; another tenant has a device of that id: {one}"),
        all => format!(
            "; other tenants have devices of that id: {}",
            all.join(", ")
        ),
    };
    let sentence =
        format!("{what}; its last refused request: {why}{elsewhere} (it is {until}; {about})");
    if now_ms.saturating_sub(entry.at_ms) > RECENT_MS {
        return Finding::new(Cause::NothingWrong, sentence);
    }
    let cause = entry.cause.unwrap_or(Cause::Other);
    let finding = Finding::new(cause, sentence).at(entry.at_ms);
    match &refused.wider {
        Some((scope, add)) => finding
            .remedy(format!(
                "if the program that has it needs the scope {scope}, give it a key that has that \
                 too; to add one, run"
            ))
            .command(add),
        None if !refused.elsewhere.is_empty() => finding.remedy(
            "have the program use the key of the team that has the device, or one that belongs to \
             no team with ?team=TEAM",
        ),
        None => finding.remedy(entry.remedy.clone().unwrap_or_default()),
    }
}

fn ended(key: &NamedApiKey, sentence: String, at_ms: u64) -> Finding {
    Finding::new(Cause::CredentialExpired, sentence)
        .since(at_ms)
        .remedy("add another key, and give it to the program that calls the API")
        .command(&key.renew)
}

/// Returns the scopes of a key, and when it was used, in words.
pub(super) fn about(key: &NamedApiKey) -> String {
    let scopes = match &*key.scopes {
        [one] => format!("its scope is {one}"),
        all => format!("its scopes are {}", all.join(", ")),
    };
    match key.last_used_ms {
        Some(at_ms) => format!(
            "{scopes}; it was used {}, last on {}",
            times_in_words(key.uses.max(1)),
            rfc3339::in_words(at_ms)
        ),
        None if key.refused.is_some() => format!("{scopes}; no request with it has succeeded"),
        None => format!("{scopes}; it was never used"),
    }
}
