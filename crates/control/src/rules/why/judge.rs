//! Why a rule does nothing.

use super::alarm;
use super::facts::NamedRule;
use super::on_topic::{
    failed_elsewhere, is_previous, missing_field, nearest_or_some, on_topic, payload_has,
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
    let over = failing(rule).filter(|_| rule.is_over && rule.is_on && rule.is_in_force);
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
    let name = &rule.name;
    if !rule.is_on {
        let sentence = format!("the rule {name} is off, so it looks at no message");
        return match rule.is_configured {
            true => Finding::advised(
                Cause::RuleOff,
                sentence,
                "set enabled = true for it in the configuration, and restart the node; to see the \
                 rule, run",
                &rule.show,
            ),
            false => Finding::advised(Cause::RuleOff, sentence, "switch it on", &rule.switch_on),
        };
    }
    if !rule.is_in_force {
        let sentence = format!(
            "the rule {name} is not in force: its team has no tenant of its own, another rule has \
             its name, or it cannot be read; the log of the node shows the cause"
        );
        let remedy = "correct the rule or its team";
        return Finding::advised(Cause::RuleOff, sentence, remedy, &rule.show);
    }
    if let Some(finding) = topic_missed(asked, rule) {
        return finding;
    }
    // All rules of a tenant wait while its integration does.
    if let Some(finding) = &rule.queue {
        return finding.clone();
    }
    if let Some(finding) = on_topic(asked, rule) {
        return finding;
    }
    if let Some(failing) = failing(rule).filter(|_| !rule.is_over && !failed_elsewhere(asked, rule))
    {
        return failing;
    }
    if let Some(finding) = alarm::unpublished(rule) {
        return finding;
    }
    if let Some(finding) = alarm::inhibited(asked, rule) {
        return finding;
    }
    if rule.messages == 0 {
        return stopped(rule).unwrap_or_else(|| no_message(asked, rule));
    }
    if rule.matched == 0 {
        let messages = messages(rule.messages);
        let missing = missing_member(rule);
        if let Some(devices) = rule
            .devices
            .as_ref()
            .filter(|_| rule.other_device == rule.messages)
        {
            let sentence = format!(
                "the rule {name} has looked at {messages} since the node was started, and none is \
                 of {devices}"
            );
            let remedy = "correct the rule, or the type or tags of the device; a message belongs \
                          to the device that publishes it, unless `device` of the rule names \
                          another; to see the rule, run";
            return Finding::advised(Cause::RuleUnmatched, sentence, remedy, &rule.show);
        }
        let sentence = format!(
            "the rule {name} has looked at {messages} since the node was started, and its \
             condition was true for none{missing}"
        );
        let remedy = "compare its condition (when) with what is published: martlet rule test tests \
                      it on messages; to see the rule, run";
        return Finding::advised(Cause::RuleUnmatched, sentence, remedy, &rule.show);
    }
    if let Some(finding) = alarm::silent(asked, rule).or_else(|| alarm::waiting(asked, rule)) {
        return finding;
    }
    let (messages, matched) = (messages(rule.messages), rule.matched);
    let alarms = alarm::active(asked, rule);
    if rule.keeps_alarm && rule.condition.is_none() {
        let sentence = format!(
            "the rule {name} is on: it has looked at {messages} since the node was started{alarms}"
        );
        return Finding::new(Cause::NothingWrong, sentence);
    }
    let sentence = format!(
        "the rule {name} is on: it has looked at {messages} since the node was started, and its \
         condition was true for {matched} of them{alarms}"
    );
    Finding::new(Cause::NothingWrong, sentence)
}

/// Returns the finding that a rule has failed, and which of its actions has.
fn failing(rule: &NamedRule) -> Option<Finding> {
    let error = rule.last_error.as_ref().filter(|_| rule.errors > 0)?;
    let (name, times) = (&rule.name, times_in_words(rule.errors));
    let error = match &rule.failed_topic {
        Some(topic) => format!("{topic}: {error}"),
        None => error.clone(),
    };
    let (whose, remedy) = match rule.failed_action {
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
    let sentence = match rule.failed_action {
        // Other actions, or the condition, may have failed before.
        Some(_) if rule.errors > 1 => {
            format!("the rule {name} has failed {times}, the last time {whose}: {error}")
        }
        _ => format!("{whose} has failed {times}: {error}"),
    };
    let remedy = format!("{remedy}; to see the rule, run");
    let mut failing = Finding::advised(Cause::RuleFailing, sentence, &remedy, &rule.show);
    failing.last_ms = rule.last_error_ms;
    if rule.is_over {
        failing
            .sentence
            .push_str("; a later message of that topic did not fail");
        (failing.remedy, failing.command) = (None, None);
    }
    Some(failing.of_many(rule.errors))
}

/// How often a member was missing that the condition names, and which one.
fn missing_member(rule: &NamedRule) -> String {
    let Some(missing) = rule.missing_member.as_ref().filter(|_| rule.missing > 0) else {
        return String::new();
    };
    let MissingMember {
        name,
        topic,
        others,
    } = missing;
    let count = match rule.missing {
        _ if rule.messages == 1 => "it".to_owned(),
        count if count == rule.messages => "all of them".to_owned(),
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
    if rule.topics.is_empty() || rule.topics.iter().any(|filter| matches(filter, topic)) {
        return None;
    }
    let sentence = format!(
        "the rule {} does not look at messages of {topic}: its topics are {}{}",
        rule.name,
        rule.topics.join(", "),
        nearest_in_words(&rule.topics, topic)
    );
    let remedy = "publish to a topic that they match, or add the topic to the rule";
    Some(Finding::advised(
        Cause::RuleUnmatched,
        sentence,
        remedy,
        &rule.show,
    ))
}

/// An earlier rule has kept all messages from it.
fn stopped(rule: &NamedRule) -> Option<Finding> {
    let earlier = rule.stopped_by.as_ref()?;
    let name = &rule.name;
    let messages = messages(rule.stopped);
    let sentence = format!(
        "the rule {name} has looked at no message since the node was started: the rule {earlier} \
         has stopped {messages} before (action stop)"
    );
    let remedy = "remove the action stop of that rule, or move this rule before it: rules are \
                  evaluated in the order of the configuration, then by name; to see the rule, run";
    Some(Finding::advised(
        Cause::RuleUnmatched,
        sentence,
        remedy,
        &rule.show,
    ))
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
                  telemetry matches its topic; to see the rule, run";
    Finding::advised(Cause::RuleUnmatched, sentence, remedy, &rule.show)
}

/// Returns the finding that a rule has looked at no message.
fn no_message(asked: &Asked, rule: &NamedRule) -> Finding {
    if let Some(key) = &rule.key {
        return no_value(rule, key);
    }
    let name = &rule.name;
    let looks_at = match rule.topics.is_empty() {
        true => String::new(),
        false => format!(" of its topics ({})", rule.topics.join(", ")),
    };
    let mut unmatched = asked.unmatched.iter().rev();
    let missed = unmatched.find(|one| is_nearly_matched(&rule.topics, &one.topic));
    let missed = missed.map_or_else(String::new, |one| {
        let topic = &one.topic;
        format!(
            "; a message was published to {topic}{}",
            nearest_in_words(&rule.topics, topic)
        )
    });
    let sentence = format!(
        "the rule {name} has looked at no message since the node was started: none{looks_at} \
         came{missed}"
    );
    let remedy = "look at what is published, and at what the rule looks at; to see the rule, run";
    Finding::advised(Cause::RuleUnmatched, sentence, remedy, &rule.show)
}
