//! Rules about messages, rollouts of firmware and commands that were asked about by name.

use super::Finding;
use super::facts::{Facts, NamedPart, NamedRollout, NamedRule, Removed, RolloutStanding};
use super::found::{messages, times, uncapitalized};
use super::near::{is_nearly_matched, matches, nearest_in_words};
use super::rollout::report_exactly;
use super::rule_on_topic::{
    failed_elsewhere, is_previous, missing_field, nearest_or_some, on_topic, payload_has,
};
use super::{api_key, command, integration, missing, provisioning_key, rule_alarm};
use crate::cause::Cause;
use crate::rfc3339;
use crate::rules::MissingMember;
use crate::text::printable;

/// Findings about the rule, the rollout and the command of the name in the question.
pub(super) fn named(facts: &Facts) -> Vec<Finding> {
    let rule = facts.named_rule.iter();
    let rule = rule.flat_map(|rule| {
        let mut found = with_webhooks(rule, of_rule(facts, rule));
        let over = failing(rule).filter(|_| rule.is_over && rule.is_on && rule.is_in_force);
        found.extend(over);
        found
    });
    let rollout = facts.named_rollout.iter().map(of_rollout);
    let command = facts.named_command.iter();
    let command = command.map(|one| command::of_named(facts.now_ms, one));
    let mut found: Vec<Finding> = rule.chain(rollout).chain(command).collect();
    let key = facts.named_api_key.as_ref();
    let is_revoked = key.is_some_and(|key| key.revoked_ms.is_some());
    if found.is_empty() {
        found.extend(match (&facts.removed, key) {
            (Some(removed), Some(key)) if is_revoked => {
                let finding = of_removed(facts, removed);
                let sentence = format!("{} ({})", finding.sentence, api_key::about(key));
                Some(Finding {
                    sentence,
                    ..finding
                })
            }
            (_, Some(key)) => Some(api_key::of_named(facts.now_ms, key)),
            (removed, None) => {
                let key = facts.named_provisioning_key.as_ref();
                let key = key.filter(|key| removed.is_none() || key.revoked_ms.is_none());
                let of_key = key.map(|key| provisioning_key::of_named(facts.now_ms, key));
                of_key.or_else(|| removed.as_ref().map(|removed| of_removed(facts, removed)))
            }
        });
    }
    if found.is_empty() {
        let missing = facts.integration_missing.as_ref();
        found.extend(missing.map(|one| missing::finding(facts, one)));
    }
    // A name that is spelt nearly so is likelier to be meant.
    if found.is_empty() && !facts.namesakes.has_suggestions() {
        found.extend(facts.named_part.as_ref().map(|one| of_part(facts, one)));
    }
    found
}

/// A word for a part of the program.
fn of_part(facts: &Facts, part: &NamedPart) -> Finding {
    let name = &facts.question.name;
    let sentence = format!(
        "{name} is unknown: no client, device or user has that name, which is the name of a part \
         of Martlet; martlet why explains a client, device or user, an integration, a rule, a \
         rollout or a command"
    );
    let own = part.own_command.map_or_else(String::new, |command| {
        format!("{command} --help shows what can be done with it; ")
    });
    let remedy = match part.is_health {
        true => format!("{own}to see what the node warns about, run"),
        false => format!("{own}give martlet why the name of one of them; to list them, run"),
    };
    advised(Cause::NobodyKnown, sentence, &remedy, &part.command)
}

/// What had the name was removed.
fn of_removed(facts: &Facts, removed: &Removed) -> Finding {
    let name = facts.question.name.as_str();
    let own = match name.split_once('/') {
        Some((_, own)) => own,
        None => name,
    };
    let (what, by) = (&removed.what, &removed.by);
    let sentence = format!(
        "the {what} {own} was removed on {} by {by}",
        rfc3339::in_words(removed.at_ms)
    );
    let mut finding = Finding::new(Cause::Deleted, sentence).since(removed.at_ms);
    finding.command.clone_from(&removed.list);
    finding.remedy("add it again, if it is needed; to list them, run")
}

