//! The catalogue of topics: what is sent where, with which QoS, and whether it is retained.

use martlet_codec::QoS;

/// Stands for the id of a device in the path of an entry.
pub const DEVICE: &str = "{device_id}";

/// A topic of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogueTopic {
    /// The name by which it is found.
    pub name: &'static str,
    /// Below the base.
    pub path: &'static str,
    /// Kind of its messages.
    pub topic_type: &'static str,
    /// QoS of its messages.
    pub qos: QoS,
    /// Whether its messages are retained.
    pub retain: bool,
    /// Purpose of the topic.
    pub description: &'static str,
}

/// Declares the catalogue: name, path, kind, QoS, retained, description.
macro_rules! catalogue {
    ($(
        $name:literal $path:literal $kind:literal $qos:ident $retain:literal $what:literal;
    )*) => {
        /// All topics with their defaults.
        const ENTRIES: &[CatalogueTopic] = &[$( CatalogueTopic {
            name: $name,
            path: $path,
            topic_type: $kind,
            qos: QoS::$qos,
            retain: $retain,
            description: $what,
        }, )*];
    };
}

catalogue! {
    "device_telemetry" "devices/{device_id}/telemetry" "telemetry" AtLeastOnce false "Telemetry without a kind of its own";
    "device_telemetry_sensors" "devices/{device_id}/telemetry/sensors" "telemetry" AtLeastOnce false "Sensor readings of a device";
    "device_telemetry_metrics" "devices/{device_id}/telemetry/metrics" "telemetry" AtLeastOnce false "Performance of a device";
    "device_telemetry_events" "devices/{device_id}/telemetry/events" "telemetry" AtLeastOnce false "Events and alerts of a device";
    "device_commands_config" "devices/{device_id}/commands/config" "commands" ExactlyOnce true "Commands that change the configuration of a device";
    "device_commands_control" "devices/{device_id}/commands/control" "commands" ExactlyOnce false "Commands that control a device";
    "device_commands_firmware" "devices/{device_id}/commands/firmware" "commands" ExactlyOnce true "Commands that update the firmware of a device";
    "device_status_heartbeat" "devices/{device_id}/status/heartbeat" "status" AtMostOnce false "Heartbeats of a device";
    "device_status_online" "devices/{device_id}/status/online" "status" AtLeastOnce true "A device is online";
    "device_status_offline" "devices/{device_id}/status/offline" "status" AtLeastOnce true "A device is offline";
    "device_config" "devices/{device_id}/config" "config" AtLeastOnce true "Configuration of a device";
    "device_lwt" "lwt/devices/{device_id}" "lwt" AtLeastOnce true "Will Message of a device";
    "discovery_register" "discovery/register/{device_id}" "discovery" AtLeastOnce false "A device requests its registration";
    "discovery_response" "discovery/response/{device_id}" "discovery" AtLeastOnce false "Answer to the registration of a device";
    "fleet_commands" "fleet/commands/{group_id}" "commands" ExactlyOnce true "Commands for a group of devices";
    "fleet_status" "fleet/status/{group_id}" "status" AtLeastOnce true "Status of a group of devices";
    "system_health" "system/health" "system" AtLeastOnce true "Health of the system";
    "system_metrics" "system/metrics" "system" AtMostOnce false "Performance of the system";
    "system_alerts" "system/alerts" "alerts" AtLeastOnce true "Alerts of the system";
    "monitoring_broker" "monitoring/broker" "monitoring" AtMostOnce false "Numbers about the broker";
    "monitoring_clients" "monitoring/clients" "monitoring" AtMostOnce false "Numbers about clients";
    "monitoring_traffic" "monitoring/traffic" "monitoring" AtMostOnce false "Numbers about traffic";
}

/// Topic Filters for many topics at once, below the base.
pub const PATTERNS: [(&str, &str); 8] = [
    ("all_device_telemetry", "devices/+/telemetry/#"),
    ("all_device_status", "devices/+/status/+"),
    ("all_device_commands", "devices/+/commands/+"),
    ("all_fleet_commands", "fleet/commands/+"),
    ("all_system_topics", "system/+"),
    ("all_monitoring", "monitoring/+"),
    ("all_discovery", "discovery/+/+"),
    ("everything", "#"),
];

