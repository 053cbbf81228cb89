//! Whether a client is admitted, and why not.

use super::Finding;
use super::credential;
use super::facts::{Deleted, Facts, Lockout, Presence, TeamDeletion};
use super::found::{Bearing, Found, RECENT_MS, is_connected, times};
use super::names::{
    beside_tables, idle_tables, of_other_tenant, or_of_configuration, with_namesakes,
    with_near_refused,
};
use super::retained::with_will;
use super::side::{Side, side};
use crate::authentication::Standing;
use crate::cause::Cause;
use crate::journal::{Entry, Run, host};
use crate::rfc3339;
use martlet_broker::{EventKind, Limit, ReachedLimit, RefusalCause};
use martlet_codec::ReasonCode;

/// Its last CONNECT was refused, and would be now.
pub(super) fn is_refused_now(facts: &Facts) -> Option<&Run> {
    last_refused(facts).filter(|run| !is_over(facts, run))
}

/// Its last CONNECT was refused for a reason that the tables have removed since.
fn refused_before(facts: &Facts) -> Option<&Run> {
    last_refused(facts).filter(|run| is_over(facts, run))
}

/// The reason of the refusal is over: the client was added or restored, activated or enabled, or
/// its ban was lifted.
fn is_over(facts: &Facts, run: &Run) -> bool {
    let is_of_token = facts.by_team_token
        && matches!(
            run.cause,
            Some(Cause::CredentialExpired | Cause::WrongClientId)
        );
    let is_of_tables = is_of_token
        || matches!(
            run.cause,
            Some(Cause::UnknownName | Cause::Deleted | Cause::Disabled | Cause::Banned)
        );
    let is_as_user = run.last.user_name.as_deref().is_none_or(|of| {
        let user = facts.user.as_deref();
        of == facts.question.name || Some(of) == user
    });
    is_of_tables
        && is_as_user
        && facts.standing == Some(Standing::Known)
        && facts.banned.is_none()
        && facts.deleted.is_none()
}

/// Its last CONNECT was refused.
fn last_refused(facts: &Facts) -> Option<&Run> {
    let is_its_own = |run: &&Run| match run.last.what {
        EventKind::Connected => true,
        EventKind::Refused => !is_lockout_over(facts, run) && !was_there_then(&facts.runs, run),
        _ => false,
    };
    let last = facts.runs.iter().rev().find(is_its_own)?;
    (last.last.what == EventKind::Refused).then_some(last)
}

/// The last request to add it by a provisioning key was refused, and it has not connected since.
/// What a key does not permit is over once the device is known; that its id is taken is not.
pub(super) fn not_added(facts: &Facts) -> Option<&Run> {
    let is_its_own = |run: &&Run| {
        matches!(
            run.last.what,
            EventKind::Connected | EventKind::ProvisioningRefused
        )
    };
    let last = facts.runs.iter().rev().find(is_its_own)?;
    let is_so = facts.registered_as.is_none() || last.cause == Some(Cause::NotPermitted);
    (last.last.what == EventKind::ProvisioningRefused && is_so).then_some(last)
}

/// A client was refused because its device has as many sessions as the type permits. The client has
/// proved that it is the device's.
pub(super) fn is_one_too_many(run: &Run) -> bool {
    run.last.what == EventKind::Refused
        && run.last.limit.as_deref() == Some(Limit::UserSessions.option())
}

fn provisioning_refused(facts: &Facts) -> Option<(Bearing, Finding)> {
    let run = not_added(facts)?;
    let cause = run.cause.unwrap_or(Cause::Other);
    Some((Bearing::Refused, Finding::of_run(run, cause)))
}

fn banned(facts: &Facts) -> Option<Finding> {
    let banned = facts.banned.as_ref()?;
    let finding = Finding::new(Cause::Banned, banned.why.clone()).remedy("lift the ban");
    Some(finding.command(&banned.command))
}

