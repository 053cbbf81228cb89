//! Why the HTTP server refuses a request or a connection.

use martlet_broker::{CauseText, RefusalCause};

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal;)*) => {
        /// Cause of a refusal by the HTTP server.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum HttpCause {
            /// One for which clients of MQTT are refused too.
            Client(RefusalCause),
            $($(#[$doc])* $variant,)*
        }

        impl CauseText for HttpCause {
            fn text(self) -> &'static str {
                match self {
                    Self::Client(cause) => cause.text(),
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

causes! {
    /// The API key of a request is unknown.
    ApiKeyUnknown = "the API key is not valid";
    /// The API key of a request lacks a scope.
    ApiKeyLacksScope = "the API key lacks a scope";
    /// MQTT was received.
    MqttToHttp = "MQTT was received at a port of HTTP";
    /// A request for MQTT over WebSocket was received.
    WebSocketToHttp = "MQTT over WebSocket was received at a port of HTTP";
    /// A TLS handshake was received, and the server has no TLS there.
    TlsToHttp = "TLS was received at a port of plain HTTP";
    /// The request of a device is not valid.
    RequestInvalid = "the HTTP request is not valid";
    /// The Host of the request is not a name of the node.
    HostNotAllowed = "the Host of the HTTP request is not a name of the node";
    /// A caller exceeds its rate of requests.
    TooManyRequests = "too many HTTP requests";
    /// A device exceeds the rate of its requests to the routes of another system.
    TooManyDeviceRequests = "too many HTTP requests";
    /// A device exceeds the fixed rate of a route, which no key sets.
    TooManyRouteRequests = "too many HTTP requests";
}

impl From<RefusalCause> for HttpCause {
    fn from(cause: RefusalCause) -> Self {
        Self::Client(cause)
    }
}
