//! Devices: finding, adding, changing and removing them.

use martlet_registry::{
    Device, DeviceChange, DeviceCounts, DeviceFilter, DeviceOrder, DeviceRef, Expected, KindCount,
    NewDevice, Owner, Page, PageRequest, PartCounts, Registry, RegistryError, Secret, Status,
    Visibility,
};

use crate::callers::Caller;
use crate::devices::DeviceName;
use crate::use_cases::error::UseCaseError;
use crate::use_cases::use_case::{UseCase, UseCaseEffect};

/// Numbers about devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceStatistics {
    /// How many devices there are.
    pub counts: DeviceCounts,
    /// How many devices with the status `active` are connected, or sent something since the given
    /// time.
    pub online: u64,
    /// The number of devices of each kind.
    pub kinds: Vec<KindCount>,
    /// Their credentials and configurations.
    pub parts: PartCounts,
}

/// Reads a page of the devices.
#[derive(Debug)]
pub struct PageOfDevices {
    /// Which devices.
    pub filter: DeviceFilter,
    /// Their order.
    pub order: DeviceOrder,
    /// Which page.
    pub page: PageRequest,
}

impl UseCase for PageOfDevices {
    type Output = Page<Device>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Page<Device>, UseCaseError> {
        let Self {
            filter,
            order,
            page,
        } = self;
        let visibility = caller.visibility();
        Ok(registry
            .list_devices(&visibility, &filter, order, &page)
            .await?)
    }
}

/// Reads devices from a place of the list on, and how many there are in all.
#[derive(Debug)]
pub struct ListDevicesFrom {
    /// Which devices.
    pub filter: DeviceFilter,
    /// Their order.
    pub order: DeviceOrder,
    /// How many devices are left out, and the most that are read.
    pub place: (u64, u64),
}

impl UseCase for ListDevicesFrom {
    type Output = (Vec<Device>, u64);
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<(Vec<Device>, u64), UseCaseError> {
        let Self {
            filter,
            order,
            place,
        } = self;
        let visibility = caller.visibility();
        Ok(registry
            .devices_from(&visibility, &filter, order, place.0, place.1)
            .await?)
    }
}

/// Counts the devices.
#[derive(Debug)]
pub struct CountDevices;

impl UseCase for CountDevices {
    type Output = DeviceCounts;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<DeviceCounts, UseCaseError> {
        Ok(registry.device_counts(&caller.visibility()).await?)
    }
}

/// Reads numbers about devices.
#[derive(Debug)]
pub struct ReadDeviceStatistics {
    /// A device that sent something since then counts as online: milliseconds since the Unix epoch.
    pub active_since_ms: i64,
}

impl UseCase for ReadDeviceStatistics {
    type Output = DeviceStatistics;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<DeviceStatistics, UseCaseError> {
        let visibility = caller.visibility();
        let online = DeviceFilter {
            status: Some(Status::Active),
            active_since_ms: Some(self.active_since_ms),
            ..DeviceFilter::default()
        };
        Ok(DeviceStatistics {
            counts: registry.device_counts(&visibility).await?,
            online: registry.count_devices(&visibility, &online).await?,
            kinds: registry.device_kinds(&visibility).await?,
            parts: registry.device_parts(&visibility).await?,
        })
    }
}

/// Finds a device.
#[derive(Debug)]
pub struct FindDevice {
    /// Which device.
    pub device: DeviceName,
}

impl UseCase for FindDevice {
    type Output = Device;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<Device, UseCaseError> {
        Ok(registry
            .device(&caller.visibility(), self.device.of())
            .await?)
    }
}

/// Finds the device that logs in with a secret, if there is one.
#[derive(Debug)]
pub struct FindDeviceOfSecret {
    /// The secret.
    pub secret: Secret,
}

impl UseCase for FindDeviceOfSecret {
    type Output = Option<Device>;
    // The first look-up may store the key of the digests.
    const EFFECT: UseCaseEffect = UseCaseEffect::Notes;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Option<Device>, UseCaseError> {
        let found = registry.device_of_secret(self.secret.text()).await?;
        let visibility = caller.visibility();
        let is_seen = |device: &Device| visibility.team().is_none_or(|team| team == device.team);
        Ok(found.map(|(device, _)| device).filter(is_seen))
    }
}