/// Whether it is admitted.
pub(super) fn admission(facts: &Facts, found: &mut Found) {
    if is_connected(facts) {
        return;
    }
    found.extend(banned(facts).map(|finding| (Bearing::Barred, finding)));
    found.extend(long_client_id(facts).map(|finding| (Bearing::Barred, finding)));
    // One of that name may be known elsewhere.
    let is_known = matches!(facts.standing, Some(Standing::Known | Standing::ByProof(_)));
    let deleted = facts.deleted.as_ref().filter(|_| !is_known);
    if let Some(deleted) = deleted {
        found.push((Bearing::Barred, removed(deleted)));
    }
    credential::credentials(facts, is_refused_now(facts), found);
    if let Some(lockout) = &facts.locked_out {
        found.push(locked_out(facts, lockout));
    }
    // A present lockout has its finding already.
    if let Some(run) = is_refused_now(facts)
        && !(facts.locked_out.is_some() && is_lockout(&run))
    {
        let cause = run.cause.unwrap_or(Cause::Other);
        let mut finding = Finding::of_run(run, cause);
        if let (Cause::WrongPassword, Some(ms)) = (cause, facts.replaced_ms) {
            let at = rfc3339::in_words(ms);
            let may_have = format!("; it may have an older credential, which ended on {at}");
            finding.sentence.push_str(&may_have);
        }
        finding = with_blanks(run, cause, finding);
        // The present state is reported, with the time since when it was refused for that.
        let bearing = match &facts.standing {
            Some(Standing::Barred(why)) if cause == barred_for(why.cause) => {
                bearing_of_bar(facts, cause)
            }
            _ => Bearing::Refused,
        };
        if deleted.is_some() {
            // It keeps its name while it is deleted, and has no credentials until it is restored.
            (finding.remedy, finding.command) = (None, None);
        } else {
            finding = beside_tables(facts, with_namesakes(facts, finding));
        }
        found.push((bearing, finding));
    } else {
        found.extend(idle_tables(facts));
    }
    found.extend(provisioning_refused(facts));
    // Of a deleted user or device only the deletion is reported. A name that is to be added is
    // unknown until then.
    if let Some(Standing::Barred(why)) = &facts.standing
        && deleted.is_none()
        && !is_unknown_as_expected(facts, why.cause)
    {
        let cause = match barred_for(why.cause) {
            Cause::UnknownName if facts.runs.is_empty() && facts.presence.is_none() => {
                Cause::NobodyKnown
            }
            cause => cause,
        };
        let is_address = facts.from_address.is_some();
        let sentence = match cause {
            Cause::NobodyKnown if is_address => format!(
                "no connection from {} was refused since the node was started; ask about a client \
                 by its Client Identifier, or about an address that was refused",
                facts.question.name
            ),
            Cause::NobodyKnown => format!(
                "{} has never connected, and has not tried to since the node was started; {}",
                facts.question.name,
                why.detail()
            ),
            _ => format!("it would be refused: {}", why.detail()),
        };
        let bearing = bearing_of_bar(facts, cause);
        let worded = facts.standing_remedy.clone().filter(|_| !is_address);
        let finding = Finding::new(cause, sentence).with_remedy(worded.unwrap_or_default());
        if facts.from_address.as_ref().is_none_or(Vec::is_empty) {
            let finding = or_of_configuration(facts, with_namesakes(facts, finding));
            let finding = beside_tables(facts, finding);
            found.push((bearing, finding));
        }
    }
    found.extend(closed_listener(facts).map(|finding| (Bearing::Refused, finding)));
    found.extend(lockout_before(facts).map(|finding| (Bearing::Remark, finding)));
    if last_refused(facts).is_none()
        && let Some(last) = facts.nameless.last()
        && is_newer(facts, last)
        && was_seen(facts)
        && refused_by_tls(facts).is_none()
    {
        found.push((Bearing::Aside, perhaps(facts, last)));
    }
    match refused_before(facts) {
        Some(run) => {
            let finding = with_near_refused(facts, would_be_let_in(run));
            found.push((Bearing::Refused, finding));
        }
        None => deleted_account(facts, found),
    }
}

