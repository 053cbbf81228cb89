//! Messages of old firmware, which logs in without credentials and puts the secret of its device
//! into each payload: `{"api_key": "…", "temperature": 20}`.
//!
//! The key is checked as at a login of that device, with the same lockouts, bans and states. It is
//! taken out of the payload before the message is routed; the rest of the payload stays as it was.

use std::fmt;

use martlet_broker::{
    Authenticated, Authentication, LoginWaiter, Password, Refusal, RefusalCause, Screened,
    Screening,
};
use martlet_codec::ReasonCode;
use martlet_text_file::without_bom;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::AuthenticationChain;

/// Name of the member with the key.
const KEY: &str = "api_key";

/// Key in a payload, if any.
enum KeyInPayload {
    /// No key.
    NoKey,
    /// A key, and the payload without it.
    Key(Password, Box<[u8]>),
    /// The payload mentions a key, and cannot be read.
    Unreadable,
}

impl AuthenticationChain {
    /// Asks whose message this is, by the key in its payload. Does not block: what is known is
    /// answered at once, on this thread.
    pub fn ask_payload_key(
        &self,
        screening: Screening,
        answer: impl FnOnce(Screened) + Send + 'static,
    ) {
        let (key, payload) = match find(&screening.payload) {
            KeyInPayload::NoKey => return answer(Screened::OfClient),
            KeyInPayload::Key(key, payload) => (key, payload),
            KeyInPayload::Unreadable => {
                let detail = "api_key must be a member of a JSON object in the payload";
                let why = Refusal::operators_only(RefusalCause::PayloadKeyUnreadable, detail);
                let reason = ReasonCode::PayloadFormatInvalid;
                return answer(Screened::Refused { reason, why });
            }
        };
        let Some(device) = self.device_in(&screening) else {
            let detail = "the payload has an api_key, and no level of the topic is the id or number \
                          of a device";
            let why = Refusal::operators_only(RefusalCause::NoDeviceInTopic, detail);
            let reason = ReasonCode::NotAuthorized;
            return answer(Screened::Refused { reason, why });
        };
        let asked = Authentication {
            connection: screening.connection,
            realm: screening.listener.realm,
            listener: screening.listener,
            address: screening.address,
            version: screening.version,
            client_id: device.clone(),
            user_name: Some(device),
            password: Some(key),
            certificate: None,
            waiter: LoginWaiter::default(),
            step: None,
        };
        self.ask(asked, move |found| {
            answer(match found {
                Authenticated::Accepted {
                    identity,
                    last_revocation,
                    ..
                } if identity.is_device => Screened::OfDevice {
                    identity: Box::new(identity),
                    last_revocation,
                    payload,
                },
                Authenticated::Refused { why, .. } => Screened::Refused {
                    reason: ReasonCode::NotAuthorized,
                    why,
                },
                Authenticated::Accepted { .. } | Authenticated::Continue { .. } => {
                    let detail = "the api_key is not the secret of a device";
                    Screened::Refused {
                        reason: ReasonCode::NotAuthorized,
                        why: Refusal::operators_only(RefusalCause::WrongSecret, detail),
                    }
                }
            });
        });
    }

    /// The device that the topic of a message names.
    fn device_in(&self, screening: &Screening) -> Option<std::sync::Arc<str>> {
        let policy = self.policy();
        let tables = policy.tables_at(screening.listener.realm)?;
        let tenant = screening.tenant.0;
        let mut levels = screening.topic.split('/');
        levels.find_map(|level| match tables.is_device(tenant, level) {
            true => Some(level.into()),
            false => tables.device_numbered(tenant, level).cloned(),
        })
    }
}

/// Looks for the key of a payload.
fn find(payload: &[u8]) -> KeyInPayload {
    let payload = without_bom(payload);
    let Ok(Members(members)) = serde_json::from_slice::<Members<'_>>(payload) else {
        return match may_hide_key(payload) {
            true => KeyInPayload::Unreadable,
            false => KeyInPayload::NoKey,
        };
    };
    let Some((_, key)) = members.iter().find(|(name, _)| name == KEY) else {
        let is_hidden = members
            .iter()
            .any(|(_, value)| may_hide_key(value.get().as_bytes()));
        return match is_hidden {
            true => KeyInPayload::Unreadable,
            false => KeyInPayload::NoKey,
        };
    };
    // What is no text is no key that any device has.
    let key = serde_json::from_str::<String>(key.get());
    let key = Password::from(key.unwrap_or_default().as_bytes());
    let mut rest = String::with_capacity(payload.len());
    match write_object(&members, &mut rest, DEPTH_MAX) {
        Some(()) => KeyInPayload::Key(key, rest.into_bytes().into()),
        None => KeyInPayload::Unreadable,
    }
}