/// The device that was added, and its secret if one was generated.
async fn added(
    registry: &mut Registry,
    caller: &Caller,
    (number, secret): (i64, Option<Secret>),
) -> Result<(Device, Option<Secret>), UseCaseError> {
    let device = DeviceRef::Number(number);
    Ok((registry.device(&caller.visibility(), device).await?, secret))
}

/// A device whose kind is its type too, if that is asked for and there is such a type.
async fn with_type(
    registry: &mut Registry,
    mut device: NewDevice,
    kind_is_type: bool,
) -> Result<NewDevice, RegistryError> {
    if kind_is_type {
        match registry.rule_set(Owner::DeviceType, &device.kind).await {
            Ok(_) => device.device_type.clone_from(&device.kind),
            Err(RegistryError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(device)
}

/// Adds a device; its secret, if one is generated, is shown this once.
#[derive(Debug)]
pub struct AddDevice {
    /// The device.
    pub device: NewDevice,
    /// Whether its kind is its type too, if there is such a type.
    pub kind_is_type: bool,
}

impl UseCase for AddDevice {
    type Output = (Device, Option<Secret>);
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<(Device, Option<Secret>), UseCaseError> {
        let device = with_type(registry, self.device, self.kind_is_type).await?;
        let new = registry.create_device(&caller.actor, device).await?;
        added(registry, caller, (new.number, new.secret)).await
    }
}

/// Adds a device whose name no other one has. Its id is its number. Its secret, of 32 letters and
/// digits, is shown this once.
#[derive(Debug)]
pub struct RegisterDevice {
    /// The device.
    pub device: NewDevice,
    /// Whether its kind is its type too, if there is such a type.
    pub kind_is_type: bool,
}

impl UseCase for RegisterDevice {
    type Output = (Device, Option<Secret>);
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<(Device, Option<Secret>), UseCaseError> {
        let device = with_type(registry, self.device, self.kind_is_type).await?;
        let new = registry.register_device(&caller.actor, device).await?;
        added(registry, caller, (new.number, new.secret)).await
    }
}

/// Changes a device.
#[derive(Debug)]
pub struct ChangeDevice {
    /// Which device.
    pub device: DeviceName,
    /// Among which devices it is looked for. The caller may see more: the device may go to another
    /// team.
    pub within: Visibility,
    /// Changes of the device.
    pub change: DeviceChange,
    /// The revision that it must have, if any.
    pub expected_revision: Expected,
}

impl UseCase for ChangeDevice {
    type Output = Device;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<Device, UseCaseError> {
        let Self {
            device,
            within,
            change,
            expected_revision,
        } = self;
        let number = registry.device(&within, device.of()).await?.number;
        let device = DeviceRef::Number(number);
        let changed = registry.change_device(&caller.actor, device, change, expected_revision);
        Ok(changed.await?)
    }
}

/// Deletes a device; it can be restored.
#[derive(Debug)]
pub struct DeleteDevice {
    /// Which device.
    pub device: DeviceName,
    /// The revision that it must have, if any.
    pub expected_revision: Expected,
}

impl UseCase for DeleteDevice {
    type Output = ();
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        let device = self.device.of();
        let deleted = registry.delete_device(&caller.actor, device, self.expected_revision);
        Ok(deleted.await?)
    }
}

/// Restores a deleted device.
#[derive(Debug)]
pub struct RestoreDevice {
    /// Which device.
    pub device: DeviceName,
}

impl UseCase for RestoreDevice {
    type Output = Device;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<Device, UseCaseError> {
        Ok(registry
            .restore_device(&caller.actor, self.device.of())
            .await?)
    }
}

/// Removes a device for good; its id is free then.
#[derive(Debug)]
pub struct PurgeDevice {
    /// Which device.
    pub device: DeviceName,
    /// Whether its telemetry stays, under its number.
    pub keeps_telemetry: bool,
}

impl UseCase for PurgeDevice {
    type Output = ();
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        Ok(registry
            .purge_device(&caller.actor, self.device.of(), self.keeps_telemetry)
            .await?)
    }
}
