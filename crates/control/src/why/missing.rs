//! An integration that was asked about by its kind and name, and that is not there. No client has
//! such a name.

use super::Finding;
use super::facts::{Facts, IntegrationMissing};
use crate::cause::Cause;

/// Integrations that are named, at most.
const NAMED: usize = 8;

/// No integration has that name; the finding lists those that exist.
pub(super) fn finding(facts: &Facts, missing: &IntegrationMissing) -> Finding {
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