/// Whether a payload, or a value in it, has a key somewhere inside: as the name of a member, or of
/// one in a text that is JSON itself. What is no JSON is looked at as text.
fn may_hide_key(value: &[u8]) -> bool {
    let has = |text: &[u8]| value.windows(text.len()).any(|part| part == text);
    if !has(KEY.as_bytes()) && !has(b"\\u") {
        return false;
    }
    match serde_json::from_slice::<serde_json::Value>(value) {
        Ok(value) => hides_key(&value),
        // A name with an escape, in JSON that is cut off.
        Err(_) => {
            has(KEY.as_bytes())
                || value.trim_ascii_start().starts_with(b"{")
                || value.trim_ascii_start().starts_with(b"[")
        }
    }
}

fn hides_key(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Object(members) => members
            .iter()
            .any(|(name, value)| name == KEY || hides_key(value)),
        serde_json::Value::Array(elements) => elements.iter().any(hides_key),
        serde_json::Value::String(text) => text.contains("\"api_key\"") || text.contains("\\u"),
        _ => false,
    }
}

/// Levels of objects and arrays that are looked through for further members of that name. Each
/// level is read once more.
const DEPTH_MAX: usize = 16;

/// Writes an object without members named `api_key`, in whatever level; none: there are too many
/// levels.
fn write_object(members: &[(String, &RawValue)], into: &mut String, depth: usize) -> Option<()> {
    into.push('{');
    let kept = members.iter().filter(|(name, _)| name != KEY);
    for (at, (name, value)) in kept.enumerate() {
        if at > 0 {
            into.push(',');
        }
        into.push_str(&serde_json::Value::from(name.as_str()).to_string());
        into.push(':');
        write_value(value.get(), into, depth)?;
    }
    into.push('}');
    Some(())
}

fn write_value(value: &str, into: &mut String, depth: usize) -> Option<()> {
    let may_have_key =
        value.starts_with(['{', '[']) && (value.contains(KEY) || value.contains("\\u"));
    if !may_have_key {
        into.push_str(value);
        return Some(());
    }
    let depth = depth.checked_sub(1)?;
    if let Ok(Members(members)) = serde_json::from_str::<Members<'_>>(value) {
        return write_object(&members, into, depth);
    }
    let elements = serde_json::from_str::<Vec<&RawValue>>(value).ok()?;
    into.push('[');
    for (at, element) in elements.iter().enumerate() {
        if at > 0 {
            into.push(',');
        }
        write_value(element.get(), into, depth)?;
    }
    into.push(']');
    Some(())
}

/// The members of a JSON object in their order, each value as it stands there.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_out(payload: &str) -> Option<(String, String)> {
        match find(payload.as_bytes()) {
            KeyInPayload::Key(key, rest) => Some((
                String::from_utf8_lossy(key.bytes()).into_owned(),
                String::from_utf8_lossy(&rest).into_owned(),
            )),
            KeyInPayload::NoKey | KeyInPayload::Unreadable => None,
        }
    }

    #[test]
    fn the_key_is_taken_out_and_the_rest_stays_as_it_was() {
        let cases = [
            (r#"{"api_key":"k","t":1.50}"#, "k", r#"{"t":1.50}"#),
            (
                r#"{ "b": [1, {"api_key": 2}], "api_key" : "k" , "a": 1e400 }"#,
                "k",
                r#"{"b":[1,{}],"a":1e400}"#,
            ),
            (r#"{"api_key":"k","api_key":"l"}"#, "k", "{}"),
            (
                r#"{"api\u005fkey":"k\n","x":"\u00e9"}"#,
                "k\n",
                r#"{"x":"\u00e9"}"#,
            ),
            (r#"{"api_key":7}"#, "", "{}"),
        ];
        for (payload, key, rest) in cases {
            let expected = (key.to_owned(), rest.to_owned());
            assert_eq!(taken_out(payload), Some(expected), "{payload}");
        }
    }

    #[test]
    fn what_has_no_key_is_left_alone_and_what_hides_one_is_refused() {
        for payload in ["", "21.5", "[1]", r#"{"t":1}"#, r#"{"t":"\u0041"}"#, "\\u"] {
            assert!(
                matches!(find(payload.as_bytes()), KeyInPayload::NoKey),
                "{payload}"
            );
        }
        let deep = "[".repeat(DEPTH_MAX + 1);
        let deep = format!(
            r#"{{"api_key":"k","a":{deep}"api_key"{}}}"#,
            deep.replace('[', "]")
        );
        let hidden = [
            "api_key=k",
            r#"[{"api_key":"k"}]"#,
            r#"{"api_key":"k""#,
            r#"{"a":{"api_key":"k"}}"#,
            r#"{"a":[{"api_key":"k"}]}"#,
            r#"[{"\u0061pi_key":"k"}]"#,
            r#"{"\u0061pi_key":"k""#,
            r#"{"d":"{\"api_key\":\"k\"}"}"#,
            &deep,
        ];
        for payload in hidden {
            let found = find(payload.as_bytes());
            assert!(matches!(found, KeyInPayload::Unreadable), "{payload}");
        }
    }
}
