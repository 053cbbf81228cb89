//! From facts to a verdict: each part looks at one side of the client and says what it finds; what
//! weighs most is the verdict, and the rest is told beside it.

use martlet_broker::{DropReason, TenantId};
use martlet_codec::{SubscriptionFilter, TopicName};

use super::facts::{
    Deleted, Facts, GoneTeam, Meant, Namesakes, Presence, Session, Spent, TopicRules, host,
};
use super::{Evidence, Finding, State, Verdict};
use crate::authentication::{Standing, utc};
use crate::cause::Cause;
use crate::explain::Outcome;
use crate::journal::{Entry, Run, mend_of_drop};

/// What weighs more stands further up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// It is disconnected or refused on purpose.
    Barred,
    /// It is out, and cannot come in.
    Out,
    /// It is in, and what was asked about cannot be.
    Topic,
    /// Something of it was refused or lost recently.
    Trouble,
    /// It went of itself.
    Gone,
    /// What else is to be known.
    Remark,
    /// It was the cause recently, and is no longer.
    Before,
    /// The client in question is well: the cause is another client, or concerns another topic.
    Aside,
}

/// Time after which a single failure is no longer the cause of a present one.
const RECENT_MS: u64 = 15 * 60 * 1000;

/// Failures within that time that make a state of it, not an accident.
const REPEATED: u64 = 2;

/// Returns the verdict on the facts.
pub fn judge(facts: &Facts) -> Verdict {
    let mut found = Vec::new();
    if let Some(error) = &facts.store_failing {
        found.push((
            Weight::Topic,
            Finding::new(
                Cause::StoreFailing,
                format!("the message store cannot write, so nothing is acknowledged: {error}"),
            )
            .mend("make room on the disk, or look at it; martlet status says more"),
        ));
    }
    door(facts, &mut found);
    session(facts, &mut found);
    topic(facts, &mut found);
    found.sort_by_key(|(weight, finding)| (*weight, std::cmp::Reverse(finding.since_ms)));
    let is_well = found
        .first()
        .is_none_or(|(weight, _)| *weight >= Weight::Before);
    let was_ill = found.iter().any(|(weight, _)| *weight == Weight::Before);
    let mut found = found.into_iter().map(|(_, finding)| finding);
    let first = match is_well {
        true => None,
        false => found.next(),
    };
    let first = first.unwrap_or_else(|| nothing(facts, was_ill));
    let mut also: Vec<Finding> = Vec::new();
    for finding in found {
        let is_told = |told: &Finding| {
            told.cause == finding.cause
                && (told.sentence == finding.sentence || finding.cause.is_at_door())
        };
        if !is_told(&first) && !also.iter().any(is_told) {
            also.push(finding);
        }
    }
    Verdict {
        name: facts.question.name.clone(),
        tenant: facts.question.tenant.0,
        topic: facts.question.topic.clone(),
        state: state(facts),
        finding: first,
        also,
        evidence: evidence(facts),
    }
}

fn state(facts: &Facts) -> State {
    if let Some(session) = &facts.session {
        return match session.connected {
            true => State::Connected,
            false if is_refused_now(facts).is_some() => State::Refused,
            false => State::Away,
        };
    }
    match (is_refused_now(facts), &facts.presence, facts.runs.last()) {
        (Some(_), ..) => State::Refused,
        (None, Some(_), _) | (None, None, Some(_)) => State::Away,
        (None, None, None) => State::NeverSeen,
    }
}

/// The last time that it wanted to come in it was refused.
fn is_refused_now(facts: &Facts) -> Option<&Run> {
    let is_its_own = |run: &&Run| match &*run.last.what {
        "connected" => true,
        "connect refused" => !is_lockout_over(facts, run) && !was_there_then(facts, run),
        _ => false,
    };
    let last = facts.runs.iter().rev().find(is_its_own)?;
    (last.last.what == "connect refused").then_some(last)
}

