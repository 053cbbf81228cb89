//! Authentication of clients of other brokers, by HTTP. It uses the same chain without the hook,
//! since the hook may be the program that asks. Also what the chain is to forget.

use std::sync::Arc;
use std::time::Instant;

use martlet_broker::{
    Authenticated, Authentication, ConnectionId, Identity, ListenerPolicy, LoginWaiter, Realm,
    Refusal, RefusalCause, TenantId,
};
use martlet_codec::{ProtocolVersion, ReasonCode};
use martlet_lockout::{LoginAttempt, refused_for};
use martlet_registry::LoginNumbers;

use super::policy::SourceSelection;
use super::slots::SlotRequest;
use super::{AuthenticationChain, Policy};

/// Whether the client of another broker is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// The client is accepted.
    Accepted(LoginNumbers),
    /// The client is not accepted.
    Refused,
    /// The decision cannot be made now.
    Failed(String),
}

impl AuthenticationChain {
    /// Whether a client of another broker is accepted, with this Client Identifier, User Name and
    /// Password. Wrong ones count for the lockout of the name: where the client comes from is not
    /// known here.
    pub async fn check_elsewhere(
        &self,
        client_id: &str,
        user_name: &str,
        password: &str,
    ) -> Elsewhere {
        let policy = self.policy();
        let mut request = Authentication {
            connection: ConnectionId {
                index: 0,
                generation: 0,
            },
            listener: Arc::new(ListenerPolicy {
                name: "http".to_owned(),
                authenticate: true,
                allow_anonymous: false,
                ..ListenerPolicy::default()
            }),
            realm: Realm::COMMON,
            address: None,
            version: ProtocolVersion::V5,
            client_id: client_id.into(),
            user_name: Some(user_name.into()),
            password: Some(password.as_bytes().into()),
            certificate: None,
            waiter: LoginWaiter::default(),
            step: None,
        };
        policy.settle_tenant(&mut request);
        let found = self.settle_elsewhere(&request, &policy).await;
        match found {
            Authenticated::Accepted { identity, .. } => {
                Elsewhere::Accepted(numbers_of(&policy, &request, &identity))
            }
            Authenticated::Refused {
                reason: ReasonCode::ServerUnavailable,
                why,
                ..
            } => Elsewhere::Failed(why.detail().to_owned()),
            Authenticated::Refused { .. } | Authenticated::Continue { .. } => Elsewhere::Refused,
        }
    }

    async fn settle_elsewhere(
        &self,
        request: &Authentication,
        policy: &Arc<Policy>,
    ) -> Authenticated {
        let name = request.user_name.as_deref();
        if let Some(why) = policy.banned(request.realm.tenant(), &request.client_id, name, None) {
            return refused_for(ReasonCode::Banned, why);
        }
        let attempt = LoginAttempt {
            realm: request.realm,
            address: None,
            user_name: request.user_name.clone(),
            is_proved: false,
        };
        let (known, slot_request) = {
            let state = self.0.lock();
            if let Some(why) = state.failures.refusal(&attempt, Instant::now()) {
                return refused_for(ReasonCode::ConnectionRateExceeded, why);
            }
            (state.revoked, SlotRequest::of(&state.failures, &attempt))
        };
        let decided = (SourceSelection::OwnSources, known);
        let (found, _) = self
            .0
            .find_out(request, policy, decided, &attempt, &slot_request)
            .await;
        // Revoked while it was looked for.
        match Arc::ptr_eq(policy, &self.policy()) || self.0.lock().revoked == known {
            true => found,
            false => {
                let detail = "its credentials were changed in the meantime";
                Authenticated::failed(Refusal::operators_only(RefusalCause::LoginFailed, detail))
            }
        }
    }

    /// Forgets what was verified of the clients with this User Name and Client Identifier, of one
    /// tenant alone if one is given: the next one is looked for again. Connections stay. Returns
    /// the number of answers that were remembered.
    pub fn forget(&self, tenant: Option<TenantId>, user_name: &str, client_id: &str) -> usize {
        let policy = self.policy();
        let realms = policy.realms.keys().chain([&Realm::COMMON]);
        let is_seen = |realm: &Realm| tenant.is_none_or(|tenant| realm.tenant() == tenant);
        let mut clients: Vec<_> = { realms }
            .flat_map(|realm| [(*realm, user_name), policy.tenant_of(*realm, user_name)])
            .filter(|(realm, _)| is_seen(realm))
            .map(|(realm, name)| self.client_mark(realm, Some(name), client_id))
            .collect();
        clients.sort_unstable();
        clients.dedup();
        let mut state = self.0.lock();
        for asking in state.asking.values_mut() {
            asking.is_forgotten |= clients.contains(&asking.client);
        }
        state.verified.forget_clients(&clients)
    }
}

/// The numbers of an accepted client.
fn numbers_of(policy: &Policy, request: &Authentication, identity: &Identity) -> LoginNumbers {
    let shown = request.user_name.as_deref().unwrap_or_default();
    let name = identity.user_name.as_deref().unwrap_or_default();
    let tables = policy.tables();
    tables.map_or_else(LoginNumbers::default, |tables| {
        tables.login_numbers(identity.tenant.0, shown, name)
    })
}