/// A finding with what helps, and the command for it.
fn advised(cause: Cause, sentence: String, remedy: &str, command: &str) -> Finding {
    Finding::new(cause, sentence)
        .remedy(remedy)
        .command(command)
}

/// What is wrong with the webhooks of a rule that is on is reported first: the rule itself has done
/// its work.
fn with_webhooks(rule: &NamedRule, of_rule: Finding) -> Vec<Finding> {
    let name = &rule.name;
    let sentence = |what: String| {
        move |finding: Finding| Finding {
            sentence: format!("{what}: {}", finding.sentence),
            ..finding
        }
    };
    let webhooks = rule.webhooks.iter().flat_map(integration::of_webhook);
    let has = format!("the rule {name} has a webhook that does not work");
    let takers = rule.takers.iter().flat_map(integration::of_webhook);
    let takes =
        format!("the rule {name} works, but an integration that forwards its messages does not");
    let webhooks = webhooks
        .map(sentence(has))
        .chain(takers.map(sentence(takes)));
    let webhooks: Vec<Finding> = webhooks.collect();
    match of_rule.cause {
        Cause::NothingWrong if !webhooks.is_empty() => webhooks,
        Cause::NothingWrong | Cause::RuleFailing => webhooks.into_iter().chain([of_rule]).collect(),
        _ => std::iter::once(of_rule).chain(webhooks).collect(),
    }
}

fn of_rule(facts: &Facts, rule: &NamedRule) -> Finding {
    let name = &rule.name;
    if !rule.is_on {
        let sentence = format!("the rule {name} is off, so it looks at no message");
        return match rule.is_configured {
            true => advised(
                Cause::RuleOff,
                sentence,
                "set enabled = true for it in the configuration, and restart the node; to see the \
                 rule, run",
                &rule.show,
            ),
            false => advised(Cause::RuleOff, sentence, "switch it on", &rule.switch_on),
        };
    }
    if !rule.is_in_force {
        let sentence = format!(
            "the rule {name} is not in force: its team has no tenant of its own, another rule has \
             its name, or it cannot be read; the log of the node shows the cause"
        );
        let remedy = "correct the rule or its team";
        return advised(Cause::RuleOff, sentence, remedy, &rule.show);
    }
    if let Some(finding) = topic_missed(facts, rule) {
        return finding;
    }
    // All rules of a tenant wait while its integration does.
    let waiting = rule.queue.as_ref();
    if let Some(finding) = waiting.and_then(integration::of_rules) {
        return finding;
    }
    if let Some(finding) = on_topic(facts, rule) {
        return finding;
    }
    if let Some(failing) = failing(rule).filter(|_| !rule.is_over && !failed_elsewhere(facts, rule))
    {
        return failing;
    }
    if let Some(finding) = rule_alarm::unpublished(rule) {
        return finding;
    }
    if let Some(finding) = rule_alarm::inhibited(facts, rule) {
        return finding;
    }
    if rule.messages == 0 {
        return stopped(rule).unwrap_or_else(|| no_message(facts, rule));
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
            return advised(Cause::RuleUnmatched, sentence, remedy, &rule.show);
        }
        let sentence = format!(
            "the rule {name} has looked at {messages} since the node was started, and its \
             condition was true for none{missing}"
        );
        let remedy = "compare its condition (when) with what is published: martlet rule test tests \
                      it on messages; to see the rule, run";
        return advised(Cause::RuleUnmatched, sentence, remedy, &rule.show);
    }
    if let Some(finding) =
        rule_alarm::silent(facts, rule).or_else(|| rule_alarm::waiting(facts, rule))
    {
        return finding;
    }
    let (messages, matched) = (messages(rule.messages), rule.matched);
    let alarms = rule_alarm::active(facts, rule);
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

