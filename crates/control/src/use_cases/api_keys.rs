//! API keys of the registry.

use martlet_registry::{ApiKey, ApiKeyChange, Expected, NewApiKey, Registry, Secret};

use crate::callers::{Caller, rights};
use crate::principal::Scopes;
use crate::use_cases::error::UseCaseError;
use crate::use_cases::use_case::{UseCase, UseCaseEffect};

/// Checks that the caller has all rights of a key with these scopes. If it sees one team, these are
/// among those that the team can have.
fn check_given(caller: &Caller, names: &[String]) -> Result<(), UseCaseError> {
    let mut given = Scopes::NONE;
    for (index, name) in names.iter().enumerate() {
        let scopes = Scopes::parse(name);
        let name = name.clone();
        given = given.or(scopes.map_err(|_| UseCaseError::UnknownScope { index, name })?);
    }
    let given = match caller.sees_all() {
        true => given,
        false => given.and(caller.scopes_of_team()),
    };
    Ok(caller.check_scopes(given)?)
}

/// Lists the keys.
#[derive(Debug)]
pub struct ListApiKeys;

impl UseCase for ListApiKeys {
    type Output = Vec<ApiKey>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Vec<ApiKey>, UseCaseError> {
        Ok(registry.api_keys(&caller.visibility()).await?)
    }
}

/// Adds a key, which is shown this once. The caller needs its scopes and all rights of its owner.
#[derive(Debug)]
pub struct AddApiKey {
    /// The key. Without an owner it is the caller's, if that is a user.
    pub key: NewApiKey,
}

impl UseCase for AddApiKey {
    type Output = (ApiKey, Secret);
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<(ApiKey, Secret), UseCaseError> {
        let mut key = self.key;
        check_given(caller, &key.scopes)?;
        if let (true, Some(user)) = (key.owner.is_empty(), caller.user()) {
            // It opens no more than the user may.
            user.clone_into(&mut key.owner);
        }
        let needed = rights::of_owner(registry, caller, &key.owner).await?;
        caller.check_scopes(needed)?;
        Ok(registry.add_api_key(&caller.actor, key).await?)
    }
}

/// Changes a key. The caller needs its scopes before and after, and all rights of its owner.
#[derive(Debug)]
pub struct ChangeApiKey {
    /// Id of the key.
    pub id: String,
    /// Changes of the key.
    pub change: ApiKeyChange,
    /// The revision that it must have, if any.
    pub expected_revision: Expected,
}

impl UseCase for ChangeApiKey {
    type Output = ApiKey;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<ApiKey, UseCaseError> {
        let Self {
            id,
            change,
            expected_revision,
        } = self;
        if let Some(scopes) = &change.scopes {
            check_given(caller, scopes)?;
        }
        // The call itself returns an error if there is no such key.
        if let Some((key, needed)) = rights::key(registry, caller, &id).await? {
            let of_owner = rights::of_owner(registry, caller, &key.owner).await?;
            caller.check_scopes(needed.or(of_owner))?;
        }
        let actor = &caller.actor;
        let changed = registry.change_api_key(actor, &id, change, expected_revision);
        Ok(changed.await?)
    }
}

/// Revokes a key. The caller needs its scopes.
#[derive(Debug)]
pub struct RevokeApiKey {
    /// Id of the key.
    pub id: String,
}

impl UseCase for RevokeApiKey {
    type Output = ();
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        if let Some((_, needed)) = rights::key(registry, caller, &self.id).await? {
            caller.check_scopes(needed)?;
        }
        Ok(registry.revoke_api_key(&caller.actor, &self.id).await?)
    }
}
