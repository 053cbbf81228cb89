//! Users whose passwords stand in the configuration: `MQTT_BROKER_CREDENTIALS`.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use martlet_access::Credential;
use martlet_access::scram::Verifier;
use martlet_broker::{
    Authentication, Identity, Password, PasswordSource, Refusal, RefusalCause, RevokedClients,
    Rules,
};

use super::{People, known, user};
use crate::authentication::policy::of_kind;
use crate::authentication::{CredentialSource, Looking, LookupResult, ScramUser, SlotRequest};

/// The list of the configuration.
#[derive(Debug)]
pub struct Credentials {
    users: Vec<Credential>,
    /// The key or the variable that has it.
    place: String,
    /// Verifiers of all users' passwords, some milliseconds each. They are computed when the first
    /// one is needed, so that the time does not show which names exist.
    verifiers: OnceLock<Vec<Option<Verifier>>>,
    people: People,
}

impl Credentials {
    /// A list of users with their passwords. `place` is the key or the variable that has it.
    pub fn new(users: Vec<Credential>, place: String, people: People) -> Self {
        Self {
            users,
            place,
            verifiers: OnceLock::new(),
            people,
        }
    }

    fn user(&self, name: &str) -> Option<&Credential> {
        self.users.iter().find(|user| *user.user_name == *name)
    }

    fn find(&self, request: &Authentication) -> LookupResult {
        let Some(name) = &request.user_name else {
            return LookupResult::Stranger;
        };
        let Some(user) = self.user(name) else {
            return LookupResult::Stranger;
        };
        let password = request.password.as_ref().map_or(&[][..], Password::bytes);
        match user.has_password(password) {
            true => known(request, Arc::clone(name), self.people.rules_of(Some(name))),
            false => {
                let cause = RefusalCause::WrongPassword(PasswordSource::Configuration);
                let detail = format!("wrong password, according to {}", self.place);
                LookupResult::Wrong(Refusal::operators_only(cause, detail))
            }
        }
    }
}

impl CredentialSource for Credentials {
    fn name(&self) -> String {
        self.place.clone()
    }

    fn look<'a>(&'a self, request: &'a Authentication, _: &'a SlotRequest) -> Looking<'a> {
        Box::pin(std::future::ready(self.find(request)))
    }

    fn scram(&self, user_name: &str, _: &str) -> ScramUser {
        let make = || self.users.iter().map(|user| user.verifier().ok());
        let verifiers = self.verifiers.get_or_init(|| make().collect());
        let mut all = self.users.iter().zip(verifiers);
        let Some((_, verifier)) = all.find(|(user, _)| *user.user_name == *user_name) else {
            return ScramUser::Unknown;
        };
        let Some(verifier) = verifier else {
            return ScramUser::WithoutVerifier;
        };
        let identity = Identity {
            user_name: Some(user_name.into()),
            rules: self.people.rules_of(Some(user_name)),
            bound: true,
            ..Identity::anyone()
        };
        ScramUser::Known(verifier.clone(), identity)
    }

    fn rules_of(&self, user_name: &str) -> Option<Arc<Rules>> {
        self.user(user_name)
            .map(|_| self.people.rules_of(Some(user_name)))
    }

    fn no_longer_valid(&self, next: &[Arc<dyn CredentialSource>]) -> Vec<RevokedClients> {
        let newer = of_kind::<Self>(next);
        let is_removed = |user: &&Credential| {
            let now = newer.and_then(|newer| newer.user(&user.user_name));
            now.is_none_or(|now| !now.is_same(user))
        };
        let removed = self.users.iter().filter(is_removed);
        removed.map(|removed| user(&removed.user_name)).collect()
    }

    fn users(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.users.iter().map(|user| &*user.user_name))
    }

    fn has_user(&self, user_name: &str) -> bool {
        self.user(user_name).is_some()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
