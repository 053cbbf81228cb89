//! Names that the tables have while logins are not checked against them, by the node or by the
//! listener of the client.

use super::Finding;
use super::facts::{Facts, IdleInTables};
use super::found::Bearing;
use crate::authentication::Standing;
use crate::cause::Cause;

/// The tables have the name, and the logins of the node or of the client's listener are not checked
/// against them.
pub(super) fn beside_tables(facts: &Facts, mut finding: Finding) -> Finding {
    let name = &facts.question.name;
    if !matches!(finding.cause, Cause::UnknownName | Cause::NobodyKnown) {
        return finding;
    }
    if let Some(idle) = &facts.idle_in_tables {
        finding
            .sentence
            .push_str(&format!("; {}", is_idle(idle, name)));
        finding.command = None;
        return finding.remedy(USE_TABLES);
    }
    let (Some(listeners), Some(what)) = (&facts.listeners_of_tables, &facts.registered_as) else {
        return finding;
    };
    finding.sentence.push_str(&format!(
        "; the {what} {name} is in the tables, and the listener that it connects to has a password \
         file of its own and does not use them"
    ));
    let other = match &finding.command {
        Some(_) => "; or add the name to that file:",
        None => ", or add the name to that file",
    };
    finding.remedy(format!(
        "have the client connect to a listener that uses the tables ({}){other}",
        listeners.join(", ")
    ))
}

/// What to do about tables that nobody is looked up in.
const USE_TABLES: &str = "to check logins against the tables, set auth.registry = \"on\" (with \
                          auth.enabled and auth.order that permit it), and restart the node";

fn is_idle(IdleInTables { what, why }: &IdleInTables, name: &str) -> String {
    format!("the {what} {name} is in the tables, and no login is checked against them: {why}")
}

/// It has not tried, and would not be let in by the tables that have it.
pub(super) fn idle_tables(facts: &Facts) -> Option<(Bearing, Finding)> {
    let idle = facts.idle_in_tables.as_ref()?;
    if matches!(facts.standing, Some(Standing::Known | Standing::Barred(_))) {
        return None;
    }
    let sentence = is_idle(idle, &facts.question.name);
    let finding = Finding::new(Cause::UnknownName, sentence).remedy(USE_TABLES);
    Some((Bearing::Refused, finding))
}
