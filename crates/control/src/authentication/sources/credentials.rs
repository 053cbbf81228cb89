//! Users whose passwords stand in the configuration: `MQTT_BROKER_CREDENTIALS`.

use std::any::Any;
use std::sync::Arc;

use martlet_access::Credential;
use martlet_broker::{Authentication, Password, Rules};

use super::{People, known};
use crate::authentication::policy::of_kind;
use crate::authentication::{Finding, Looking, Source};

/// The list of the configuration.
#[derive(Debug)]
pub struct Credentials {
    users: Vec<Credential>,
    people: People,
}

impl Credentials {
    /// A list of users with their passwords.
    pub fn new(users: Vec<Credential>, people: People) -> Self {
        Self { users, people }
    }

    fn user(&self, name: &str) -> Option<&Credential> {
        self.users.iter().find(|user| *user.user_name == *name)
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

    fn rules_of(&self, user_name: &str) -> Option<Arc<Rules>> {
        self.user(user_name)
            .map(|_| self.people.rules_of(Some(user_name)))
    }

    fn no_longer_valid(&self, next: &[Arc<dyn Source>]) -> Vec<Arc<str>> {
        let newer = of_kind::<Self>(next);
        let is_gone = |user: &&Credential| {
            let now = newer.and_then(|newer| newer.user(&user.user_name));
            now.is_none_or(|now| !now.is_same(user))
        };
        let gone = self.users.iter().filter(is_gone);
        gone.map(|user| Arc::from(&*user.user_name)).collect()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
