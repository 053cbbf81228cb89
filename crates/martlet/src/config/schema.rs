//! Every key there is: its kind, its default, what it means. The reference page comes from here.

mod event_archive;
mod firmware;
mod general;
mod listeners;
mod rules;
mod telemetry;

pub(crate) use listeners::{HTTP_LISTENER_KEYS, LISTENER_KEYS, http_listener_keys, listener_keys};
pub(crate) use martlet_integrate::Takes as Kind;
pub(crate) use telemetry::{TELEMETRY_RETENTION_KEYS, TELEMETRY_RULE_KEYS};

use std::sync::LazyLock;

use martlet_broker::Limits;
use martlet_control::text::masked_target;

use super::masking;
use event_archive::EVENT_ARCHIVE;
use firmware::FIRMWARE;
use general::{Default, GENERAL, STORE_BYTES_MIN};
use rules::ALARMS;
use telemetry::TELEMETRY;

/// A key of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// Path in the TOML file, such as `limits.packet_bytes`.
    pub(crate) path: String,
    pub(crate) kind: Kind,
    pub(crate) default: Value,
    /// What it means, in a sentence.
    pub(crate) what: &'static str,
    /// What happens at it, for limits.
    pub(crate) at_limit: Option<&'static str>,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Integer(u64),
    Boolean(bool),
    Text(String),
    Texts(Vec<String>),
    Headers(Vec<String>),
    Secret(Secret),
}

/// Text that nothing prints.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// To be used, not to be shown.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "" } else { "***" })
    }
}

impl Value {
    /// As JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Integer(value) => (*value).into(),
            Self::Boolean(value) => (*value).into(),
            Self::Text(value) => value.as_str().into(),
            Self::Texts(values) => values.as_slice().into(),
            Self::Headers(lines) => masking::headers(lines).into(),
            Self::Secret(value) => value.to_string().into(),
        }
    }

    /// The text; nothing of a value of another kind.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(value) => value,
            _ => "",
        }
    }

    /// To be shown: a URL is without what is secret in it.
    pub(crate) fn shown(&self) -> Self {
        match self {
            Self::Text(value) => Self::Text(masked_target(value)),
            value => value.clone(),
        }
    }
}

impl std::fmt::Display for Value {
    /// As TOML.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::Texts(values) => write!(f, "{values:?}"),
            Self::Headers(lines) => write!(f, "{:?}", masking::headers(lines)),
            Self::Secret(value) => write!(f, "\"{value}\""),
        }
    }
}

/// All keys, in the order of the reference page. Listeners are a list of tables of their own.
pub(crate) fn keys() -> &'static [Key] {
    // Each reload and each checked value asks for them: they are put together once.
    static KEYS: LazyLock<Vec<Key>> = LazyLock::new(put_together);
    &KEYS
}

fn put_together() -> Vec<Key> {
    let mut keys: Vec<Key> = GENERAL
        .iter()
        .chain(TELEMETRY)
        .chain(FIRMWARE)
        .chain(EVENT_ARCHIVE)
        .chain(ALARMS)
        .map(|&(path, kind, ref default, what)| Key {
            path: path.to_owned(),
            kind,
            default: match *default {
                Default::Integer(value) => Value::Integer(value),
                Default::Boolean(value) => Value::Boolean(value),
                Default::Text(value) => Value::Text(value.to_owned()),
                Default::NoSecret => Value::Secret(String::new().into()),
            },
            what,
            at_limit: None,
        })
        .collect();
    keys.extend(Limits::TABLE.iter().map(|row| Key {
        path: format!("limits.{}", row.key),
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
    }));
    // Keys of a section stand together, wherever they are declared.
    let section_of = |key: &Key| key.path.split('.').next().map(str::to_owned);
    let mut sections: Vec<_> = keys.iter().map(section_of).collect();
    let mut seen = std::collections::HashSet::new();
    sections.retain(|section| seen.insert(section.clone()));
    keys.sort_by_cached_key(|key| sections.iter().position(|one| *one == section_of(key)));
    keys
}

const SWITCH: Kind = Kind::Boolean;

/// Keys whose text has several values with commas between them: a file may have a list of texts in
/// its place, by general keys and those of a listener.
const LISTS: &[&str] = &[
    "integrations.allow_private",
    "auth.order",
    "events.archive_kinds",
    "events.push_kinds",
    "events.push_topics",
    "firmware.public_keys",
    "compat",
    "open_routes",
    "http.api_keys",
    "http.compat",
    "http.hosts",
    "http.listen",
    "http.open_routes",
    "http.origins",
    "http.trusted_proxies",
    "origins",
    "proxy_from",
];

/// Whether a key may be a list.
pub(crate) fn is_list(key: &str) -> bool {
    LISTS.contains(&key)
}

/// The longest packet that there is: its first byte, four bytes of the Remaining Length, and what
/// these can count (MQTT 5, section 2.1.4).
const PACKET_BYTES_MAX: u64 = 1 + 4 + martlet_codec::MAX_REMAINING_LEN as u64;

/// The largest value that the limit's type takes.
fn limit_max(key: &str) -> u64 {
    if matches!(key, "packet_bytes" | "connect_packet_bytes") {
        return PACKET_BYTES_MAX;
    }
    let mut limits = Limits::default();
    [u64::MAX, u64::from(u32::MAX), u64::from(u16::MAX)]
        .into_iter()
        .find(|&max| limits.set(key, max))
        .unwrap_or(u64::MAX)
}
