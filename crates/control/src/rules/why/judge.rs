//! Why a rule does nothing.

use super::alarm;
use super::facts::{NamedRule, devices_in_words, unmatched};
use super::on_topic::{
    OTHER_DEVICE, failed_elsewhere, is_previous, missing_field, nearest_or_some, on_topic,
    payload_has,
};
use crate::cause::Cause;
use crate::rules::MissingMember;
use crate::text::printable;
use crate::why::{
    Asked, Finding, Findings, is_nearly_matched, matches, messages, nearest_in_words,
    times_in_words,
};

/// Adds findings about the rule in the question.
pub(super) fn judge(rule: &NamedRule, asked: &Asked, findings: &mut Findings) {
    for finding in with_webhooks(rule, of_rule(asked, rule)) {
        findings.add_named(finding);
    }
    let is_over = rule.counts.is_over && rule.definition.is_enabled() && rule.is_in_force;
    let over = failing(rule).filter(|_| is_over);
    if let Some(over) = over {
        findings.add_named(over);
    }
}

/// Adds the findings about the webhooks of a rule, before its own if it is on: the rule itself has
/// done its work.
fn with_webhooks(rule: &NamedRule, of_rule: Finding) -> Vec<Finding> {
    let name = &rule.name;
    let sentence = |what: String| {
        move |finding: Finding| Finding {
            sentence: format!("{what}: {}", finding.sentence),
            ..finding
        }
    };
    let has = format!("the rule {name} has a webhook that does not work");
    let takes =
        format!("the rule {name} works, but an integration that forwards its messages does not");
    let webhooks = rule.webhooks.iter().cloned().map(sentence(has));
    let takers = rule.takers.iter().cloned().map(sentence(takes));
    let webhooks = webhooks.chain(takers);
    let webhooks: Vec<Finding> = webhooks.collect();
    match of_rule.cause {
        Cause::NothingWrong if !webhooks.is_empty() => webhooks,
        Cause::NothingWrong | Cause::RuleFailing => webhooks.into_iter().chain([of_rule]).collect(),
        _ => std::iter::once(of_rule).chain(webhooks).collect(),
    }
}

fn of_rule(asked: &Asked, rule: &NamedRule) -> Finding {
    let found = off(rule)
        .or_else(|| topic_missed(asked, rule))
        // All rules of a tenant wait while its integration does.
        .or_else(|| rule.queue.clone())
        .or_else(|| on_topic(asked, rule))
        .or_else(|| {
            let is_so = !rule.counts.is_over && !failed_elsewhere(asked, rule);
            failing(rule).filter(|_| is_so)
        })
        .or_else(|| alarm::unpublished(rule))
        .or_else(|| alarm::inhibited(asked, rule));
    let found = found.or_else(|| match (rule.counts.messages, rule.counts.matched) {
        (0, _) => stopped(rule).or_else(|| Some(no_message(asked, rule))),
        (_, 0) => Some(no_match(rule)),
        _ => alarm::silent(asked, rule).or_else(|| alarm::waiting(asked, rule)),
    });
    found.unwrap_or_else(|| {
        let (messages, matched) = (messages(rule.counts.messages), rule.counts.matched);
        let condition = match rule.definition.alarm.is_some() && rule.definition.when.is_none() {
            true => String::new(),
            false => format!(", and its condition was true for {matched} of them"),
        };
        let sentence = format!(
            "the rule {} is on: it has looked at {messages} since the node was started{condition}{}",
            rule.name,
            alarm::active(asked, rule)
        );
        Finding::new(Cause::NothingWrong, sentence)
    })
}

/// The rule is switched off, or not in force.
fn off(rule: &NamedRule) -> Option<Finding> {
    let name = &rule.name;
    let (sentence, remedy, command) = match (rule.definition.is_enabled(), rule.is_configured) {
        (false, is_configured) => {
            let (remedy, command) = match is_configured {
                true => (
                    "set enabled = true for it in the configuration, and restart the node; to see \
                     the rule, run",
                    &rule.show,
                ),
                false => ("switch it on", &rule.switch_on),
            };
            let sentence = format!("the rule {name} is off, so it looks at no message");
            (sentence, remedy, command)
        }
        _ if rule.is_in_force => return None,
        _ => {
            let sentence = format!(
                "the rule {name} is not in force: its team has no tenant of its own, another rule \
                 has its name, or it cannot be read; the log of the node shows the cause"
            );
            (sentence, "correct the rule or its team", &rule.show)
        }
    };
    Some(Finding::advised(Cause::RuleOff, sentence, remedy, command))
}

/// The condition of the rule was true for no message.
fn no_match(rule: &NamedRule) -> Finding {
    let (name, messages) = (&rule.name, messages(rule.counts.messages));
    let devices = devices_in_words(&rule.definition);
    let is_other = rule.counts.other_device == rule.counts.messages;
    match devices.filter(|_| is_other) {
        Some(devices) => unmatched(
            rule,
            format!(
                "the rule {name} has looked at {messages} since the node was started, and none is \
                 of {devices}"
            ),
            OTHER_DEVICE,
        ),
        None => unmatched(
            rule,
            format!(
                "the rule {name} has looked at {messages} since the node was started, and its \
                 condition was true for none{}",
                missing_member(rule)
            ),
            "compare its condition (when) with what is published: martlet rule test tests it on \
             messages",
        ),
    }
}

