//! From a table `[[sinks.webhook]]` to its settings, and how they are shown: without secrets.

use std::time::Duration;

use martlet_control::integrations::{AllowedNetworks, Template, WebhookSettings, check_webhook};

use super::load::SinkTable;
use super::schema::Value;
use super::sinks::{number, text, value};

const TIMEOUT_SECS: u64 = 10;
const IN_FLIGHT: u64 = 8;
/// Headers whose values are shown.
const PLAIN: &[&str] = &["accept", "content-type", "user-agent"];
/// Headers that the sink itself sets.
const OWN: &[&str] = &["host", "content-length", "transfer-encoding", "connection"];

/// The settings of a table.
///
/// # Errors
/// A key is missing or unusable; the reason does not repeat a value that may be secret.
pub(super) fn settings(
    table: &SinkTable,
    allowed: &AllowedNetworks,
    stops_at_refusal: bool,
) -> Result<WebhookSettings, String> {
    let url = text(table, "url").filter(|url| !url.is_empty());
    let url = url.ok_or("`url` is missing, expected http:// or https://")?;
    let mut headers = Vec::new();
    if let Some(Value::Texts(lines)) = value(table, "headers") {
        for (at, line) in lines.iter().enumerate() {
            headers
                .push(header(line).map_err(|why| format!("line {} of `headers`: {why}", at + 1))?);
        }
    }
    let signing_key = match value(table, "signing_key") {
        Some(Value::Secret(key)) if !key.text().is_empty() => Some(key.text()),
        _ => None,
    };
    let template =
        |key: &str, text: &str| Template::parse(text).map_err(|why| format!("`{key}`: {why}"));
    let in_flight = number(table, "in_flight", IN_FLIGHT);
    let settings = WebhookSettings {
        url: template("url", url)?,
        method: text(table, "method").unwrap_or("POST").to_owned(),
        headers,
        timeout: Duration::from_secs(number(table, "timeout_secs", TIMEOUT_SECS)),
        in_flight: usize::try_from(in_flight).unwrap_or(usize::MAX),
        signing_key: signing_key
            .map(|key| template("signing_key", key))
            .transpose()?,
        stops_at_refusal,
        allowed: allowed.clone(),
    };
    check_webhook(&settings)?;
    Ok(settings)
}

/// `Name: value`.
fn header(line: &str) -> Result<(String, Template), String> {
    let (name, value) = line
        .split_once(':')
        .ok_or("expected \"Name: value\", such as \"Authorization: Bearer ${secret:token}\"")?;
    let name = name.trim();
    if OWN.contains(&&*name.to_ascii_lowercase()) {
        return Err(format!("{name} is set by the node"));
    }
    Ok((name.to_owned(), Template::parse(value.trim())?))
}

/// A value of a sink as it is shown: what may be secret is masked, references to secrets are not.
pub(crate) fn shown(key: &str, value: &Value) -> Value {
    match (key, value) {
        ("headers", Value::Texts(lines)) => {
            Value::Texts(lines.iter().map(|line| shown_header(line)).collect())
        }
        ("signing_key", Value::Secret(text)) if refers_alone(text.text()) => {
            Value::Text(text.text().to_owned())
        }
        // The path of many webhooks is a secret by itself; a reference masks all of that.
        (_, value) => value.shown(),
    }
}

fn shown_header(line: &str) -> String {
    let Some((name, value)) = line.split_once(':') else {
        return "***".to_owned();
    };
    let (name, value) = (name.trim(), value.trim());
    let scheme = value.split_once(' ').map_or("", |(scheme, _)| scheme);
    let is_scheme = ["bearer", "basic", "token"].contains(&&*scheme.to_ascii_lowercase());
    let rest = if is_scheme {
        value[scheme.len()..].trim()
    } else {
        value
    };
    let is_plain = PLAIN.contains(&&*name.to_ascii_lowercase());
    if is_plain || refers_alone(rest) {
        return format!("{name}: {value}");
    }
    format!("{name}: ***")
}

/// Whether a text is nothing but one reference to a secret.
fn refers_alone(text: &str) -> bool {
    let inner = text.strip_prefix("${secret:");
    let inner = inner.and_then(|inner| inner.strip_suffix('}'));
    inner.is_some_and(|name| !name.contains(['{', '}', '$']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_headers_are_masked_and_references_are_shown() {
        for (line, expected) in [
            ("Authorization: Bearer known", "Authorization: ***"),
            (
                "Authorization: Bearer ${secret:t}",
                "Authorization: Bearer ${secret:t}",
            ),
            ("X-Key: ${secret:t}", "X-Key: ${secret:t}"),
            ("X-Key: known${secret:t}", "X-Key: ***"),
            ("X-Key: ${secret:a}known${secret:t}", "X-Key: ***"),
            ("Content-Type: text/plain", "Content-Type: text/plain"),
            ("known", "***"),
        ] {
            assert_eq!(shown_header(line), expected);
        }
        let key = Value::Secret("known".to_owned().into());
        assert!(!format!("{}", shown("signing_key", &key)).contains("known"));
        let key = Value::Secret("${secret:k}".to_owned().into());
        assert_eq!(
            shown("signing_key", &key),
            Value::Text("${secret:k}".to_owned())
        );
    }
}
