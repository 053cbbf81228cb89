//! Whether a client is admitted, and why not.
//!
//! * `account`: what the tables and files have of its name, and how it went
//! * `credential`: its credentials, and those that others show
//! * `names`: names that may be meant by an unknown one
//! * `nameless`: refusals of clients that sent no name, and of an address
//! * `part`: words for parts of the program
//! * `refusal`: what it was refused for, and whether that is over

mod account;
mod credential;
mod facts;
mod gather;
mod nameless;
mod names;
mod part;
mod refusal;

use crate::cause::Bearing;
use crate::control::{Control, ControlError};
use crate::shared_registry::SharedRegistry;
use crate::why::{Asked, Examine, Findings};
pub(crate) use facts::AdmissionFacts;
#[cfg(test)]
pub(crate) use facts::Lockout;
pub(crate) use part::NamedParts;

/// Who is admitted.
pub(crate) struct Admission<'a>(pub(crate) Option<&'a SharedRegistry>);

impl Examine for Admission<'_> {
    type Facts = AdmissionFacts;

    async fn gather(
        &self,
        control: &Control,
        asked: &Asked,
    ) -> Result<AdmissionFacts, ControlError> {
        gather::gathered(control, self.0, asked).await
    }

    fn tell(facts: &AdmissionFacts, asked: &mut Asked) {
        asked.is_deleted = facts.account.deleted.is_some();
        asked.refused = refusal::is_refused_now(asked, facts).cloned();
        asked.is_refused = asked.refused.is_some()
            || asked.not_added().is_some()
            || facts
                .from_address
                .as_ref()
                .is_some_and(|all| !all.is_empty());
        asked.was_cut_off = refusal::was_cut_off(asked, facts);
    }

    fn judge(facts: &AdmissionFacts, asked: &Asked, findings: &mut Findings) {
        if !asked.is_connected {
            findings.unknown = Some(names::unknown(asked, facts));
        }
        findings.evidence.extend(nameless::seen(asked, facts));
        let found = &mut findings.found;
        nameless::from_address(facts, found);
        found.extend(credential::no_api_role(asked, facts));
        let in_two = names::in_two_sources(asked, facts);
        found.extend(in_two.map(|finding| (Bearing::Aside, finding)));
        refusal::admission(asked, facts, found);
    }
}
