//! Keys by which devices add themselves.

use martlet_registry::{NewProvisioningKey, ProvisioningKey, Registry, Secret};

use crate::callers::Caller;
use crate::use_cases::error::UseCaseError;
use crate::use_cases::use_case::{UseCase, UseCaseEffect};

/// Lists the provisioning keys.
#[derive(Debug)]
pub struct ListProvisioningKeys;

impl UseCase for ListProvisioningKeys {
    type Output = Vec<ProvisioningKey>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Vec<ProvisioningKey>, UseCaseError> {
        Ok(registry.provisioning_keys(&caller.visibility()).await?)
    }
}

/// Adds a provisioning key, which is shown this once.
#[derive(Debug)]
pub struct AddProvisioningKey {
    /// The key.
    pub key: NewProvisioningKey,
}

impl UseCase for AddProvisioningKey {
    type Output = (ProvisioningKey, Secret);
    const EFFECT: UseCaseEffect = UseCaseEffect::Notes;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<(ProvisioningKey, Secret), UseCaseError> {
        caller.check_adds_devices()?;
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
    const EFFECT: UseCaseEffect = UseCaseEffect::Notes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        caller.check_adds_devices()?;
        Ok(registry
            .revoke_provisioning_key(&caller.actor, &self.id)
            .await?)
    }
}
