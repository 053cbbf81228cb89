//! The HTTP server: `[http]`.

use martlet_settings::{List, SecretValue, section};

use super::words::Here;

section! {
    /// The HTTP server.
    Http {
        /// Comma-separated addresses of the HTTP server with the API, its documentation (/docs),
        /// health and metrics: HOST:PORT, http://HOST:PORT, https://HOST:PORT; or "off". A host
        /// name means all of its addresses.
        listen: List<String> = "127.0.0.1:8080";
        /// PEM file with the HTTP server's certificate, then those of its CAs. If it is set,
        /// addresses of http.listen use TLS unless they begin with http://. If it is not set, those
        /// with https:// use tls.certificate and tls.key.
        tls_certificate: String = "";
        /// PEM file with that certificate's private key.
        tls_key: String = "";
        /// Comma-separated API keys: NAME:KEY, or NAME:KEY:SCOPES to permit only some scopes, with
        /// + between names of scopes and roles (administrator, operator, viewer), such as
        /// grafana:KEY:viewer or shop:KEY:devices:write+messages:write. A request sends one in
        /// X-API-Key, as Authorization: Bearer, or as ?api_key=.
        api_keys: List<SecretValue> = "";
        /// Token of an administrator: an API key named iotflow-admin that permits everything.
        /// Clients of system 3 send it as Authorization: admin TOKEN.
        admin_token: SecretValue = "";
        /// Comma-separated routes that need no credentials, such as POST /devices, with /api/v1
        /// before the path or without it; in a file also a list, as of all keys with several
        /// values: ["POST /devices"]. Every client that reaches the listener may use them.
        open_routes: List<String> = "";
        /// Comma-separated numbers of other systems whose HTTP routes are served for their existing
        /// clients: 1, the MQTT microservice (/publish, /broker/status, /status, /logs); 2, the
        /// broker of the MQTT panel (statistics as JSON at /); 3, IoTFlow
        /// (/api/v1/devices/register, /api/v1/admin/devices, /api/v1/mqtt/publish, /health); 4,
        /// Service-MQTT (POST /devices, /docs/doc.json); or "off". If two have the same route, the
        /// system that is listed first serves it.
        compat: List<String> = "1,2,3,4";
        /// Comma-separated origins, such as https://panel.example, whose pages may use the API
        /// (CORS); * is all origins; browsers then send no session.
        origins: List<String> = "";
        /// Comma-separated host names that listeners on loopback accept besides localhost and
        /// 127.0.0.1, for example behind a proxy that forwards the Host header of its clients.
        hosts: List<String> = "";
        /// Comma-separated addresses or networks of proxies, such as 127.0.0.1 or 10.0.0.0/8, whose
        /// X-Forwarded-For is trusted: rate limits, the audit log and the log then use the address
        /// of the proxy's client. From any other address the header is ignored.
        trusted_proxies: List<String> = "";
        /// Maximum number of concurrent HTTP connections. Health probes and /metrics are answered
        /// above the limit, and connections to admin.sock are not counted. Any other request waits
        /// 3 s for a free connection and is then refused (503).
        connections: usize = 512, in 1..=100_000;
        /// Maximum number of concurrent HTTP connections from one address, or from one IPv6 /64
        /// network; 0 is a quarter of http.connections, at least 8. With 0, while few connections
        /// are free, an address may use at most half of the free ones, but always 2. Addresses of
        /// http.trusted_proxies have no such limit.
        connections_per_address: usize = 0, in 0..=100_000;
        /// Maximum size of the body of an HTTP request, bytes; a larger one is refused (413).
        /// Requests to publish have a higher limit: twice limits.packet_bytes for one message, 32
        /// MiB for several.
        body_bytes: usize = 1_048_576, in 1_024..=67_108_864;
        /// Maximum number of HTTP requests per second of one caller, and of one address; more are
        /// refused (429). 0: no limit. No limit applies to admin.sock and to health probes.
        rate: u32 = 200, in 0..=1_000_000;
        /// Number of requests that are accepted in a burst before http.rate applies.
        burst: u32 = 400, in 1..=1_000_000;
    }
}
