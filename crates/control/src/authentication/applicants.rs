//! Applicants: clients without credentials of their own. On a listener with `discovery` they may
//! register as devices; on one with `payload_api_key` each of their messages may name its device.
//! What they publish is looked at before it is routed (`martlet_broker::Screening`).

use std::sync::Arc;

use martlet_broker::{
    Actions, Authenticated, Authentication, Discovery, Identity, Realm, Refusal, RefusalCause,
    Rule, Rules,
};
use martlet_codec::ReasonCode;
use martlet_lockout::refused_for;

use super::{AuthenticationChain, Inner, Policy};
use super::{CheckKey, KeyFault};
use crate::wall_clock::now_ms;

/// User name of applicants, as events and lists show it. Behind it and a slash stands the id of the
/// provisioning key, of those that have shown one as password.
pub const APPLICANT: &str = "$discovery";

/// The id of the provisioning key that an applicant of this user name has shown.
pub fn key_of_applicant(user_name: &str) -> Option<&str> {
    user_name.strip_prefix(APPLICANT)?.strip_prefix('/')
}

/// The user name is that of applicants.
pub(crate) fn names_applicant(user_name: &str) -> bool {
    user_name == APPLICANT || key_of_applicant(user_name).is_some()
}

impl AuthenticationChain {
    /// From now on provisioning keys are checked so.
    pub fn check_keys_by(&self, check: CheckKey) {
        // It is set once, at the start.
        let _ = self.0.provisioning_keys.set(check);
    }
}

impl Inner {
    /// A client that shows a provisioning key as its password.
    pub(super) async fn applicant_by_key(
        &self,
        request: &Authentication,
        policy: &Policy,
        last_revocation: u64,
        key: &[u8],
    ) -> Authenticated {
        let failed = |why: &str| {
            let detail = format!("the provisioning key cannot be checked: {why}");
            Authenticated::failed(Refusal::operators_only(RefusalCause::LoginFailed, detail))
        };
        let Some(check) = self.provisioning_keys.get() else {
            return failed("the node is starting");
        };
        let Ok(key) = String::from_utf8(key.to_vec()) else {
            let why = Refusal::operators_only(
                RefusalCause::ProvisioningKey,
                "the provisioning key is not text",
            );
            return refused_for(ReasonCode::BadUserNameOrPassword, why);
        };
        match check(key).await {
            Ok(id) => policy.applicant(request, last_revocation, Some(&id)),
            Err(KeyFault::NotValid(cause, why)) => refused_for(
                ReasonCode::BadUserNameOrPassword,
                Refusal::operators_only(cause, why),
            ),
            Err(KeyFault::Unavailable(why)) => failed(&why),
        }
    }
}

impl Policy {
    /// Whether a client without any credentials is accepted as an applicant.
    pub(super) fn takes_applicants(&self, request: &Authentication) -> bool {
        let discovery = request.listener.discovery.as_ref();
        request.listener.payload_api_key
            || discovery.is_some_and(|discovery| discovery.key_in_payload)
    }

    /// An applicant, with the id of the provisioning key that it has shown, if any.
    pub(super) fn applicant(
        &self,
        request: &Authentication,
        last_revocation: u64,
        key: Option<&str>,
    ) -> Authenticated {
        let user_name = match key {
            None => APPLICANT.to_owned(),
            Some(id) => format!("{APPLICANT}/{id}"),
        };
        let listener = &request.listener;
        let discovery = listener.discovery.as_deref();
        // Old firmware, which shows its key in each message, stays connected.
        let bounds = discovery.filter(|_| key.is_some() || !listener.payload_api_key);
        let may_register = |discovery: &&Discovery| discovery.key_in_payload || key.is_some();
        let ends_ms = |discovery: &Discovery| now_ms() + u64::from(discovery.lasts_secs) * 1000;
        if bounds.is_some_and(|discovery| discovery.connections_max == 0) {
            let cause = RefusalCause::Limit(martlet_broker::Limit::DiscoveryConnections);
            return Authenticated::refused(Refusal::client_visible(cause));
        }
        Authenticated::Accepted {
            identity: Identity {
                tenant: request.realm.tenant(),
                user_name: Some(user_name.into()),
                realm: Realm::OWN_RULES,
                rules: discovery.filter(may_register).map_or_else(
                    || Arc::new(Rules::closed()),
                    |discovery| Arc::new(rules_of(discovery)),
                ),
                sessions_max: bounds.map_or(0, |discovery| discovery.connections_max),
                expires_wall_ms: bounds.map_or(0, ends_ms),
                is_applicant: true,
                ..Identity::anyone()
            },
            last_revocation,
            data: None,
        }
    }
}

/// An applicant may subscribe to where it is answered. What it publishes is looked at one by one.
fn rules_of(discovery: &Discovery) -> Rules {
    let rule = |beginning: &str| Rule {
        actions: Actions::READ,
        allows: true,
        filter: response_topic(beginning, "+").into(),
        source: "the rule for clients that register".into(),
    };
    let topics = discovery.topics.iter().map(AsRef::as_ref);
    let rules = topics.map(rule).collect();
    // The filters are made here.
    Rules::compile(rules, Actions::NONE).unwrap_or_else(|_| Rules::closed())
}

/// The topic on which the registration of `id` is answered; `beginning` is that of the topic on
/// which it was sent.
pub(crate) fn response_topic(beginning: &str, id: &str) -> String {
    let parent = beginning.strip_suffix("register/").unwrap_or(beginning);
    format!("{parent}response/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_is_answered_beside_its_topic() {
        let topic = response_topic("iotflow/discovery/register/", "sensor-9");
        assert_eq!(topic, "iotflow/discovery/response/sensor-9");
        assert_eq!(key_of_applicant("$discovery/k1"), Some("k1"));
        assert_eq!(key_of_applicant("$discovery"), None);
        assert_eq!(key_of_applicant("pump"), None);
    }
}
