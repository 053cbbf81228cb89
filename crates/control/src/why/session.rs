//! What was refused, lost or delayed for a client while it was connected.

use martlet_broker::{DropReason, EventKind, GroupDetail, LossTimes};

use super::Finding;
use super::admission::{is_by_another, is_of_packets, not_added, tried_by_another, was_there_then};
use super::facts::{Facts, Session};
use super::found::{
    ACKNOWLEDGE, Bearing, Found, RECENT_MS, is_connected, is_recent, is_unacknowledged,
    messages_wait, times, uncapitalized,
};
use super::near::{matches, near_miss, nearly_same, shared_meant};
use super::side::{Side, is_subscribed, of_topic, side};
use super::topic::{is_by_rules, of_another_topic, permits};
use crate::cause::Cause;
use crate::event_words;
use crate::journal::{Run, remedy_of_drop, remedy_of_limit};

/// Failures within that time that make a state of it, not an accident.
const REPEATED: u64 = 2;

pub(super) fn session(facts: &Facts, found: &mut Found) {
    let is_connected = is_connected(facts);
    for run in facts.runs.iter().rev().filter(|run| is_recent(facts, run)) {
        let Some(cause) = run.cause else {
            found.extend(unstable(facts, run));
            continue;
        };
        match run.last.what {
            EventKind::Refused if is_connected && is_by_another(facts, run) => {
                found.push((Bearing::Aside, tried_by_another(run, cause, "has")));
            }
            EventKind::Refused | EventKind::ReauthenticationRefused if is_connected => {
                found.push((Bearing::Over, before(run, cause, OVER)));
            }
            EventKind::Refused if was_there_then(&facts.runs, run) => {
                found.push((Bearing::Remark, tried_by_another(run, cause, "had")));
            }
            // `admission` has reported that reason.
            EventKind::Refused => {}
            EventKind::ProvisioningRefused if not_added(facts) == Some(run) => {}
            EventKind::ProvisioningRefused => {
                found.push((Bearing::Over, before(run, cause, OVER)));
            }
            EventKind::RequestRefused if was_active_since(facts, run) => {
                let over = "the device has been in contact again since then";
                found.push((Bearing::Over, before(run, cause, over)));
            }
            EventKind::Disconnected if is_connected => {
                found.extend(again_and_again(facts, run, cause));
            }
            EventKind::Disconnected => {}
            EventKind::MessagesLost if cause == Cause::SessionEnded => {
                found.push(lost_with_session(facts, run, cause));
            }
            // The session has counted them.
            EventKind::Dropped
            | EventKind::MessagesLost
            | EventKind::QueueFull
            | EventKind::OutputFull
                if is_counted(facts, cause) => {}
            _ if facts.permitted_now.contains(&run.last.seq) => {
                let finding = before(run, cause, "the rules permit it now");
                found.push((Bearing::Over, finding));
            }
            // It was added since.
            EventKind::PublishRefused
                if cause.is_of_provisioning_key() && facts.registered_as.is_some() =>
            {
                found.push((Bearing::Over, before(run, cause, OVER)));
            }
            EventKind::SubscribeRefused if subscribed_since(facts, run) => {
                let over = "it has connected again since, and was not refused again";
                found.push((Bearing::Over, before(run, cause, over)));
            }
            // It is over when the client has gone, or has published all.
            EventKind::PublishesDelayed if !is_connected || !is_of_now(facts, run) => {
                found.push((Bearing::Over, before(run, cause, OVER)));
            }
            // The rules have it themselves.
            _ if is_by_rules(facts, run) => {}
            _ if of_topic(facts, run) => found.push((Bearing::Topic, of_rules(facts, run, cause))),
            _ if of_another_topic(facts, run) => {
                found.push(of_other_topic(facts, run, cause));
            }
            _ => found.push((Bearing::Happened, of_rules(facts, run, cause))),
        }
    }
    let Some(session) = &facts.session else {
        return;
    };
    queue(facts.now_ms, session, found);
    unacknowledged(facts, session, found);
    lost(facts, session, found);
    for group in &facts.groups {
        lost_by_group(facts, session, group, found);
    }
    if !session.connected && session.queued > 0 {
        let sentence = format!("{} for it", messages_wait(session.queued));
        found.push((Bearing::Remark, Finding::new(Cause::Away, sentence)));
    }
}

