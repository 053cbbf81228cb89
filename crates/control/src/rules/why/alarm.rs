//! Alarms of a rule or a device: which are active, why one is not raised, or nobody is notified.

use martlet_rules::WaitingAlarm;

use super::facts::{InhibitedRuleAlarm, NamedRule, RuleAlarm};
use crate::cause::Cause;
use crate::rfc3339;
use crate::text::printable;
use crate::wall_clock::unsigned;
use crate::why::{Asked, Finding, Findings};

/// Alarms that are named, at most.
const ALARMS_NAMED: usize = 3;

/// The last change of its alarm could not be published.
pub(super) fn unpublished(rule: &NamedRule) -> Option<Finding> {
    let (at_ms, why) = rule.unpublished.as_ref()?;
    let sentence = format!(
        "the alarm of the rule {} was not published, so nobody was notified: {why}",
        rule.name
    );
    let remedy = "correct what the error names; the next change of an alarm is published again";
    let finding = Finding::new(Cause::AlarmSilent, sentence).since(*at_ms);
    Some(finding.remedy(remedy))
}

/// Returns the finding that the condition of an alarm was not true for long enough.
pub(super) fn waiting(asked: &Asked, rule: &NamedRule) -> Option<Finding> {
    let waiting = rule.waiting.as_ref();
    let waiting = waiting.filter(|alarm| may_be_of_topic(asked, &alarm.subject));
    let WaitingAlarm {
        subject,
        since_ms,
        until_ms,
        for_ms,
    } = waiting?;
    let since = rfc3339::in_words(unsigned(*since_ms));
    let held = match until_ms {
        None => format!("is not raised yet: its condition is true since {since}"),
        Some(until_ms) => format!(
            "was not raised: its condition was true for {} from {since}, and then false",
            seconds(until_ms - since_ms)
        ),
    };
    let sentence = format!(
        "the alarm of the rule {}, about {subject}, {held}; it must be true for {} (for_secs)",
        rule.name,
        seconds(*for_ms)
    );
    let remedy = match until_ms {
        None => "wait, or set a lower for_secs in the rule; to see the rule, run",
        Some(_) => {
            "publish values more often, or set a lower for_secs in the rule; to see the rule, run"
        }
    };
    let finding = Finding::new(Cause::AlarmSilent, sentence).since(unsigned(*since_ms));
    Some(finding.remedy(remedy).command(&rule.show))
}

/// An alarm about this subject may follow from the topic that was asked about. A subject is the id
/// of a device, or a topic.
fn may_be_of_topic(asked: &Asked, subject: &str) -> bool {
    let Some(topic) = asked.question.topic.as_deref() else {
        return true;
    };
    // A device may publish to a topic without its id.
    let is_of_device = match &*asked.devices_in_topic {
        [] => !subject.contains('/'),
        devices => devices.iter().any(|device| device == subject),
    };
    subject == topic || is_of_device
}

fn seconds(ms: i64) -> String {
    match ms {
        ..1_000 => "less than 1 s".to_owned(),
        ms => format!("{} s", ms / 1_000),
    }
}

/// Describes the alarms of a rule that are active, as the end of a sentence.
pub(super) fn active(asked: &Asked, rule: &NamedRule) -> String {
    if rule.alarms.is_empty() {
        return match rule.definition.alarm.is_some() {
            true => "; its alarm is not active".to_owned(),
            false => String::new(),
        };
    }
    let alarms = rule.alarms.iter();
    let alarms = alarms.filter(|alarm| may_be_of_topic(asked, &alarm.subject));
    let all: Vec<&RuleAlarm> = alarms.collect();
    if all.is_empty() {
        return String::new();
    }
    let shown = all.iter().take(ALARMS_NAMED).map(|alarm| {
        let since = rfc3339::in_words(alarm.raised_ms);
        format!(
            "its alarm {} about {} is active since {since}{}",
            alarm.name,
            alarm.subject,
            kept(alarm)
        )
    });
    let shown: Vec<String> = shown.collect();
    let more = match all.len().saturating_sub(ALARMS_NAMED) {
        0 => String::new(),
        count => format!(", and {count} more"),
    };
    format!("; {}{more}", shown.join(", "))
}

/// Why an alarm stays active, as the end of a sentence.
fn kept(alarm: &RuleAlarm) -> String {
    match (&alarm.kept_by, &alarm.clears_when) {
        (Some(why), _) => format!("; {why}, so the alarm stays active"),
        (None, Some(when)) => format!("; it clears when {when}"),
        (None, None) => String::new(),
    }
}

