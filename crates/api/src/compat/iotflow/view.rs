//! A device as the system shows it, with the rule by which it is online.

use martlet_broker::TenantId;
use martlet_control::callers::Caller;
use martlet_control::devices::DeviceName;
use martlet_control::presence::ClientPresence;
use martlet_control::use_cases::{
    DeviceStatistics, FindDevice, ReadDeviceStatistics, UseCaseError,
};
use martlet_registry::{Device, Status};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Api;
use crate::compat::time::MomentUs;
use crate::problem::{Problem, ProblemKind};

/// A device.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = iotflow::Device)]
pub(super) struct DeviceView {
    /// Number of the device.
    id: i64,
    /// For people.
    name: String,
    /// For people.
    description: String,
    /// Kind of the device, in the words of its owner.
    device_type: String,
    /// `active`, `inactive` or `maintenance`.
    status: &'static str,
    /// Where it stands.
    location: String,
    /// Version of the firmware that runs on it.
    firmware_version: String,
    /// Version of its hardware.
    hardware_version: String,
    /// User name of its owner.
    user_id: Option<String>,
    /// Owner of the device.
    owner: Option<Owner>,
    /// When it was registered.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<MomentUs>,
    /// When it was last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<MomentUs>,
    /// When it was last seen.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen: Option<MomentUs>,
}

/// The owner of a device.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = iotflow::Owner)]
pub(super) struct Owner {
    /// User Name.
    username: String,
    /// Users have none here.
    email: Option<String>,
}

impl DeviceView {
    pub(super) fn new(api: &Api, device: Device) -> Self {
        let last_seen = OnlineState::of(api, &device).last_seen;
        let owner = Some(device.owner).filter(|owner| !owner.is_empty());
        Self {
            id: device.number,
            name: device.name,
            description: device.description,
            device_type: device.kind,
            status: device.status.word(),
            location: device.location,
            firmware_version: device.firmware_version,
            hardware_version: device.hardware_version,
            user_id: owner.clone(),
            owner: owner.map(|username| Owner {
                username,
                email: None,
            }),
            created_at: MomentUs::of_tables(device.created_ms),
            updated_at: MomentUs::of_tables(device.updated_ms),
            last_seen,
        }
    }
}

/// Whether a device is online, and when it was last seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnlineState {
    pub(super) is_online: bool,
    pub(super) is_connected: bool,
    pub(super) last_seen: Option<MomentUs>,
}

impl OnlineState {
    pub(super) fn of(api: &Api, device: &Device) -> Self {
        let presence = presence_of(api, device);
        let is_connected = presence.as_ref().is_some_and(|presence| presence.online);
        let seen_ms = presence.map_or(0, |presence| presence.last_seen_ms);
        let seen_ms = i64::try_from(seen_ms).unwrap_or(i64::MAX);
        let seen_ms = match is_connected {
            true => MomentUs::now().as_ms(),
            false => seen_ms.max(device.last_seen_ms),
        };
        Self {
            is_online: is_online(device, is_connected, active_since_ms(api)),
            is_connected,
            last_seen: MomentUs::of_tables(seen_ms),
        }
    }
}

/// A device is online if it is connected, or has sent a heartbeat or telemetry since then, and has
/// not said afterwards that it is offline.
fn is_online(device: &Device, is_connected: bool, active_since_ms: i64) -> bool {
    let message_ms = device.last_heartbeat_ms.max(device.last_telemetry_ms);
    device.status == Status::Active
        && (is_connected || message_ms >= active_since_ms && message_ms > device.said_offline_ms)
}

/// Numbers about the devices that the caller sees.
pub(super) async fn numbers(api: &Api, caller: &Caller) -> Result<DeviceStatistics, Problem> {
    let active_since_ms = active_since_ms(api);
    api.run(caller.clone(), ReadDeviceStatistics { active_since_ms })
        .await
}

/// The earliest time of a heartbeat by which a device is online now.
fn active_since_ms(api: &Api) -> i64 {
    let timeout_ms = i64::from(api.settings.online_secs) * 1000;
    MomentUs::now().as_ms().saturating_sub(timeout_ms)
}

/// The connection as the node knows it, which is newer than the tables.
fn presence_of(api: &Api, device: &Device) -> Option<ClientPresence> {
    let known = api.control.presence(TenantId(device.tenant), &device.id);
    let known = known.filter(|client| {
        let last_seen_ms = i64::try_from(client.last_seen_ms).unwrap_or(i64::MAX);
        device.is_seen_by(client.online, last_seen_ms)
    });
    known.or_else(|| device.presence.clone().map(ClientPresence::from))
}

/// The device that a path names: by its number, or else by its id.
pub(super) async fn find(api: &Api, caller: &Caller, named: &str) -> Result<Device, Problem> {
    let tables = api.tables()?;
    let find = |device| tables.run(caller.clone(), FindDevice { device });
    let by_id = DeviceName::Id(named.to_owned());
    let found = match named.parse().ok().filter(|number| *number > 0) {
        None => find(by_id).await,
        Some(number) => match find(DeviceName::Number(number)).await {
            Err(error) if error.is_not_found() => find(by_id).await,
            found => found,
        },
    };
    found.map_err(|error| missing(error, named))
}

/// An error about a device, in the words of the system if there is none.
pub(super) fn missing(error: UseCaseError, named: &str) -> Problem {
    match error.is_not_found() {
        true => {
            let detail = format!("Device with ID {named} does not exist");
            Problem::new(ProblemKind::NotFound, detail).with_heading("Device not found")
        }
        false => error.into(),
    }
}
