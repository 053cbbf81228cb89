//! Variables of other programs that have no effect on a node, with the reasons.

use super::connections;

/// Settings of clients of a broker.
const CLIENTS: &str = "a setting of clients; martlet pub, sub, rr and bench read it";
const OTHER_CLIENTS: &str = "a setting of the program that connected to a broker; here it is the \
                             broker itself";
const MESSAGE_LOG: &str = "the message log is in the database of users and devices (registry.url); \
                           martlet import microservice imports mqtt-messages.db";
const TELEMETRY: &str = "storage of telemetry is planned";
const SESSIONS: &str = "login sessions have random tokens and their own end";
const BROWSERS: &str = "for the panel's own programs";
const COLLECTOR: &str = "for the collector and dashboard, which stay programs of their own";

/// Names, or prefixes of names followed by `*`.
const IGNORED: &[(&str, &str)] = &[
    ("MQTT_USERNAME", CLIENTS),
    ("MQTT_PASSWORD", CLIENTS),
    ("MQTT_CLIENT_ID", CLIENTS),
    ("MQTT_CA_CERT_PATH", CLIENTS),
    ("MQTT_CERTFILE", CLIENTS),
    ("MQTT_KEYFILE", CLIENTS),
    ("MQTT_KEEPALIVE", OTHER_CLIENTS),
    ("MQTT_CLEAN_SESSION", OTHER_CLIENTS),
    ("MQTT_MAX_RETRIES", OTHER_CLIENTS),
    ("MQTT_RETRY_DELAY", OTHER_CLIENTS),
    ("MQTT_AUTO_RECONNECT", OTHER_CLIENTS),
    ("MQTT_MAX_INFLIGHT_MESSAGES", OTHER_CLIENTS),
    ("MQTT_MESSAGE_RETRY_SET", OTHER_CLIENTS),
    ("MQTT_DEFAULT_QOS", OTHER_CLIENTS),
    ("DB_*", MESSAGE_LOG),
    ("REVERB_APP_ID", BROWSERS),
    ("REVERB_APP_SECRET", BROWSERS),
    ("REVERB_MAX_REQUEST_SIZE", BROWSERS),
    ("REVERB_APP_MAX_MESSAGE_SIZE", BROWSERS),
    ("REVERB_APP_PING_INTERVAL", BROWSERS),
    ("REVERB_APP_ACTIVITY_TIMEOUT", BROWSERS),
    ("REVERB_SCALING_*", BROWSERS),
    ("VITE_*", BROWSERS),
    ("SEED_USER_*", "martlet user add makes users"),
    ("QUEUE_CONNECTION", BROWSERS),
    ("REDIS_URL", "nothing here needs a cache of its own"),
    ("FLASK_ENV", "only one mode exists"),
    ("SECRET_KEY", SESSIONS),
    ("SESSION_TIMEOUT", SESSIONS),
    (
        "JWT_SECRET_KEY",
        "tokens of the dashboard are not read; auth.jwt_* checks those of MQTT",
    ),
    (
        "API_KEY_LENGTH",
        "secrets have the length that their route has",
    ),
    ("IOTDB_*", TELEMETRY),
    ("INFLUXDB_*", TELEMETRY),
    ("COLLECTOR_*", COLLECTOR),
    ("FLASK_*", COLLECTOR),
    ("DEVICE_STATUS_PORT", COLLECTOR),
    ("NUM_DEVICES", COLLECTOR),
    ("SHOW_DEVICE_LOGS", COLLECTOR),
    ("LOG_PREFIX", COLLECTOR),
    ("LATENCY_*", COLLECTOR),
];

/// Why a variable has no effect; `None` if it is unknown.
pub(crate) fn reason(name: &str) -> Option<&'static str> {
    let is_meant = |known: &str| match known.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == known,
    };
    if let Some((_, why)) = IGNORED.iter().find(|(known, _)| is_meant(known)) {
        return Some(why);
    }
    connections::ignored(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_programs_have_a_reason() {
        for (name, why) in [
            ("MQTT_HIVEMQ_HOST", None),
            ("MQTT_CLIENT_ID", Some(CLIENTS)),
            ("DB_PATH", Some(MESSAGE_LOG)),
            ("MQTT__HOST", None),
            ("PATH", None),
        ] {
            assert_eq!(reason(name), why, "{name}");
        }
    }
}
