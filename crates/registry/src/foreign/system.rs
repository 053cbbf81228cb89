//! Systems whose databases can be read.

use std::fmt;

/// A system whose database is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherSystem {
    /// The MQTT microservice: messages and webhooks, no devices.
    Microservice,
    /// IoTFlow.
    IotFlow,
    /// Service-MQTT.
    ServiceMqtt,
}

impl OtherSystem {
    /// All systems.
    pub const ALL: [Self; 3] = [Self::Microservice, Self::IotFlow, Self::ServiceMqtt];

    /// As `martlet import` names it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Microservice => "microservice",
            Self::IotFlow => "iotflow",
            Self::ServiceMqtt => "service-mqtt",
        }
    }
}

impl fmt::Display for OtherSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Microservice => "the MQTT microservice",
            Self::IotFlow => "IoTFlow",
            Self::ServiceMqtt => "Service-MQTT",
        })
    }
}
