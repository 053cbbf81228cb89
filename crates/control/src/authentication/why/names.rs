//! Names that may be meant by another one: a device that was moved to a team, a device, user, rule
//! or key with a similar name, a client of another tenant, or a name that the tables have while
//! logins are not checked against them.

use super::facts::{AdmissionFacts, Namesakes, RefusedElsewhere};
use crate::authentication::Standing;
use crate::cause::{Bearing, Cause};
use crate::text::{typed, typed_names};
use crate::why::{Asked, Finding};

/// An unknown name may be a misspelt name, or one that was used before.
pub(super) fn with_namesakes(
    asked: &Asked,
    facts: &AdmissionFacts,
    mut finding: Finding,
) -> Finding {
    if finding.cause == Cause::WrongClientId && facts.by_team_token {
        return meant(facts.namesakes.near.iter(), finding);
    }
    if !matches!(
        finding.cause,
        Cause::UnknownName | Cause::NobodyKnown | Cause::Deleted
    ) {
        return finding;
    }
    let Namesakes {
        elsewhere,
        near,
        client_elsewhere,
        refused_elsewhere,
    } = &facts.namesakes;
    let deleted = &facts.account.deleted_with_teams;
    let name = &asked.question.name;
    if let Some(command) = client_elsewhere {
        finding.sentence.push_str(&format!(
            "; a client with the Client Identifier {name} is connected in another tenant"
        ));
        return finding
            .remedy("ask about the client of that tenant")
            .command(command);
    }
    if !elsewhere.is_empty() {
        return of_other_tenant(finding, name, elsewhere);
    }
    if let Some(refused) = refused_elsewhere
        && finding.cause == Cause::NobodyKnown
    {
        return of_refused_elsewhere(name, refused);
    }
    if !deleted.is_empty() {
        finding.command = None;
        let remedy = format!(
            "a device {name} belonged to a deleted team: ask why {} does not work, and restore the \
             team",
            deleted.join(" or ")
        );
        return finding.remedy(remedy);
    }
    if finding.cause == Cause::Deleted {
        return finding;
    }
    // An address is not the name of a device.
    if let (None, Some(add), false) = (&finding.remedy, &asked.add, asked.is_address) {
        finding = finding.with_remedy(add.clone());
    }
    meant(near.iter().chain(&asked.near_of_kind), finding)
}

/// Nothing is known of a client of that name.
pub(super) fn unknown(asked: &Asked, facts: &AdmissionFacts) -> Finding {
    let sentence = format!(
        "{} is unknown: it is not a device or user, has no session, and has not tried to connect \
         since the node was started",
        asked.question.name
    );
    let finding = Finding::new(Cause::NobodyKnown, sentence).remedy(
        "check the name: martlet device ls, martlet user ls, martlet client ls, martlet \
         integration ls, martlet rule ls, martlet rollout ls, martlet command ls",
    );
    with_namesakes(asked, facts, finding)
}

/// The name is unknown. It may be that of a rule in a configuration file that the node was not
/// started with.
pub(super) fn or_of_configuration(
    asked: &Asked,
    facts: &AdmissionFacts,
    mut finding: Finding,
) -> Finding {
    let is_of_nobody = finding.cause == Cause::NobodyKnown
        && facts.namesakes.near.is_empty()
        && asked.near_of_kind.is_empty();
    if let Some(remedy) = &mut finding.remedy
        && is_of_nobody
        && facts.has_no_configuration
    {
        const START: &str = "if it is a rule of a configuration file, start the node with that file \
                             (martlet serve -c FILE)";
        // The command follows the last clause.
        *remedy = match remedy.rsplit_once("; ") {
            Some((first, last)) if finding.command.is_some() => {
                format!("{first}; {START}; {last}")
            }
            _ => format!("{remedy}; {START}"),
        };
    }
    finding
}

/// The Client Identifier is that of a client that was refused in another tenant.
fn of_refused_elsewhere(name: &str, refused: &RefusedElsewhere) -> Finding {
    let RefusedElsewhere { run, tenant, near } = refused;
    let finding = Finding::of_run(run, run.cause.unwrap_or(Cause::Other));
    let sentence = format!(
        "a client with the Client Identifier {name} was refused in {tenant}: {}",
        finding.sentence
    );
    meant(
        near.iter(),
        Finding {
            sentence,
            ..finding
        },
    )
}