/// What happened, with the rule that permits the same topic with the client's own name.
fn of_rules(facts: &Facts, run: &Run, cause: Cause) -> Finding {
    let mut finding = Finding::of_run(run, cause);
    if let Some(shared) = shared_in_place_of(run) {
        return shared_is_meant(finding, &shared);
    }
    let mut all = facts.own_name_rules.iter();
    let Some((_, own_name_rule)) = all.find(|(seq, _)| *seq == run.last.seq) else {
        return finding;
    };
    let filter = &own_name_rule.filter;
    let permitted = permits(own_name_rule);
    finding.sentence.push_str(&format!("; {permitted}"));
    let does = match run.last.what {
        EventKind::PublishRefused => "publish to a topic that",
        _ => "subscribe to topics that",
    };
    let other = finding.remedy.take();
    let other = other.map_or_else(String::new, |other| format!("; or {other}"));
    finding.remedy(format!("have the client {does} {filter} matches{other}"))
}

/// The Shared Subscription that a client meant that was refused one of another broker's form.
fn shared_in_place_of(run: &Run) -> Option<String> {
    let filter = run.last.topic.as_deref()?;
    let (shared, _) = shared_meant(filter)?;
    (run.last.what == EventKind::SubscribeRefused).then_some(shared)
}

fn shared_is_meant(mut finding: Finding, shared: &str) -> Finding {
    finding.sentence.push_str(&format!("; {shared} is meant"));
    finding.command = None;
    finding.remedy(format!(
        "have the client subscribe to {shared}: that is a Shared Subscription in MQTT"
    ))
}

/// What happened to another topic than the question names; the client may mean that one.
fn of_other_topic(facts: &Facts, run: &Run, cause: Cause) -> (Bearing, Finding) {
    let mut finding = Finding::of_run(run, cause);
    let topics = facts
        .question
        .topic
        .as_deref()
        .zip(run.last.topic.as_deref());
    if let Some((asked, topic)) = topics
        && let Some(shared) = shared_in_place_of(run)
        && near_miss(topic, asked).is_some_and(|near| near.is_likely)
    {
        return (Bearing::Topic, shared_is_meant(finding, &shared));
    }
    let words = topics.and_then(|(asked, topic)| Some((asked, nearly_same(asked, topic)?)));
    let Some((asked, words)) = words else {
        return (Bearing::Aside, finding);
    };
    let likely = format!("; {asked} is likely meant: {words}");
    finding.sentence.push_str(&likely);
    (Bearing::Topic, finding)
}

/// A subscription was refused, and the client has connected again since and is subscribed. For the
/// topic in the question, the rules show it.
fn subscribed_since(facts: &Facts, run: &Run) -> bool {
    let session = facts.session.as_ref().filter(|session| session.connected);
    let is_since = |session: &Session| {
        !session.subscriptions.is_empty()
            && session
                .since_ms
                .is_some_and(|since_ms| since_ms > run.last.at_ms)
    };
    session.is_some_and(is_since) && !of_topic(facts, run)
}

/// The tables have a later time of the device: of a login, a request or a message.
fn was_active_since(facts: &Facts, run: &Run) -> bool {
    facts.last_seen_ms.is_some_and(|ms| ms > run.last.at_ms)
}

/// Time after which publishes that waited for a rate have come through: they are reported again
/// while they wait.
const DELAYED_MS: u64 = 90_000;

fn is_of_now(facts: &Facts, run: &Run) -> bool {
    facts.now_ms.saturating_sub(run.last.at_ms) <= DELAYED_MS
}

/// Words for something that is over.
const OVER: &str = "that is over";

/// Something that is over, for this reason.
fn before(run: &Run, cause: Cause, over: &str) -> Finding {
    let mut finding = Finding::of_run(run, cause);
    let was = match run.last.what {
        EventKind::Refused => "it was refused: ",
        _ => "",
    };
    let sentence = match run.last.what {
        EventKind::PublishesDelayed => {
            let why = run.last.why.as_deref().unwrap_or_default();
            format!("the messages that it published waited: {why}")
        }
        _ => finding.sentence,
    };
    finding.sentence = format!("{was}{sentence}; {over}");
    (finding.remedy, finding.command) = (None, None);
    finding
}

