//! Users of a password file in Mosquitto's form.

use std::any::Any;
use std::sync::Arc;

use martlet_access::{Check, PasswordFile};
use martlet_broker::{Authentication, Password, Rules};

use super::{Hashing, People, known};
use crate::authentication::policy::of_kind;
use crate::authentication::{Finding, Looking, Source};

/// A password file, as it was when it was read.
#[derive(Debug)]
pub struct PasswordFileSource {
    /// For logs.
    path: String,
    file: Arc<PasswordFile>,
    people: People,
    hashing: Hashing,
}

impl PasswordFileSource {
    /// The file at `path`, which has been read.
    pub fn new(path: String, file: PasswordFile, people: People, hashing: Hashing) -> Self {
        Self {
            path,
            file: Arc::new(file),
            people,
            hashing,
        }
    }

    async fn find(&self, asked: &Authentication) -> Finding {
        let Some(name) = asked.user_name.clone() else {
            return Finding::Stranger;
        };
        let file = Arc::clone(&self.file);
        let password = asked.password.clone();
        let rules = self.people.rules_of(Some(&name));
        let (found, path) = (known(asked, Arc::clone(&name), rules), self.path.clone());
        self.hashing
            .run(move || {
                let password = password.as_ref().map_or(&[][..], Password::bytes);
                match file.check(&name, password) {
                    Check::Right { .. } => found,
                    Check::Wrong => Finding::Wrong(format!("the password is not that of {path}")),
                    Check::Unknown => Finding::Stranger,
                }
            })
            .await
    }
}

impl Source for PasswordFileSource {
    fn name(&self) -> String {
        format!("the password file {}", self.path)
    }

    fn look<'a>(&'a self, asked: &'a Authentication) -> Looking<'a> {
        Box::pin(self.find(asked))
    }

    fn rules_of(&self, user_name: &str) -> Option<Arc<Rules>> {
        self.file
            .has_user(user_name)
            .then(|| self.people.rules_of(Some(user_name)))
    }

    fn no_longer_valid(&self, next: &[Arc<dyn Source>]) -> Vec<Arc<str>> {
        match of_kind::<Self>(next) {
            Some(newer) => {
                let gone = self.file.no_longer_valid(&newer.file);
                gone.into_iter().map(Arc::from).collect()
            }
            None => self.file.users().map(Arc::from).collect(),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
