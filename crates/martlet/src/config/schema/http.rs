//! The HTTP server: `[http]`.

use super::section::{List, section};
use super::value::Secret;

section! {
    /// The HTTP server.
    Http {
        /// Comma-separated addresses of the HTTP server with the API, its documentation (/docs),
        /// health and metrics: HOST:PORT, http://HOST:PORT, https://HOST:PORT; or "off". A name
        /// stands for all its addresses.
        listen: List<String> = "127.0.0.1:8080";
        /// PEM file with the HTTP server's certificate, then those of its CAs. With it, addresses
        /// of http.listen speak TLS unless they begin with http://. Those with https:// use
        /// tls.certificate and tls.key where this is not set.
        tls_certificate: String = "";
        /// PEM file with that certificate's private key.
        tls_key: String = "";
        /// Comma-separated API keys: NAME:KEY, or NAME:KEY:SCOPES where not everything is
        /// permitted, with + between names of scopes and roles (administrator, operator, viewer),
        /// such as grafana:KEY:viewer or shop:KEY:devices:write+messages:write. A request shows one
        /// in X-API-Key, as Authorization: Bearer, or as ?api_key=.
        api_keys: List<Secret> = "";
        /// Token of an administrator: an API key named iotflow-admin that permits everything.
        /// Requests of clients of system 3 show it as Authorization: admin TOKEN.
        admin_token: Secret = "";
        /// Comma-separated routes that need no credentials, such as POST /devices, with /api/v1
        /// before the path or without it; in a file also a list, as of all keys with several
        /// values: ["POST /devices"]. Every client that reaches the listener may use them.
        open_routes: List<String> = "";
        /// Comma-separated numbers of other systems whose HTTP routes are served as their clients
        /// know them: 1, the MQTT microservice (/publish, /broker/status, /status, /logs); 2, the
        /// broker of the MQTT panel (statistics as JSON at /); 3, IoTFlow
        /// (/api/v1/devices/register, /api/v1/admin/devices, /api/v1/mqtt/publish, /health); 4,
        /// Service-MQTT (POST /devices, /docs/doc.json); or "off". If two have the same route, the
        /// one that is named first serves it.
        compat: List<String> = "1,2,3,4";
        /// Comma-separated origins, such as https://panel.example, whose pages may use the API
        /// (CORS); * is all, and their browsers send no session then.
        origins: List<String> = "";
        /// Comma-separated host names that listeners on loopback accept besides localhost and
        /// 127.0.0.1, for example behind a proxy that keeps the Host of its clients.
        hosts: List<String> = "";
        /// Comma-separated addresses or networks of proxies, such as 127.0.0.1 or 10.0.0.0/8, whose
        /// X-Forwarded-For is trusted: rate limits, the audit log and the log use the address of
        /// the proxy's client then. The header of any other address is ignored.
        trusted_proxies: List<String> = "";
        /// HTTP connections at once. Probes of health and /metrics are answered beyond that, and
        /// admin.sock has its own; any other request waits 3 s for a place and is then refused
        /// (503).
        connections: usize = 512, in 1..=100_000;
        /// HTTP connections at once from one address, or from one IPv6 network of 64 bits; 0 is a
        /// quarter of http.connections, and 8 at least. With 0, while few connections are free, an
        /// address has at most half as many as are free, and always 2. Addresses of
        /// http.trusted_proxies have no such limit.
        connections_per_address: usize = 0, in 0..=100_000;
        /// Longest body of an HTTP request, bytes; a longer one is refused (413). Messages to be
        /// published may be longer: 2 limits.packet_bytes for one, 32 MiB for many.
        body_bytes: usize = 1_048_576, in 1_024..=67_108_864;
        /// HTTP requests per second of one caller, and of one address; more are refused (429). 0:
        /// no limit. No limit applies to admin.sock and to health probes.
        rate: u32 = 200, in 0..=1_000_000;
        /// Requests that may come in a burst before http.rate applies.
        burst: u32 = 400, in 1..=1_000_000;
    }
}
