//! Refusals, drops and delays for a client, as the journal has them.

use crate::event_kind::EventKind;

use super::ended::{again_and_again, duel_before, unstable};
use super::losses::SessionFacts;
use crate::cause::{Bearing, Cause};
use crate::event_words;
use crate::journal::{Run, host};
use crate::why::{
    Asked, Finding, Side, near_miss, nearly_same, shared_meant, times_in_words, was_there_then,
};

/// Time after which publishes that waited for a rate have come through: they are reported again
/// while they wait.
const DELAYED_MS: u64 = 90_000;

/// Words for something that is over.
const OVER: &str = "that is over";

/// The rules permit it again.
const PERMITTED: &str = "the rules permit it now";

/// Findings about the last of some events.
pub(super) fn happened(
    asked: &Asked,
    facts: &SessionFacts,
    run: &Run,
) -> Option<(Bearing, Finding)> {
    use EventKind as Is;
    let Some(cause) = run.cause else {
        return unstable(asked, run);
    };
    let is_connected = asked.is_connected;
    let over = |words| Some((Bearing::Over, before(run, cause, words)));
    match run.last.what {
        Is::Refused if is_connected && is_by_another(asked, run) => {
            Some((Bearing::Aside, tried_by_another(run, cause, "has")))
        }
        Is::Refused | Is::ReauthenticationRefused if is_connected => over(OVER),
        Is::Refused if was_there_then(&asked.runs, run) => {
            Some((Bearing::Remark, tried_by_another(run, cause, "had")))
        }
        // `Admission` has reported that reason.
        Is::Refused => None,
        Is::ProvisioningRefused if asked.not_added() == Some(run) => None,
        Is::ProvisioningRefused => over(OVER),
        Is::RequestRefused if asked.last_seen_ms.is_some_and(|ms| ms > run.last.at_ms) => {
            over("the device has been in contact again since then")
        }
        Is::Disconnected if is_connected => again_and_again(asked, run, cause),
        Is::Disconnected => duel_before(asked, run),
        Is::MessagesLost if cause == Cause::SessionEnded => Some(lost_with_session(asked, run)),
        // The session has counted them.
        Is::Dropped | Is::MessagesLost | Is::QueueFull | Is::OutputFull
            if is_counted(asked, cause) =>
        {
            None
        }
        _ if asked.permitted_now.contains(&run.last.seq) => over(PERMITTED),
        // It was added since.
        Is::PublishRefused if cause.is_of_provisioning_key() && asked.is_registered => over(OVER),
        Is::SubscribeRefused if subscribed_since(asked, run) => {
            over("it has connected again since, and was not refused again")
        }
        // It is over when the client has gone, or has published all.
        Is::PublishesDelayed
            if !is_connected || asked.now_ms.saturating_sub(run.last.at_ms) > DELAYED_MS =>
        {
            over(OVER)
        }
        // The rules have it themselves.
        _ if asked.is_by_rules(run) => None,
        _ if asked.is_of_topic(run) => Some((Bearing::Topic, of_rules(facts, run, cause))),
        _ if asked.question.topic.is_some()
            && run.last.topic.as_ref().is_some_and(|of| !of.is_empty()) =>
        {
            Some(of_other_topic(asked, run, cause))
        }
        _ => Some((Bearing::Happened, of_rules(facts, run, cause))),
    }
}

/// Finding about an event, with the rule that permits the same topic with the client's own name.
fn of_rules(facts: &SessionFacts, run: &Run, cause: Cause) -> Finding {
    let mut finding = Finding::of_run(run, cause);
    if let Some(shared) = shared_in_place_of(run) {
        return shared_is_meant(finding, &shared);
    }
    let mut all = facts.own_name_rules.iter();
    let Some((_, own_name_rule)) = all.find(|(seq, _)| *seq == run.last.seq) else {
        return finding;
    };
    let filter = &own_name_rule.filter;
    let permitted = own_name_rule.permits();
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

/// Finding about another topic than the question names; the client may mean that one.
fn of_other_topic(asked: &Asked, run: &Run, cause: Cause) -> (Bearing, Finding) {
    let mut finding = Finding::of_run(run, cause);
    let question = &asked.question;
    let topics = question.topic.as_deref().zip(run.last.topic.as_deref());
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
fn subscribed_since(asked: &Asked, run: &Run) -> bool {
    asked.is_connected
        && asked.subscribes()
        && asked.session.as_ref().and_then(|session| session.since_ms) > Some(run.last.at_ms)
        && !asked.is_of_topic(run)
}

/// Something that is over, for this reason.
fn before(run: &Run, cause: Cause, over: &str) -> Finding {
    let finding = Finding::of_run(run, cause);
    let why = run.last.why.as_deref().unwrap_or_default();
    let sentence = match run.last.what {
        EventKind::Refused => format!("it was refused: {}", finding.sentence),
        EventKind::PublishesDelayed => format!("the messages that it published waited: {why}"),
        _ => finding.sentence.clone(),
    };
    Finding {
        sentence: format!("{sentence}; {over}"),
        ..finding.without_remedy()
    }
}

/// The counters of the session report drops for this cause.
fn is_counted(asked: &Asked, cause: Cause) -> bool {
    let drops = asked.session.iter().flat_map(|session| &session.drops);
    cause != Cause::NotPermitted
        && drops
            .filter(|(_, count)| *count > 0)
            .any(|(reason, _)| Cause::of_drop(*reason) == cause)
}

/// The session ended, and with it the messages that waited for it. Their topics are not known.
fn lost_with_session(asked: &Asked, run: &Run) -> (Bearing, Finding) {
    let why = run.last.why.as_deref().unwrap_or_default();
    let count = u64::from(run.last.count.unwrap_or(1));
    let were = event_words::were(count, " that waited for it");
    let finding = Finding {
        sentence: format!("{why}; {were} dropped with it"),
        ..Finding::of_run(run, Cause::SessionEnded)
    };
    let finding = finding.since(run.last.at_ms).of_many(count);
    let bearing = match &asked.question.topic {
        None => Bearing::Happened,
        Some(_) if asked.side != Side::Publisher => Bearing::Topic,
        Some(_) => Bearing::Aside,
    };
    (bearing, finding)
}

/// Whether the client was connected before another one was refused with its Client Identifier.
fn is_by_another(asked: &Asked, run: &Run) -> bool {
    let since_ms = asked.session.as_ref().and_then(|session| session.since_ms);
    // Their order is that of the last time of each.
    let mut later = asked.runs.iter().rev().take_while(|other| *other != run);
    since_ms.is_some_and(|since_ms| since_ms <= run.last.at_ms)
        && !later.any(|other| other.last.what == EventKind::Connected)
}

/// Another client used the name of a connected one, whose credentials need no change.
fn tried_by_another(run: &Run, cause: Cause, had: &str) -> Finding {
    let whom = match run.last.address.as_deref().and_then(host) {
        Some(host) => format!("a client at {host}"),
        None => "a client".to_owned(),
    };
    let times = times_in_words(run.count);
    let why = run.last.why.as_deref().unwrap_or_default();
    let tried = match cause {
        Cause::WrongPassword => format!("tried its name with a wrong password {times}"),
        _ => format!("tried its name {times}, and was refused ({why})"),
    };
    let sentence = format!("{whom} {tried}; this client {had} a connection of its own then");
    let finding = Finding::new(cause, sentence).when(run);
    finding.remedy("no action is needed for this client; find the other client if it continues")
}
