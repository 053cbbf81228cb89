//! Refusal of a client: what for, whether that is over, and what it would be refused for now.

use martlet_broker::{Limit, ReachedLimit, RefusalCause};
use martlet_codec::ReasonCode;

use super::facts::{AdmissionFacts, Lockout};
use super::names::{
    beside_tables, idle_tables, or_of_configuration, with_namesakes, with_near_refused,
};
use super::{account, credential, nameless};
use crate::authentication::Standing;
use crate::cause::{Bearing, Cause};
use crate::event_kind::EventKind;
use crate::journal::Run;
use crate::rfc3339;
use crate::text::is_loopback;
use crate::why::{Asked, Finding, Found, was_there_then};

impl Asked {
    /// The last request to add it by a provisioning key was refused, and it has not connected
    /// since. What a key does not permit is over once the device is known; that its id is taken is
    /// not.
    pub(crate) fn not_added(&self) -> Option<&Run> {
        let last = self.runs.iter().rev().find(|run| {
            matches!(
                run.last.what,
                EventKind::Connected | EventKind::ProvisioningRefused
            )
        })?;
        let is_so = self.registered_as.is_none() || last.cause == Some(Cause::NotPermitted);
        (last.last.what == EventKind::ProvisioningRefused && is_so).then_some(last)
    }
}

/// The last CONNECT was refused.
pub(super) fn last_refused<'a>(asked: &'a Asked, facts: &AdmissionFacts) -> Option<&'a Run> {
    let last = asked.runs.iter().rev().find(|run| match run.last.what {
        EventKind::Connected => true,
        EventKind::Refused => !is_lockout_over(facts, run) && !was_there_then(&asked.runs, run),
        _ => false,
    })?;
    (last.last.what == EventKind::Refused).then_some(last)
}

/// The last CONNECT was refused, and would be now.
pub(super) fn is_refused_now<'a>(asked: &'a Asked, facts: &AdmissionFacts) -> Option<&'a Run> {
    last_refused(asked, facts).filter(|run| !is_over(asked, facts, run))
}

/// The reason of the refusal is over: the client was added or restored, activated or enabled, or
/// its ban was lifted.
fn is_over(asked: &Asked, facts: &AdmissionFacts, run: &Run) -> bool {
    let is_of_tables = match run.cause {
        Some(Cause::UnknownName | Cause::Deleted | Cause::Disabled | Cause::Banned) => true,
        Some(Cause::CredentialExpired | Cause::WrongClientId) => facts.by_team_token,
        _ => false,
    };
    let is_as_user = run
        .last
        .user_name
        .as_deref()
        .is_none_or(|of| of == asked.question.name || Some(of) == asked.user.as_deref());
    is_of_tables
        && is_as_user
        && asked.standing == Some(Standing::Known)
        && facts.banned.is_none()
        && facts.account.deleted.is_none()
}

/// Whether it is not connected, and its connection did not end by a DISCONNECT of its own.
pub(super) fn was_cut_off(asked: &Asked, facts: &AdmissionFacts) -> bool {
    if asked.is_connected {
        return false;
    }
    let mut runs = asked.runs.iter().rev();
    match runs.find(|run| run.last.what == EventKind::Disconnected) {
        _ if last_refused(asked, facts).is_some_and(|run| is_over(asked, facts, run)) => true,
        Some(run) => !run.sent_disconnect,
        // A client that is online in the tables alone was connected when a backup was made.
        None => asked
            .presence
            .as_ref()
            .is_some_and(|presence| presence.online || !presence.sent_disconnect),
    }
}

