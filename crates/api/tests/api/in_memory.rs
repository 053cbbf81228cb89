//! Users and keys in memory.

use std::sync::Mutex;

use martlet_control::callers::{Account, AuditEntry, Callers, FirstAdministrator, Looked};
use martlet_control::principal::{Principal, PrincipalKind, Role, Scopes};

#[derive(Default)]
pub(crate) struct InMemory {
    pub(crate) users: Mutex<Vec<(Account, String)>>,
    pub(crate) keys: Mutex<Vec<(Vec<u8>, Principal)>>,
    pub(crate) audit: Mutex<Vec<AuditEntry>>,
}

impl InMemory {
    pub(crate) fn add_user(&self, name: &str, role: Role, password: &str) {
        let account = Account {
            name: name.to_owned(),
            role,
            team: None,
            tenant: martlet_broker::TenantId::default(),
            generation: 1,
        };
        self.users
            .lock()
            .unwrap()
            .push((account, password.to_owned()));
    }

    pub(crate) fn add_key(&self, name: &str, key: &str, scopes: Scopes) {
        let principal = Principal {
            kind: PrincipalKind::ApiKey {
                id: name.to_owned(),
                name: name.to_owned(),
            },
            scopes,
            team: None,
            tenant: martlet_broker::TenantId::default(),
        };
        let key = key.as_bytes().to_vec();
        self.keys.lock().unwrap().push((key, principal));
    }

    fn find(&self, name: &str) -> Option<(Account, String)> {
        let users = self.users.lock().unwrap();
        users.iter().find(|(user, _)| user.name == name).cloned()
    }
}

fn now<'a, T: Send + 'a>(found: T) -> Looked<'a, T> {
    Box::pin(std::future::ready(Ok(found)))
}

impl Callers for InMemory {
    fn api_key<'a>(&'a self, key: &'a [u8]) -> Looked<'a, Option<Principal>> {
        let keys = self.keys.lock().unwrap();
        let found = keys.iter().find(|(known, _)| known == key);
        now(found.map(|(_, principal)| principal.clone()))
    }

    fn check_password<'a>(
        &'a self,
        name: &'a str,
        password: &'a str,
    ) -> Looked<'a, Option<Account>> {
        let found = self.find(name).filter(|(_, known)| known == password);
        now(found.map(|(account, _)| account))
    }

    fn account<'a>(&'a self, name: &'a str) -> Looked<'a, Option<Account>> {
        now(self.find(name).map(|(account, _)| account))
    }

    fn has_administrator(&self) -> Looked<'_, bool> {
        let users = self.users.lock().unwrap();
        now(users
            .iter()
            .any(|(user, _)| user.role == Role::Administrator))
    }

    fn make_first_administrator<'a>(
        &'a self,
        name: &'a str,
        password: &'a str,
    ) -> Looked<'a, FirstAdministrator> {
        if password.len() < 8 {
            let why = "the password has fewer than 8 characters".to_owned();
            return now(FirstAdministrator::Refused(why));
        }
        let users = self.users.lock().unwrap();
        if users
            .iter()
            .any(|(user, _)| user.role == Role::Administrator)
        {
            return now(FirstAdministrator::NotFirst);
        }
        drop(users);
        self.add_user(name, Role::Administrator, password);
        let (account, _) = self.find(name).unwrap();
        now(FirstAdministrator::Made(account))
    }

    fn audit(&self, entry: AuditEntry) -> Looked<'_, ()> {
        self.audit.lock().unwrap().push(entry);
        now(())
    }
}