/// It has failed, and which of its actions has.
fn failing(rule: &NamedRule) -> Option<Finding> {
    let error = rule.last_error.as_ref().filter(|_| rule.errors > 0)?;
    let (name, times) = (&rule.name, times(rule.errors));
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
    let mut failing = advised(Cause::RuleFailing, sentence, &remedy, &rule.show);
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
fn topic_missed(facts: &Facts, rule: &NamedRule) -> Option<Finding> {
    let question = &facts.question;
    let topic = question
        .topic
        .as_deref()
        .filter(|_| !question.is_about_filter())?;
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
    Some(advised(Cause::RuleUnmatched, sentence, remedy, &rule.show))
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
    Some(advised(Cause::RuleUnmatched, sentence, remedy, &rule.show))
}

/// It has looked at no value of telemetry.
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
    advised(Cause::RuleUnmatched, sentence, remedy, &rule.show)
}

/// It has looked at no message.
fn no_message(facts: &Facts, rule: &NamedRule) -> Finding {
    if let Some(key) = &rule.key {
        return no_value(rule, key);
    }
    let name = &rule.name;
    let looks_at = match rule.topics.is_empty() {
        true => String::new(),
        false => format!(" of its topics ({})", rule.topics.join(", ")),
    };
    let mut unmatched = facts.unmatched.iter().rev();
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
    advised(Cause::RuleUnmatched, sentence, remedy, &rule.show)
}

fn of_rollout(rollout: &NamedRollout) -> Finding {
    let (id, devices) = (&rollout.id, &rollout.devices);
    let what = format!("the rollout {id} of {}", rollout.firmware);
    let goes_well = match rollout.standing {
        RolloutStanding::Running => rollout.troubled == 0,
        standing => standing == RolloutStanding::Succeeded,
    };
    let held_up_by = rollout.held_up_by.as_ref();
    let held_up = held_up_by.map_or_else(String::new, |one| {
        format!("; {}: {}", one.device, uncapitalized(&one.why))
    });
    let differs = held_up_by.and_then(|one| one.version.as_deref());
    if let Some(version) = differs.filter(|_| rollout.standing == RolloutStanding::Running) {
        let sentence = format!("{what} is running ({devices}){held_up}");
        let remedy = report_exactly(version);
        return advised(Cause::RolloutWaits, sentence, &remedy, &rollout.list);
    }
    if let Some((device, why)) = rollout.skipped.as_ref().filter(|_| goes_well) {
        let why = uncapitalized(why);
        let sentence = format!("{what} has skipped devices ({devices}), such as {device}: {why}");
        let remedy = "correct that, and begin another rollout (martlet rollout start); to see why \
                      each device was skipped, run";
        return advised(Cause::RolloutFailed, sentence, remedy, &rollout.list);
    }
    match rollout.standing {
        RolloutStanding::Planned => {
            let sentence = format!("{what} has not been started ({devices})");
            advised(Cause::RolloutPaused, sentence, "start it", &rollout.go_on)
        }
        RolloutStanding::Paused(why) => {
            let sentence = format!("{what} is paused: {why} ({devices}){held_up}");
            let remedy = "see why devices are stuck, have those that failed try again (martlet rollout \
                          retry), and resume it";
            advised(Cause::RolloutPaused, sentence, remedy, &rollout.go_on)
        }
        RolloutStanding::Running if rollout.troubled > 0 => {
            let sentence = format!(
                "{what} is running, but some of its devices do not make progress \
                 ({devices}){held_up}"
            );
            let remedy = "to see why each is stuck, run";
            advised(Cause::RolloutWaits, sentence, remedy, &rollout.list)
        }
        RolloutStanding::Aborted => {
            let sentence = format!(
                "{what} was aborted, so the devices that were not updated keep their version ({devices})"
            );
            let remedy = "begin another rollout (martlet rollout start); to list the devices, run";
            advised(Cause::RolloutFailed, sentence, remedy, &rollout.list)
        }
        RolloutStanding::Running => {
            let sentence = format!("{what} is running ({devices}){held_up}");
            Finding::new(Cause::NothingWrong, sentence)
        }
        RolloutStanding::Succeeded => {
            let sentence = format!("{what} has succeeded ({devices})");
            Finding::new(Cause::NothingWrong, sentence)
        }
        RolloutStanding::Ended(word) => {
            let sentence = format!("{what} has ended: {word} ({devices})");
            let remedy = "to see why each device is stuck, run";
            advised(Cause::RolloutFailed, sentence, remedy, &rollout.list)
        }
    }
}