/// Whether it comes in.
fn door(facts: &Facts, found: &mut Vec<(Weight, Finding)>) {
    if facts
        .session
        .as_ref()
        .is_some_and(|session| session.connected)
    {
        return;
    }
    if let Some(banned) = &facts.banned {
        let mut finding = Finding::new(Cause::Banned, banned.why.clone()).mend("lift the ban");
        finding.command.clone_from(&banned.command);
        found.push((Weight::Barred, finding));
    }
    // One of that name may be known elsewhere.
    let is_known = matches!(facts.standing, Some(Standing::Known | Standing::ByProof(_)));
    let deleted = facts.deleted.as_ref().filter(|_| !is_known);
    if let Some(deleted) = deleted {
        found.push((Weight::Barred, removed(deleted)));
    }
    if let Some(spent) = &facts.spent
        && (spent.has_certificate || !facts.by_certificate)
    {
        found.push((Weight::Barred, no_credential_left(spent)));
    }
    if let Some(why) = &facts.locked_out {
        let finding = Finding::new(Cause::LockedOut, format!("it is not let in now: {why}"));
        let finding = finding.mend(
            "it ends by itself; find who tries wrong passwords, and see auth.lockout_failures",
        );
        found.push((Weight::Out, finding.mend_by(facts, Cause::LockedOut)));
    }
    if let Some(run) = is_refused_now(facts) {
        let cause = run.cause.unwrap_or(Cause::Other);
        let mut finding = Finding::of_run(run, cause);
        if deleted.is_some() {
            // Its name is taken yet by who is to be restored, and has no credentials till then.
            (finding.mend, finding.command) = (None, None);
        } else {
            finding = who_is_meant(facts, finding);
        }
        found.push((Weight::Out, finding));
    }
    // Of who is deleted that is said.
    if let Some(Standing::Barred(why)) = &facts.standing
        && deleted.is_none()
    {
        let cause = match Cause::of_refusal("", why) {
            Cause::UnknownName if facts.runs.is_empty() && facts.presence.is_none() => {
                Cause::NobodyKnown
            }
            cause => cause,
        };
        let sentence = match cause {
            Cause::NobodyKnown => format!(
                "{} has never connected nor tried to since the node was started, and {why}",
                facts.question.name
            ),
            _ => format!("it would not be let in: {why}"),
        };
        // What it was told when it last came says more.
        let weight = match is_refused_now(facts) {
            Some(run) if run.cause != Some(cause) => Weight::Remark,
            _ => Weight::Out,
        };
        let finding = Finding::new(cause, sentence).mend_by(facts, cause);
        found.push((weight, who_is_meant(facts, finding)));
    }
    if let Some(finding) = closed_listener(facts) {
        found.push((Weight::Out, finding));
    }
    if let Some(finding) = lockout_before(facts) {
        found.push((Weight::Remark, finding));
    }
    if is_refused_now(facts).is_none()
        && let Some(last) = facts.nameless.last()
    {
        let cause = Cause::of(last).unwrap_or(Cause::Other);
        let why = last.why.as_deref().unwrap_or_default();
        let address = last.address.as_deref().unwrap_or_default();
        let finding = Finding::new(
            cause,
            format!("a client at {address}, where it came from last, was refused: {why}"),
        );
        let finding = finding.since(last.at_ms).mend_opt(last.mend.clone());
        let weight = match may_be_it(facts, last) {
            true => Weight::Out,
            false => Weight::Remark,
        };
        found.push((weight, finding));
    }
    gone(facts, found);
}

/// Whether a refused client without a name may be the client in question: nothing was heard of it
/// since. A client at a tenant's own door would have given its name.
fn may_be_it(facts: &Facts, nameless: &Entry) -> bool {
    let is_since = |at_ms: u64| at_ms > nameless.at_ms;
    let was_seen = facts
        .presence
        .as_ref()
        .is_some_and(|presence| is_since(presence.last_seen_ms.max(presence.since_ms)));
    facts.question.tenant == TenantId::default()
        && facts.now_ms.saturating_sub(nameless.at_ms) <= RECENT_MS
        && !was_seen
        && !facts.runs.iter().any(|run| is_since(run.last.at_ms))
}

/// It was locked out when it came last, and is not any more.
fn lockout_before(facts: &Facts) -> Option<Finding> {
    let mut runs = facts.runs.iter().rev();
    let run = runs.find(|run| is_lockout_over(facts, run))?;
    let until_ms = run.last.at_ms + 1_000 * seconds_left(run.last.why.as_deref()?).unwrap_or(0);
    let until = utc(i64::try_from(until_ms).unwrap_or(0));
    let sentence =
        format!("it was locked out until {until}: too many wrong credentials were tried");
    let mut finding = Finding::new(Cause::LockedOut, sentence).since(run.since_ms);
    finding.count = Some(run.count);
    Some(finding)
}

