//! Registrations and their answers as JSON.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use martlet_registry::{AddedDevice, DeviceSecret, NewDevice, RepeatableRequest};
use martlet_text_file::without_bom;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::iotflow::Catalogue;

/// Bytes of the payload of a registration, at most.
const BYTES_MAX: usize = 8 * 1024;

/// A registration: the payload that a device sends. All members but the key are optional.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Registration {
    /// The provisioning key, unless the client has shown it as its password.
    #[serde(default, alias = "key")]
    provisioning_key: Option<String>,
    /// Made up by the device: a registration that is sent again with it is the same one.
    #[serde(default)]
    request_id: Option<String>,
    /// For people; the id if none is given.
    #[serde(default)]
    name: Option<String>,
    /// Kind of the device. Its type, and with it its rights, is that of the key.
    #[serde(default, alias = "kind")]
    device_type: String,
    /// For people.
    #[serde(default)]
    description: String,
    /// Where it stands.
    #[serde(default)]
    location: String,
    /// Version of the firmware that runs on it.
    #[serde(default)]
    firmware_version: String,
    /// Version of its hardware.
    #[serde(default)]
    hardware_version: String,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").finish_non_exhaustive()
    }
}

impl Registration {
    /// Reads the payload of a registration.
    ///
    /// # Errors
    /// What is wrong with it, for the device and for operators, without its values.
    pub(super) fn read(payload: &[u8]) -> Result<Self, String> {
        if payload.len() > BYTES_MAX {
            return Err(format!("the registration is longer than {BYTES_MAX} bytes"));
        }
        let value: Value = serde_json::from_slice(without_bom(payload)).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            format!("the registration is not JSON: see {place}")
        })?;
        let Value::Object(members) = &value else {
            return Err("the registration is not a JSON object".to_owned());
        };
        for (name, value) in members {
            if !MEMBERS.contains(&name.as_str()) {
                let known = MEMBERS.join(", ");
                return Err(format!("unknown member {name:?}: expected {known}"));
            }
            if !value.is_string() {
                return Err(format!("the member {name:?} is not text"));
            }
        }
        // Not with serde's own words, which may name values.
        Self::deserialize(value).map_err(|_| "a member of the registration occurs twice".to_owned())
    }

    /// The provisioning key in it.
    pub(super) fn key(&self) -> Option<&str> {
        self.provisioning_key.as_deref()
    }

    /// Recognises the request when it comes again. The tables have digests alone.
    pub(super) fn request(&self, id: &str) -> Option<RepeatableRequest> {
        let request_id = self.request_id.as_ref()?;
        let fields = json!([
            id,
            self.name,
            self.device_type,
            self.description,
            self.location,
            self.firmware_version,
            self.hardware_version,
        ]);
        Some(RepeatableRequest {
            key: hex_digest(request_id.as_bytes()),
            digest: hex_digest(fields.to_string().as_bytes()),
        })
    }

    /// The device that it asks for.
    pub(super) fn into_device(self, id: &str) -> NewDevice {
        NewDevice {
            id: Some(id.to_owned()),
            name: self.name,
            kind: self.device_type,
            description: self.description,
            location: self.location,
            firmware_version: self.firmware_version,
            hardware_version: self.hardware_version,
            secret: DeviceSecret::MadeUp,
            ..NewDevice::unnamed()
        }
    }
}

/// Members of a registration.
const MEMBERS: [&str; 10] = [
    "provisioning_key",
    "key",
    "request_id",
    "name",
    "device_type",
    "kind",
    "description",
    "location",
    "firmware_version",
    "hardware_version",
];

fn hex_digest(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// Why a device was not registered, as the device gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// For programs, of a closed list.
    error: &'static str,
    /// A sentence for people.
    message: String,
}

impl Failure {
    pub(super) fn new(error: &'static str, message: String) -> Self {
        Self { error, message }
    }

    /// The payload with this answer.
    pub(super) fn payload(&self, id: &str) -> Box<[u8]> {
        let (error, message) = (self.error, &self.message);
        let json = json!({
            "status": "error", "device_id": id, "error": error, "message": message,
        });
        json.to_string().into_bytes().into()
    }
}

