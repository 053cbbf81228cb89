//! Messages for a client that were dropped, or wait.

use martlet_broker::{DropReason, GroupDetail, LossTimes};

use crate::cause::{Bearing, Cause};
use crate::event_kind::EventKind;
use crate::event_words;
use crate::journal::{Run, remedy_of_drop, remedy_of_limit};
use crate::why::{
    ACKNOWLEDGE, Asked, Finding, Found, OwnNameRule, Session, is_unacknowledged, lost_by_group,
    matches, messages_wait, uncapitalized,
};

/// Findings.
pub(super) fn losses(asked: &Asked, facts: &SessionFacts, session: &Session, found: &mut Found) {
    if let Some(limit) = session.queue_full {
        let sentence = format!(
            "its queue is full, {} in it, and more are dropped: {}",
            messages_wait(session.queued),
            limit.words()
        );
        // The present state is reported before what was lost.
        let mut finding = Finding::new(Cause::QueueFull, sentence).last(asked.now_ms);
        finding.remedy = Some(remedy_of_limit(limit.limit));
        found.push((Bearing::Happened, finding));
    }
    found.extend(unacknowledged(asked, facts, session));
    lost(asked, session, found);
    for group in &facts.groups {
        lost_by_own_group(asked, group, found);
    }
    if !session.connected && session.queued > 0 {
        let sentence = format!("{} for it", messages_wait(session.queued));
        found.push((Bearing::Remark, Finding::new(Cause::Away, sentence)));
    }
}