/// Seconds of `locked out for N s more`.
fn seconds_left(why: &str) -> Option<u64> {
    let (_, rest) = why.split_once("locked out for ")?;
    rest.split(' ').next()?.parse::<u32>().ok().map(u64::from)
}

fn is_lockout_over(facts: &Facts, run: &Run) -> bool {
    run.last.what == "connect refused"
        && run.cause == Some(Cause::LockedOut)
        && facts.locked_out.is_none()
}

/// A name that nobody has may be another's, mistyped or as it was before.
fn who_is_meant(facts: &Facts, mut finding: Finding) -> Finding {
    if !matches!(finding.cause, Cause::UnknownName | Cause::NobodyKnown) {
        return finding;
    }
    let Namesakes {
        elsewhere,
        gone,
        near,
        add,
    } = &facts.namesakes;
    let name = &facts.question.name;
    if !elsewhere.is_empty() {
        let names = elsewhere.join(" or ");
        finding.command = None;
        let mend = format!(
            "the device {name} is in another tenant: it comes as {names}, which is to be the User \
             Name of the client (its Client Identifier stays {name})"
        );
        return finding.mend(mend);
    }
    if !gone.is_empty() {
        finding.command = None;
        let mend = format!(
            "a device {name} was of a team that is deleted: ask why {} does not work, and restore \
             the team",
            gone.join(" or ")
        );
        return finding.mend(mend);
    }
    if let (None, Some(add)) = (&finding.mend, add) {
        finding.mend = Some(add.text.clone());
        finding.command.clone_from(&add.command);
    }
    if !near.is_empty() {
        let mend = finding.mend.take();
        let other = mend.map_or_else(String::new, |mend| format!(" Else {mend}"));
        return finding.mend(format!("did you mean {}?{other}", near.join(", ")));
    }
    finding
}

/// It is not in the tables any more, or its team is not.
fn removed(deleted: &Deleted) -> Finding {
    let (sentence, mend) = match (&deleted.team, &deleted.command) {
        (
            Some(GoneTeam {
                name,
                brings_back: true,
            }),
            _,
        ) => (
            format!("it was removed from the registry with its team {name}, which is deleted"),
            format!("restore the team {name}, and it comes back with it"),
        ),
        (
            Some(GoneTeam {
                name,
                brings_back: false,
            }),
            _,
        ) => (
            format!("it was removed from the registry, and its team {name} is deleted since"),
            format!("restore the team {name} first, then it"),
        ),
        (None, Some(_)) => (
            "it was removed from the registry".to_owned(),
            "restore it".to_owned(),
        ),
        (None, None) => (
            "it was removed from the registry".to_owned(),
            "it is gone for good: add it anew".to_owned(),
        ),
    };
    let mut finding = Finding::new(Cause::Deleted, sentence);
    finding.command.clone_from(&deleted.command);
    finding.since(deleted.at_ms).mend(mend)
}

/// Whatever it shows, it is not let in by it.
fn no_credential_left(spent: &Spent) -> Finding {
    let at = utc(i64::try_from(spent.last_ms).unwrap_or(0));
    let ended = match (spent.all_revoked, spent.all_expired) {
        (true, _) => "were revoked",
        (_, true) => "have expired",
        _ => "were revoked or have expired",
    };
    let sentence = match (spent.count, spent.all_revoked) {
        (1, true) => format!("its only credential was revoked on {at}"),
        (1, false) => format!("its only credential has expired on {at}"),
        (count, _) => format!("all {count} of its credentials {ended}, the last on {at}"),
    };
    let mut finding = Finding::new(Cause::CredentialExpired, sentence).since(spent.last_ms);
    finding.command.clone_from(&spent.command);
    finding.mend("give it another credential")
}