/// The counters of the session report drops for this cause.
fn is_counted(facts: &Facts, cause: Cause) -> bool {
    let drops = facts.session.iter().flat_map(|session| &session.drops);
    cause != Cause::NotPermitted
        && drops
            .filter(|(_, count)| *count > 0)
            .any(|(reason, _)| Cause::of_drop(*reason) == cause)
}

/// Its session ended, and with it the messages that waited for it. Their topics are not known.
fn lost_with_session(facts: &Facts, run: &Run, cause: Cause) -> (Bearing, Finding) {
    let why = run.last.why.as_deref().unwrap_or_default();
    let count = u64::from(run.last.count.unwrap_or(1));
    let were = event_words::were(count, " that waited for it");
    let sentence = format!("{why}; {were} dropped with it");
    let mut finding = Finding::of_run(run, cause);
    finding.sentence = sentence;
    finding.since_ms = Some(run.last.at_ms);
    finding.count = Some(count);
    let bearing = match &facts.question.topic {
        None => Bearing::Happened,
        Some(_) if side(facts) != Side::Publisher => Bearing::Topic,
        Some(_) => Bearing::Aside,
    };
    (bearing, finding)
}

/// Its queue has no room now.
fn queue(now_ms: u64, session: &Session, found: &mut Found) {
    let Some(limit) = session.queue_full else {
        return;
    };
    let sentence = format!(
        "its queue is full, {} in it, and more are dropped: {}",
        messages_wait(session.queued),
        limit.words()
    );
    let mut finding = Finding::new(Cause::QueueFull, sentence);
    // The present state is reported before what was lost.
    finding.last_ms = Some(now_ms);
    finding.remedy = remedy_of_limit(limit.limit).map(|worded| worded.text);
    found.push((Bearing::Happened, finding));
}

/// Messages were sent to it that it has not acknowledged yet, as is usual for a moment.
fn in_flight(session: &Session, found: &mut Found) {
    let sentence = match session.in_flight {
        0 => return,
        1 => "1 message that was sent to it waits for its acknowledgement".to_owned(),
        count => format!("{count} messages that were sent to it wait for its acknowledgement"),
    };
    if session.connected {
        let finding = Finding::new(Cause::NothingWrong, sentence);
        found.push((Bearing::Aside, finding));
    }
}

/// It does not acknowledge what it gets, and more waits behind that or goes to other members of its
/// share group.
fn unacknowledged(facts: &Facts, session: &Session, found: &mut Found) {
    let is_late = |since_ms: &u64| is_unacknowledged(facts.now_ms, *since_ms);
    let own = session.waiting_since_ms.filter(is_late);
    let of_group = || {
        let since_ms = session.full_since_ms.filter(is_late)?;
        let groups = facts.groups.iter();
        let mut groups = groups.filter(|group| is_in_question(facts, &group.filter));
        let first = groups.next()?;
        Some((
            since_ms,
            groups.fold(first, |one, other| match other.queued > one.queued {
                true => other,
                false => one,
            }),
        ))
    };
    let (since_ms, and) = match own {
        Some(since_ms) => {
            let queued = session.queued;
            let wait = if queued == 1 { "waits" } else { "wait" };
            let them = if session.in_flight == 1 { "it" } else { "them" };
            (since_ms, format!("and {queued} {wait} behind {them}"))
        }
        None => {
            let Some((since_ms, group)) = of_group() else {
                return in_flight(session, found);
            };
            let filter = &group.filter;
            let waiting = match group.queued {
                0 => String::new(),
                1 => "; 1 message waits in the group".to_owned(),
                queued => format!("; {queued} messages wait in the group"),
            };
            let and = format!("so its share group {filter} sends it no more{waiting}");
            (since_ms, and)
        }
    };
    let messages = match session.in_flight {
        1 => "the message that was sent to it".to_owned(),
        sent => format!("the {sent} messages that were sent to it"),
    };
    let sentence =
        format!("it has not acknowledged {messages}, which is its maximum at one time, {and}");
    let mut finding = Finding::new(Cause::SlowReader, sentence).since(since_ms);
    finding.last_ms = Some(facts.now_ms);
    found.push((Bearing::Happened, finding.remedy(ACKNOWLEDGE)));
}

/// No topic was asked about, or one that this Shared Subscription matches.
fn is_in_question(facts: &Facts, shared: &str) -> bool {
    let topic = facts.question.topic.as_deref();
    topic.is_none_or(|topic| matches(shared, topic))
}

