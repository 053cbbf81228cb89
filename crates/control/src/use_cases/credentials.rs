//! Credentials of devices.

use std::time::Duration;

use martlet_registry::{Credential, NewCredential, Registry, Secret};

use crate::callers::Caller;
use crate::devices::DeviceName;
use crate::use_cases::error::UseCaseError;
use crate::use_cases::use_case::{UseCase, UseCaseEffect};

/// Lists the credentials of a device, oldest first.
#[derive(Debug)]
pub struct ListCredentials {
    /// Which device.
    pub device: DeviceName,
}

impl UseCase for ListCredentials {
    type Output = Vec<Credential>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Vec<Credential>, UseCaseError> {
        Ok(registry
            .credentials(&caller.visibility(), self.device.of())
            .await?)
    }
}

/// Adds a credential to those of a device; a secret that is generated is shown this once.
#[derive(Debug)]
pub struct AddCredential {
    /// Which device.
    pub device: DeviceName,
    /// For people.
    pub name: String,
    /// Credential to add.
    pub credential: NewCredential,
    /// When it ends, in milliseconds since the Unix epoch; 0: never.
    pub expires_ms: i64,
}

impl UseCase for AddCredential {
    type Output = (Credential, Option<Secret>);
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<(Credential, Option<Secret>), UseCaseError> {
        let Self {
            device,
            name,
            credential,
            expires_ms,
        } = self;
        let actor = &caller.actor;
        let added = registry.add_credential(actor, device.of(), &name, credential, expires_ms);
        Ok(added.await?)
    }
}

/// Gives a device another secret, which is shown this once.
#[derive(Debug)]
pub struct RotateSecret {
    /// Which device.
    pub device: DeviceName,
    /// For how long its old secrets stay valid.
    pub grace: Duration,
}

impl UseCase for RotateSecret {
    type Output = Secret;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<Secret, UseCaseError> {
        let renewed = registry.rotate_secret(&caller.actor, self.device.of(), self.grace);
        Ok(renewed.await?)
    }
}

/// Revokes a credential of a device.
#[derive(Debug)]
pub struct RevokeCredential {
    /// Which device.
    pub device: DeviceName,
    /// Id of the credential.
    pub credential: String,
}

impl UseCase for RevokeCredential {
    type Output = ();
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        let device = self.device.of();
        let revoked = registry.revoke_credential(&caller.actor, device, &self.credential);
        Ok(revoked.await?)
    }
}