/// It came in by a door that is not there any more.
fn closed_listener(facts: &Facts) -> Option<Finding> {
    let presence = facts.presence.as_ref()?;
    let listener = presence.listener.as_ref()?;
    if presence.online || facts.listeners.is_empty() || facts.listeners.contains(listener) {
        return None;
    }
    let finding = Finding::new(
        Cause::ListenerClosed,
        format!(
            "it came in by {listener} before, and the node does not listen there: it listens on {}",
            facts.listeners.join(", ")
        ),
    );
    Some(finding.since(presence.since_ms).mend(
        "listen there again (--listen, [[listeners]]), or have the client connect where the node \
         listens",
    ))
}

/// It is not there, and nothing keeps it out.
fn gone(facts: &Facts, found: &mut Vec<(Weight, Finding)>) {
    let is_end = |run: &&Run| run.last.what == "disconnected";
    if let Some(run) = facts.runs.iter().rev().find(is_end) {
        let cause = run.cause.unwrap_or(Cause::Away);
        let mut finding = Finding::of_run(run, cause);
        finding.since_ms = Some(run.last.at_ms);
        let why = run.last.why.as_deref().unwrap_or_default();
        finding.sentence = match cause {
            Cause::Away => format!("it is not connected: {why}, and it has not come again"),
            _ => format!("its connection was ended: {why}"),
        };
        let weight = match cause {
            Cause::Away => Weight::Gone,
            _ => Weight::Trouble,
        };
        return found.push((weight, finding));
    }
    if let Some(Presence {
        online: false,
        since_ms,
        why,
        ..
    }) = &facts.presence
    {
        let why = why.as_deref().unwrap_or("its connection ended");
        let sentence = format!("it is not connected: {why}, and it has not come again");
        found.push((
            Weight::Gone,
            Finding::new(Cause::Away, sentence).since(*since_ms),
        ));
    } else if facts.session.is_some() {
        let sentence = "it is not connected; its session is kept, and waits for it";
        found.push((Weight::Gone, Finding::new(Cause::Away, sentence)));
    } else if facts.known_as.is_some() && facts.runs.is_empty() {
        let what = facts.known_as.as_deref().unwrap_or_default();
        let sentence = format!(
            "the {what} {} is known, and has neither connected nor tried to",
            facts.question.name
        );
        let finding = Finding::new(Cause::NeverConnected, sentence).mend(format!(
            "see that it has the node's address and its credential: the node listens on {}",
            facts.listeners.join(", ")
        ));
        found.push((Weight::Trouble, finding));
    }
}

/// What was refused or lost of it while it was let in.
fn session(facts: &Facts, found: &mut Vec<(Weight, Finding)>) {
    let is_recent = |run: &&Run| facts.now_ms.saturating_sub(run.last.at_ms) <= RECENT_MS;
    let is_connected = facts
        .session
        .as_ref()
        .is_some_and(|session| session.connected);
    for run in facts.runs.iter().rev().filter(is_recent) {
        let Some(cause) = run.cause else { continue };
        match &*run.last.what {
            "connect refused" if is_connected && is_by_another(facts, run) => {
                found.push((Weight::Aside, tried_by_another(run, cause, "has")));
            }
            "connect refused" | "re-authentication refused" if is_connected => {
                found.push((Weight::Before, before(run, cause)));
            }
            "connect refused" if was_there_then(facts, run) => {
                found.push((Weight::Remark, tried_by_another(run, cause, "had")));
            }
            // A client that is refused is refused for that reason, which `door` has given.
            "connect refused" => {}
            "disconnected" if is_connected => {
                found.extend(again_and_again(facts, run, cause));
            }
            "disconnected" => {}
            _ if facts.permitted_now.contains(&run.last.seq) => {
                let mut finding = before(run, cause);
                finding.sentence.push_str("; the rules permit it now");
                found.push((Weight::Before, finding));
            }
            // The rules say so themselves.
            _ if is_by_rules(facts, run) => {}
            _ if of_topic(facts, run) => found.push((Weight::Topic, Finding::of_run(run, cause))),
            _ if of_another_topic(facts, run) => {
                found.push((Weight::Aside, Finding::of_run(run, cause)));
            }
            _ => found.push((Weight::Trouble, Finding::of_run(run, cause))),
        }
    }
    let Some(session) = &facts.session else {
        return;
    };
    lost(facts, session, found);
    if !session.connected && session.queued > 0 {
        let sentence = format!("{} messages wait for it", session.queued);
        found.push((Weight::Remark, Finding::new(Cause::Away, sentence)));
    }
}

