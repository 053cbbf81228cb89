//! Remedies for refused WebSocket requests and broken WebSocket connections.

use martlet_broker::WebSocketFault as Fault;

/// Remedy for a WebSocket connection that was refused or ended for this.
pub(super) fn remedy_of(fault: Fault) -> &'static str {
    match fault {
        Fault::UnknownPath => {
            "connect to the path of the listener's URL, which martlet status shows (ws://…/mqtt); \
             a listener whose URL ends with /* accepts every path"
        }
        Fault::OriginNotAllowed => {
            "add the origin of the page, such as https://app.example, to `origins` of the listener"
        }
        Fault::NoSubprotocol => {
            "have the client offer the subprotocol mqtt, in a browser new WebSocket(url, \
             \"mqtt\"); MQTT libraries do so by default"
        }
        Fault::NotWebSocket | Fault::NotGet => {
            "the port is for MQTT over WebSocket, not for pages: connect with ws:// or wss://; a \
             proxy in between has to pass on the headers Upgrade and Connection"
        }
        Fault::HttpVersion => {
            "have the proxy in between speak HTTP/1.1 to the node (nginx: proxy_http_version 1.1)"
        }
        Fault::NotHttp | Fault::Malformed => {
            "the client uses MQTT without WebSocket, or TLS, at a WebSocket port: connect with \
             ws://, or to another listener"
        }
        Fault::Version | Fault::Key => {
            "the client's WebSocket library is too old or faulty: it must conform to RFC 6455"
        }
        Fault::HeadTooLong | Fault::TooManyHeaders => {
            "send fewer or shorter headers: they include the cookies of the page's site"
        }
        Fault::NoHost | Fault::HasBody | Fault::HeaderTwice | Fault::HeaderNotUtf8 => {
            "look at the client's WebSocket library, and at the proxy in between: the request does \
             not conform to RFC 6455"
        }
        Fault::TextFrame => "have the client send binary frames: MQTT libraries do so by default",
        Fault::FrameTooLong => {
            "raise limits.packet_bytes and restart the node, or have the client send less in \
             one WebSocket frame"
        }
        Fault::ReservedBits
        | Fault::ReservedOpcode
        | Fault::NotMasked
        | Fault::FragmentedControl
        | Fault::ControlTooLong
        | Fault::NothingToContinue
        | Fault::MessageUnfinished
        | Fault::LengthForm
        | Fault::EmptyFrames
        | Fault::CloseHalfCode
        | Fault::CloseCode
        | Fault::CloseNotUtf8 => {
            "look at the client's WebSocket library, and at the proxy in between: the frames do \
             not conform to RFC 6455"
        }
    }
}
