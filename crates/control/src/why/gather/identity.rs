//! The identity of a client.

use std::net::IpAddr;

use martlet_broker::{ClientDetail, Realm, RefusalCause, TenantId, matches_shown};

use crate::authentication::{Policy, Standing, names_applicant};
use crate::cause::Cause;
use crate::control::{Control, ControlError};
use crate::event_kind::EventKind;
use crate::journal::Run;
use crate::wall_clock::now_ms;
use crate::why::{Asked, Question};

impl Control {
    /// Identifies a client by the tables, its session and its recent connections.
    pub(super) async fn identified(
        &self,
        question: &Question,
        client_id: &str,
        session: Option<&ClientDetail>,
        runs: &[Run],
    ) -> Result<Asked, ControlError> {
        let (tenant, name) = (question.tenant, &*question.name);
        let policy = self.policy();
        let user = session.and_then(|session| session.info.user_name.clone());
        let mut latest = runs
            .iter()
            .rev()
            .filter(|run| matches_shown(&run.last.client_id, client_id));
        let user = user.or_else(|| latest.find_map(|run| run.last.user_name.clone()));
        let proved = user.clone().unwrap_or_else(|| name.to_owned());
        let tables = policy.as_deref().and_then(|policy| policy.tables());
        let known = tables.and_then(|tables| tables.account_kind(tenant.0, name));
        let is_of_another = client_id != name && {
            let whose = self.presence.user_of(tenant, client_id);
            let session = self.session(tenant, client_id).await?;
            let whose = whose.or_else(|| session?.info.user_name);
            whose.is_some_and(|whose| whose != name)
        };
        let presence = self.presence(tenant, client_id);
        let presence = presence.filter(|_| !is_of_another);
        let listener = presence.as_ref().map(|presence| &*presence.listener_url);
        let was_seen = session.is_some() || presence.is_some() || !runs.is_empty();
        let is_anonymous =
            was_seen && user.is_none() && known.is_none() && self.accepts_anonymous(listener);
        let token = tables.and_then(|tables| tables.team_token_named(tenant.0, name));
        // Nothing about a client is shown for the key alone.
        let is_key_alone =
            client_id == name && token.as_ref().is_some_and(|token| !token.is_revoked);
        let realm = policy
            .as_deref()
            .map_or(Realm::of_tenant(tenant), |policy| {
                self.realm_of(policy, tenant, &proved, client_id, listener, runs)
            });
        let standing = policy.as_deref().map(|policy| match is_anonymous {
            true => Standing::Unproved,
            // It registers, under no name of its own.
            false if names_applicant(&proved) => Standing::Unproved,
            false if is_key_alone => Standing::Known,
            false => policy.standing(realm, &proved, client_id),
        });
        let registered_as = match known {
            Some(kind) => Some(kind.word()),
            None if token.is_some() => Some("team token"),
            // A file or the configuration has it.
            None if standing == Some(Standing::Known) && proved == name => Some("user"),
            None => None,
        };
        Ok(Asked {
            question: question.clone(),
            now_ms: now_ms(),
            client_id: client_id.to_owned(),
            is_address: !was_seen
                && known.is_none()
                && question.sees_node
                && name.parse::<IpAddr>().is_ok(),
            add: match &standing {
                Some(Standing::Barred(why)) => self.journal.commands().adding(tenant, why, name),
                _ => None,
            },
            registered_as: registered_as.map(str::to_owned),
            user,
            proved,
            realm,
            standing,
            presence,
            is_of_another,
            ..Asked::default()
        })
    }

    /// The realm in which a client of this name logs in: that of its listener, if that has users of
    /// its own.
    fn realm_of(
        &self,
        policy: &Policy,
        tenant: TenantId,
        name: &str,
        client_id: &str,
        listener: Option<&str>,
        runs: &[Run],
    ) -> Realm {
        let usual = Realm::of_tenant(tenant);
        let facts = self.node_facts();
        let is_own = |realm: Realm| realm != Realm::COMMON && realm.tenant() == tenant;
        let own = facts.listeners.iter().filter(|one| is_own(one.realm));
        let is_known = |realm: Realm| policy.standing(realm, name, client_id) == Standing::Known;
        let is_coming = |run: &&Run| {
            matches!(
                run.last.what,
                EventKind::Connected | EventKind::Refused | EventKind::Disconnected
            )
        };
        let last = runs.iter().rev().find(is_coming);
        let refused = last.filter(|run| run.last.what == EventKind::Refused);
        match refused {
            Some(run) if run.cause == Some(Cause::UnknownName) => {
                let is_beside = run.is_unknown_beside_tables && policy.tables_at(usual).is_some();
                let mut all = own.clone().map(|one| one.realm);
                let known = all.find(|realm| is_known(*realm));
                let found = known.or_else(|| own.clone().next().map(|one| one.realm));
                found.filter(|_| is_beside).unwrap_or(usual)
            }
            _ => {
                let by_url = own.clone().find(|one| Some(&*one.url) == listener);
                let by_url = by_url.map(|one| one.realm).filter(|_| refused.is_none());
                let is_barred = || {
                    let standing = policy.standing(usual, name, client_id);
                    matches!(standing, Standing::Barred(why)
                        if matches!(why.cause, RefusalCause::UnknownUser(_)))
                };
                let known = || {
                    let mut all = own.map(|one| one.realm);
                    all.find(|realm| is_known(*realm)).filter(|_| is_barred())
                };
                by_url.or_else(known).unwrap_or(usual)
            }
        }
    }

    /// A listener lets clients in that have no credentials; where it is not known which one it is,
    /// any does.
    fn accepts_anonymous(&self, url: Option<&str>) -> bool {
        let facts = self.node_facts();
        let mut mqtt = facts.listeners.iter().filter(|one| one.protocol == "mqtt");
        let found = url.and_then(|url| mqtt.clone().find(|one| one.url == url));
        match found {
            Some(listener) => !listener.needs_credentials,
            None => mqtt.any(|one| !one.needs_credentials),
        }
    }
}
