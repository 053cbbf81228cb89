//! All keys of the configuration, each declared once with its type, default, range and description.
//! The typed configuration and the reference page are generated from these declarations.
//!
//! * `section`, `declaration`: declaration of keys
//! * `value`, `words`: types of values
//! * `general`, `authentication`, `http`, `events`, `telemetry`, `listeners`: the keys

mod authentication;
mod declaration;
mod events;
mod general;
mod http;
mod listeners;
mod section;
mod telemetry;
#[cfg(test)]
mod tests;
mod value;
mod words;

pub(crate) use declaration::{Key, Kind, TableKey};
pub(crate) use general::Tls;
pub(crate) use listeners::{HttpListenerKeys, ListenerKeys};
pub(crate) use section::TableKeys;
pub(crate) use telemetry::{RetentionKeys, TelemetryRuleKeys};
pub(crate) use value::Value;
pub(crate) use words::{
    DiscoveryMode, Enabled, LogFormat, MetricsForm, PayloadFormat, StoreDurability, TlsVersion,
};

use std::sync::LazyLock;

use martlet_broker::Limits;

use section::Section;

macro_rules! settings {
    ($($section:ident: $type:ty,)+) => {
        /// The values of all keys: a field per section, with a field per key.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct Settings {
            $(pub(crate) $section: $type,)+
        }

        impl Settings {
            fn keys() -> Vec<Key> {
                [$(<$type as Section>::keys(stringify!($section)),)+].concat()
            }

            /// Sets the key with this path. Returns false if there is no such key, or the value has
            /// another type.
            pub(crate) fn set(&mut self, path: &str, value: &Value) -> bool {
                let Some((section, key)) = path.split_once('.') else {
                    return false;
                };
                match section {
                    $(stringify!($section) => Section::set(&mut self.$section, key, value),)+
                    _ => false,
                }
            }
        }
    };
}

settings! {
    node: general::Node,
    store: general::Store,
    tls: Tls,
    auth: authentication::Auth,
    acl: authentication::Acl,
    registry: general::Registry,
    audit: general::Audit,
    http: http::Http,
    log: general::Log,
    events: events::Events,
    dead_letters: general::DeadLetters,
    integrations: general::Integrations,
    secrets: general::Secrets,
    presence: general::Presence,
    messages: general::Messages,
    topic_memory: general::TopicMemory,
    iotflow: general::Iotflow,
    nats: general::Nats,
    mqtt: general::Mqtt,
    telemetry: telemetry::Telemetry,
    firmware: general::Firmware,
    alarms: general::Alarms,
    limits: Limits,
}

/// All keys, in the order of the reference page. Listeners are a separate list of tables.
pub(crate) fn keys() -> &'static [Key] {
    // Cached, because each reload and each check of a value needs the keys.
    static KEYS: LazyLock<Vec<Key>> = LazyLock::new(Settings::keys);
    &KEYS
}

/// The table of limits is declared in the broker.
impl Section for Limits {
    fn keys(section: &str) -> Vec<Key> {
        let rows = Self::TABLE.iter().map(|row| Key {
            path: format!("{section}.{}", row.key),
            kind: match row.key {
                "store_bytes" => Kind::NoneOrAtLeast {
                    min: STORE_BYTES_MIN,
                },
                key => Kind::Integer {
                    min: row.min(),
                    max: limit_max(key),
                },
            },
            default: Value::Integer(row.default),
            what: row.what,
            at_limit: Some(row.at_limit),
            is_list: false,
        });
        rows.collect()
    }

    fn set(&mut self, key: &str, value: &Value) -> bool {
        match value {
            Value::Integer(number) => Self::set(self, key, *number),
            _ => false,
        }
    }
}

/// With this limit, an empty store takes 48 MiB, and there is room for two more segments.
const STORE_BYTES_MIN: u64 = 64 << 20;

/// Size of the largest possible packet: its first byte, four bytes of Remaining Length, and the
/// largest value of these (MQTT 5, section 2.1.4).
const PACKET_BYTES_MAX: u64 = 1 + 4 + martlet_codec::MAX_REMAINING_LEN as u64;

/// The largest value of the limit's type.
fn limit_max(key: &str) -> u64 {
    if matches!(key, "packet_bytes" | "connect_packet_bytes") {
        return PACKET_BYTES_MAX;
    }
    if key == "team_percent" {
        return 100;
    }
    let mut limits = Limits::default();
    [u64::MAX, u64::from(u32::MAX), u64::from(u16::MAX)]
        .into_iter()
        .find(|&max| limits.set(key, max))
        .unwrap_or(u64::MAX)
}
