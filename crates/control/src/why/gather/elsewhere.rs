//! A client of another tenant that has the name that was asked about.

use martlet_broker::{ClientQuery, Search};

use crate::control::{Control, ControlError};
use crate::why::Question;

/// Sessions whose Client Identifiers begin with the name that are looked at, at most.
const LOOKED_AT: usize = 64;

impl Control {
    /// The command that asks about a connected client of another tenant with this Client
    /// Identifier; none where there is none, or the caller sees one team alone.
    pub(super) async fn client_elsewhere(
        &self,
        question: &Question,
    ) -> Result<Option<String>, ControlError> {
        if !question.sees_node {
            return Ok(None);
        }
        let query = ClientQuery {
            search: Some(Search {
                text: question.name.as_str().into(),
                anywhere: false,
            }),
            connected: Some(true),
            limit: LOOKED_AT,
            ..ClientQuery::default()
        };
        let found = self.clients(&query).await?.clients;
        let mut others = found
            .iter()
            .filter(|one| *one.client_id == *question.name && one.tenant != question.tenant);
        Ok(others.find_map(|one| self.journal.asking_why(one.tenant, &question.name)))
    }
}