/// With the names that may be meant, if there are some.
fn meant<'a>(near: impl Iterator<Item = &'a String>, finding: Finding) -> Finding {
    let near: Vec<&str> = near.map(String::as_str).collect();
    match near.is_empty() {
        true => finding,
        false => finding.try_first(&format!("did you mean {}?", near.join(", "))),
    }
}

/// With the client that was refused with nearly the id of the device.
pub(super) fn with_near_refused(
    asked: &Asked,
    facts: &AdmissionFacts,
    mut finding: Finding,
) -> Finding {
    let near = facts.near_refused.as_ref();
    let Some(entry) = near.filter(|entry| asked.is_recent(entry.at_ms)) else {
        return finding;
    };
    let (name, client_id) = (&asked.question.name, &entry.client_id);
    let why = entry.why.as_deref().unwrap_or_default();
    finding.sentence.push_str(&format!(
        "; a client with the Client Identifier {client_id} was refused: {why}"
    ));
    finding.last_ms = Some(entry.at_ms);
    finding.try_first(&format!(
        "if that is the device, set its Client Identifier to {name}"
    ))
}

/// The name is that of a device of another tenant, which comes with one of these User Names.
pub(super) fn of_other_tenant(mut finding: Finding, name: &str, user_names: &[String]) -> Finding {
    let names = user_names.join(" or ");
    finding.command = None;
    finding.sentence.push_str(&format!(
        "; the device {name} belongs to another tenant, where its User Name is {names}"
    ));
    finding.remedy(format!(
        "the device {name} belongs to another tenant: set the User Name of the client to {names} \
         (its Client Identifier stays {name})"
    ))
}

/// The tables have the name, and the logins of the node or of the client's listener are not checked
/// against them.
pub(super) fn beside_tables(
    asked: &Asked,
    facts: &AdmissionFacts,
    mut finding: Finding,
) -> Finding {
    let name = &asked.question.name;
    if !matches!(finding.cause, Cause::UnknownName | Cause::NobodyKnown) {
        return finding;
    }
    if let Some(idle) = is_idle(asked, facts) {
        finding.sentence.push_str(&format!("; {idle}"));
        finding.command = None;
        return finding.remedy(USE_TABLES);
    }
    let (Some(listeners), Some(what)) = (&facts.listeners_of_tables, &asked.registered_as) else {
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

/// The name is in the tables and in a password file, which its refusal does not say already.
pub(super) fn in_two_sources(asked: &Asked, facts: &AdmissionFacts) -> Option<Finding> {
    let file = facts.in_file.as_ref()?;
    let refused = asked.refused.as_ref().and_then(|run| run.cause);
    if refused == Some(Cause::WrongPassword) || facts.account.deleted.is_some() {
        return None;
    }
    let decides = match file.is_behind {
        true => "the tables decide",
        false => "the file decides",
    };
    let (name, path) = (&asked.proved, &file.path);
    let sentence = format!("{name} is in the tables and in the password file {path}: {decides}");
    let finding = Finding::new(Cause::NothingWrong, sentence);
    Some(finding.remedy(format!(
        "if one of both is left over, remove it: in the file by martlet user rm --file={} {}, in \
         the tables by {}",
        typed(path),
        typed_names(&[name]),
        file.purge.as_deref().unwrap_or_default()
    )))
}

/// Remedy for tables that nobody is looked up in.
const USE_TABLES: &str = "to check logins against the tables, set auth.registry = \"on\" (with \
                          auth.enabled and auth.order that permit it), and restart the node";

fn is_idle(asked: &Asked, facts: &AdmissionFacts) -> Option<String> {
    let ((what, why), name) = (facts.idle.as_ref()?, &asked.question.name);
    Some(format!(
        "the {what} {name} is in the tables, and no login is checked against them: {why}"
    ))
}

/// The client has not tried, and would not be accepted by the tables that have it.
pub(super) fn idle_tables(asked: &Asked, facts: &AdmissionFacts) -> Option<(Bearing, Finding)> {
    let sentence = is_idle(asked, facts)?;
    if matches!(asked.standing, Some(Standing::Known | Standing::Barred(_))) {
        return None;
    }
    let finding = Finding::new(Cause::UnknownName, sentence).remedy(USE_TABLES);
    Some((Bearing::Refused, finding))
}
