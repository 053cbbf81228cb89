//! The systems whose routes Martlet can serve.

/// A system whose routes are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompatApi {
    /// The MQTT microservice: `/publish`, `/broker/status` and others, without a prefix.
    Microservice,
    /// The broker of the MQTT panel: its statistics at `/`, and `/api/mqtt/auth`.
    PanelBroker,
    /// IoTFlow: devices register and report their state, administrators see and change them.
    IotFlow,
    /// Service-MQTT: `POST /devices`, and what describes it below `/docs/`.
    DeviceService,
}

impl CompatApi {
    /// Finds a system by its number in `http.compat`.
    pub fn of_number(number: &str) -> Option<Self> {
        match number {
            "1" => Some(Self::Microservice),
            "2" => Some(Self::PanelBroker),
            "3" => Some(Self::IotFlow),
            "4" => Some(Self::DeviceService),
            _ => None,
        }
    }

    /// Tag of the system in the document of the API.
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::Microservice => "Microservice",
            Self::PanelBroker => "MQTT panel",
            Self::IotFlow => "IoTFlow",
            Self::DeviceService => "Service-MQTT",
        }
    }

    /// Description of the system, in a few words.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Microservice => "The MQTT microservice",
            Self::PanelBroker => "The broker of the MQTT panel",
            Self::IotFlow => "IoTFlow",
            Self::DeviceService => "Service-MQTT",
        }
    }

    /// Requests that its document prints.
    pub fn documented_requests(self) -> &'static [&'static str] {
        match self {
            Self::Microservice => &["POST /publish", "GET /broker/status", "GET /logs"],
            Self::PanelBroker => &["GET /"],
            Self::IotFlow => &[
                "POST /api/v1/devices/register",
                "GET /api/v1/admin/devices",
                "POST /api/v1/mqtt/publish",
            ],
            Self::DeviceService => &["POST /devices"],
        }
    }
}
