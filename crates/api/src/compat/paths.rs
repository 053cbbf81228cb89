//! Which path belongs to which system. The form of an error, and how a key may be shown, depend on
//! it before a route is found.

use super::system::CompatApi;

/// The system whose route a path is: the first of those that have it.
pub(super) fn owner(compat: &[CompatApi], path: &str) -> Option<CompatApi> {
    compat.iter().copied().find(|system| has(*system, path))
}

/// Whether requests with this path may show a key as `Authorization: admin KEY`.
pub(crate) fn takes_admin_scheme(compat: &[CompatApi], path: &str) -> bool {
    owner(compat, path) == Some(CompatApi::IotFlow)
}

/// Whether a system has routes with this path, but for `/`, which takes every request.
fn has(system: CompatApi, path: &str) -> bool {
    match system {
        CompatApi::Microservice => microservice(path),
        CompatApi::PanelBroker => path == "/api/mqtt/auth",
        CompatApi::IotFlow => iotflow(path),
        CompatApi::DeviceService => path == "/devices",
    }
}

fn microservice(path: &str) -> bool {
    let is_below = |parent: &str| {
        path.strip_prefix(parent)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let exact = [
        "/publish",
        "/subscribe",
        "/unsubscribe",
        "/status",
        "/broker/status",
        "/logs",
    ];
    exact.contains(&path) || is_below("/messages") || is_below("/webhooks")
}

/// Words after `/api/v1/devices/` that are routes of their own.
const OF_DEVICES: [&str; 8] = [
    "register",
    "status",
    "statuses",
    "telemetry",
    "config",
    "heartbeat",
    "credentials",
    "mqtt-credentials",
];

/// Words after `/api/v1/devices/{id}/` that are routes of this system.
const OF_ONE_DEVICE: [&str; 3] = ["status", "summary", "control"];

fn iotflow(path: &str) -> bool {
    let Some(path) = path.strip_prefix("/api/v1/") else {
        return ["/health", "/status"].contains(&path);
    };
    let mut parts = path.split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("telemetry"), Some("tail" | "rejected"), None) => false,
        (Some("mqtt" | "admin" | "telemetry"), ..) => true,
        (Some("devices"), Some(word), None) => OF_DEVICES.contains(&word),
        (Some("devices"), Some(_), Some(word)) => OF_ONE_DEVICE.contains(&word),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use martlet_registry::is_reserved_id;

    use super::*;

    #[test]
    fn no_device_has_the_name_of_a_route() {
        for word in OF_DEVICES {
            assert!(
                is_reserved_id(word),
                "{word} is a route, and a device may have it as its id"
            );
        }
    }

    #[test]
    fn paths_of_iotflow_are_not_those_of_the_native_api() {
        for own in [
            "/health",
            "/status",
            "/api/v1/devices/register",
            "/api/v1/devices/mqtt-credentials",
            "/api/v1/devices/7/status",
            "/api/v1/devices/7/control/3/status",
            "/api/v1/mqtt/status",
            "/api/v1/admin/devices/7",
            "/api/v1/telemetry",
            "/api/v1/telemetry/7/latest",
        ] {
            assert!(iotflow(own), "{own}");
        }
        for other in [
            "/",
            "/healthz",
            "/health/live",
            "/api/v1/devices",
            "/api/v1/devices/7",
            "/api/v1/devices/summary",
            "/api/v1/devices/7/credentials",
            "/api/v1/devices/7/configuration",
            "/api/v1/devices/7/telemetry",
            "/api/v1/telemetry/tail",
            "/api/v1/status",
            "/api/v1/administrators",
        ] {
            assert!(!iotflow(other), "{other}");
        }
    }

    #[test]
    fn a_system_has_its_own_paths_alone() {
        let owner = |path| owner(&[CompatApi::DeviceService], path);
        assert_eq!(owner("/devices"), Some(CompatApi::DeviceService));
        assert_eq!(owner("/devices/7"), None);
        assert_eq!(owner("/docs/doc.json"), None);
        assert_eq!(owner("/publish"), None);
    }
}
