//! Facts about the session of a client.

use martlet_broker::GroupDetail;

use crate::why::OwnNameRule;

/// Facts about the session of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionFacts {
    /// The share groups that it is a member of.
    pub(crate) groups: Vec<GroupDetail>,
    /// The rule that permits the same with the client's own name, by the number of the entry about
    /// what rules forbade.
    pub(crate) own_name_rules: Vec<(u64, OwnNameRule)>,
}
