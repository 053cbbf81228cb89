//! Integrations that are added by the API: their settings are JSON, with the keys of a table in the
//! configuration.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use martlet_codec::QoS;
use martlet_control::integrations::{
    AddedKind, AllowedNetworks, ConfiguredSink, ENABLED, IntegrationMaker, KINDS, Surroundings,
    Target, Unusable,
};
use martlet_integrate::bridge::{DEFAULT_QOS, Direction, TopicRule, check_addresses};
use martlet_integrate::webhook::has_credentials;
use martlet_settings::{Takes, Value as Setting, Values, refers_alone};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::bridges::checked_line;
use super::nearest::{nearest, nearest_of};
use super::sinks::sink_of;

/// Keys with file names of the node. Only callers that see the whole node may set them.
const FILES: &[&str] = &["ca_file", "ca_directory", "certificate_file", "key_file"];
/// A key that the node stores with the settings but does not use.
const NOTES: &str = "notes";
/// Keys that are in the path and the query of the request.
const ELSEWHERE: &[&str] = &["name", "tenant"];

/// Creates integrations from settings of the API.
#[derive(Clone, Debug)]
pub(crate) struct MadeIntegrations {
    /// Base directory of relative paths.
    pub(crate) data_dir: PathBuf,
    /// `integrations.allow_private`.
    pub(crate) allowed: AllowedNetworks,
    /// Default size of a queue in bytes, without `max_bytes`.
    pub(crate) queue_bytes: u64,
}

impl IntegrationMaker for MadeIntegrations {
    fn make(
        &self,
        of_kind: AddedKind,
        name: &str,
        team: &str,
        settings: &Map<String, Value>,
        sees_node: bool,
    ) -> Result<ConfiguredSink, Unusable> {
        let text = |text: &str| Setting::Text(text.to_owned());
        let (owner, name) = name.rsplit_once('/').unwrap_or(("", name));
        let mut table = Values::from([
            ("name".to_owned(), text(name)),
            ("tenant".to_owned(), text(team)),
        ]);
        for (key, value) in settings {
            let of_key = |why| Unusable {
                key: Some(key.clone()),
                why,
            };
            match (&**key, value) {
                (NOTES, _) | (ENABLED, Value::Bool(_)) => continue,
                (ENABLED, _) => return Err(of_key("expected true or false".to_owned())),
                _ => {}
            }
            let takes = takes_of(of_kind, key).map_err(of_key)?;
            if !sees_node && FILES.contains(&&**key) {
                let why = "only a caller that sees the whole node may name files of the node";
                return Err(of_key(why.to_owned()));
            }
            // Treated as missing.
            if value.is_null() {
                continue;
            }
            table.insert(key.clone(), value_of(takes, value).map_err(of_key)?);
        }
        let surroundings = Surroundings {
            data_dir: &self.data_dir,
            allowed: &self.allowed,
            owner,
        };
        let sink = sink_of(of_kind.name(), &table, &surroundings);
        let sink = sink.map_err(|why| Unusable { key: None, why })?;
        Ok(sink.bounded(self.queue_bytes))
    }

    fn check_new(&self, kind: AddedKind, settings: &Map<String, Value>) -> Result<(), Unusable> {
        let Some(Value::String(url)) = settings.get("url") else {
            return Ok(());
        };
        // The routes of the microservice accept them, like the original.
        let is_compat = settings.get("format").and_then(Value::as_str) == Some("microservice");
        let checked = match kind {
            AddedKind::Bridge => check_addresses(url, &self.allowed),
            AddedKind::Webhook if !is_compat && has_credentials(url) => Err(
                "it has a user name or password, which the tables would contain in plain text: use \
                 ${secret:NAME} in its place, or a header such as \"Authorization: Basic \
                 ${secret:NAME}\", and set the secret with PUT /api/v1/secrets/NAME"
                    .to_owned(),
            ),
            AddedKind::Webhook => Target::of(url, &self.allowed)
                .refused()
                .map_or(Ok(()), Err),
        };
        checked.map_err(|why| Unusable {
            key: Some("url".to_owned()),
            why,
        })
    }

    fn check_names<'a>(
        &'a self,
        settings: &'a Map<String, Value>,
    ) -> BoxFuture<'a, Result<(), Unusable>> {
        Box::pin(async {
            let url = settings.get("url").and_then(Value::as_str);
            let target = Target::of(url.unwrap_or_default(), &self.allowed);
            match target.looked_up().await.refused() {
                None => Ok(()),
                Some(why) => Err(Unusable {
                    key: Some("url".to_owned()),
                    why,
                }),
            }
        })
    }

    fn queue_bytes(&self) -> u64 {
        self.queue_bytes
    }
}

