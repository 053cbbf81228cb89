//! What rules and integrations publish as a user or device (`publish_as`), and was refused.

use martlet_broker::EventKind;

use super::Finding;
use super::facts::{Facts, OwnNameRule};
use super::found::{Bearing, Found, is_recent};
use super::part_in_words::part_in_words;
use super::side::of_topic;
use crate::cause::Cause;
use crate::journal::Run;

/// What there is to find: of each part and topic the last refusal.
pub(super) fn refused(facts: &Facts, found: &mut Found) {
    let runs = facts.runs_of_parts.iter().rev();
    let refused = runs.filter(|run| {
        let is_publish = run.last.what == EventKind::PublishRefused;
        is_publish && is_recent(facts, run)
    });
    for run in refused {
        let is_over = facts.permitted_now.contains(&run.last.seq);
        let bearing = match &facts.question.topic {
            _ if is_over => Bearing::Over,
            Some(_) if of_topic(facts, run) => Bearing::Topic,
            Some(_) => Bearing::Aside,
            None => Bearing::Happened,
        };
        found.push((bearing, finding(facts, run, is_over)));
    }
}

fn finding(facts: &Facts, run: &Run, is_over: bool) -> Finding {
    let (part, cause) = (&run.last.client_id, run.cause.unwrap_or(Cause::Other));
    let name = &facts.question.name;
    let who = part_in_words(part).unwrap_or_else(|| part.clone());
    let topic = run.last.topic.as_deref().unwrap_or_default();
    let why = run.last.why.as_deref().unwrap_or_else(|| cause.meaning());
    let mut sentence = format!(
        "{who} publishes as {name} (publish_as), and its publish to {topic} was refused: {why}"
    );
    let mut rules = facts.own_name_rules.iter();
    if is_over {
        sentence.push_str("; the rules permit it now");
    } else if let Some((_, rule)) = rules.find(|(seq, _)| *seq == run.last.seq) {
        let OwnNameRule { rule, filter, .. } = rule;
        sentence.push_str(&format!(
            "; {rule} permits {filter}: %c is replaced by the Client Identifier of the publisher, \
             which is {part}"
        ));
    }
    let finding = Finding::new(cause, sentence).when(run);
    if is_over {
        return finding;
    }
    let permit = run.last.remedy.as_deref().unwrap_or_default();
    let or = match permit.is_empty() {
        true => String::new(),
        false => format!("; or {permit}"),
    };
    match &run.last.command {
        // The command is what permits it.
        Some(command) => finding.remedy(permit).command(command),
        None => finding.remedy(format!(
            "have {who} publish as a user whose rules permit it{or}"
        )),
    }
}
