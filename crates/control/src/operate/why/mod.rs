//! Refusals, losses and delays for a client while it was connected.
//!
//! * `ended`: connections that end repeatedly
//! * `losses`: messages that were dropped or wait
//! * `others`: other sessions of its user
//! * `publish_as`: parts of the node that publish as a user
//! * `refused`: what was refused

mod ended;
mod losses;
mod others;
mod publish_as;
mod refused;

use crate::control::{Control, ControlError};
use crate::why::{Asked, Examine, Findings};

pub(crate) use losses::SessionFacts;
pub(crate) use others::OtherSessions;
pub(crate) use publish_as::PublishAs;

/// Sessions of clients.
pub(crate) struct Sessions;

impl Examine for Sessions {
    type Facts = SessionFacts;

    async fn gather(&self, control: &Control, asked: &Asked) -> Result<SessionFacts, ControlError> {
        let (tenant, user) = (asked.question.tenant, asked.user.as_deref());
        let filters = asked.filters.iter().map(String::as_str);
        Ok(SessionFacts {
            groups: control.groups_among(tenant, filters).await?,
            own_name_rules: control.own_name_rules(tenant, user, &asked.runs).await?,
        })
    }

    fn judge(facts: &SessionFacts, asked: &Asked, findings: &mut Findings) {
        let found = &mut findings.found;
        for run in asked.runs.iter().rev() {
            if asked.is_recent(run.last.at_ms) {
                found.extend(refused::happened(asked, facts, run));
            }
        }
        if let Some(session) = &asked.session {
            losses::losses(asked, facts, session, found);
        }
    }
}