/// Messages for it that were dropped, as its session counts them. The journal has no drops of long
/// ago, and one entry for many drops.
fn lost(facts: &Facts, session: &Session, found: &mut Found) {
    for (reason, count, at) in session.losses() {
        let cause = Cause::of_drop(reason);
        let is_of_course = match reason {
            // A client that is connected now receives new messages.
            DropReason::ClientAway => session.connected,
            DropReason::SessionEnded | DropReason::ConnectionLost => true,
            // Each topic has its own remedy.
            DropReason::NotPermitted => facts.runs.iter().any(|run| run.cause == Some(cause)),
            _ => false,
        };
        if !is_of_course {
            found.push(lost_for(facts, session, (reason, count, at)));
        }
    }
    if session.expired > 0 {
        let sentence = event_words::expired(session.expired, " for it");
        let finding = Finding::new(Cause::Expired, sentence);
        let finding = finding.lost(session.expired, session.expired_at);
        let remedy = "have it connect more often, or publish with a longer Message Expiry Interval";
        let last_ms = session.expired_at.last_ms;
        let is_recent = facts.now_ms.saturating_sub(last_ms) <= RECENT_MS;
        let bearing = match is_recent {
            true => Bearing::Happened,
            false => Bearing::Over,
        };
        found.push((bearing, finding.remedy(remedy)));
    }
}

/// What no member of a share group got that it belongs to: that is lost for it too.
fn lost_by_group(facts: &Facts, session: &Session, group: &GroupDetail, found: &mut Found) {
    let name = &*group.filter;
    let is_asked = is_in_question(facts, name);
    for (reason, count, at) in &group.drops {
        let is_of_course = match reason {
            // A member that is connected now receives new messages.
            DropReason::NoMember => session.connected,
            reason => reason.is_expected(),
        };
        if is_of_course {
            continue;
        }
        let is_queue = *reason == DropReason::QueueFull;
        let (why, limit) = match group.queue_full {
            Some(limit) if is_queue => (limit.words(), Some(limit.limit)),
            _ => (uncapitalized(reason.meaning()), None),
        };
        let again = match is_queue && limit.is_none() {
            true => "; there is room again",
            false => "",
        };
        let whose = format!(" for its share group {name}");
        let sentence = event_words::dropped(*count, &whose, &why, *reason) + again;
        let mut finding = Finding::new(Cause::of_drop(*reason), sentence).lost(*count, *at);
        let worded = limit.and_then(remedy_of_limit).map(|worded| worded.text);
        finding.remedy = worded.or_else(|| remedy_of_drop(*reason));
        let is_recent = facts.now_ms.saturating_sub(at.last_ms) <= RECENT_MS;
        let bearing = match is_recent {
            _ if !is_asked => Bearing::Aside,
            true => Bearing::Happened,
            false => Bearing::Remark,
        };
        found.push((bearing, finding));
    }
}

/// How many messages for it were dropped for one reason, since when and by which limit.
fn lost_for(
    facts: &Facts,
    session: &Session,
    (reason, count, at): (DropReason, u64, LossTimes),
) -> (Bearing, Finding) {
    let cause = Cause::of_drop(reason);
    let is_one = |run: &&Run| {
        let is_drop = matches!(
            run.last.what,
            EventKind::Dropped | EventKind::MessagesLost | EventKind::OutputFull
        );
        is_drop && run.last.reason.as_deref() == Some(reason.name())
    };
    let runs: Vec<&Run> = facts.runs.iter().filter(is_one).collect();
    let reported: u64 = runs.iter().map(|run| run.count).sum();
    let last = runs.iter().max_by_key(|run| run.last.at_ms);
    let begun = runs.iter().map(|run| run.since_ms).min();
    let since_ms = Some(at.first_ms).filter(|ms| *ms > 0).or(begun);
    let last_ms = Some(at.last_ms).filter(|ms| *ms > 0);
    let last_ms = last_ms.max(last.map(|run| run.last.at_ms));
    let why = last.and_then(|run| run.last.why.clone());
    let why = why.unwrap_or_else(|| uncapitalized(reason.meaning()));
    let again = match session.queue_full {
        None if cause == Cause::QueueFull => "; there is room again",
        _ => "",
    };
    let sentence = match session.queue_full {
        // The reason is part of it.
        Some(_) if cause == Cause::QueueFull => {
            let were = event_words::were(count, " for it");
            format!("{were} dropped ({})", reason.name())
        }
        _ => event_words::dropped(count, " for it", &uncapitalized(&why), reason) + again,
    };
    let mut finding = Finding::new(cause, sentence).of_many(count);
    finding.since_ms = since_ms;
    finding.last_ms = last_ms;
    finding.remedy = match last {
        Some(run) => run.last.remedy.clone(),
        None => remedy_of_drop(reason),
    };
    let is_recent = last_ms.is_some_and(|ms| facts.now_ms.saturating_sub(ms) <= RECENT_MS);
    let bearing = match &facts.question.topic {
        Some(_) if runs.iter().any(|run| of_topic(facts, run)) => Bearing::Topic,
        // Of some of them nothing is known but their number. What a client refuses is not kept.
        Some(_)
            if (reported < count || reason == DropReason::RefusedByReceiver)
                && is_recent
                && is_subscribed(facts) =>
        {
            Bearing::Topic
        }
        Some(_) if last.is_some() => Bearing::Aside,
        None if is_recent => Bearing::Happened,
        _ => Bearing::Over,
    };
    (bearing, finding)
}

