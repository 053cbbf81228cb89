//! Facts about what the node was set up with, as far as operators may know: listeners,
//! certificates, the configuration.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use martlet_broker::Realm;
use serde::Serialize;

/// All of it, as it is in force.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// Where it listens.
    pub listeners: Vec<ListenerFacts>,
    /// Certificates of the node, and the authorities that it trusts.
    pub certificates: Vec<CertificateFacts>,
    /// The values of the configuration.
    pub configuration: Configuration,
    /// Keys that variables of other programs set.
    pub variables: KeyVariables,
}

/// Keys of the configuration that variables of other programs set, each with its variable.
#[derive(Clone, Debug, Default)]
pub struct KeyVariables(Arc<[(String, String)]>);

impl KeyVariables {
    /// Pairs of a key and its variable.
    pub fn new(pairs: impl Iterator<Item = (String, String)>) -> Self {
        Self(pairs.collect())
    }

    /// The text with the variable before each of the keys that it names: who has written the
    /// variable may not know the key.
    pub fn named<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut named = Cow::Borrowed(text);
        for (key, variable) in &*self.0 {
            if named.contains(key.as_str()) && !named.contains(variable.as_str()) {
                named = Cow::Owned(with_variable(&named, key, variable));
            }
        }
        named
    }
}

fn with_variable(text: &str, key: &str, variable: &str) -> String {
    let is_of_key = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let goes_on = |rest: &str| {
        rest.strip_prefix('.')
            .unwrap_or(rest)
            .starts_with(is_of_key)
    };
    let (mut named, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, behind)) = rest.split_once(key) {
        named.push_str(before);
        let is_begun = named.ends_with(|letter| is_of_key(letter) || letter == '.');
        match is_begun || goes_on(behind) {
            true => named.push_str(key),
            false => named.push_str(&format!("{variable} ({key})")),
        }
        rest = behind;
    }
    named + rest
}

/// A listener.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ListenerFacts {
    /// Address, as a URL.
    #[schema(example = "mqtts://0.0.0.0:8883")]
    pub url: String,
    /// Protocol that is spoken there: `mqtt` or `http`.
    pub protocol: &'static str,
    /// Whether it is encrypted.
    pub is_secure: bool,
    /// Clients must authenticate there.
    pub needs_credentials: bool,
    /// Clients that are connected by it now; none where it is not for MQTT.
    pub connections: Option<u32>,
    /// The realm whose credentials and rules apply there.
    #[serde(skip)]
    #[schema(ignore)]
    pub realm: Realm,
}

/// A certificate in use.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct CertificateFacts {
    /// The file that it was read from.
    pub file: String,
    /// Use of the certificate: `server`, or `client_ca`, by which certificates of clients are good.
    pub used_as: &'static str,
    /// The client that it is about.
    pub subject: String,
    /// Issuer of the certificate.
    pub issuer: String,
    /// DNS names, addresses, URIs and mail addresses that it is for.
    pub names: Vec<String>,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// SHA-256 over all of it, hexadecimal with colons.
    pub fingerprint: String,
    /// Valid from, seconds since the Unix epoch.
    pub not_before_secs: i64,
    /// Valid until, likewise.
    pub not_after_secs: i64,
}

/// Every value in force, and where it came from.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct Configuration {
    /// Every key, set or not.
    pub values: Vec<ConfigurationValue>,
    /// Configured listeners; without any, loopback is listened on.
    pub listeners: Vec<BTreeMap<String, ListenerValue>>,
    /// Further listeners of the HTTP server, beside `http.listen`.
    pub http_listeners: Vec<BTreeMap<String, ListenerValue>>,
    /// Rules of telemetry.
    pub telemetry_rules: Vec<BTreeMap<String, ListenerValue>>,
    /// How long telemetry of types of devices is kept.
    pub telemetry_retention: Vec<BTreeMap<String, ListenerValue>>,
    /// Configured sinks.
    pub sinks: Vec<ConfiguredSink>,
}

/// A configured sink.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ConfiguredSink {
    /// Kind, such as `file`.
    #[schema(example = "file")]
    pub kind: String,
    /// Keys of the entry, with their values.
    pub values: BTreeMap<String, ListenerValue>,
}

/// A value of the configuration.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ConfigurationValue {
    /// Key of the configuration.
    #[schema(example = "limits.in_flight")]
    pub key: String,
    /// As it is shown: what is secret is `***`.
    pub value: serde_json::Value,
    /// Where it came from.
    #[schema(example = "default")]
    pub source: String,
}

/// A value of a configured listener or sink.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ListenerValue {
    /// As it is shown: what is secret is `***`.
    pub value: serde_json::Value,
    /// Where it came from.
    pub source: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_a_variable_sets_is_named_by_it() {
        let pairs = [("http.rate", "RATE"), ("http.origins", "ORIGINS")];
        let pairs = pairs.map(|(key, variable)| (key.to_owned(), variable.to_owned()));
        let variables = KeyVariables::new(pairs.into_iter());
        for (text, expected) in [
            ("raise http.rate.", "raise RATE (http.rate)."),
            (
                "http.rate, http.origins",
                "RATE (http.rate), ORIGINS (http.origins)",
            ),
            (
                "http.rate_a a.http.rate http.rate.b",
                "http.rate_a a.http.rate http.rate.b",
            ),
            ("RATE: http.rate is 0", "RATE: http.rate is 0"),
            ("http.burst", "http.burst"),
        ] {
            assert_eq!(variables.named(text), expected);
        }
    }
}