/// What was so, and is mended.
fn before(run: &Run, cause: Cause) -> Finding {
    let mut finding = Finding::of_run(run, cause);
    let until = utc(i64::try_from(run.last.at_ms).unwrap_or(0));
    finding.sentence = format!(
        "before, until {until}, it was refused: {}",
        finding.sentence
    );
    (finding.mend, finding.command) = (None, None);
    finding
}

/// Whether the client was connected before another one was refused with that name.
fn is_by_another(facts: &Facts, run: &Run) -> bool {
    let since_ms = facts.session.as_ref().and_then(|session| session.since_ms);
    // Their order is that of the last time of each.
    let mut later = facts.runs.iter().rev().take_while(|other| *other != run);
    since_ms.is_some_and(|since_ms| since_ms <= run.last.at_ms)
        && !later.any(|other| other.last.what == "connected")
}

/// Who was refused by that name was another: it was connected then, and went later.
fn was_there_then(facts: &Facts, run: &Run) -> bool {
    let is_end = |other: &Run| {
        other.last.what == "disconnected" && other.last.client_id == run.last.client_id
    };
    let mut later = facts.runs.iter().rev().take_while(|other| *other != run);
    later.any(is_end)
}

/// It is no fault of who is connected, and its credentials are not to be changed for that.
fn tried_by_another(run: &Run, cause: Cause, had: &str) -> Finding {
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
    let sentence = format!("{whom} {tried}; it {had} another connection");
    let mut finding = Finding::new(cause, sentence).since(run.since_ms);
    finding.count = Some(run.count);
    finding.mend("nothing need be done for it; find who that is, if it goes on")
}