/// Alarms about a device that are active, whichever rule has raised them.
pub(super) fn about_device(alarms: &[RuleAlarm], findings: &mut Findings) {
    for alarm in alarms.iter().take(ALARMS_NAMED) {
        let message = match &*alarm.message {
            "" => String::new(),
            message => format!(": {}", printable(message)),
        };
        let kept_by = alarm.kept_by.iter();
        let kept: String = kept_by.map(|why| format!("; {why}")).collect();
        let name = &alarm.name;
        let sentence = format!("the alarm {name} about it is active{message}{kept}");
        let remedy = match &alarm.clears_when {
            Some(when) => format!("wait: it clears by itself when {when}; to clear it now, run"),
            None => "remove its cause, then clear it, or have a rule clear it".to_owned(),
        };
        let finding = Finding::new(Cause::AlarmActive, sentence)
            .since(alarm.raised_ms)
            .remedy(remedy)
            .command(&alarm.command);
        findings.add(finding);
    }
}

/// Nobody is notified of an alarm: of one that is shelved, else of one that is active, if the
/// condition was true again since.
pub(super) fn silent(asked: &Asked, rule: &NamedRule) -> Option<Finding> {
    let is_it = |alarm: &&RuleAlarm| may_be_of_topic(asked, &alarm.subject);
    let mut all = rule.alarms.iter().filter(is_it);
    let first = all.clone().next();
    let shelved = all.find(|alarm| alarm.shelved_until_ms.is_some());
    let is_again = rule.counts.matched > rule.alarms.len() as u64;
    let silent = shelved.or_else(|| first.filter(|_| is_again));
    silent.map(|alarm| of_alarm(rule, alarm))
}

fn of_alarm(rule: &NamedRule, alarm: &RuleAlarm) -> Finding {
    let RuleAlarm { name, subject, .. } = alarm;
    let of = format!(
        "the alarm {name} of the rule {}, about {subject},",
        rule.name
    );
    let finding = match alarm.shelved_until_ms {
        Some(until_ms) => {
            let by = match &*alarm.by {
                "" => String::new(),
                by => format!(" by {by}"),
            };
            let sentence = format!(
                "{of} is shelved until {}{by}, so nobody is notified",
                rfc3339::in_words(until_ms)
            );
            let remedy = "wait, or unshelve it";
            Finding::new(Cause::AlarmSilent, sentence)
                .remedy(remedy)
                .command(&alarm.command)
        }
        None => {
            let since = rfc3339::in_words(alarm.raised_ms);
            let sentence = match (&alarm.kept_by, &alarm.clears_when) {
                (None, None) => format!(
                    "{of} is active since {since}, so nobody is notified again while its condition \
                     stays true"
                ),
                _ => format!(
                    "{of} is active since {since}, so nobody is notified again{}",
                    kept(alarm)
                ),
            };
            let remedy = match &alarm.clears_when {
                Some(when) => format!(
                    "wait: it clears by itself when {when}, and can be raised again then; to clear \
                     it now, run"
                ),
                None => "clear it when its cause is removed, or have a rule clear it; the next \
                         message for which the condition is true raises it again"
                    .to_owned(),
            };
            Finding::new(Cause::AlarmSilent, sentence)
                .remedy(remedy)
                .command(&alarm.command)
        }
    };
    finding.since(alarm.raised_ms)
}

/// Returns the finding that the alarm of a rule would be raised, and another one silences it.
pub(super) fn inhibited(asked: &Asked, rule: &NamedRule) -> Option<Finding> {
    let alarm = rule.inhibited.as_ref()?;
    if !may_be_of_topic(asked, &alarm.subject) {
        return None;
    }
    let InhibitedRuleAlarm { subject, by, .. } = alarm;
    let sentence = format!(
        "the alarm {}, about {subject}, is not raised, though its condition is true since {}: the \
         alarm {by} is active since {} and inhibits it (inhibited_by of the rule {})",
        rule.name,
        rfc3339::in_words(alarm.since_ms),
        rfc3339::in_words(alarm.by_since_ms),
        rule.name
    );
    let remedy = format!(
        "remove the cause of {by}; then the alarm {} is raised if its condition is still true. Or \
         remove {by} from inhibited_by of the rule; to clear the alarm {by}, run",
        rule.name
    );
    let finding = Finding::new(Cause::AlarmSilent, sentence).since(alarm.since_ms);
    Some(finding.remedy(remedy).command(&alarm.command))
}
