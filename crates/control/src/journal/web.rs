//! How refused WebSocket requests are mended, by the words of their refusals.

/// What to do about a request that was refused for this; none: it is no such refusal.
pub(super) fn mend_of(why: &str) -> Option<&'static str> {
    Some(match why {
        "unknown path" => {
            "connect to the path of the listener's URL, which martlet status shows (ws://…/mqtt); a \
             listener whose URL ends with /* takes every path"
        }
        "a page of another machine, which `origins` does not permit"
        | "origin is not on the list" => {
            "add the origin of the page, such as https://app.example, to `origins` of the listener"
        }
        "subprotocol mqtt is not offered" => {
            "have the client offer the subprotocol mqtt, in a browser new WebSocket(url, \"mqtt\"); \
             libraries for MQTT do it by themselves"
        }
        "not a request for a WebSocket connection" | "method is not GET" => {
            "the port is for MQTT over WebSocket, not for pages: connect with ws:// or wss://; a \
             proxy in between has to pass on the headers Upgrade and Connection"
        }
        "HTTP version is not 1.1" => {
            "have the proxy in between speak HTTP/1.1 to the node (nginx: proxy_http_version 1.1)"
        }
        "not an HTTP request" | "malformed HTTP request" => {
            "the client speaks MQTT without WebSocket, or TLS, to a port of WebSocket: connect with \
             ws://, or to another listener"
        }
        "WebSocket version is not 13" | "Sec-WebSocket-Key is not 16 bytes in base64" => {
            "the client's WebSocket library is too old or faulty: it has to keep RFC 6455"
        }
        "request head longer than 8 KiB" | "more than 64 headers" => {
            "send fewer or shorter headers: cookies of the page's site are among them"
        }
        "no Host header" | "request with a body" | "header given twice" | "header is not UTF-8" => {
            "look at the client's WebSocket library, and at the proxy in between: the request is \
             not what RFC 6455 asks for"
        }
        _ => return None,
    })
}