/// The topics of a device with the topics of IoTFlow, under the names that its API has.
pub(super) fn topics_of(catalogue: &Catalogue, id: &str) -> Value {
    let topic = |rest: &str| catalogue.topic(&format!("devices/{id}/{rest}"));
    json!({
        "telemetry_publish": topic("telemetry"),
        "status_publish": topic("status"),
        "commands_subscribe": topic("commands/#"),
        "config_subscribe": topic("config"),
    })
}

/// The payload for a device that was added.
pub(super) fn success(
    device: &AddedDevice,
    topics: Option<Value>,
    listeners: &[String],
) -> Box<[u8]> {
    let secret = device.secret.as_ref().map(|secret| secret.text());
    let mut json = json!({
        "status": "success",
        "device_id": device.id,
        "client_id": device.id,
        "username": device.user_name,
        "password": secret,
        "api_key": secret,
        "endpoints": listeners.iter().filter_map(|url| endpoint(url)).collect::<Vec<_>>(),
    });
    if let (Some(topics), Value::Object(members)) = (topics, &mut json) {
        members.insert("topics".to_owned(), topics);
    }
    json.to_string().into_bytes().into()
}

/// A listener of the node, for devices. The host is left out if the listener has every address,
/// since the device knows which one it has used.
fn endpoint(url: &str) -> Option<Value> {
    let (scheme, rest) = url.split_once("://")?;
    if scheme == "unix" {
        return None;
    }
    let (place, path) = match rest.split_once('/') {
        Some((place, path)) => (place, Some(format!("/{path}"))),
        None => (rest, None),
    };
    let (host, port) = place.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut json = json!({ "scheme": scheme, "port": port.parse::<u16>().ok()? });
    if let Value::Object(members) = &mut json {
        if !["", "0.0.0.0", "::", "*"].contains(&host) {
            members.insert("host".to_owned(), host.into());
        }
        if let Some(path) = path {
            members.insert("path".to_owned(), path.into());
        }
    }
    Some(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_that_is_wrong_is_told_without_its_values() {
        let cases = [
            ("", "is not JSON"),
            ("[]", "is not a JSON object"),
            (
                r#"{"key":"mp_SECRET","colour":"SECRET"}"#,
                "unknown member \"colour\"",
            ),
            (r#"{"key":["SECRET"]}"#, "member \"key\" is not text"),
            (
                r#"{"key":"SECRET","provisioning_key":"SECRET"}"#,
                "occurs twice",
            ),
        ];
        for (payload, expected) in cases {
            let error = Registration::read(payload.as_bytes()).expect_err(payload);
            assert!(
                error.contains(expected) && !error.contains("SECRET"),
                "{error}"
            );
        }
        assert!(Registration::read(&vec![b' '; BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_registration_with_a_request_id_is_known_again() {
        let read = |text: &str| Registration::read(text.as_bytes()).expect("it is right");
        let one = read(r#"{"key":"a","request_id":"1","name":"n"}"#);
        let same = read(r#"{"provisioning_key":"a","request_id":"1","name":"n"}"#);
        let other = read(r#"{"key":"a","request_id":"1","name":"m"}"#);
        assert_eq!(one.request("x"), same.request("x"));
        assert_ne!(one.request("x"), other.request("x"));
        assert_ne!(one.request("x"), one.request("y"));
        assert_eq!(read(r#"{"key":"a"}"#).request("x"), None);
    }

    #[test]
    fn endpoints_name_a_host_only_where_there_is_one() {
        let json = |url: &str| endpoint(url).map(|json| json.to_string());
        let cases = [
            (
                "mqtt://0.0.0.0:1883",
                Some(r#"{"port":1883,"scheme":"mqtt"}"#),
            ),
            (
                "mqtts://[::1]:8883",
                Some(r#"{"host":"::1","port":8883,"scheme":"mqtts"}"#),
            ),
            (
                "ws://10.0.0.1:9001/mqtt",
                Some(r#"{"host":"10.0.0.1","path":"/mqtt","port":9001,"scheme":"ws"}"#),
            ),
            ("unix:///run/m.sock", None),
        ];
        for (url, expected) in cases {
            assert_eq!(json(url).as_deref(), expected, "{url}");
        }
    }
}
