//! Users of a password file in Mosquitto's form.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use martlet_access::{Check, PasswordFile, edit};
use martlet_broker::{
    Authentication, Password, PasswordSource, Refusal, RefusalCause, RevokedClients, Rules,
};

use super::{Hashing, People, known, user};
use crate::authentication::policy::of_kind;
use crate::authentication::{CredentialSource, Looking, LookupResult, Pretending, SlotRequest};

/// A password file, as it was when it was read.
#[derive(Debug)]
pub struct PasswordFileSource {
    /// For logs.
    path: String,
    file: Arc<PasswordFile>,
    people: People,
    hashing: Hashing,
    /// Hashes weaker than today's are replaced when their users come.
    renews: bool,
}

impl PasswordFileSource {
    /// The file at `path`, which has been read.
    pub fn new(path: String, file: PasswordFile, people: People, hashing: Hashing) -> Self {
        Self {
            path,
            file: Arc::new(file),
            people,
            hashing,
            renews: false,
        }
    }

    /// Whether the file is changed when a user comes whose hash is weaker than today's: the same
    /// password gets a stronger one. At first it is not.
    #[must_use]
    pub fn renewing(self, renews: bool) -> Self {
        Self { renews, ..self }
    }

    async fn find(&self, request: &Authentication, slot_request: &SlotRequest) -> LookupResult {
        let name = request.user_name.clone();
        let Some(name) = name.filter(|name| self.file.has_user(name)) else {
            return LookupResult::Stranger;
        };
        let file = Arc::clone(&self.file);
        let password = request.password.clone();
        let rules = self.people.rules_of(Some(&name));
        let (found, path) = (known(request, Arc::clone(&name), rules), self.path.clone());
        let bytes = request.password.as_ref().map_or(&[][..], Password::bytes);
        let proof = file.hash_of(&name);
        let proof = proof.map(|hash| self.hashing.proof(&name, &hash, bytes));
        if proof.is_some_and(|proof| self.hashing.is_known(&proof)) {
            return found;
        }
        let (hashing, renews) = (self.hashing.clone(), self.renews);
        self.hashing
            .run(slot_request, move || {
                let password = password.as_ref().map_or(&[][..], Password::bytes);
                match file.check(&name, password) {
                    Check::Right { renew: is_weak } => {
                        if is_weak && renews {
                            renew(&hashing, &path, &name, &file, password);
                        }
                        proof.into_iter().for_each(|proof| hashing.remember(proof));
                        found
                    }
                    Check::Wrong => {
                        let cause = RefusalCause::WrongPassword(PasswordSource::File);
                        let detail = format!("wrong password, according to {path}");
                        LookupResult::Wrong(Refusal::operators_only(cause, detail).about(path))
                    }
                    Check::Unknown => LookupResult::Stranger,
                }
            })
            .await
    }
}

/// The client is accepted whether this succeeds or not.
fn renew(hashing: &Hashing, path: &str, name: &str, file: &PasswordFile, password: &[u8]) {
    let Some(older) = file.hash_of(name) else {
        return;
    };
    match edit::renew(Path::new(path), name, &older, password) {
        Ok(Some(newer)) => {
            hashing.renewed(older, newer);
            tracing::info!(
                user_name = name,
                "a password was hashed again with a stronger algorithm"
            );
        }
        // It has been changed meanwhile.
        Ok(None) => {}
        Err(error) => tracing::warn!(user_name = name, %error, "a weak hash could not be renewed"),
    }
}

impl CredentialSource for PasswordFileSource {
    fn name(&self) -> String {
        format!("the password file {}", self.path)
    }

    fn password_file(&self) -> Option<String> {
        Some(self.path.clone())
    }

    fn look<'a>(
        &'a self,
        request: &'a Authentication,
        slot_request: &'a SlotRequest,
    ) -> Looking<'a> {
        Box::pin(self.find(request, slot_request))
    }

    fn pretend<'a>(
        &'a self,
        request: &'a Authentication,
        slot_request: &'a SlotRequest,
    ) -> Option<Pretending<'a>> {
        self.file.users().next()?;
        let file = Arc::clone(&self.file);
        let pretend = move |password: &[u8]| file.pretend(password);
        Some(self.hashing.pretend(request, slot_request, pretend))
    }

    fn hashing(&self) -> Option<&Hashing> {
        self.file.users().next().map(|_| &self.hashing)
    }

    fn rules_of(&self, user_name: &str) -> Option<Arc<Rules>> {
        self.file
            .has_user(user_name)
            .then(|| self.people.rules_of(Some(user_name)))
    }

    fn no_longer_valid(&self, next: &[Arc<dyn CredentialSource>]) -> Vec<RevokedClients> {
        let Some(newer) = of_kind::<Self>(next) else {
            return self.file.users().map(user).collect();
        };
        let is_renewed = |name: &str| match (self.file.hash_of(name), newer.file.hash_of(name)) {
            (Some(older), Some(newer)) => self.hashing.is_renewal(&older, &newer),
            _ => false,
        };
        let removed = self.file.no_longer_valid(&newer.file).into_iter();
        removed.filter(|name| !is_renewed(name)).map(user).collect()
    }

    fn emptied_file(&self, next: &[Arc<dyn CredentialSource>]) -> Option<&str> {
        let newer = of_kind::<Self>(next).filter(|newer| newer.path == self.path)?;
        let had_users = self.file.users().next().is_some();
        (had_users && newer.file.is_blank()).then_some(&*self.path)
    }

    fn users(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.file.users())
    }

    fn has_user(&self, user_name: &str) -> bool {
        self.file.has_user(user_name)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
