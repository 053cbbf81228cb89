//! Keys by which devices add themselves.

use martlet_registry::{NewProvisioningKey, ProvisioningKey, Registry, Secret};

use crate::callers::{Caller, LackingScopes};
use crate::principal::Scope;
use crate::use_cases::error::UseCaseError;
use crate::use_cases::use_case::{Effect, UseCase};

/// A key adds devices, so its caller must be able to add them too.
fn check_rights(caller: &Caller) -> Result<(), LackingScopes> {
    caller.check_scopes([Scope::DevicesWrite].into())
}

/// Lists the provisioning keys.
#[derive(Debug)]
pub struct ListProvisioningKeys;

impl UseCase for ListProvisioningKeys {
    type Output = Vec<ProvisioningKey>;
    const EFFECT: Effect = Effect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Vec<ProvisioningKey>, UseCaseError> {
        Ok(registry.provisioning_keys(&caller.scope()).await?)
    }
}

/// Adds a provisioning key, which is told this once.
#[derive(Debug)]
pub struct AddProvisioningKey {
    /// The key.
    pub key: NewProvisioningKey,
}

impl UseCase for AddProvisioningKey {
    type Output = (ProvisioningKey, Secret);
    const EFFECT: Effect = Effect::Notes;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<(ProvisioningKey, Secret), UseCaseError> {
        check_rights(caller)?;
        Ok(registry
            .add_provisioning_key(&caller.actor, self.key)
            .await?)
    }
}

/// Revokes a provisioning key. Devices that it has added stay.
#[derive(Debug)]
pub struct RevokeProvisioningKey {
    /// Id of the key.
    pub id: String,
}

impl UseCase for RevokeProvisioningKey {
    type Output = ();
    const EFFECT: Effect = Effect::Notes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        check_rights(caller)?;
        Ok(registry
            .revoke_provisioning_key(&caller.actor, &self.id)
            .await?)
    }
}