/// A connection that is there, and has ended for the same reason before.
fn again_and_again(facts: &Facts, run: &Run, cause: Cause) -> Option<(Bearing, Finding)> {
    let is_of_limit = run.last.limit.is_some();
    if run.count < REPEATED && cause != Cause::TakenOver && !is_of_limit {
        return None;
    }
    let mut finding = Finding::of_run(run, cause);
    let keep_alive = facts
        .session
        .as_ref()
        .map_or(0, |session| session.keep_alive_secs);
    let times = times(run.count);
    finding.sentence = match cause {
        Cause::TakenOver => {
            format!(
                "another client with the same Client Identifier took its connection over {times}"
            )
        }
        Cause::KeepAlive => format!(
            "its connection was ended {times} because no packet arrived within 1.5 times its Keep \
             Alive of {keep_alive} s"
        ),
        _ => {
            let why = run.last.why.as_deref().unwrap_or_default();
            format!("its connection was ended {times}: {why}")
        }
    };
    let is_asked = facts.question.topic.is_some() && side(facts) != Side::Receiver;
    let bearing = match run.count >= REPEATED {
        // The cause is what it has published, not the receivers.
        true if is_asked && is_of_packets(run) => Bearing::Topic,
        true => Bearing::Happened,
        false => Bearing::Remark,
    };
    Some((bearing, finding))
}

/// Breaks within a short time that make a state of it, not an accident.
const BREAKS: u64 = 3;

/// Mean time between two of them, at most.
const BREAKS_EVERY_MS: u64 = 5 * 60 * 1000;

/// The same of ends that the client wanted: many clients connect for each message, and are well.
const ENDS: u64 = 10;
const ENDS_EVERY_MS: u64 = 1_000;

/// What there is to find of connections that ended without a cause that the node knows.
fn unstable(facts: &Facts, run: &Run) -> Option<(Bearing, Finding)> {
    if run.last.what != EventKind::Disconnected || !is_connected(facts) {
        return None;
    }
    let (least, every_ms) = match run.sent_disconnect {
        true => (ENDS, ENDS_EVERY_MS),
        false => (BREAKS, BREAKS_EVERY_MS),
    };
    let between = run.count.saturating_sub(1);
    let took_ms = run.last.at_ms.saturating_sub(run.since_ms);
    if run.count < least || took_ms > between.saturating_mul(every_ms) {
        return None;
    }
    let count = run.count;
    let why = run.last.why.as_deref().unwrap_or_default();
    let (sentence, remedy) = match run.sent_disconnect {
        true => (
            format!(
                "it connects and disconnects repeatedly: it sent DISCONNECT {count} times, and is \
                 connected now"
            ),
            "have the client keep its connection; its own log shows why it sends DISCONNECT",
        ),
        false => (
            format!("its connection broke {count} times, though it is connected now: {why}"),
            "check the network between the client and the node, the power of the device, and the \
             client's own log: the client ended the connections, or the network interrupted them",
        ),
    };
    let finding = Finding::new(Cause::Unstable, sentence).when(run);
    Some((Bearing::Happened, finding.remedy(remedy)))
}
