//! The configuration of devices.

use std::collections::HashMap;

use martlet_registry::{DataType, Expected, Registry, Setting};

use crate::callers::Caller;
use crate::devices::DeviceName;
use crate::use_cases::error::UseCaseError;
use crate::use_cases::use_case::{UseCase, UseCaseEffect};

/// Reads the configuration of a device, by key.
#[derive(Debug)]
pub struct ReadConfiguration {
    /// Which device.
    pub device: DeviceName,
}

impl UseCase for ReadConfiguration {
    type Output = Vec<Setting>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Vec<Setting>, UseCaseError> {
        Ok(registry
            .configuration(&caller.visibility(), self.device.of())
            .await?)
    }
}

/// Counts the active keys in the configuration of each device; devices without any are left out.
#[derive(Debug)]
pub struct CountActiveSettings {
    /// Numbers of the devices.
    pub devices: Vec<i64>,
}

impl UseCase for CountActiveSettings {
    type Output = HashMap<i64, u64>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        _: &Caller,
    ) -> Result<HashMap<i64, u64>, UseCaseError> {
        Ok(registry.active_settings(&self.devices).await?)
    }
}

/// Sets a key of a device's configuration.
#[derive(Debug)]
pub struct SetConfiguration {
    /// Which device.
    pub device: DeviceName,
    /// The key.
    pub key: String,
    /// The value, as text.
    pub value: String,
    /// Type of the value.
    pub data_type: DataType,
    /// Whether it is active.
    pub is_active: bool,
    /// The revision that the key must have, if any; 0: the key must not exist.
    pub expected_revision: Expected,
}

impl UseCase for SetConfiguration {
    type Output = Setting;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<Setting, UseCaseError> {
        let Self {
            device,
            key,
            value,
            data_type,
            is_active,
            expected_revision,
        } = self;
        let set = registry.set_configuration(
            &caller.actor,
            device.of(),
            &key,
            &value,
            data_type,
            is_active,
            expected_revision,
        );
        Ok(set.await?)
    }
}

/// Removes a key of a device's configuration.
#[derive(Debug)]
pub struct RemoveConfiguration {
    /// Which device.
    pub device: DeviceName,
    /// The key.
    pub key: String,
}

impl UseCase for RemoveConfiguration {
    type Output = ();
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        let device = self.device.of();
        let removed = registry.remove_configuration(&caller.actor, device, &self.key);
        Ok(removed.await?)
    }
}
