//! Listeners: `[[listeners]]` and `[[http_listeners]]`.

use martlet_certificates::{ClientCertificates, NameFrom};
use martlet_settings::{List, table};

use super::words::{DiscoveryMode, Here, MetricsForm, TlsVersion};

table! {
    /// A table `[[http_listeners]]`.
    HttpListenerKeys {
        /// Address to listen on: http://HOST:PORT, https://HOST:PORT or HOST:PORT, as in
        /// http.listen. A host name means all of its addresses.
        url: String;
        /// As http.compat, for this listener: the systems whose routes are served; if two systems
        /// have the same path, that of the first.
        compat: List<String>;
        /// As http.open_routes, for this listener.
        open_routes: List<String>;
        /// Default format of /metrics: prometheus (default), or json, the format of system 1.
        metrics: MetricsForm;
    }
}

table! {
    /// A table `[[listeners]]`.
    ListenerKeys {
        /// Address to listen on: mqtt://HOST:PORT, mqtts://HOST:PORT, ws://HOST:PORT/PATH,
        /// wss://HOST:PORT/PATH or unix:///PATH. The path /* matches any path.
        url: String;
        /// Name in logs. Default: the URL.
        name: String;
        /// As mqtt.allow_anonymous, for this listener.
        allow_anonymous: bool;
        /// Whether devices may register here over MQTT with a provisioning key, on
        /// discovery/register/ID and IOTFLOW_BASE/discovery/register/ID. off (default); password:
        /// the key is the password of the CONNECT; payload: as password, and clients without
        /// credentials may put the key into the registration. Needs allow_anonymous = false.
        discovery: DiscoveryMode;
        /// Whether a message may name its device by api_key in a JSON payload, as firmware of
        /// system 3 does: it is then published with that device's rights, without the key. Clients
        /// without credentials are accepted, but may publish only such messages unless
        /// allow_anonymous is set.
        payload_api_key: bool;
        /// Maximum number of clients connected to this listener; 0: only limits.connections
        /// applies.
        max_connections: u32, in 0..=0xFFFF_FFFF;
        /// Maximum number of connections accepted per second, so that handshakes leave time for
        /// other clients; more connections wait in the system's queue. 0: no limit.
        accept_rate: u32, in 0..=1_000_000;
        /// As limits.connect_timeout_secs, for this listener: TLS handshake, WebSocket request and
        /// CONNECT together. 0: the value of the node.
        connect_timeout_secs: u32, in 0..=3_600;
        /// Comma-separated addresses or networks of proxies, such as 10.0.0.0/8, that send the
        /// client's address by the PROXY protocol (version 1 or 2). If it is set, each connection
        /// must begin with a PROXY header, and connections from other addresses are refused.
        proxy_from: List<String>;
        /// For unix:///PATH: mode of the socket's file; a user who may write to the file may
        /// connect. Default: 0660.
        mode: String;
        /// As mqtt.allow_empty_client_id, for this listener.
        allow_empty_client_id: bool;
        /// As mqtt.max_qos, for this listener.
        max_qos: u8, in 0..=2;
        /// As mqtt.retain_available, for this listener.
        retain_available: bool;
        /// As mqtt.wildcard_subscriptions, for this listener.
        wildcard_subscriptions: bool;
        /// As mqtt.subscription_identifiers, for this listener.
        subscription_identifiers: bool;
        /// As mqtt.shared_subscriptions, for this listener.
        shared_subscriptions: bool;
        /// As auth.password_file, for this listener. A listener with password_file, acl_file or
        /// certificate_user_name has its own credentials and rules: those of the node do not apply
        /// to it.
        password_file: String;
        /// As auth.acl_file, for this listener.
        acl_file: String;
        /// As auth.certificate_user_name, for this listener. If the tables of users and devices are
        /// in use, they apply here too: a client that is disabled or deleted in them is refused.
        /// Without an acl_file, a client that is not in them is refused too.
        certificate_user_name: Option<NameFrom>;
        /// With certificate_user_name of this listener: do not check the tables of users and
        /// devices, so that certificates of disabled, deleted and unknown devices are accepted.
        /// Start, config check and health warn about it.
        ignore_tables: bool;
        /// For mqtts:// and wss://: PEM file with the server's certificate, then those of its CAs.
        certificate: String;
        /// For mqtts:// and wss://: PEM file with the certificate's private key.
        key: String;
        /// Whether clients have to present a certificate; a certificate that is presented has to be
        /// valid. Required where client_ca is set.
        client_certificates: ClientCertificates;
        /// As tls.version, for this listener.
        tls_version: TlsVersion;
        /// PEM file with the CAs whose client certificates are accepted, or a directory of such
        /// files.
        client_ca: String;
        /// PEM file with revocation lists of those CAs.
        client_crl: String;
        /// As tls.x509_version1, for this listener.
        x509_version1: bool;
        /// Longest TLS record that is sent, for clients with little memory.
        tls_record_bytes: u16, in 64..=16_384;
        /// Comma-separated origins whose pages may open a WebSocket, or *: all. Default: all. At a
        /// listener on loopback that accepts clients without credentials, the default is pages of
        /// this machine, such as http://localhost:3000. A client that sends no origin, such as a
        /// device, is accepted.
        origins: List<String>;
    }
}
