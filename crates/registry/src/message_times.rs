//! When devices sent messages last.

/// When a device sent messages last, in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageTimes {
    /// Tenant of the device.
    pub tenant: u32,
    /// Id of the device.
    pub id: String,
    /// The last message of any kind; 0: none.
    pub message_ms: i64,
    /// The last heartbeat; 0: none.
    pub heartbeat_ms: i64,
    /// The last telemetry; 0: none.
    pub telemetry_ms: i64,
    /// When it, or its Will, said last that it is offline; 0: never.
    pub offline_ms: i64,
}
