//! The secret parts of a webhook's settings: its target may repeat them in an answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::settings::WebhookSettings;
use super::signing_key::KEY_PREFIX;
use crate::masking::SecretTexts;
use crate::secret::{SecretTrouble, SecretValues, Template};

/// Parts of the names of headers and URL parameters that hold secrets.
const SECRET_NAMES: &[&str] = &[
    "auth", "code", "cookie", "cred", "jwt", "key", "pass", "pwd", "secret", "sig", "token",
];
/// Minimum length of a part of a secret URL that counts as a secret, bytes.
const PART_BYTES_MIN: usize = 8;

/// All secrets of a webhook: stored ones, and those in its settings.
///
/// # Errors
/// A stored secret is missing.
pub(super) fn all(
    settings: &WebhookSettings,
    values: &SecretValues,
) -> Result<SecretTexts, SecretTrouble> {
    let mut secrets = SecretTexts::of(values);
    for (name, value) in &settings.headers {
        if is_called_secret(name) {
            add_header(&mut secrets, value.fill(values)?.expose());
        }
    }
    if let Some(key) = &settings.signing_key {
        add_signing_key(&mut secrets, key.fill(values)?.expose());
    }
    add_url(&mut secrets, settings.url.fill(values)?.expose());
    add_parts_of_url(&mut secrets, &settings.url, values);
    Ok(secrets)
}

fn is_called_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// Adds the value of a header and its parts: `SCHEME VALUE`, `NAME=VALUE; NAME=VALUE`. Base64
/// after a scheme contains user and password.
fn add_header(secrets: &mut SecretTexts, value: &str) {
    let value = value.trim();
    secrets.add(value.as_bytes());
    let credentials = value.split_once(' ').map_or("", |(_, rest)| rest.trim());
    secrets.add(credentials.as_bytes());
    if let Ok(decoded) = STANDARD.decode(credentials) {
        let mut halves = decoded.splitn(2, |byte| *byte == b':');
        if let (Some(user), Some(password)) = (halves.next(), halves.next()) {
            secrets.add(user);
            secrets.add(password);
        }
    }
    for part in value.split([',', ';']) {
        if let Some((_, value)) = part.split_once('=') {
            secrets.add(value.trim().trim_matches('"').as_bytes());
        }
    }
}

fn add_signing_key(secrets: &mut SecretTexts, key: &str) {
    secrets.add(key.as_bytes());
    if let Some(encoded) = key.strip_prefix(KEY_PREFIX) {
        secrets.add(encoded.as_bytes());
        secrets.add(&STANDARD.decode(encoded).unwrap_or_default());
    }
}

/// User, password and parameters of a URL.
fn add_url(secrets: &mut SecretTexts, url: &str) {
    // An invalid URL is never used.
    let Ok(url) = Url::parse(url) else { return };
    for part in [url.username(), url.password().unwrap_or_default()] {
        secrets.add(part.as_bytes());
        let decoded: Vec<u8> = percent_encoding::percent_decode_str(part).collect();
        secrets.add(&decoded);
    }
    for parameter in url.query().unwrap_or_default().split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or_default();
        if is_called_secret(name) {
            secrets.add(value.as_bytes());
            let decoded: Vec<u8> = percent_encoding::percent_decode_str(value).collect();
            secrets.add(&decoded);
        }
    }
}

/// If a stored secret is a URL or a part of one, a target receives and repeats parts of it, such
/// as the path.
fn add_parts_of_url(secrets: &mut SecretTexts, url: &Template, values: &SecretValues) {
    for value in url.names().filter_map(|name| values.get(name)) {
        let value = value.expose();
        if let Some((_, place)) = value.split_once("://") {
            secrets.add(place.find('/').map_or("", |at| &place[at + 1..]).as_bytes());
        }
        let parts = value.split(['/', '?', '&', '=', ':', '@', '#', ';']);
        for part in parts.filter(|part| part.len() >= PART_BYTES_MIN) {
            secrets.add(part.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::AllowedNetworks;
    use crate::secret::SecretValue;

    fn of(url: &str, headers: &[(&str, &str)], key: Option<&str>) -> SecretTexts {
        let template = |text: &str| Template::parse(text).unwrap();
        let headers = headers.iter();
        let settings = WebhookSettings {
            url: template(url),
            method: "POST".to_owned(),
            headers: headers
                .map(|(name, value)| ((*name).to_owned(), template(value)))
                .collect(),
            timeout: Duration::from_secs(1),
            in_flight: 1,
            format: crate::webhook::Format::Json,
            batch_messages: 1,
            keeps_order: true,
            signing_key: key.map(template),
            stops_at_refusal: false,
            allowed: AllowedNetworks::default(),
        };
        let mut values = SecretValues::new();
        for (name, value) in [
            ("hook", "https://h.example/services/T0/B0/abcdefgh1234?t=7"),
            ("token", "known-token"),
        ] {
            values.insert(name.into(), SecretValue::new(value.to_owned()));
        }
        all(&settings, &values).unwrap()
    }

    fn shown(secrets: &SecretTexts, text: &str) -> String {
        String::from_utf8_lossy(&secrets.mask(text.as_bytes(), false)).into_owned()
    }

    #[test]
    fn values_of_headers_that_are_called_secret_are_masked() {
        let secrets = of(
            "https://h.example/",
            &[
                ("Authorization", "Bearer abcd1234"),
                ("Proxy-Authorization", "Basic bWU6b3BlbiBzZXNhbWU="),
                ("Cookie", "sid=cookie-1; theme=\"other-2\""),
                ("X-Api-Key", "pre-${secret:token}-post"),
                ("X-Plain", "plain ${secret:token}"),
            ],
            None,
        );
        for text in [
            "Bearer abcd1234",
            "abcd1234",
            "Basic bWU6b3BlbiBzZXNhbWU=",
            "bWU6b3BlbiBzZXNhbWU",
            "open sesame",
            "cookie-1",
            "other-2",
            "pre-known-token-post",
            "known-token",
        ] {
            assert_eq!(shown(&secrets, &format!("no {text}!")), "no ***!");
        }
        assert_eq!(shown(&secrets, "plain Bearer"), "plain Bearer");
    }

    #[test]
    fn the_signing_key_is_masked_as_text_and_as_bytes() {
        let secrets = of(
            "https://h.example/",
            &[],
            Some("whsec_MDEyMzQ1Njc4OWFiY2RlZg=="),
        );
        for text in [
            "whsec_MDEyMzQ1Njc4OWFiY2RlZg==",
            "MDEyMzQ1Njc4OWFiY2RlZg==",
            "0123456789abcdef",
        ] {
            assert_eq!(shown(&secrets, text), "***", "{text}");
        }
    }

    #[test]
    fn credentials_and_parameters_of_the_url_are_masked() {
        let secrets = of(
            "https://user1:p%40ss1@h.example/a?api_key=%3D777&b=1",
            &[],
            None,
        );
        for text in [
            "user1",
            "p%40ss1",
            "p@ss1",
            "=777",
            "%3D777",
            "dXNlcjE6cEBzczE=",
        ] {
            assert_eq!(shown(&secrets, text), "***", "{text}");
        }
        assert_eq!(shown(&secrets, "h.example/a?b=1"), "h.example/a?b=1");
    }

    #[test]
    fn the_path_of_a_url_that_is_a_secret_is_masked() {
        let secrets = of("${secret:hook}", &[], None);
        let text = "no POST /services/T0/B0/abcdefgh1234?t=7";
        assert_eq!(shown(&secrets, text), "no POST /***");
        assert_eq!(shown(&secrets, "channel abcdefgh1234"), "channel ***");
    }
}
