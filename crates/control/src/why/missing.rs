//! Names that no client has: those of an integration that is not there, or of a part of the
//! program.

use super::Finding;
use super::facts::{Facts, IntegrationMissing, NamedPart};
use crate::cause::Cause;

/// Integrations that are named, at most.
const NAMED: usize = 8;

/// What there is to find, where nothing else has the name.
pub(super) fn named(facts: &Facts) -> Option<Finding> {
    let missing = facts.integration_missing.as_ref();
    missing.map(|one| of_integration(facts, one)).or_else(|| {
        // A name that is spelt nearly so is likelier to be meant.
        let part = facts.named_part.as_ref();
        let part = part.filter(|_| !facts.namesakes.has_suggestions());
        part.map(|one| of_part(facts, one))
    })
}

/// No integration has that name; the finding lists those that exist.
fn of_integration(facts: &Facts, missing: &IntegrationMissing) -> Finding {
    let name = &facts.question.name;
    let mut sentence = format!("this node has no integration {name}");
    let count = match missing.near {
        0 => NAMED,
        near => near.min(NAMED),
    };
    let all = missing.there.iter().take(count);
    let all = all.map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = match missing.there.len().saturating_sub(count) {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    sentence.push_str(&match (missing.near, missing.there.len()) {
        (_, 0) => ", and no other one".to_owned(),
        (0, _) => format!("; it has {all}{more}"),
        _ => format!("; {all} may be meant"),
    });
    let place = match (missing.has_configuration, &facts.restored) {
        (false, Some(_)) => {
            "; it was restored from a backup, which does not contain the configuration file, and \
             was started without one"
        }
        (false, None) => "; it was started without a configuration file",
        (true, Some(_)) => {
            "; it was restored from a backup, which does not contain the configuration file"
        }
        (true, None) => "",
    };
    sentence.push_str(place);
    let remedy = match missing.near {
        0 => {
            "add it to the configuration file, and start the node with that file (martlet serve -c \
             FILE), or add it through the API if it is a bridge or webhook; to list them, run"
        }
        _ => "use the correct name; to list them, run",
    };
    Finding::new(Cause::NobodyKnown, sentence)
        .remedy(remedy)
        .command(&missing.list)
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
    Finding::advised(Cause::NobodyKnown, sentence, &remedy, &part.command)
}