/// What was meant for it and did not come to it, as its session counts it: what happened long ago,
/// or is told once for many, is in no journal.
fn lost(facts: &Facts, session: &Session, found: &mut Vec<(Weight, Finding)>) {
    let is_told = |cause: Cause| facts.runs.iter().any(|run| run.cause == Some(cause));
    let many = |count: u64| match count {
        1 => "1 message for it was".to_owned(),
        count => format!("{count} messages for it were"),
    };
    for (reason, count) in &session.drops {
        let cause = Cause::of_drop(*reason);
        let is_of_course = match reason {
            // Who is there now has what comes now.
            DropReason::ClientAway => session.connected,
            DropReason::SessionEnded | DropReason::ConnectionLost => true,
            _ => false,
        };
        if *count == 0 || is_of_course || is_told(cause) {
            continue;
        }
        let sentence = format!(
            "{} dropped since the node was started: {} ({})",
            many(*count),
            uncapitalized(reason.meaning()),
            reason.name()
        );
        let finding = Finding::new(cause, sentence);
        let mend = mend_of_drop(*reason).map(str::to_owned);
        found.push((Weight::Remark, finding.mend_opt(mend)));
    }
    if session.expired > 0 {
        let sentence = format!(
            "{} older than the Message Expiry Interval permits before it could have them",
            many(session.expired)
        );
        let finding = Finding::new(Cause::Expired, sentence);
        let mend = "have it connect more often, or publish with a longer Message Expiry Interval";
        found.push((Weight::Remark, finding.mend(mend)));
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

/// Within a sentence.
fn uncapitalized(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    let first = letters
        .next()
        .map(|letter| letter.to_lowercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// A connection that is there, and has ended for the same reason before.
fn again_and_again(facts: &Facts, run: &Run, cause: Cause) -> Option<(Weight, Finding)> {
    if run.count < REPEATED && cause != Cause::TakenOver {
        return None;
    }
    let mut finding = Finding::of_run(run, cause);
    let keep_alive = facts
        .session
        .as_ref()
        .map_or(0, |session| session.keep_alive_secs);
    let times = times(run.count);
    finding.sentence = match cause {
        Cause::TakenOver => format!(
            "its connection was taken over {times} by another with the same Client Identifier"
        ),
        Cause::KeepAlive => format!(
            "its connection ended {times} because nothing came within one and a half times its \
             Keep Alive of {keep_alive} s"
        ),
        _ => format!("its connection ended {times}: {}", finding.sentence),
    };
    let weight = match run.count >= REPEATED {
        true => Weight::Trouble,
        false => Weight::Remark,
    };
    Some((weight, finding))
}

/// It was refused for what the rules say of the topic now.
fn is_by_rules(facts: &Facts, run: &Run) -> bool {
    let is_refused = |rules: &TopicRules| {
        let of = [&rules.publish, &rules.receive];
        of.iter()
            .any(|explained| explained.outcome == Outcome::Refused)
    };
    run.cause == Some(Cause::NotPermitted)
        && of_topic(facts, run)
        && facts.rules.as_ref().is_some_and(is_refused)
}

/// With since when and how often that was so.
fn refused_before(facts: &Facts, mut finding: Finding) -> Finding {
    let mut runs = facts.runs.iter().rev();
    if let Some(run) = runs.find(|run| is_by_rules(facts, run)) {
        (finding.since_ms, finding.count) = (Some(run.since_ms), Some(run.count));
        finding.command = finding.command.or_else(|| run.last.command.clone());
    }
    finding
}

fn of_topic(facts: &Facts, run: &Run) -> bool {
    let (Some(topic), Some(of)) = (&facts.question.topic, &run.last.topic) else {
        return false;
    };
    topic == of || matches(of, topic)
}

/// A topic was asked about, and this happened to another one.
fn of_another_topic(facts: &Facts, run: &Run) -> bool {
    let of = run.last.topic.as_deref().unwrap_or_default();
    facts.question.topic.is_some() && !of.is_empty() && !of_topic(facts, run)
}

fn matches(filter: &str, topic: &str) -> bool {
    let (Ok(filter), Ok(topic)) = (SubscriptionFilter::parse(filter), TopicName::new(topic)) else {
        return false;
    };
    filter.filter.matches(topic)
}

/// What becomes of messages of the topic that was asked about.
fn topic(facts: &Facts, found: &mut Vec<(Weight, Finding)>) {
    let Some(topic) = &facts.question.topic else {
        return;
    };
    let session = facts.session.as_ref();
    let own = session
        .map(|session| matching(session, topic))
        .unwrap_or_default();
    // Who is subscribed to it is asked about as a receiver.
    let receives = !own.is_empty();
    if let Some(rules) = &facts.rules {
        let explained = match receives {
            true => &rules.receive,
            false => &rules.publish,
        };
        if explained.outcome == Outcome::Refused {
            let finding = match &rules.meant {
                Some(meant) if !receives => wrong_topic(meant, topic),
                _ => not_permitted(receives, topic, &explained.why, rules),
            };
            return found.push((Weight::Topic, refused_before(facts, finding)));
        }
    }
    if receives {
        if let Some((filter, 0)) = own.iter().max_by_key(|(_, qos)| *qos) {
            let sentence = format!(
                "it has QoS 0 for {filter}: messages of {topic} come to it with QoS 0 whatever \
                 they are published with, and none is kept while it is away"
            );
            let finding = Finding::new(Cause::QosDowngraded, sentence);
            found.push((Weight::Topic, finding.mend("subscribe with QoS 1 or 2")));
        }
        return;
    }
    match facts.subscribers.as_deref() {
        Some([]) => {
            let sentence = format!("it may publish to {topic}, and nobody is subscribed to it");
            let finding = Finding::new(Cause::SubscriberAbsent, sentence).mend(
                "look whether the receiver is connected, and by which Topic Filter it subscribes; \
                 a message for who comes later is published retained",
            );
            found.push((Weight::Topic, finding));
        }
        Some(all) if all.iter().all(|subscriber| !subscriber.connected) => {
            let names: Vec<&str> = all.iter().map(|one| &*one.client_id).take(3).collect();
            let sentence = format!(
                "it may publish to {topic}; of those who are subscribed to it ({}) none is \
                 connected",
                names.join(", ")
            );
            found.push((
                Weight::Topic,
                Finding::new(Cause::SubscriberAbsent, sentence),
            ));
        }
        Some(all) if all.iter().all(|subscriber| subscriber.qos == 0) => {
            let sentence = format!(
                "all who are subscribed to {topic} have QoS 0: what is published with more comes \
                 to them with QoS 0"
            );
            let finding = Finding::new(Cause::QosDowngraded, sentence);
            found.push((
                Weight::Remark,
                finding.mend("have them subscribe with QoS 1 or 2"),
            ));
        }
        Some(_) | None => {}
    }
    if let Some(rules) = &facts.rules
        && session.is_some_and(|session| session.connected)
        && rules.receive.outcome == Outcome::Permitted
    {
        let sentence = format!("it has no subscription that {topic} matches");
        found.push((Weight::Remark, Finding::new(Cause::NotSubscribed, sentence)));
    }
}

fn matching<'a>(session: &'a Session, topic: &str) -> Vec<(&'a str, u8)> {
    let own = session.subscriptions.iter();
    let own = own.filter(|(filter, _)| matches(filter, topic));
    own.map(|(filter, qos)| (&**filter, *qos)).collect()
}

fn wrong_topic(meant: &Meant, topic: &str) -> Finding {
    let Meant {
        place,
        filter,
        instead,
    } = meant;
    Finding::new(
        Cause::WrongTopic,
        format!(
            "it may not publish to {topic}: {place} permits {filter}, with its own name where {instead:?} stands"
        ),
    )
    .mend(format!("have the client publish to a topic that {filter} matches"))
}

fn not_permitted(receives: bool, topic: &str, why: &str, rules: &TopicRules) -> Finding {
    let (verb, mend) = match receives {
        true => ("receive", &rules.mend_receive),
        false => ("publish to", &rules.mend_publish),
    };
    let allowed = match &*rules.permitted {
        [] => String::new(),
        all => format!("; it may publish to {}", all.join(", ")),
    };
    let finding = Finding::new(
        Cause::NotPermitted,
        format!("it may not {verb} {topic}: {why}{allowed}"),
    );
    let mut finding = finding.mend(format!(
        "{}; or have the client use another topic",
        mend.text
    ));
    finding.command.clone_from(&mend.command);
    finding
}

/// `was_ill`: something was refused recently that would not be now.
fn nothing(facts: &Facts, was_ill: bool) -> Finding {
    match &facts.session {
        Some(session) if session.connected => {
            let finding = Finding::new(
                Cause::NothingWrong,
                match &facts.question.topic {
                    Some(topic) if was_ill => {
                        format!("it is connected, it may use {topic}, and nothing is wrong now")
                    }
                    None if was_ill => "it is connected and nothing is wrong now".to_owned(),
                    Some(topic) => format!(
                        "it is connected, it may use {topic}, and nothing of that topic was \
                         refused or lost recently"
                    ),
                    None => {
                        "it is connected and nothing of it was refused or lost recently".to_owned()
                    }
                },
            );
            match session.since_ms {
                Some(since_ms) => finding.since(since_ms),
                None => finding,
            }
        }
        _ => Finding::new(
            Cause::NobodyKnown,
            format!(
                "nothing is known of {}: it is no device and no user, has no session, and has not \
                 come since the node was started",
                facts.question.name
            ),
        )
        .mend("look whether the name is right: martlet device ls, martlet clients"),
    }
}

/// What the verdict was read from, in order of time.
fn evidence(facts: &Facts) -> Vec<Evidence> {
    let mut all: Vec<Evidence> = facts.runs.iter().map(Evidence::of_run).collect();
    all.extend(facts.nameless.iter().rev().take(3).map(|entry| Evidence {
        at_ms: entry.at_ms,
        text: format!(
            "{} from {}: {}",
            entry.what,
            entry.address.as_deref().unwrap_or_default(),
            entry.why.as_deref().unwrap_or_default()
        ),
    }));
    if let Some(presence) = facts.presence.as_ref().filter(|presence| !presence.online) {
        let mut text = "last seen".to_owned();
        for (word, part) in [
            (" from ", &presence.address),
            (" at ", &presence.listener),
            (": ", &presence.why),
        ] {
            if let Some(part) = part {
                text.push_str(&format!("{word}{part}"));
            }
        }
        all.push(Evidence {
            at_ms: presence.last_seen_ms,
            text,
        });
    }
    all.sort_by_key(|evidence| evidence.at_ms);
    all
}