/// Accepted values of a key.
///
/// # Errors
/// There is no such key.
fn takes_of(of_kind: AddedKind, key: &str) -> Result<Takes, String> {
    if ELSEWHERE.contains(&key) {
        return Err(
            "it is part of the request: the name in its path, the team in `team`".to_owned(),
        );
    }
    let known = KINDS.iter().find(|known| known.kind == of_kind.name());
    let keys = known.map_or_else(Vec::new, |known| (known.keys)());
    let found = keys.iter().find(|known| known.name == key);
    found.map(|known| known.takes).ok_or_else(|| {
        let hint = nearest(&nearest_of(keys.iter().map(|known| known.name), key));
        format!("it is not a key of a {}{hint}", of_kind.name())
    })
}

/// A value of the configuration, from JSON.
fn value_of(takes: Takes, value: &Value) -> Result<Setting, String> {
    let other = || format!("expected {}", takes.expectation(false));
    let found = match (takes, value) {
        (Takes::Secret, Value::String(text)) if refers_alone(text) => {
            Setting::Secret(text.clone().into())
        }
        (Takes::Secret, _) => {
            return Err(
                "expected a reference such as \"${secret:NAME}\", so that the tables contain no \
                 secret: set the secret with PUT /api/v1/secrets/NAME"
                    .to_owned(),
            );
        }
        (Takes::Topics, Value::Array(topics)) => {
            let lines = topics.iter().map(topic_line);
            Setting::Texts(lines.collect::<Result<_, _>>()?)
        }
        (Takes::Headers, Value::Array(lines)) => {
            let lines = lines.iter().map(header_line);
            Setting::Headers(lines.collect::<Result<_, _>>()?)
        }
        (_, Value::Array(texts)) => {
            let texts = texts.iter().map(|text| text.as_str().map(str::to_owned));
            Setting::Texts(texts.collect::<Option<_>>().ok_or_else(other)?)
        }
        (_, Value::Number(_)) => Setting::Integer(value.as_u64().ok_or_else(other)?),
        (_, Value::Bool(flag)) => Setting::Boolean(*flag),
        (_, Value::String(text)) => Setting::Text(text.clone()),
        _ => return Err(other()),
    };
    Some(found)
        .filter(|found| takes.fits(found))
        .ok_or_else(other)
}

/// A header, `Name: value`. If its name indicates a secret, its value must be a reference to a
/// secret.
fn header_line(line: &Value) -> Result<String, String> {
    let expected = "expected texts such as \"X-Source: martlet\"";
    let line = line.as_str().ok_or(expected)?;
    let (name, value) = line.split_once(':').ok_or(expected)?;
    let name = name.trim().to_ascii_lowercase();
    let is_secret = SECRET_HEADERS.iter().any(|word| name.contains(word));
    if is_secret && !value.contains("${secret:") {
        return Err(format!(
            "the header {name:?}: expected a reference such as \"{name}: ${{secret:NAME}}\", so \
             that the tables contain no secret: set the secret with PUT /api/v1/secrets/NAME"
        ));
    }
    Ok(line.to_owned())
}

/// Parts of header names that indicate secret values. Fewer than those masked in answers: masking
/// too much, for a word such as `sig` inside another one, is harmless, but here the header would be
/// rejected.
const SECRET_HEADERS: &[&str] = &[
    "auth",
    "cookie",
    "key",
    "password",
    "secret",
    "signature",
    "token",
];

/// A topic of a bridge.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Topic {
    filter: String,
    direction: String,
    qos: u8,
    local_prefix: String,
    remote_prefix: String,
}

impl Default for Topic {
    fn default() -> Self {
        Self {
            filter: String::new(),
            direction: "out".to_owned(),
            qos: DEFAULT_QOS as u8,
            local_prefix: String::new(),
            remote_prefix: String::new(),
        }
    }
}

