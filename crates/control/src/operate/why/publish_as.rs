//! Refusals to parts of the node that publish as a user, such as rules with `publish_as`.

use crate::event_kind::EventKind;

use crate::cause::{Bearing, Cause};
use crate::control::{Control, ControlError};
use crate::integrations::part_in_words;
use crate::journal::Run;
use crate::why::{Asked, Examine, Finding, Findings, OwnNameRule};

/// Parts of the node that publish as the user.
pub(crate) struct PublishAs;

impl Examine for PublishAs {
    /// Rules that permit the same with the own name of the part, by the number of the entry.
    type Facts = Vec<(u64, OwnNameRule)>;

    async fn gather(&self, control: &Control, asked: &Asked) -> Result<Self::Facts, ControlError> {
        let (tenant, user) = (asked.question.tenant, asked.user.as_deref());
        control
            .own_name_rules(tenant, user, &asked.runs_of_parts)
            .await
    }

    fn judge(rules: &Self::Facts, asked: &Asked, findings: &mut Findings) {
        let runs = asked.runs_of_parts.iter().rev();
        let refused = runs.filter(|run| run.last.what == EventKind::PublishRefused);
        for run in refused.filter(|run| asked.is_recent(run.last.at_ms)) {
            let is_over = asked.permitted_now.contains(&run.last.seq);
            let bearing = match &asked.question.topic {
                _ if is_over => Bearing::Over,
                Some(_) if asked.is_of_topic(run) => Bearing::Topic,
                Some(_) => Bearing::Aside,
                None => Bearing::Happened,
            };
            let mut rules = rules.iter();
            let rule = rules.find(|(seq, _)| *seq == run.last.seq);
            let rule = rule.map(|(_, rule)| rule);
            findings.add_as(bearing, refused_to_part(asked, run, rule, is_over));
        }
    }
}

fn refused_to_part(asked: &Asked, run: &Run, rule: Option<&OwnNameRule>, is_over: bool) -> Finding {
    let (part, cause) = (&run.last.client_id, run.cause.unwrap_or(Cause::Other));
    let name = &asked.question.name;
    let who = part_in_words(part).unwrap_or_else(|| part.clone());
    let topic = run.last.topic.as_deref().unwrap_or_default();
    let why = run.last.why.as_deref().unwrap_or_else(|| cause.meaning());
    let and = match rule {
        _ if is_over => "; the rules permit it now".to_owned(),
        Some(OwnNameRule { rule, filter, .. }) => format!(
            "; {rule} permits {filter}: %c is replaced by the Client Identifier of the publisher, \
             which is {part}"
        ),
        None => String::new(),
    };
    let finding = Finding::new(
        cause,
        format!(
            "{who} publishes as {name} (publish_as), and its publish to {topic} was refused: \
             {why}{and}"
        ),
    );
    let finding = finding.when(run);
    let permit = run.last.remedy.as_deref().unwrap_or_default();
    let or = match permit {
        "" => String::new(),
        permit => format!("; or {permit}"),
    };
    match &run.last.command {
        _ if is_over => finding,
        // The command is what permits it.
        Some(command) => finding.remedy(permit).command(command),
        None => finding.remedy(format!(
            "have {who} publish as a user whose rules permit it{or}"
        )),
    }
}
