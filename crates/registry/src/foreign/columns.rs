//! Tables and columns of other systems that are imported. docs/seeds.md lists them, too; a test
//! compares both.

use crate::foreign::system::OtherSystem;

/// A table of another system, with the columns that are read.
#[derive(Debug)]
pub(crate) struct ImportedTable {
    /// Whose it is.
    pub(crate) system: OtherSystem,
    /// Name of the table.
    pub(crate) name: &'static str,
    /// Whether there is nothing to import without it.
    pub(crate) is_required: bool,
    /// Columns without which it is not read.
    pub(crate) required: &'static [&'static str],
    /// Columns that versions of the system lack: then all rows have their default.
    pub(crate) optional: &'static [&'static str],
}

impl ImportedTable {
    /// Returns the columns, the required ones first.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &'static str> {
        self.required.iter().chain(self.optional).copied()
    }
}

/// Devices of IoTFlow.
pub(crate) const IOTFLOW_DEVICES: ImportedTable = ImportedTable {
    system: OtherSystem::IotFlow,
    name: "devices",
    is_required: true,
    required: &["id", "name", "device_type", "api_key", "status"],
    optional: &[
        "description",
        "location",
        "firmware_version",
        "hardware_version",
        "user_id",
    ],
};

/// Users of IoTFlow.
pub(crate) const IOTFLOW_USERS: ImportedTable = ImportedTable {
    system: OtherSystem::IotFlow,
    name: "users",
    is_required: false,
    required: &["username"],
    optional: &["email", "password_hash", "is_admin", "is_active", "id"],
};

/// Configuration of the devices of IoTFlow.
pub(crate) const IOTFLOW_SETTINGS: ImportedTable = ImportedTable {
    system: OtherSystem::IotFlow,
    name: "device_configurations",
    is_required: false,
    required: &["device_id", "config_key"],
    optional: &["config_value", "data_type", "is_active"],
};

/// Telemetry of IoTFlow.
pub(crate) const IOTFLOW_TELEMETRY: ImportedTable = ImportedTable {
    system: OtherSystem::IotFlow,
    name: "telemetry_data",
    is_required: false,
    required: &["id", "device_id", "timestamp", "payload"],
    optional: &["device_metadata", "data_type"],
};

/// Devices of Service-MQTT.
pub(crate) const SERVICE_MQTT_DEVICES: ImportedTable = ImportedTable {
    system: OtherSystem::ServiceMqtt,
    name: "devices",
    is_required: true,
    required: &["id", "mqtt_user", "mqtt_password"],
    optional: &["device_type"],
};

/// Webhooks of the microservice.
pub(crate) const WEBHOOKS: ImportedTable = ImportedTable {
    system: OtherSystem::Microservice,
    name: "webhooks",
    is_required: true,
    required: &["id", "url", "topic_filter"],
    optional: &[
        "name",
        "method",
        "enabled",
        "headers",
        "timeout",
        "retry_count",
        "retry_delay",
    ],
};

/// Messages of the microservice.
pub(crate) const MESSAGES: ImportedTable = ImportedTable {
    system: OtherSystem::Microservice,
    name: "messages",
    is_required: true,
    required: &["id", "topic", "payload", "confirmed"],
    optional: &["qos", "retained", "timestamp"],
};

/// All of them.
pub(crate) const IMPORTED_TABLES: [&ImportedTable; 7] = [
    &IOTFLOW_DEVICES,
    &IOTFLOW_USERS,
    &IOTFLOW_SETTINGS,
    &IOTFLOW_TELEMETRY,
    &SERVICE_MQTT_DEVICES,
    &WEBHOOKS,
    &MESSAGES,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the table in docs/seeds.md.
    fn rows() -> Vec<String> {
        let quoted = |names: &[&str]| {
            let names = names.iter().map(|name| format!("`{name}`"));
            names.collect::<Vec<_>>().join(", ")
        };
        let row = |table: &&ImportedTable| {
            format!(
                "| `{}` | `{}`{} | {} | {} |",
                table.system.word(),
                table.name,
                if table.is_required { "" } else { " (optional)" },
                quoted(table.required),
                quoted(table.optional),
            )
        };
        IMPORTED_TABLES.iter().map(row).collect()
    }

    #[test]
    fn the_page_lists_the_tables_and_columns() {
        let page = include_str!("../../../../docs/seeds.md");
        let missing: Vec<String> = rows()
            .into_iter()
            .filter(|row| !page.contains(row))
            .collect();
        assert!(
            missing.is_empty(),
            "docs/seeds.md lacks:\n{}",
            missing.join("\n")
        );
    }
}