/// Returns the finding that a rule has failed, and which of its actions has.
fn failing(rule: &NamedRule) -> Option<Finding> {
    let error = rule
        .counts
        .last_error
        .as_ref()
        .filter(|_| rule.counts.errors > 0)?;
    let (name, times) = (&rule.name, times_in_words(rule.counts.errors));
    let error = match &rule.counts.failed_topic {
        Some(topic) => format!("{topic}: {error}"),
        None => error.clone(),
    };
    let (whose, remedy) = match rule.counts.failed_action {
        Some(action) => (
            format!("the action {action} of the rule {name}"),
            format!("correct that action ({action}) of the rule, or what the error names"),
        ),
        None => (
            format!("the rule {name}"),
            "correct the condition (when) or a template of the rule, or what is published"
                .to_owned(),
        ),
    };
    let sentence = match rule.counts.failed_action {
        // Other actions, or the condition, may have failed before.
        Some(_) if rule.counts.errors > 1 => {
            format!("the rule {name} has failed {times}, the last time {whose}: {error}")
        }
        _ => format!("{whose} has failed {times}: {error}"),
    };
    let remedy = format!("{remedy}; to see the rule, run");
    let mut failing = Finding::advised(Cause::RuleFailing, sentence, &remedy, &rule.show);
    failing.last_ms = rule.counts.last_error_ms;
    if rule.counts.is_over {
        failing
            .sentence
            .push_str("; a later message of that topic did not fail");
        (failing.remedy, failing.command) = (None, None);
    }
    Some(failing.of_many(rule.counts.errors))
}

/// How often a member was missing that the condition names, and which one.
fn missing_member(rule: &NamedRule) -> String {
    let Some(missing) = rule
        .counts
        .missing_member
        .as_ref()
        .filter(|_| rule.counts.missing > 0)
    else {
        return String::new();
    };
    let MissingMember {
        name,
        topic,
        others,
    } = missing;
    let count = match rule.counts.missing {
        _ if rule.counts.messages == 1 => "it".to_owned(),
        count if count == rule.counts.messages => "all of them".to_owned(),
        count => format!("{count} of them"),
    };
    let has = match is_previous(name) {
        true => String::new(),
        false => payload_has(name, others),
    };
    let field = missing_field(name);
    format!("; in {count} {field}, which it names, is missing, last on {topic}{has}")
}

/// A Topic Name was asked about that none of its filters matches.
fn topic_missed(asked: &Asked, rule: &NamedRule) -> Option<Finding> {
    let topic = asked.topic_name()?;
    if rule.definition.topics.is_empty()
        || rule
            .definition
            .topics
            .iter()
            .any(|filter| matches(filter, topic))
    {
        return None;
    }
    let sentence = format!(
        "the rule {} does not look at messages of {topic}: its topics are {}{}",
        rule.name,
        rule.definition.topics.join(", "),
        nearest_in_words(&rule.definition.topics, topic)
    );
    let remedy = "publish to a topic that they match, or add the topic to the rule";
    let (cause, show) = (Cause::RuleUnmatched, &rule.show);
    Some(Finding::advised(cause, sentence, remedy, show))
}

/// An earlier rule has kept all messages from it.
fn stopped(rule: &NamedRule) -> Option<Finding> {
    let earlier = rule.counts.stopped_by.as_ref()?;
    let name = &rule.name;
    let messages = messages(rule.counts.stopped);
    let sentence = format!(
        "the rule {name} has looked at no message since the node was started: the rule {earlier} \
         has stopped {messages} before (action stop)"
    );
    let remedy = "remove the action stop of that rule, or move this rule before it: rules are \
                  evaluated in the order of the configuration, then by name";
    Some(unmatched(rule, sentence, remedy))
}

/// Returns the finding that a rule has looked at no value of telemetry.
fn no_value(rule: &NamedRule, key: &str) -> Finding {
    let others = nearest_or_some(key, &rule.other_keys);
    let others = others.map_or_else(String::new, |others| {
        format!("; values of other keys came: {others}")
    });
    let sentence = format!(
        "the rule {} has looked at no value since the node was started: none of the key {} came\
         {others}",
        rule.name,
        printable(key)
    );
    let remedy = "compare the key with those that the device sends, and check that a rule of \
                  telemetry matches its topic";
    unmatched(rule, sentence, remedy)
}

/// Returns the finding that a rule has looked at no message.
fn no_message(asked: &Asked, rule: &NamedRule) -> Finding {
    if let Some(key) = &rule.definition.telemetry {
        return no_value(rule, key);
    }
    let name = &rule.name;
    let looks_at = match rule.definition.topics.is_empty() {
        true => String::new(),
        false => format!(" of its topics ({})", rule.definition.topics.join(", ")),
    };
    let mut latest = asked.unmatched.iter().rev();
    let missed = latest.find(|one| is_nearly_matched(&rule.definition.topics, &one.topic));
    let missed = missed.map_or_else(String::new, |one| {
        let topic = &one.topic;
        format!(
            "; a message was published to {topic}{}",
            nearest_in_words(&rule.definition.topics, topic)
        )
    });
    let sentence = format!(
        "the rule {name} has looked at no message since the node was started: none{looks_at} \
         came{missed}"
    );
    let remedy = "look at what is published, and at what the rule looks at";
    unmatched(rule, sentence, remedy)
}
