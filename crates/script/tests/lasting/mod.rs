//! Clients whose sessions outlive their connections.

use martlet_codec::{Connect, ConnectProperties, ProtocolVersion, PublishProperties, QoS, Will};

/// A CONNECT of MQTT 5 for a session that lasts an hour, with a Will of this payload if it is
/// given.
pub(crate) fn connect<'a>(client_id: &'a str, will: Option<&'a [u8]>) -> Connect<'a> {
    Connect {
        clean_start: false,
        will: will.map(|payload| Will {
            topic: "will",
            payload,
            qos: QoS::AtMostOnce,
            retain: false,
            delay_secs: None,
            properties: PublishProperties::default(),
        }),
        properties: ConnectProperties {
            session_expiry_secs: Some(3600),
            ..ConnectProperties::default()
        },
        ..Connect::new(ProtocolVersion::V5, client_id)
    }
}