/// Whether it is admitted.
pub(super) fn admission(asked: &Asked, facts: &AdmissionFacts, found: &mut Found) {
    if asked.is_connected {
        return;
    }
    if let Some((why, command)) = &facts.banned {
        let finding = Finding::advised(Cause::Banned, why, "lift the ban", command);
        found.push((Bearing::Present, finding));
    }
    found.extend(long_client_id(asked, facts).map(|finding| (Bearing::Barred, finding)));
    // One of that name may be known elsewhere.
    let is_known = matches!(asked.standing, Some(Standing::Known | Standing::ByProof(_)));
    let deleted = facts.account.deleted.as_ref().filter(|_| !is_known);
    found.extend(deleted.map(|deleted| (Bearing::Present, account::removed(facts, deleted))));
    credential::credentials(asked, facts, found);
    if let Some(lockout) = &facts.locked_out {
        found.push(locked_out(asked, facts, lockout));
    }
    // A present lockout has its finding already.
    let refused = asked.refused.as_ref();
    match refused.filter(|run| facts.locked_out.is_none() || !is_lockout(run)) {
        Some(run) => {
            let (bearing, mut finding) = refused_for(asked, facts, run);
            if deleted.is_some() {
                // It keeps its name while it is deleted, and has no credentials until it is
                // restored.
                finding = finding.without_remedy();
            } else {
                finding = beside_tables(asked, facts, with_namesakes(asked, facts, finding));
            }
            found.push((bearing, finding));
        }
        None => found.extend(idle_tables(asked, facts)),
    }
    found.extend(asked.not_added().map(|run| {
        let cause = run.cause.unwrap_or(Cause::Other);
        (Bearing::Refused, Finding::of_run(run, cause))
    }));
    // Of a deleted user or device only the deletion is reported.
    if deleted.is_none() {
        found.extend(would_be_refused(asked, facts));
    }
    found.extend(account::closed_listener(asked, facts).map(|finding| (Bearing::Refused, finding)));
    let mut runs = asked.runs.iter().rev();
    if let Some(run) = runs.find(|run| is_lockout_over(facts, run)) {
        let sentence =
            "it was locked out for too many wrong credentials, and is no longer locked out";
        let finding = Finding::new(Cause::LockedOut, sentence).when(run);
        found.push((Bearing::Remark, finding));
    }
    if last_refused(asked, facts).is_none() {
        found.extend(nameless::perhaps(asked, facts).map(|finding| (Bearing::Aside, finding)));
    }
    match last_refused(asked, facts).filter(|run| is_over(asked, facts, run)) {
        Some(run) => {
            let why = run.last.why.as_deref().unwrap_or_default();
            let sentence = format!(
                "it was refused when it last tried ({why}); that is over, and it has not tried \
                 again"
            );
            let finding = Finding::new(Cause::Away, sentence).when(run);
            let finding = finding.remedy("have the client connect again");
            found.push((Bearing::Refused, with_near_refused(asked, facts, finding)));
        }
        None => found.extend(account::away(asked, facts)),
    }
}

/// Finding about a refusal when it last came.
fn refused_for(asked: &Asked, facts: &AdmissionFacts, run: &Run) -> (Bearing, Finding) {
    let cause = run.cause.unwrap_or(Cause::Other);
    let mut finding = Finding::of_run(run, cause);
    if let (Cause::WrongPassword, Some(ms)) = (cause, facts.account.replaced_ms) {
        let at = rfc3339::in_words(ms);
        let may_have = format!("; it may have an older credential, which ended on {at}");
        finding.sentence.push_str(&may_have);
    }
    if let (Cause::WrongPassword, Some(file)) = (cause, &facts.in_file) {
        let words = match file.is_behind {
            true => format!(
                "; the password file {} has that name too: the tables decide",
                file.path
            ),
            false => "; the tables have that name too: the password file decides".to_owned(),
        };
        finding.sentence.push_str(&words);
    }
    let user = run.last.user_name.as_deref().unwrap_or_default();
    let trimmed = user.trim();
    if cause == Cause::UnknownName && trimmed != user {
        let blanks = format!("; its User Name is {user:?}, with white space around it");
        finding.sentence.push_str(&blanks);
        finding.command = None;
        finding = finding.remedy(format!(
            "set the User Name of the client to {trimmed:?}, without white space around it"
        ));
    }
    // The present state is reported, with the time since when it was refused for that.
    let bearing = match &asked.standing {
        Some(Standing::Barred(why)) if cause == barred_for(why.cause) => {
            bearing_of_bar(asked, cause)
        }
        _ => Bearing::Refused,
    };
    (bearing, finding)
}

