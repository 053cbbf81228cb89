//! Users whose passwords stand in the configuration: `MQTT_BROKER_CREDENTIALS`.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use martlet_access::Credential;
use martlet_access::scram::Verifier;
use martlet_broker::{Authentication, Identity, Password, Rules};

use super::{People, known};
use crate::authentication::{Finding, Looking, ScramUser, Source};

/// The list of the configuration.
#[derive(Debug)]
pub struct Credentials {
    users: Vec<Credential>,
    /// Of each user's password, made when it is first wanted: it takes some milliseconds.
    verifiers: Vec<OnceLock<Verifier>>,
    people: People,
}

impl Credentials {
    /// A list of users with their passwords.
    pub fn new(users: Vec<Credential>, people: People) -> Self {
        let verifiers = users.iter().map(|_| OnceLock::new()).collect();
        Self {
            users,
            verifiers,
            people,
        }
    }

    fn user(&self, name: &str) -> Option<&Credential> {
        self.users.iter().find(|user| *user.user_name == *name)
    }

    fn verifier(&self, name: &str) -> Option<&Verifier> {
        let index = self
            .users
            .iter()
            .position(|user| *user.user_name == *name)?;
        let made = self.verifiers.get(index)?;
        if made.get().is_none() {
            // Who was quicker has made it as well.
            let _ = made.set(self.users[index].verifier().ok()?);
        }
        made.get()
    }

    fn find(&self, asked: &Authentication) -> Finding {
        let Some(name) = &asked.user_name else {
            return Finding::Stranger;
        };
        let Some(user) = self.user(name) else {
            return Finding::Stranger;
        };
        let password = asked.password.as_ref().map_or(&[][..], Password::bytes);
        match user.has_password(password) {
            true => known(asked, Arc::clone(name), self.people.rules_of(Some(name))),
            false => Finding::Wrong("the password is not that of auth.credentials".to_owned()),
        }
    }
}

impl Source for Credentials {
    fn name(&self) -> String {
        "auth.credentials".to_owned()
    }

    fn look<'a>(&'a self, asked: &'a Authentication) -> Looking<'a> {
        Box::pin(std::future::ready(self.find(asked)))
    }

    fn scram(&self, user_name: &str) -> ScramUser {
        if self.user(user_name).is_none() {
            return ScramUser::Unknown;
        }
        let Some(verifier) = self.verifier(user_name) else {
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

    fn no_longer_valid(&self, newer: &dyn Source) -> Vec<Arc<str>> {
        let Some(newer) = newer.as_any().downcast_ref::<Self>() else {
            return Vec::new();
        };
        let is_gone = |user: &&Credential| {
            let now = newer.user(&user.user_name);
            now.is_none_or(|now| !now.is_same(user))
        };
        let gone = self.users.iter().filter(is_gone);
        gone.map(|user| Arc::from(&*user.user_name)).collect()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