/// The catalogue of a node.
#[derive(Clone, Debug)]
pub struct Catalogue {
    base: String,
    entries: Vec<CatalogueTopic>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self {
            base: "iotflow".to_owned(),
            entries: ENTRIES.to_vec(),
        }
    }
}

impl Catalogue {
    /// With these first levels, and with QoS and retain of some topics: `NAME:QOS:RETAIN`, comma
    /// between them.
    ///
    /// # Errors
    /// What is wrong with one of them, in words.
    pub fn new(base: &str, changes: &str) -> Result<Self, String> {
        let mut catalogue = Self {
            base: base.to_owned(),
            ..Self::default()
        };
        let changes = changes.split(',').map(str::trim);
        for change in changes.filter(|change| !change.is_empty()) {
            catalogue.change(change)?;
        }
        Ok(catalogue)
    }

    fn change(&mut self, text: &str) -> Result<(), String> {
        let wrong = |expected: &str| format!("{text:?}: expected {expected}");
        let mut parts = text.split(':');
        let (Some(name), Some(qos), Some(retain), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong("NAME:QOS:RETAIN, such as system_metrics:1:true"));
        };
        let entry = self.entries.iter_mut().find(|entry| entry.name == name);
        let entry = entry.ok_or_else(|| {
            let names: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
            wrong(&format!("a name among {}", names.join(", ")))
        })?;
        entry.qos = match qos {
            "0" => QoS::AtMostOnce,
            "1" => QoS::AtLeastOnce,
            "2" => QoS::ExactlyOnce,
            _ => return Err(wrong("0, 1 or 2 as QoS")),
        };
        entry.retain = match retain {
            "true" => true,
            "false" => false,
            _ => return Err(wrong("true or false as RETAIN")),
        };
        Ok(())
    }

    /// The first level, or levels, of all topics.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// All entries.
    pub fn entries(&self) -> &[CatalogueTopic] {
        &self.entries
    }

    /// The entry of this name.
    pub fn entry(&self, name: &str) -> Option<&CatalogueTopic> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The path of a topic; none if it does not begin with the base.
    pub fn path_of<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(&*self.base)?.strip_prefix('/')
    }

    /// The topic, or Topic Filter, with this path.
    pub fn topic(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }
}

#[cfg(test)]
mod tests {
    use martlet_codec::TopicName;

    use super::*;

    #[test]
    fn the_catalogue_is_complete() {
        let catalogue = Catalogue::default();
        assert_eq!(catalogue.entries().len(), 22);
        for entry in catalogue.entries() {
            assert!(TopicName::new(&catalogue.topic(entry.path)).is_ok());
            let all = catalogue.entries().iter();
            let same = all.filter(|other| other.name == entry.name);
            assert_eq!(same.count(), 1, "{}", entry.name);
        }
    }

    #[test]
    fn qos_and_retain_of_a_topic_are_changed() {
        let changes = "system_metrics:1:true, device_commands_control:0:true";
        let catalogue = Catalogue::new("plant", changes).expect("it is right");
        let found = |name| {
            let entry = catalogue.entry(name).expect("it is there");
            (entry.qos, entry.retain)
        };
        assert_eq!(found("system_metrics"), (QoS::AtLeastOnce, true));
        assert_eq!(found("device_commands_control"), (QoS::AtMostOnce, true));
        assert_eq!(found("system_health"), (QoS::AtLeastOnce, true));
        assert_eq!(catalogue.topic("system/health"), "plant/system/health");
        assert_eq!(
            catalogue.path_of("plant/system/health"),
            Some("system/health")
        );
        assert_eq!(catalogue.path_of("plants/system/health"), None);
        for wrong in [
            "x:1:true",
            "system_health",
            "system_health:3:true",
            "system_health:1:1",
        ] {
            let error = Catalogue::new("iotflow", wrong).expect_err(wrong);
            assert!(error.contains("expected"), "{error}");
        }
    }
}