fn topic_line(topic: &Value) -> Result<String, String> {
    if let Value::String(line) = topic {
        return TopicRule::parse(line, DEFAULT_QOS).map(|_| line.clone());
    }
    let topic = Topic::deserialize(topic).map_err(|error| error.to_string())?;
    let direction = Direction::of(&topic.direction).ok_or_else(|| {
        format!(
            "direction is {:?}, expected out, in or both",
            topic.direction
        )
    })?;
    let qos = QoS::from_bits(topic.qos)
        .ok_or_else(|| format!("qos is {}, expected 0, 1 or 2", topic.qos))?;
    checked_line(&TopicRule {
        filter: topic.filter.into(),
        direction,
        qos,
        local_prefix: topic.local_prefix.into(),
        remote_prefix: topic.remote_prefix.into(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(settings: Value, sees_node: bool) -> Result<ConfiguredSink, Unusable> {
        let maker = MadeIntegrations {
            data_dir: PathBuf::from("/data"),
            allowed: AllowedNetworks::default(),
            queue_bytes: 1_000_000,
        };
        let Value::Object(settings) = settings else {
            panic!("no object");
        };
        maker.make(AddedKind::Bridge, "up", "", &settings, sees_node)
    }

    #[test]
    fn a_bridge_is_made_of_json() {
        let settings = json!({
            "url": "mqtts://broker.example",
            "topics": ["a/# out", { "filter": "b/#", "direction": "both", "qos": 2 }],
            "user": "u", "password": "${secret:up}", "keep_alive_secs": 30, "protocol": "3.1.1",
            "max_age_secs": 0, "clean_session": null, "ca_file": "ca.pem",
        });
        let sink = made(settings, true).expect("a bridge");
        assert_eq!(sink.secrets().collect::<Vec<_>>(), ["up"]);
        assert_eq!(sink.settings.filters, ["a/#".into(), "b/#".into()]);
        assert_eq!(sink.settings.queue.bytes_max, 1_000_000);
    }

    #[test]
    fn the_tables_get_no_password_in_a_url_and_no_address_that_is_refused() {
        let maker = MadeIntegrations {
            data_dir: PathBuf::from("/data"),
            allowed: AllowedNetworks::parse(["10.0.0.0/8"]).expect("a network"),
            queue_bytes: 1_000_000,
        };
        let check = |kind, url: &str| {
            let Value::Object(settings) = json!({ "url": url }) else {
                panic!("no object");
            };
            maker.check_new(kind, &settings)
        };
        let (bridge, webhook) = (AddedKind::Bridge, AddedKind::Webhook);
        for (kind, bad, says) in [
            (bridge, "mqtt://169.254.169.254", "169.254.169.254"),
            (bridge, "mqtt://10.0.0.1, mqtts://[fe80::1]:8883", "fe80::1"),
            (webhook, "http://u:hunter2@10.0.0.1/", "${secret:NAME}"),
            (webhook, "http://hunter2@10.0.0.1/", "${secret:NAME}"),
            (
                webhook,
                "https:\\\\u:hunter2@a.example\\x",
                "${secret:NAME}",
            ),
            (
                webhook,
                "http://u:hunter2@${secret:host}/",
                "${secret:NAME}",
            ),
        ] {
            let error = check(kind, bad).expect_err(bad);
            assert_eq!(error.key.as_deref(), Some("url"), "{bad}");
            assert!(error.why.contains(says), "{bad}: {error}");
            assert!(!error.why.contains("hunter2"), "{bad}: {error}");
        }
        for (kind, good) in [
            (bridge, "mqtt://10.0.0.1,mqtt://a.example"),
            (webhook, "http://10.0.0.1/a@b?c=d@e"),
            (webhook, "http://u:${secret:password}@10.0.0.1/"),
            (webhook, "${secret:all}"),
        ] {
            assert_eq!(check(kind, good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key() {
        let with = |key: &str, value: Value| {
            let mut all = json!({ "url": "mqtt://a", "topics": ["a"] });
            all[key] = value;
            made(all, false).expect_err("it is unusable")
        };
        for (key, value) in [
            ("password", json!("hunter2")),
            ("ca_file", json!("/etc/passwd")),
            ("keep_alive_secs", json!(1)),
            ("protocol", json!("4")),
            ("clean_session", json!("yes")),
            ("topics", json!([{ "filter": "a", "qos": 3 }])),
            ("topics", json!([{ "filter": "a", "quality": 1 }])),
            ("topics", json!(["a sideways"])),
            ("name", json!("x")),
            ("pasword", json!("x")),
        ] {
            let error = with(key, value);
            assert_eq!(error.key.as_deref(), Some(key), "{error}");
            assert!(!error.why.contains("hunter2"), "{error}");
        }
        assert!(with("pasword", json!("x")).why.contains("password"));
        assert_eq!(with("url", json!("http://a")).key, None);
    }
}