/// The user name that is unknown has blanks around it.
fn with_blanks(run: &Run, cause: Cause, mut finding: Finding) -> Finding {
    let user = run.last.user_name.as_deref().unwrap_or_default();
    let trimmed = user.trim();
    if cause != Cause::UnknownName || trimmed == user {
        return finding;
    }
    let blanks = format!("; its User Name is {user:?}, with white space around it");
    finding.sentence.push_str(&blanks);
    finding.command = None;
    finding.remedy(format!(
        "set the User Name of the client to {trimmed:?}, without white space around it"
    ))
}

/// A Client Identifier of that length is refused, so no client has that name.
fn long_client_id(facts: &Facts) -> Option<Finding> {
    let (bytes, max) = (facts.question.name.len(), facts.client_id_bytes);
    if bytes <= usize::from(max) || max == 0 || facts.registered_as.is_some() {
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

/// The reason of the refusal is over, and the client has not tried again.
fn would_be_let_in(run: &Run) -> Finding {
    let why = run.last.why.as_deref().unwrap_or_default();
    let sentence = format!(
        "it was refused when it last tried ({why}); that is over, and it has not tried again"
    );
    let finding = Finding::new(Cause::Away, sentence).when(run);
    finding.remedy("have the client connect again")
}

/// It is not connected, and its connection did not end by a DISCONNECT of its own.
pub(super) fn was_cut_off(facts: &Facts) -> bool {
    if is_connected(facts) {
        return false;
    }
    let is_end = |run: &&Run| run.last.what == EventKind::Disconnected;
    // A client that is online in the tables alone was connected when a backup was made.
    let is_unclean = |presence: &Presence| presence.online || !presence.sent_disconnect;
    match facts.runs.iter().rev().find(is_end) {
        _ if refused_before(facts).is_some() => true,
        Some(run) => !run.sent_disconnect,
        None => facts.presence.as_ref().is_some_and(is_unclean),
    }
}

/// No more passwords are tried for it, or none but the one that was right before.
fn locked_out(facts: &Facts, lockout: &Lockout) -> (Bearing, Finding) {
    let Lockout {
        why,
        accepted_secs,
        worded,
    } = lockout;
    let sentence = match accepted_secs {
        Some(secs) => format!(
            "too many wrong passwords were tried for it, so no more are checked: {why}. Its last \
             correct password is accepted for {secs} s more (auth.remember_secs)"
        ),
        None if facts.by_certificate => {
            format!("it cannot log in by password now, only by a certificate: {why}")
        }
        None => format!("it cannot log in now: {why}"),
    };
    let mut finding = Finding::new(Cause::LockedOut, sentence).with_remedy(worded.clone());
    let refused = is_refused_now(facts).filter(is_lockout);
    if let Some(run) = refused {
        finding = finding.when(run);
    }
    // A client that is refused does not have that password.
    let is_let_in = accepted_secs.is_some() && is_refused_now(facts).is_none();
    match is_let_in {
        true => (Bearing::Remark, finding),
        false => (Bearing::Refused, finding),
    }
}

/// Its name is unknown, and the provisioning key that should add it refused it.
fn is_unknown_as_expected(facts: &Facts, bar: RefusalCause) -> bool {
    let is_of_key = |run: &Run| run.cause.is_some_and(Cause::is_of_provisioning_key);
    barred_for(bar) == Cause::UnknownName && is_refused_now(facts).is_some_and(is_of_key)
}

/// Cause of a refusal that is still to come.
fn barred_for(cause: RefusalCause) -> Cause {
    Cause::of_refusal(ReasonCode::NotAuthorized, cause)
}

/// Bearing of what the tables and files would refuse it for if it came now.
fn bearing_of_bar(facts: &Facts, cause: Cause) -> Bearing {
    match is_refused_now(facts) {
        // It is refused with any credentials.
        _ if cause == Cause::Disabled => Bearing::Barred,
        // The password was wrong, and by now there is none.
        Some(run)
            if cause == Cause::UnknownName
                && matches!(run.cause, Some(Cause::WrongPassword | Cause::LockedOut)) =>
        {
            Bearing::Barred
        }
        // The reason of its last refusal is more exact.
        Some(run) if run.cause != Some(cause) => Bearing::Remark,
        _ => Bearing::Refused,
    }
}

/// A refused client without a name came after everything that is known of this one.
pub(super) fn is_newer(facts: &Facts, nameless: &Entry) -> bool {
    let is_since = |at_ms: u64| at_ms > nameless.at_ms;
    let was_seen = facts
        .presence
        .as_ref()
        .is_some_and(|presence| is_since(presence.last_seen_ms.max(presence.since_ms)));
    !was_seen && !facts.runs.iter().any(|run| is_since(run.last.at_ms))
}

/// Something is known of the client itself, and so its address.
fn was_seen(facts: &Facts) -> bool {
    facts.presence.is_some() || facts.session.is_some() || !facts.runs.is_empty()
}

/// A client without a name was refused at the last address of this one: that is a guess, never the
/// diagnosis.
fn perhaps(facts: &Facts, nameless: &Entry) -> Finding {
    let cause = nameless.cause.unwrap_or(Cause::Other);
    let address = nameless.address.as_deref().and_then(host);
    let (why, remedy) = credential::in_words(facts, nameless);
    let mut finding = Finding::new(
        cause,
        format!(
            "perhaps: another client at {}, the last address of this client, was refused: {why}; \
             it sent no name, so it may be this client or another one",
            address.unwrap_or_default()
        ),
    );
    finding.is_guess = true;
    let of_same = facts
        .nameless
        .iter()
        .filter(|one| one.cause == nameless.cause);
    finding.count = Some(of_same.clone().count() as u64);
    finding.last_ms = Some(nameless.at_ms);
    finding.since_ms = of_same.map(|one| one.at_ms).min();
    match remedy {
        Some(remedy) => finding.remedy(format!("if it is this client: {remedy}")),
        None => finding,
    }
}

/// It was locked out at its last CONNECT, and is not any more.
fn lockout_before(facts: &Facts) -> Option<Finding> {
    let mut runs = facts.runs.iter().rev();
    let run = runs.find(|run| is_lockout_over(facts, run))?;
    let sentence = "it was locked out for too many wrong credentials, and is no longer locked out";
    Some(Finding::new(Cause::LockedOut, sentence).when(run))
}

fn is_lockout_over(facts: &Facts, run: &Run) -> bool {
    is_lockout(&run) && facts.locked_out.is_none()
}

fn is_lockout(run: &&Run) -> bool {
    run.last.what == EventKind::Refused && run.cause == Some(Cause::LockedOut)
}

/// It is not in the tables any more, or its team is not.
fn removed(deleted: &Deleted) -> Finding {
    let (sentence, remedy) = match (&deleted.team, &deleted.command) {
        (
            Some(TeamDeletion {
                name,
                brings_back: true,
            }),
            _,
        ) => (
            format!("it was removed from the registry with its team {name}, which was deleted"),
            format!("restore the team {name}, which also restores it"),
        ),
        (
            Some(TeamDeletion {
                name,
                brings_back: false,
            }),
            _,
        ) => (
            format!("it was removed from the registry, and its team {name} was deleted later"),
            format!("restore the team {name} first, then it"),
        ),
        (None, Some(_)) => (
            "it was removed from the registry".to_owned(),
            "restore it".to_owned(),
        ),
        (None, None) => (
            "it was removed from the registry".to_owned(),
            "it cannot be restored: add it again".to_owned(),
        ),
    };
    let sentence = match &deleted.user {
        Some(user) => format!("its user {user}: {sentence}"),
        None => sentence,
    };
    let finding = Finding::new(Cause::Deleted, sentence).since(deleted.at_ms);
    finding.remedy(remedy).command(&deleted.command)
}

/// The listener by which it connected is closed.
fn closed_listener(facts: &Facts) -> Option<Finding> {
    let presence = facts.presence.as_ref()?;
    let listener = presence.listener.as_ref()?;
    if presence.online || facts.listeners.is_empty() || facts.listeners.contains(listener) {
        return None;
    }
    let finding = Finding::new(
        Cause::ListenerClosed,
        format!(
            "it connected to {listener} before, and the node no longer listens there: it listens \
             on {}",
            facts.listeners.join(", ")
        ),
    );
    Some(finding.since(presence.since_ms).remedy(
        "listen there again (--listen, [[listeners]]), or have the client connect where the node \
         listens",
    ))
}

/// It is not connected, and would be admitted.
fn deleted_account(facts: &Facts, found: &mut Found) {
    let is_end = |run: &&Run| run.last.what == EventKind::Disconnected;
    if let Some(run) = facts.runs.iter().rev().find(is_end) {
        let cause = run.cause.unwrap_or(Cause::Away);
        let mut finding = Finding::of_run(run, cause);
        finding.since_ms = Some(run.last.at_ms);
        let why = run.last.why.as_deref().unwrap_or_default();
        finding.sentence = match cause {
            Cause::Away => format!("it is not connected: {why}, and it has not connected again"),
            _ => format!("its connection was ended: {why}"),
        };
        let bearing = match cause {
            Cause::Away => Bearing::Left,
            // The cause is what it has published, not the receivers.
            _ if ended_for_a_publish(facts, run) => Bearing::Topic,
            _ => Bearing::Ended,
        };
        let finding = with_will(facts, with_namesakes(facts, finding));
        return found.push(perhaps_tried(facts, (bearing, finding)));
    }
    if let Some(Presence {
        online: false,
        since_ms,
        why,
        ..
    }) = &facts.presence
    {
        let why = why.as_deref().unwrap_or("its connection ended");
        let sentence = format!("it is not connected: {why}, and it has not connected again");
        let finding = Finding::new(Cause::Away, sentence).since(*since_ms);
        found.push(perhaps_tried(
            facts,
            (Bearing::Left, with_will(facts, finding)),
        ));
    } else if let Some(Presence {
        online: true,
        last_seen_ms,
        ..
    }) = &facts.presence
        && !is_connected(facts)
        && !has_tried(facts)
    {
        // The tables of a restarted node show no client as connected since its start.
        let sentence = "it was connected when the backup was made that the node was restored from, \
                        and has not connected since";
        let finding = Finding::new(Cause::Away, sentence).since(*last_seen_ms);
        let remedy = format!(
            "check that it connects to this node: the node listens on {}",
            facts.listeners.join(", ")
        );
        found.push((Bearing::Left, finding.remedy(remedy)));
    } else if facts.session.is_some() {
        let sentence = "it is not connected; its session is kept for it";
        found.push((Bearing::Left, Finding::new(Cause::Away, sentence)));
    } else if let (Some(_), Some(seen_ms), false) =
        (&facts.registered_as, facts.last_seen_ms, has_tried(facts))
    {
        let at = rfc3339::in_words(seen_ms);
        let sentence = format!(
            "it is not connected by MQTT; the last contact with the device was \
             on {at}"
        );
        let finding = Finding::new(Cause::Away, sentence).since(seen_ms);
        found.push((Bearing::Left, finding));
    } else if facts.registered_as.is_some() && !has_tried(facts) {
        let what = facts.registered_as.as_deref().unwrap_or_default();
        let sentence = format!(
            "the {what} {} exists, and has neither connected nor tried to",
            facts.question.name
        );
        let remedy = format!(
            "check that it has the node's address and its credential: the node listens on {}",
            facts.listeners.join(", ")
        );
        let finding = Finding::new(Cause::NeverConnected, sentence).remedy(remedy);
        let finding = with_near_refused(facts, with_nameless(facts, finding));
        found.push((Bearing::Happened, finding));
    }
}

/// A topic was asked about that it publishes to, and its last connection ended because a packet of
/// it broke a rule or a limit.
fn ended_for_a_publish(facts: &Facts, run: &Run) -> bool {
    let is_recent = facts.now_ms.saturating_sub(run.last.at_ms) <= RECENT_MS;
    facts.question.topic.is_some()
        && side(facts) != Side::Receiver
        && is_recent
        && is_of_packets(run)
}

/// A connection ended because a packet of the client broke a rule or a limit.
pub(super) fn is_of_packets(run: &Run) -> bool {
    matches!(
        run.cause,
        Some(Cause::ProtocolError | Cause::LimitReached | Cause::TooLarge | Cause::TooFast)
    )
}

/// A disconnected client that used TLS may be the one that TLS refused since then: a refusal by TLS
/// has no name.
fn perhaps_tried(facts: &Facts, (bearing, mut finding): (Bearing, Finding)) -> (Bearing, Finding) {
    if refused_by_tls(facts).is_none() {
        return (bearing, finding);
    }
    if finding.cause != Cause::Away {
        finding
            .sentence
            .push_str(", and it has not connected again");
    }
    let bearing = match bearing {
        Bearing::Left => Bearing::Ended,
        bearing => bearing,
    };
    (bearing, with_nameless(facts, finding))
}

/// The last refusal of a client without a name where this one came from, if that was by TLS, this
/// one uses TLS, and it was after all that is known of it.
fn refused_by_tls(facts: &Facts) -> Option<&Entry> {
    let listener = facts.presence.as_ref()?.listener.as_deref()?;
    let uses_tls = listener.starts_with("mqtts:") || listener.starts_with("wss:");
    let last = facts.nameless.last()?;
    let is_recent = facts.now_ms.saturating_sub(last.at_ms) <= RECENT_MS;
    let is_by_tls = matches!(
        last.cause?,
        Cause::TlsFailed
            | Cause::ServerNotTrusted
            | Cause::ServerCertificateExpired
            | Cause::WrongTransport
            | Cause::ClockWrong
            | Cause::CertificateExpired
            | Cause::CertificateRevoked
            | Cause::CertificateForeign
            | Cause::CertificateUnfit
            | Cause::CertificateMissing
    );
    (uses_tls && is_recent && is_by_tls && is_newer(facts, last)).then_some(last)
}

/// Time in which the refusal of a client without a name is taken for one of this client.
const GUESSED_MS: u64 = 5 * 60 * 1_000;

/// It has tried to connect. An HTTP request is not that.
fn has_tried(facts: &Facts) -> bool {
    let is_request = |what: EventKind| {
        matches!(
            what,
            EventKind::ProvisioningRefused | EventKind::RequestRefused
        )
    };
    facts.runs.iter().any(|run| !is_request(run.last.what))
}

/// Adds the last refusal of a client without a name: a client that is refused by TLS, by WebSocket
/// or for its first bytes has not sent its name yet.
fn with_nameless(facts: &Facts, mut finding: Finding) -> Finding {
    let is_recent = |entry: &&Entry| facts.now_ms.saturating_sub(entry.at_ms) <= GUESSED_MS;
    let mut recent = facts.nameless.iter().rev().filter(is_recent);
    let Some(entry) = recent.next() else {
        return finding;
    };
    let address = entry.address.as_deref().and_then(host).unwrap_or_default();
    // It may be any of several.
    if recent.any(|other| other.address.as_deref().and_then(host) != Some(address)) {
        return finding;
    }
    let (why, remedy) = credential::in_words(facts, entry);
    finding.sentence.push_str(&format!(
        " under its name; perhaps it is the client without a name at {address} that was refused: {why}"
    ));
    finding.last_ms = Some(entry.at_ms);
    if let Some(remedy) = remedy {
        finding.remedy = Some(match finding.remedy.take() {
            Some(otherwise) => format!("if it is that client: {remedy}. Else {otherwise}"),
            None => format!("if it is that client: {remedy}"),
        });
    }
    finding
}

/// The question names an address: the refusals of connections from it.
pub(super) fn from_address(facts: &Facts, found: &mut Found) {
    let Some(refused) = &facts.from_address else {
        return;
    };
    // Refusals of one client for one reason are one finding, at this place in `found`.
    let mut groups = Vec::new();
    for entry in refused.iter().rev() {
        let who = match (&*entry.client_id, entry.user_name.as_deref()) {
            ("", None) if entry.what == EventKind::RequestRefused => "an HTTP request".to_owned(),
            (client_id, _) if entry.what == EventKind::RequestRefused => {
                format!("an HTTP request of {client_id}")
            }
            ("", None) => "a client without a name".to_owned(),
            ("", Some(user)) => format!("a client with the User Name {user}"),
            (client_id, _) => format!("the client {client_id}"),
        };
        let (why, remedy) = credential::in_words(facts, entry);
        let is_over = facts.lifted.contains(&entry.seq);
        let cause = match is_over {
            true => Cause::Away,
            false => entry.cause.unwrap_or(Cause::Other),
        };
        let is_same = |(same, _): &&mut (_, usize)| *same == (cause, who.clone(), why.clone());
        if let Some((_, place)) = groups.iter_mut().find(is_same) {
            let (_, finding) = &mut found[*place];
            finding.since_ms = Some(entry.at_ms);
            finding.count = finding.count.map(|count| count + 1);
            continue;
        }
        groups.push(((cause, who.clone(), why.clone()), found.len()));
        let mut finding = Finding::new(cause, format!("{who} was refused: {why}"));
        (finding.since_ms, finding.last_ms) = (Some(entry.at_ms), Some(entry.at_ms));
        finding.count = Some(1);
        if is_over {
            let over = "; that is over, and it has not tried again from there";
            finding.sentence.push_str(over);
            found.push((
                Bearing::Left,
                finding.remedy("have the client connect again"),
            ));
            continue;
        }
        finding.remedy = remedy;
        finding.command.clone_from(&entry.command);
        let mut elsewhere = facts.of_other_tenants.iter();
        let elsewhere = elsewhere.find(|(seq, _)| *seq == entry.seq);
        if let Some(((_, names), user)) = elsewhere.zip(entry.user_name.as_deref()) {
            finding = of_other_tenant(finding, user, names);
        }
        found.push((Bearing::Refused, finding));
    }
}

/// Whether the client was connected before another one was refused with its Client Identifier.
pub(super) fn is_by_another(facts: &Facts, run: &Run) -> bool {
    let Some(session) = &facts.session else {
        return false;
    };
    // Their order is that of the last time of each.
    let mut later = facts.runs.iter().rev().take_while(|other| *other != run);
    session
        .since_ms
        .is_some_and(|since_ms| since_ms <= run.last.at_ms)
        && !later.any(|other| other.last.what == EventKind::Connected)
}

/// The client that was refused was another one: this one was connected then, and went later. Of a
/// client that has come again since, it is not known whether it was connected then.
pub(super) fn was_there_then(runs: &[Run], run: &Run) -> bool {
    let refused_ms = run.last.at_ms;
    let last_ms = |what: EventKind| {
        let is_it =
            |other: &&Run| other.last.what == what && other.last.client_id == run.last.client_id;
        let times = runs.iter().filter(is_it);
        times.map(|other| other.last.at_ms).max()
    };
    !run.last.client_id.is_empty()
        && last_ms(EventKind::Connected).is_some_and(|came_ms| came_ms < refused_ms)
        && last_ms(EventKind::Disconnected).is_some_and(|went_ms| went_ms >= refused_ms)
}

/// Another client used the name of a connected one, whose credentials need no change.
pub(super) fn tried_by_another(run: &Run, cause: Cause, had: &str) -> Finding {
    let whom = match run.last.address.as_deref().and_then(host) {
        Some(host) => format!("a client at {host}"),
        None => "a client".to_owned(),
    };
    let times = times(run.count);
    let why = run.last.why.as_deref().unwrap_or_default();
    let tried = match cause {
        Cause::WrongPassword => format!("tried its name with a wrong password {times}"),
        _ => format!("tried its name {times}, and was refused ({why})"),
    };
    let sentence = format!("{whom} {tried}; this client {had} a connection of its own then");
    let finding = Finding::new(cause, sentence).when(run);
    finding.remedy("no action is needed for this client; find the other client if it continues")
}