/// Finding about what the tables and files would refuse it for if it came now.
fn would_be_refused(asked: &Asked, facts: &AdmissionFacts) -> Option<(Bearing, Finding)> {
    let Some(Standing::Barred(why)) = &asked.standing else {
        return None;
    };
    let cause = barred_for(why.cause);
    // A name that is to be added by a provisioning key is unknown until then.
    let last = asked.refused.as_ref().and_then(|run| run.cause);
    if last.is_some_and(|last| last.suppresses(cause))
        || facts
            .from_address
            .as_ref()
            .is_some_and(|all| !all.is_empty())
    {
        return None;
    }
    let name = &asked.question.name;
    let is_unseen = asked.runs.is_empty() && asked.presence.is_none();
    let (cause, sentence) = match cause {
        Cause::UnknownName if is_unseen && asked.is_address => (
            Cause::NobodyKnown,
            format!(
                "no connection from {name} was refused since the node was started; ask about a \
                 client by its Client Identifier, or about an address that was refused"
            ),
        ),
        Cause::UnknownName if is_unseen => (
            Cause::NobodyKnown,
            format!(
                "{name} has never connected, and has not tried to since the node was started; {}",
                why.detail()
            ),
        ),
        cause => (cause, format!("it would be refused: {}", why.detail())),
    };
    let worded = facts.standing_remedy.clone().filter(|_| !asked.is_address);
    let mut finding = Finding::new(cause, sentence).with_remedy(worded.unwrap_or_default());
    if asked.is_address && facts.is_for_this_machine() && !is_loopback(name) {
        finding = finding.remedy(account::listens(facts));
    }
    let finding = with_namesakes(asked, facts, finding);
    let finding = or_of_configuration(asked, facts, finding);
    let bearing = bearing_of_bar(asked, cause);
    Some((bearing, beside_tables(asked, facts, finding)))
}

/// A Client Identifier of that length is refused, so no client has that name.
fn long_client_id(asked: &Asked, facts: &AdmissionFacts) -> Option<Finding> {
    let (bytes, max) = (asked.question.name.len(), facts.client_id_bytes);
    if bytes <= usize::from(max) || max == 0 || asked.registered_as.is_some() {
        return None;
    }
    let limit = ReachedLimit {
        limit: Limit::ClientIdBytes,
        value: max.into(),
    };
    let sentence = format!(
        "as a Client Identifier it would be refused: it has {bytes} bytes, {}",
        limit.words()
    );
    let finding = Finding::new(Cause::LimitReached, sentence);
    Some(finding.remedy(
        "raise limits.client_id_bytes and restart the node, or give the client a shorter one",
    ))
}

/// No more passwords are tried for it, or none but the one that was right before.
fn locked_out(asked: &Asked, facts: &AdmissionFacts, lockout: &Lockout) -> (Bearing, Finding) {
    let why = &lockout.why;
    let sentence = match lockout.accepted_secs {
        Some(secs) => format!(
            "too many wrong passwords were tried for it, so no more are checked: {why}. Its last \
             correct password is accepted for {secs} s more (auth.remember_secs)"
        ),
        None if facts.by_certificate => {
            format!("it cannot log in by password now, only by a certificate: {why}")
        }
        None => format!("it cannot log in now: {why}"),
    };
    let mut finding = Finding::new(Cause::LockedOut, sentence).with_remedy(lockout.worded.clone());
    if let Some(run) = asked.refused.as_ref().filter(|run| is_lockout(run)) {
        finding = finding.when(run);
    }
    // A client that is refused does not have that password.
    match lockout.accepted_secs.is_some() && asked.refused.is_none() {
        true => (Bearing::Remark, finding),
        false => (Bearing::Refused, finding),
    }
}

/// Cause of a refusal that is still to come.
fn barred_for(cause: RefusalCause) -> Cause {
    Cause::of_refusal(ReasonCode::NotAuthorized, cause)
}

/// Bearing of what the tables and files would refuse it for if it came now.
fn bearing_of_bar(asked: &Asked, cause: Cause) -> Bearing {
    match asked.refused.as_ref().map(|run| run.cause) {
        // It is refused with any credentials.
        _ if cause == Cause::Disabled => Bearing::Present,
        // Such as a wrong password of a client that has no credential any more.
        Some(Some(last)) if cause.suppresses(last) => Bearing::Barred,
        // The reason of its last refusal is more exact.
        Some(last) if last != Some(cause) => Bearing::Remark,
        _ => Bearing::Refused,
    }
}

fn is_lockout_over(facts: &AdmissionFacts, run: &Run) -> bool {
    is_lockout(run) && facts.locked_out.is_none()
}

fn is_lockout(run: &Run) -> bool {
    run.last.what == EventKind::Refused && run.cause == Some(Cause::LockedOut)
}
