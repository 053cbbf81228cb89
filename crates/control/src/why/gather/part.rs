//! Words for parts of the program, which are asked about as if they were clients.

use crate::control::Control;
use crate::why::facts::NamedPart;

/// Words, and the command that shows what they mean.
const PARTS: [(&[&str], &str); 22] = [
    (
        &[
            "backup",
            "backups",
            "broker",
            "cert",
            "certificate",
            "certificates",
            "disk",
            "health",
            "listener",
            "listeners",
            "martlet",
            "memory",
            "node",
            "server",
            "store",
            "tls",
        ],
        "health",
    ),
    (&["alarm", "alarms"], "alarm ls"),
    (&["api", "key", "keys"], "key ls"),
    (&["audit"], "audit"),
    (&["ban", "bans"], "ban ls"),
    (&["client", "clients"], "client ls"),
    (&["command", "commands"], "command ls"),
    (&["config", "configuration"], "config show"),
    (&["device", "devices"], "device ls"),
    (&["events", "log", "logs"], "logs"),
    (&["firmware"], "firmware ls"),
    (&["group", "groups"], "group ls"),
    (
        &[
            "bridge",
            "bridges",
            "integration",
            "integrations",
            "webhook",
            "webhooks",
        ],
        "integration ls",
    ),
    (&["lockout", "lockouts"], "lockout ls"),
    (&["provision", "provisioning"], "provision ls"),
    (&["retained"], "retained ls"),
    (&["role", "roles"], "role ls"),
    (&["rollout", "rollouts"], "rollout ls"),
    (&["rule", "rules"], "rule ls"),
    (&["secret", "secrets"], "secret ls"),
    (&["session", "sessions"], "session ls"),
    (&["telemetry"], "telemetry rejected"),
];

impl Control {
    /// The part of the program that a name is a word for.
    pub(super) fn part_named(&self, name: &str) -> Option<NamedPart> {
        let name = name.to_ascii_lowercase();
        let (_, shows) = PARTS.iter().find(|(words, _)| words.contains(&&*name))?;
        let is_health = *shows == "health";
        Some(NamedPart {
            own_command: name.starts_with("backup").then_some("martlet backup"),
            is_health,
            command: self.listing_command(shows),
        })
    }
}
