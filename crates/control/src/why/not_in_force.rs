//! Configuration that is not in force: the last reload failed, or it needs a restart.

use super::facts::Facts;
use super::found::uncapitalized;
use super::{Diagnosis, Finding};
use crate::cause::Cause;

/// Adds a reload that failed, and settings that wait for a restart. A name or a rule that is
/// missing is perhaps in the files that the node could not read: then the reload is the headline.
pub(super) fn with_configuration(facts: &Facts, mut diagnosis: Diagnosis) -> Diagnosis {
    if let Some(pending) = &facts.restart_pending
        && diagnosis.finding.cause == Cause::NobodyKnown
    {
        let finding = &mut diagnosis.finding;
        finding
            .sentence
            .push_str(&format!("; {}", uncapitalized(pending)));
        let otherwise = finding.remedy.take();
        let otherwise = otherwise.map_or_else(String::new, |remedy| format!(". Else {remedy}"));
        let name = &diagnosis.name;
        finding.remedy = Some(format!(
            "if the configuration has {name}, restart the node{otherwise}"
        ));
    }
    if let Some(failure) = &facts.reload_failed {
        let finding = Finding::new(Cause::ReloadFailed, uncapitalized(failure))
            .remedy("correct what the error names; the node reads the file again by itself");
        let is_likely = Cause::ReloadFailed.suppresses(diagnosis.finding.cause);
        match diagnosis.wrong && is_likely {
            true => {
                let other = std::mem::replace(&mut diagnosis.finding, finding);
                diagnosis.also.insert(0, other);
            }
            false => diagnosis.also.push(finding),
        }
    }
    diagnosis
}
