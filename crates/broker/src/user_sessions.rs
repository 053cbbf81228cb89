//! How many sessions each user has, of users that may have a limited number of them, whatever their
//! Client Identifiers. Counted for the node, since the shards share a user's sessions.

use std::collections::BTreeMap;
use std::sync::Arc;

use martlet_permission::{Limit, ReachedLimit, Refusal, TenantId};

use crate::connect_request::ConnectingClient;
use crate::node::{Cx, Node};
use crate::shard::Shard;

/// Sessions of users, by tenant and name.
#[derive(Debug, Default)]
pub struct UserSessions(BTreeMap<(TenantId, Arc<str>), u32>);

impl UserSessions {
    /// Counts a session that begins; false if the user has `count_max` already.
    pub fn borrow(&mut self, tenant: TenantId, user_name: &Arc<str>, count_max: u32) -> bool {
        let count = self.0.entry((tenant, Arc::clone(user_name))).or_default();
        let has_room = *count < count_max;
        *count += u32::from(has_room);
        if *count == 0 {
            self.0.remove(&(tenant, Arc::clone(user_name)));
        }
        has_room
    }

    /// Counts a session that has ended.
    pub fn give_back(&mut self, tenant: TenantId, user_name: &Arc<str>) {
        let key = (tenant, Arc::clone(user_name));
        match self.0.get_mut(&key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.0.remove(&key)),
        }
    }
}

impl Shard {
    /// Counts the session that a client is about to have. The session of its Client Identifier, if
    /// it is the same user's, hands its slot on: no other session can get it in between.
    pub(crate) fn take_user_session<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        before: Option<u32>,
        client: &ConnectingClient,
    ) -> Result<(), Refusal> {
        let Some((user_name, count_max)) = counted(client) else {
            return Ok(());
        };
        if let Some(before) = before
            && let Some(permit) = &mut self.sessions.at(before).permit
            && permit.identity.sessions_max > 0
            && permit.identity.user_name.as_ref() == Some(user_name)
        {
            permit.identity.sessions_max = 0;
            return Ok(());
        }
        let tenant = client.login.tenant;
        match cx.node.borrow_user_session(tenant, user_name, count_max) {
            true => Ok(()),
            false => {
                let limit = match client.login.is_applicant() {
                    true => Limit::DiscoveryConnections,
                    false => Limit::UserSessions,
                };
                let value = count_max.into();
                Err(ReachedLimit { limit, value }.refusal().about(&**user_name))
            }
        }
    }

    /// Undoes [`Shard::take_user_session`] for a client that is refused after all.
    pub(crate) fn leave_user_session<N: Node>(
        &mut self,
        cx: &Cx<'_, N>,
        client: &ConnectingClient,
    ) {
        let Some((user_name, count_max)) = counted(client) else {
            return;
        };
        if let Some(before) = self
            .sessions
            .find(client.login.tenant, &client.request.client_id)
            && let Some(permit) = &mut self.sessions.at(before).permit
            && permit.identity.sessions_max == 0
            && permit.identity.user_name.as_ref() == Some(user_name)
        {
            permit.identity.sessions_max = count_max;
            return;
        }
        cx.node.return_user_session(client.login.tenant, user_name);
    }

    /// The session is not its user's any more.
    pub(crate) fn return_user_session<N: Node>(&mut self, cx: &Cx<'_, N>, session: u32) {
        let session = self.sessions.at(session);
        if let Some(permit) = &session.permit
            && permit.identity.sessions_max > 0
            && let Some(user_name) = &permit.identity.user_name
        {
            cx.node.return_user_session(session.tenant, user_name);
        }
    }
}

/// The user whose sessions are counted, and how many there may be; none: they are not.
fn counted(client: &ConnectingClient) -> Option<(&Arc<str>, u32)> {
    let identity = &client.login.permit.as_ref()?.identity;
    let user_name = identity.user_name.as_ref()?;
    (identity.sessions_max > 0).then_some((user_name, identity.sessions_max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_no_more_sessions_than_it_may_and_nothing_is_kept_of_who_has_none() {
        let (mut sessions, tenant) = (UserSessions::default(), TenantId(1));
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        assert!(sessions.borrow(tenant, &a, 2) && sessions.borrow(tenant, &a, 2));
        assert!(!sessions.borrow(tenant, &a, 2));
        assert!(sessions.borrow(tenant, &b, 2) && sessions.borrow(TenantId(0), &a, 2));
        sessions.give_back(tenant, &a);
        assert!(sessions.borrow(tenant, &a, 2) && !sessions.borrow(tenant, &a, 2));
        for (tenant, name) in [(tenant, &a), (tenant, &a), (tenant, &b), (TenantId(0), &a)] {
            sessions.give_back(tenant, name);
        }
        assert!(!sessions.borrow(tenant, &a, 0));
        assert!(sessions.0.is_empty());
    }
}
