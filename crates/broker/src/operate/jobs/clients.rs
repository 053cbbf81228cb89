//! Sessions to be looked for, and those that were found.

use std::collections::BTreeMap;
use std::sync::Arc;

use martlet_permission::TenantId;

use crate::command::ClientQuery;
use crate::id::SessionId;
use crate::session::Session;

/// Looks for sessions. They come and go between its steps: one that is there all the time is found
/// once.
#[derive(Debug)]
pub(crate) struct ClientScan {
    pub(crate) query: ClientQuery,
    pub(crate) next: u32,
    pub(crate) total: usize,
    /// The first ones behind the cursor. Some of them may end before the scan does.
    pub(crate) found: BTreeMap<(Arc<str>, TenantId), SessionId>,
    /// There are more behind the last key of those.
    pub(crate) more: bool,
}

impl ClientScan {
    pub(crate) fn new(query: ClientQuery) -> Self {
        Self {
            query,
            next: 0,
            total: 0,
            found: BTreeMap::new(),
            more: false,
        }
    }

    /// A session that is asked for.
    pub(crate) fn found(&mut self, session: &Session, id: SessionId) {
        self.total += 1;
        if self
            .query
            .after
            .as_ref()
            .is_some_and(|(client_id, tenant)| {
                (&*session.client_id, session.tenant) <= (client_id, *tenant)
            })
        {
            return;
        }
        if self.found.len() >= self.query.limit {
            self.more = true;
            let is_last = self
                .found
                .last_key_value()
                .is_none_or(|((client_id, tenant), _)| {
                    (&**client_id, *tenant) <= (&*session.client_id, session.tenant)
                });
            if is_last {
                return;
            }
            self.found.pop_last();
        }
        let key = (Arc::clone(&session.client_id), session.tenant);
        self.found.insert(key, id);
    }
}