/// The client does not acknowledge, and more waits behind that or goes to other members of its
/// share group.
fn unacknowledged(
    asked: &Asked,
    facts: &SessionFacts,
    session: &Session,
) -> Option<(Bearing, Finding)> {
    let is_late = |since_ms: &u64| is_unacknowledged(asked.now_ms, *since_ms);
    let own = session.waiting_since_ms.filter(is_late);
    let of_group = || {
        let since_ms = session.full_since_ms.filter(is_late)?;
        let groups = facts.groups.iter();
        let mut groups = groups.filter(|group| is_in_question(asked, &group.filter));
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
                return in_flight(session);
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
    let finding = Finding::new(Cause::SlowReader, sentence).since(since_ms);
    let finding = finding.last(asked.now_ms).remedy(ACKNOWLEDGE);
    Some((Bearing::Happened, finding))
}

/// Messages were sent to it that it has not acknowledged yet, as is usual for a moment.
fn in_flight(session: &Session) -> Option<(Bearing, Finding)> {
    let sentence = match session.in_flight {
        0 => return None,
        1 => "1 message that was sent to it waits for its acknowledgement".to_owned(),
        count => format!("{count} messages that were sent to it wait for its acknowledgement"),
    };
    let finding = Finding::new(Cause::NothingWrong, sentence);
    session.connected.then_some((Bearing::Aside, finding))
}

/// No topic was asked about, or one that this Shared Subscription matches.
fn is_in_question(asked: &Asked, shared: &str) -> bool {
    let topic = asked.question.topic.as_deref();
    topic.is_none_or(|topic| matches(shared, topic))
}

/// Messages for it that were dropped, as its session counts them. The journal has no drops of long
/// ago, and one entry for many drops.
fn lost(asked: &Asked, session: &Session, found: &mut Found) {
    for (reason, count, at) in session.losses() {
        let cause = Cause::of_drop(reason);
        let is_of_course = match reason {
            // A client that is connected now receives new messages.
            DropReason::ClientAway => session.connected,
            DropReason::SessionEnded | DropReason::ConnectionLost => true,
            // Each topic has its own remedy.
            DropReason::NotPermitted => asked.runs.iter().any(|run| run.cause == Some(cause)),
            _ => false,
        };
        if !is_of_course {
            found.push(lost_for(asked, session, reason, count, at));
        }
    }
    if session.expired > 0 {
        let sentence = event_words::expired(session.expired, " for it");
        let finding =
            Finding::new(Cause::Expired, sentence).lost(session.expired, session.expired_at);
        let remedy = "have it connect more often, or publish with a longer Message Expiry Interval";
        let bearing = asked.bearing_of_loss(session.expired_at);
        found.push((bearing, finding.remedy(remedy)));
    }
}

/// Messages that no member of a share group got that it belongs to: that is lost for it too.
fn lost_by_own_group(asked: &Asked, group: &GroupDetail, found: &mut Found) {
    let whose = format!(" for its share group {}", group.filter);
    for drop in &group.drops {
        let is_of_course = match drop.0 {
            // A member that is connected now receives new messages.
            DropReason::NoMember => asked.is_connected,
            reason => reason.is_expected(),
        };
        let bearing = match asked.is_recent(drop.2.last_ms) {
            _ if !is_in_question(asked, &group.filter) => Bearing::Aside,
            true => Bearing::Happened,
            false => Bearing::Remark,
        };
        if !is_of_course {
            found.push((bearing, lost_by_group(group, drop, &whose)));
        }
    }
}

/// How many messages for it were dropped for one reason, since when and by which limit.
fn lost_for(
    asked: &Asked,
    session: &Session,
    reason: DropReason,
    count: u64,
    at: LossTimes,
) -> (Bearing, Finding) {
    let cause = Cause::of_drop(reason);
    let is_one = |run: &&Run| {
        let is_drop = matches!(
            run.last.what,
            EventKind::Dropped | EventKind::MessagesLost | EventKind::OutputFull
        );
        is_drop && run.last.reason.as_deref() == Some(reason.name())
    };
    let runs: Vec<&Run> = asked.runs.iter().filter(is_one).collect();
    let reported: u64 = runs.iter().map(|run| run.count).sum();
    let last = runs.iter().max_by_key(|run| run.last.at_ms);
    let begun = runs.iter().map(|run| run.since_ms).min();
    let since_ms = Some(at.first_ms).filter(|ms| *ms > 0).or(begun);
    let last_ms = Some(at.last_ms).filter(|ms| *ms > 0);
    let last_ms = last_ms.max(last.map(|run| run.last.at_ms));
    let why = last.and_then(|run| run.last.why.clone());
    let why = why.unwrap_or_else(|| uncapitalized(reason.meaning()));
    let sentence = match session.queue_full {
        // The reason is part of it.
        Some(_) if cause == Cause::QueueFull => {
            let were = event_words::were(count, " for it");
            format!("{were} dropped ({})", reason.name())
        }
        full => {
            let again = match full.is_none() && cause == Cause::QueueFull {
                true => "; there is room again",
                false => "",
            };
            event_words::dropped(count, " for it", &uncapitalized(&why), reason) + again
        }
    };
    let finding = Finding {
        since_ms,
        last_ms,
        remedy: match last {
            Some(run) => run.last.remedy.clone(),
            None => remedy_of_drop(reason),
        },
        ..Finding::new(cause, sentence).of_many(count)
    };
    let is_recent = last_ms.is_some_and(|ms| asked.is_recent(ms));
    let bearing = match &asked.question.topic {
        Some(_) if runs.iter().any(|run| asked.is_of_topic(run)) => Bearing::Topic,
        // Of some of them nothing is known but their number. What a client refuses is not kept.
        Some(_)
            if (reported < count || reason == DropReason::RefusedByReceiver)
                && is_recent
                && asked.is_subscribed() =>
        {
            Bearing::Topic
        }
        Some(_) if last.is_some() => Bearing::Aside,
        None if is_recent => Bearing::Happened,
        _ => Bearing::Over,
    };
    (bearing, finding)
}

/// Facts about the session of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionFacts {
    /// The share groups that it is a member of.
    pub(crate) groups: Vec<GroupDetail>,
    /// The rule that permits the same with the client's own name, by the number of the entry about
    /// what rules forbade.
    pub(crate) own_name_rules: Vec<(u64, OwnNameRule)>,
}
