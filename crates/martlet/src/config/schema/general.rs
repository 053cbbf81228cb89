//! Keys of the configuration that are not of listeners, with their ranges, defaults and
//! descriptions.

use super::listeners::{CERTIFICATE_FIELDS, TLS_VERSIONS};
use super::{Kind, SWITCH};

/// A store of which nothing lives takes 48 MiB at this limit, and has room for two segments more.
pub(super) const STORE_BYTES_MIN: u64 = 64 << 20;

pub(super) const GENERAL: &[(&str, Kind, Default, &str)] = &[
    (
        "node.data_dir",
        Kind::Text,
        Default::Text(""),
        "Directory of all data. Default: $STATE_DIRECTORY, else $XDG_STATE_HOME/martlet, else ~/.local/state/martlet.",
    ),
    (
        "node.threads",
        Kind::Integer { min: 0, max: 64 },
        Default::Integer(0),
        "Number of shards, one thread each; 0: one per core.",
    ),
    (
        "store.durability",
        Kind::Word(&["sync", "interval", "memory"]),
        Default::Text("sync"),
        "What an acknowledgement promises. sync: it is on the disk, synced; nothing acknowledged is lost by a crash or a power cut. interval: it is written; a crash loses nothing, a power cut what came in the last store.interval_ms. memory: nothing is written; a restart loses all.",
    ),
    (
        "store.interval_ms",
        Kind::Integer {
            min: 1,
            max: 60_000,
        },
        Default::Integer(1_000),
        "With store.durability = \"interval\": how often what has been written is synced, milliseconds.",
    ),
    (
        "store.simulate_power_loss",
        SWITCH,
        Default::Boolean(false),
        "For crash tests: what has not been synced stays in memory, so that kill -9 is a power cut.",
    ),
    (
        "tls.certificate",
        Kind::Text,
        Default::Text(""),
        "For mqtts:// and wss://: PEM file with the server's certificate, then those of its CAs.",
    ),
    (
        "tls.key",
        Kind::Text,
        Default::Text(""),
        "PEM file with the certificate's private key.",
    ),
    (
        "tls.version",
        Kind::Word(TLS_VERSIONS),
        Default::Text("1.2"),
        "Oldest version of TLS that is accepted.",
    ),
    (
        "tls.client_certificates",
        Kind::Word(&["off", "optional", "required"]),
        Default::Text("off"),
        "Whether clients have to present a certificate; a certificate that is presented has to be valid. Required where client_ca is set.",
    ),
    (
        "tls.client_ca",
        Kind::Text,
        Default::Text(""),
        "PEM file with the CAs whose client certificates are accepted, or a directory of such files.",
    ),
    (
        "tls.client_crl",
        Kind::Text,
        Default::Text(""),
        "PEM file with revocation lists of those CAs; each CA needs one then.",
    ),
    (
        "tls.x509_version1",
        SWITCH,
        Default::Boolean(false),
        "Accept client certificates of X.509 version 1 too, which openssl x509 -req makes without extensions, if a CA of client_ca itself has signed them. They do not say what they are for.",
    ),
    (
        "auth.enabled",
        Kind::Word(&["auto", "on", "off"]),
        Default::Text("auto"),
        "Whether clients have to authenticate. auto: as soon as one of the keys below names credentials. off: clients are not authenticated, whatever else is configured.",
    ),
    (
        "auth.order",
        Kind::Text,
        Default::Text("certificate, credentials, registry, password-file, jwt, hook"),
        "Sources of credentials, in this order; the first source that knows a user decides.",
    ),
    (
        "auth.registry",
        Kind::Word(&["auto", "on", "off"]),
        Default::Text("auto"),
        "Whether users and devices of martlet.db in the data directory are accepted; martlet user, device and role change them. auto: as soon as there is one, and from then on. The rules of their role or type apply to them, not those of auth.acl_file.",
    ),
    (
        "auth.credentials",
        Kind::Secret,
        Default::NoSecret,
        "Users with their passwords: user:password,user2:password2. Better: a password file.",
    ),
    (
        "auth.password_file",
        Kind::Text,
        Default::Text(""),
        "File of users with hashes of their passwords, in Mosquitto's form; martlet passwd edits it.",
    ),
    (
        "auth.plain_passwords",
        SWITCH,
        Default::Boolean(false),
        "Passwords in a password file may be plain text.",
    ),
    (
        "auth.renew_hashes",
        SWITCH,
        Default::Boolean(false),
        "A password whose hash in the password file is weak ($6$, plain, few iterations) gets an Argon2id hash there when its user logs in. The node has to be permitted to write the file.",
    ),
    (
        "auth.acl_file",
        Kind::Text,
        Default::Text(""),
        "ACL file: rules that say which clients may publish and subscribe to which topics, in Mosquitto's form. Without a file, all clients may use all topics but those that begin with $, and read $SYS/#.",
    ),
    (
        "auth.certificate_user_name",
        Kind::Word(CERTIFICATE_FIELDS),
        Default::Text("off"),
        "Which field of a client's certificate is its user name; its CONNECT needs no password then.",
    ),
    (
        "auth.jwt_keys",
        Kind::Text,
        Default::Text(""),
        "The keys that tokens (JWT) in the place of passwords are signed with: https://… of a set (JWKS), or a file with such a set, a public key in PEM, or a shared secret of 32 bytes or more. A token needs `exp`, at which its connection ends; its claim acl {\"pub\": […], \"sub\": […], \"all\": […]} says what its client may do. When a key is removed from the file, the connections of clients that logged in with it end. When the URL or the requirements on tokens change, the connections of all clients with tokens end.",
    ),
    (
        "auth.jwt_refresh_secs",
        Kind::Integer {
            min: 1,
            max: 86_400,
        },
        Default::Integer(600),
        "With https://…: how often the keys are fetched anew; also, every 10 seconds at most, when a token names a key that is not known. While the server does not answer, the last keys remain valid, for a day. A client that logged in with a key that the server has removed stays until its token expires.",
    ),
    (
        "auth.jwt_algorithm",
        Kind::Word(ALGORITHMS),
        Default::Text("of the set"),
        "Algorithm of the key in PEM or of the secret, and of a key of a set that does not name one.",
    ),
    (
        "auth.jwt_issuer",
        Kind::Text,
        Default::Text(""),
        "Value that `iss` of a token must have.",
    ),
    (
        "auth.jwt_audience",
        Kind::Text,
        Default::Text(""),
        "Value that `aud` of a token must have or contain.",
    ),
    (
        "auth.jwt_user_claim",
        Kind::Text,
        Default::Text("sub"),
        "Claim that holds the user name.",
    ),
    (
        "auth.jwt_client_claim",
        Kind::Text,
        Default::Text(""),
        "Claim that must be equal to the Client Identifier, so that a token is valid for one client only.",
    ),
    (
        "auth.hook_url",
        Kind::Text,
        Default::Text(""),
        "URL of a server that authenticates clients, by HTTP POST: https://panel.example/api/mqtt/auth. Connections that it has accepted end when the URL is removed or changed.",
    ),
    (
        "auth.hook_form",
        Kind::Word(&["panel", "status", "go-auth", "result"]),
        Default::Text("panel"),
        "Form of the request to it and of its answer. panel: {client_id, api_key, api_secret}; status 200 permits if the body is a JSON object whose values are all whole numbers, at least one, as {\"team_id\": 1, \"api_token_id\": 2, \"mqtt_client_id\": 3}; any other object, and any other status, refuses. status: {username, password, clientid}; a status of 200 to 299 permits by itself, whatever the body is: choose it only where nothing stands between node and hook that answers in its place. go-auth: the same is sent; a status of 200 to 299 permits with {\"Ok\": true}, as mosquitto-go-auth, and by itself with an empty body or ok. result: the body {\"result\": \"allow\"} permits, as EMQX, with is_superuser, acl and expire_at as it has them.",
    ),
    (
        "auth.hook_timeout_ms",
        Kind::Integer {
            min: 10,
            max: 60_000,
        },
        Default::Integer(5_000),
        "Time that it may take to answer; after that the client is refused.",
    ),
    (
        "auth.hook_concurrency",
        Kind::Integer {
            min: 1,
            max: 10_000,
        },
        Default::Integer(64),
        "Requests to it at once. More clients wait for auth.hook_timeout_ms at most and are then refused (0x88, the client may try again), so that a client gets an answer within twice that time.",
    ),
    (
        "auth.remember_secs",
        Kind::Integer {
            min: 0,
            max: 86_400,
        },
        Default::Integer(300),
        "Time for which a password that was right is not hashed again for the same client. An answer of the hook with Cache-Control: max-age is remembered no longer than that says.",
    ),
    (
        "auth.refusal_remember_secs",
        Kind::Integer { min: 0, max: 3_600 },
        Default::Integer(5),
        "Time for which a password that was wrong is not hashed again.",
    ),
    (
        "auth.scram",
        Kind::Boolean,
        Default::Boolean(false),
        "MQTT 5 clients may prove by SCRAM-SHA-256 (enhanced authentication) that they have their password, instead of sending it; users of `auth.credentials` can. Names and passwords are compared as SASLprep has them (RFC 4013); a name that it forbids is refused. While this is on, another hash of each password is stored: a password that is set while it is off has none.",
    ),
    (
        "auth.lockout_failures",
        Kind::Integer {
            min: 0,
            max: 1_000_000,
        },
        Default::Integer(30),
        "Wrong credentials within a minute, from one address or for one user name, after which that address or name is locked out for a while. A listener with its own users counts for itself. Answers slow down before the lockout. One name counts for at most a third of the limit of its address, so a device with an old password does not lock out the other devices at that address. A name that logged in from an address within the last day, since the node started, is locked out there only for its own wrong credentials from there. Certificates without a password are not counted. 0 is no limit.",
    ),
    (
        "auth.lockout_secs",
        Kind::Integer {
            min: 1,
            max: 86_400,
        },
        Default::Integer(60),
        "Duration of such a lockout.",
    ),
    (
        "acl.subscribe",
        Kind::Word(&["at_delivery", "refuse"]),
        Default::Text("at_delivery"),
        "When read rules of ACL files are checked. at_delivery: a SUBSCRIBE is granted, and each message is checked when it is delivered, as in Mosquitto. refuse: a filter of which the client may not read everything is refused at once (SUBACK 0x87, v3: 0x80); messages are checked all the same.",
    ),
    (
        "registry.url",
        Kind::Secret,
        Default::NoSecret,
        "Database of users, devices and the rest: postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full, or the path of a file of SQLite. Without it, martlet.db in the data directory, which is made when it is first written to. While the database is unreachable, the tables that were read last remain in force, and nothing can be changed; a start does not wait for it and fails.",
    ),
    (
        "registry.adopt",
        Kind::Boolean,
        Default::Boolean(false),
        "Use the database of DATABASE_URL or DATABASE_DSN, whatever is in it. Its own tables are left as they are: in PostgreSQL Martlet's tables are in the schema martlet. Without it such a database is used only if it has Martlet's tables, or next to a name that only one of the replaced systems has.",
    ),
    (
        "registry.max_devices_per_user",
        Kind::Integer {
            min: 0,
            max: 1_000_000_000,
        },
        Default::Integer(0),
        "Devices that one user may own, at most; 0: no limit.",
    ),
    (
        "audit.keep_days",
        Kind::Integer {
            min: 0,
            max: 36_500,
        },
        Default::Integer(90),
        "Days after which a line of the audit log is forgotten; 0: never.",
    ),
    (
        "audit.keep_lines",
        Kind::Integer {
            min: 0,
            max: 1_000_000_000,
        },
        Default::Integer(1_000_000),
        "Lines of the audit log that are kept, the newest ones; 0: no limit.",
    ),
    (
        "http.listen",
        Kind::Text,
        Default::Text("127.0.0.1:8080"),
        "Comma-separated addresses of the HTTP server with the API, its documentation (/docs), health and metrics: HOST:PORT, http://HOST:PORT, https://HOST:PORT; or \"off\". A name stands for all its addresses.",
    ),
    (
        "http.tls_certificate",
        Kind::Text,
        Default::Text(""),
        "PEM file with the HTTP server's certificate, then those of its CAs. With it, addresses of http.listen speak TLS unless they begin with http://. Those with https:// use tls.certificate and tls.key where this is not set.",
    ),
    (
        "http.tls_key",
        Kind::Text,
        Default::Text(""),
        "PEM file with that certificate's private key.",
    ),
    (
        "http.api_keys",
        Kind::Secret,
        Default::NoSecret,
        "Comma-separated API keys: NAME:KEY, or NAME:KEY:SCOPES where not everything is permitted, with + between names of scopes and roles (administrator, operator, viewer), such as grafana:KEY:viewer or shop:KEY:devices:write+messages:write. A request shows one in X-API-Key, as Authorization: Bearer, or as ?api_key=.",
    ),
    (
        "http.admin_token",
        Kind::Secret,
        Default::NoSecret,
        "Token of an administrator: an API key named iotflow-admin that permits everything. Requests of clients of system 3 show it as Authorization: admin TOKEN.",
    ),
    (
        "http.open_routes",
        Kind::Text,
        Default::Text(""),
        "Comma-separated routes that need no credentials, such as POST /devices, with /api/v1 before the path or without it; in a file also a list, as of all keys with several values: [\"POST /devices\"]. Every client that reaches the listener may use them.",
    ),
    (
        "http.compat",
        Kind::Text,
        Default::Text("1,2,3,4"),
        "Comma-separated numbers of other systems whose HTTP routes are served as their clients know them: 1, the MQTT microservice (/publish, /broker/status, /status, /logs); 2, the broker of the MQTT panel (statistics as JSON at /); 3, IoTFlow (/api/v1/devices/register, /api/v1/admin/devices, /api/v1/mqtt/publish, /health); 4, Service-MQTT (POST /devices, /docs/doc.json); or \"off\". If two have the same route, the one that is named first serves it.",
    ),
    (
        "http.origins",
        Kind::Text,
        Default::Text(""),
        "Comma-separated origins, such as https://panel.example, whose pages may use the API (CORS); * is all, and their browsers send no session then.",
    ),
    (
        "http.hosts",
        Kind::Text,
        Default::Text(""),
        "Comma-separated host names that listeners on loopback accept besides localhost and 127.0.0.1, for example behind a proxy that keeps the Host of its clients.",
    ),
    (
        "http.trusted_proxies",
        Kind::Text,
        Default::Text(""),
        "Comma-separated addresses or networks of proxies, such as 127.0.0.1 or 10.0.0.0/8, whose X-Forwarded-For is trusted: rate limits, the audit log and the log use the address of the proxy's client then. The header of any other address is ignored.",
    ),
    (
        "http.connections",
        Kind::Integer {
            min: 1,
            max: 100_000,
        },
        Default::Integer(512),
        "HTTP connections at once. Probes of health and /metrics are answered beyond that, and admin.sock has its own; any other request waits 3 s for a place and is then refused (503).",
    ),
    (
        "http.connections_per_address",
        Kind::Integer {
            min: 0,
            max: 100_000,
        },
        Default::Integer(0),
        "HTTP connections at once from one address, or from one IPv6 network of 64 bits; 0 is a quarter of http.connections, and 8 at least. With 0, while few connections are free, an address has at most half as many as are free, and always 2. Addresses of http.trusted_proxies have no such limit.",
    ),
    (
        "http.body_bytes",
        Kind::Integer {
            min: 1_024,
            max: 67_108_864,
        },
        Default::Integer(1_048_576),
        "Longest body of an HTTP request, bytes; a longer one is refused (413). Messages to be published may be longer: 2 limits.packet_bytes for one, 32 MiB for many.",
    ),
    (
        "http.rate",
        Kind::Integer {
            min: 0,
            max: 1_000_000,
        },
        Default::Integer(200),
        "HTTP requests per second of one caller, and of one address; more are refused (429). 0: no limit. No limit applies to admin.sock and to health probes.",
    ),
    (
        "http.burst",
        Kind::Integer {
            min: 1,
            max: 1_000_000,
        },
        Default::Integer(400),
        "Requests that may come in a burst before http.rate applies.",
    ),
    (
        "log.format",
        Kind::Word(&["text", "json"]),
        Default::Text("text"),
        "Form of the log lines on standard error: text or json.",
    ),
    (
        "log.level",
        Kind::Text,
        Default::Text("info"),
        "error, warn, info, debug or trace, or a filter such as \"info,martlet_control=warn\".",
    ),
    (
        "log.file",
        Kind::Text,
        Default::Text(""),
        "A file to which the same lines are written as to standard error. SIGHUP reopens it, as log rotation needs.",
    ),
    (
        "log.file_bytes",
        Kind::Integer {
            min: 1_000,
            max: 1 << 60,
        },
        Default::Integer(10_000_000),
        "Size at which the file is renamed FILE.1, and FILE.1 FILE.2, and so on.",
    ),
    (
        "log.files_kept",
        Kind::Integer { min: 0, max: 1_000 },
        Default::Integer(5),
        "Number of renamed files that are kept.",
    ),
    (
        "log.connections",
        SWITCH,
        Default::Boolean(true),
        "Log each connect, disconnect and refusal.",
    ),
    (
        "log.drops",
        SWITCH,
        Default::Boolean(false),
        "Log each dropped message.",
    ),
    (
        "events.kept",
        Kind::Integer {
            min: 100,
            max: 10_000_000,
        },
        Default::Integer(65_536),
        "Number of the latest events that are kept for slow or reconnecting streams. A stream that falls further behind is told how many events it has lost. Messages and packets become events only while a stream reads them.",
    ),
    (
        "events.kept_bytes",
        Kind::Integer {
            min: 65_536,
            max: 1 << 40,
        },
        Default::Integer(33_554_432),
        "Bytes of the events that are kept, at most. A sixteenth of limits.memory_bytes is the limit too.",
    ),
    (
        "events.push_url",
        Kind::Text,
        Default::Text(""),
        "Events are pushed to this server, which speaks the protocol of Laravel Reverb and Pusher: ws://HOST:PORT/app/KEY or wss://HOST/app/KEY. Each is a frame with the names and fields of the MQTT Panel. Payloads are among them.",
    ),
    (
        "events.push_ca_file",
        Kind::Text,
        Default::Text(""),
        "With wss://: a file of CAs (PEM) that verify the certificate of that server, instead of those of the system.",
    ),
    (
        "events.push_bytes_max",
        Kind::Integer {
            min: 8_000,
            max: 1_048_576,
        },
        Default::Integer(10_000),
        "Longest such frame, bytes; the payload of a longer frame is truncated, and payload_bytes gives its full length.",
    ),
    (
        "events.push_kinds",
        Kind::Text,
        Default::Text(""),
        "Comma-separated kinds of events that are pushed: connected, disconnected, subscribed, unsubscribed, published, packet; empty is all.",
    ),
    (
        "events.push_topics",
        Kind::Text,
        Default::Text(""),
        "Comma-separated Topic Filters: messages and subscriptions are pushed whose topic one of them matches; empty is all. Events without a topic are pushed in any case.",
    ),
    (
        "events.push_team",
        Kind::Text,
        Default::Text(""),
        "Events of clients of this team are pushed, by name or id, which has a tenant of its own; empty: of the clients of all teams that have none. A team that does not exist yet is waited for.",
    ),
    (
        "events.publish",
        Kind::Text,
        Default::Text(""),
        "Comma-separated kinds of events of clients that are published as messages: JSON, QoS 1, on $events/KIND, such as $events/connected, for integrations and for clients with a rule for these topics. Kinds: connected, authenticated, refused, reauthentication_refused, taken_over, disconnected, session_ended, subscribed, unsubscribed, subscribe_refused, publish_refused, device_inactive, device_active, alarm_raised, alarm_changed, twin_changed. Empty: none.",
    ),
    (
        "dead_letters.kept",
        Kind::Integer {
            min: 1,
            max: 100_000_000,
        },
        Default::Integer(10_000),
        "Number of messages refused by integrations (dead letters) that are kept in the tables, of all integrations of this node together. Beyond it the oldest of the tenant that has most are dropped and counted.",
    ),
    (
        "dead_letters.kept_bytes",
        Kind::Integer {
            min: 65_536,
            max: 1 << 40,
        },
        Default::Integer(67_108_864),
        "Bytes of the dead letters that are kept, at most; the newest one is kept however long it is.",
    ),
    (
        "integrations.allow_private",
        Kind::Text,
        Default::Text(""),
        "Private networks that integrations may connect to, separated by commas, such as 10.1.0.0/16. Loopback, private, link-local and other special addresses are refused unless they are listed here. The addresses that are connected to are checked, after the name is resolved.",
    ),
    (
        "integrations.default_connection",
        Kind::Text,
        Default::Text(""),
        "Bridge with connection = true that the microservice's POST /publish, POST /subscribe and POST /unsubscribe mean where the request names no broker. Empty: the node itself.",
    ),
    (
        "secrets.key_file",
        Kind::Text,
        Default::Text(""),
        "File with the key that secrets of other systems are sealed with. Nodes with the same tables need the same file. It is made with the first secret, with mode 0600; one that other users can read is refused. Empty: secrets.key in the data directory.",
    ),
    (
        "presence.publish",
        SWITCH,
        Default::Boolean(false),
        "Publish who is connected: retained, QoS 1, {\"status\": \"online\", \"since\": milliseconds, \"reason\": why not}. The retained message of the other state is taken away. Nothing is published of clients whose Client Identifier the node has assigned.",
    ),
    (
        "presence.topic",
        Kind::Text,
        Default::Text("iotflow/devices/{client_id}/status/{state}"),
        "Topic of presence, with {client_id} and {state} (online, offline) in it. Nothing is published for clients whose identifier cannot be part of a topic.",
    ),
    (
        "presence.timeout_secs",
        Kind::Integer {
            min: 1,
            max: 86_400,
        },
        Default::Integer(300),
        "Seconds after a heartbeat or telemetry by HTTP for which the routes of system 3 show a device as online. A connected device is online in any case.",
    ),
    (
        "messages.keep",
        Kind::Text,
        Default::Text(""),
        "Comma-separated Topic Filters of messages that are stored in the message log, which the routes of system 1 show (GET /messages). Messages that are published by POST /publish are stored in any case. Empty: no others.",
    ),
    (
        "messages.kept",
        Kind::Integer {
            min: 1,
            max: 1_000_000_000,
        },
        Default::Integer(100_000),
        "Messages of the message log, at most. Beyond that the tenant that has most loses its oldest messages. This is looked at every ten seconds, and with each batch of messages.keep.",
    ),
    (
        "messages.kept_bytes",
        Kind::Integer {
            min: 65_536,
            max: 1_099_511_627_776,
        },
        Default::Integer(268_435_456),
        "Bytes of the message log, at most, likewise.",
    ),
    (
        "messages.kept_days",
        Kind::Integer {
            min: 0,
            max: 36_500,
        },
        Default::Integer(30),
        "Days after which a message of the message log is dropped; 0: never.",
    ),
    (
        "topic_memory.filters",
        Kind::Text,
        Default::Text(""),
        "Comma-separated Topic Filters, such as devices/+/state,sensors/#. Of the topics that they match the node remembers the last payloads, the rate and the last publisher, in memory, for GET /api/v1/topics and martlet topic; empty: of none.",
    ),
    (
        "topic_memory.payloads",
        Kind::Integer {
            min: 1,
            max: 10_000,
        },
        Default::Integer(10),
        "Payloads that are remembered of a topic, the last ones.",
    ),
    (
        "topic_memory.payload_bytes",
        Kind::Integer {
            min: 0,
            max: 1_048_576,
        },
        Default::Integer(4_096),
        "Bytes that are remembered of a payload, the first ones.",
    ),
    (
        "topic_memory.max_age_secs",
        Kind::NoneOrAtLeast { min: 1 },
        Default::Integer(604_800),
        "Seconds after which a payload is forgotten, and a topic with it; 0: never.",
    ),
    (
        "topic_memory.topics",
        Kind::Integer {
            min: 1,
            max: 10_000_000,
        },
        Default::Integer(100_000),
        "Topics of a tenant that are remembered, at most. Beyond that the topic on which nothing was published for longest is dropped and counted.",
    ),
    (
        "topic_memory.bytes",
        Kind::Integer {
            min: 65_536,
            max: 1_099_511_627_776,
        },
        Default::Integer(67_108_864),
        "Bytes of the topic memory, at most. A sixteenth of limits.memory_bytes is the limit too. Beyond that the tenant that holds most loses the topics on which nothing was published for longest.",
    ),
    (
        "iotflow.base",
        Kind::Text,
        Default::Text("iotflow"),
        "First level, or levels, of the topics of system 3: in its catalogue and routes, in the rules of the device type and the role iotflow, where heartbeats and telemetry of devices are noticed, and where the node publishes its state.",
    ),
    (
        "iotflow.topics",
        Kind::Text,
        Default::Text(""),
        "Comma-separated QoS and retain of topics of that catalogue which differ from the usual ones: NAME:QOS:RETAIN, such as system_metrics:1:true. GET /api/v1/mqtt/topics/structure has the names.",
    ),
    (
        "iotflow.publish_secs",
        Kind::Integer {
            min: 0,
            max: 86_400,
        },
        Default::Integer(0),
        "Interval at which the node publishes its state as JSON to system/health, system/metrics, system/alerts, monitoring/broker, monitoring/clients and monitoring/traffic below iotflow.base, with the QoS and retain of the catalogue; 0: never. Of the roles and device types that come with the program only the role administrator may use these topics.",
    ),
    (
        "mqtt.enabled",
        SWITCH,
        Default::Boolean(true),
        "false: the node has no MQTT listeners. The HTTP server, admin.sock and integrations work.",
    ),
    (
        "mqtt.allow_anonymous",
        SWITCH,
        Default::Boolean(false),
        "Listeners beyond loopback accept clients without credentials. Listeners on loopback do so unless they are configured otherwise.",
    ),
    (
        "mqtt.allow_empty_client_id",
        SWITCH,
        Default::Boolean(true),
        "Clients of MQTT 3.1.1 and 5.0 may send an empty Client Identifier and are given one.",
    ),
    (
        "mqtt.max_qos",
        Kind::Integer { min: 0, max: 2 },
        Default::Integer(2),
        "Maximum QoS of publishes and granted subscriptions.",
    ),
    (
        "mqtt.retain_available",
        SWITCH,
        Default::Boolean(true),
        "Retained messages are permitted.",
    ),
    (
        "mqtt.wildcard_subscriptions",
        SWITCH,
        Default::Boolean(true),
        "Topic Filters with + and # are permitted.",
    ),
    (
        "mqtt.subscription_identifiers",
        SWITCH,
        Default::Boolean(true),
        "Subscription Identifiers are permitted (v5).",
    ),
    (
        "mqtt.shared_subscriptions",
        SWITCH,
        Default::Boolean(true),
        "$share/GROUP/FILTER is permitted, on 3.1.1 too.",
    ),
    (
        "mqtt.refuse_control_characters",
        SWITCH,
        Default::Boolean(true),
        "Topics, client identifiers and user names with control characters or noncharacters are refused.",
    ),
    (
        "mqtt.response_information",
        Kind::Text,
        Default::Text("response/"),
        "Prefix of the Response Information, to which the Client Identifier is added; empty sends none (v5).",
    ),
    (
        "mqtt.queue_full",
        Kind::Word(&["drop-oldest", "drop-newest", "disconnect"]),
        Default::Text("drop-oldest"),
        "What happens when a session's queue is full: drop-oldest, drop-newest or disconnect.",
    ),
    (
        "mqtt.rate_exceeded",
        Kind::Word(&["delay", "drop-qos0", "disconnect"]),
        Default::Text("delay"),
        "What happens to a PUBLISH above limits.publish_rate or limits.publish_bytes_rate. delay: it waits, and the client is read later. drop-qos0: with QoS 0 it is dropped and counted, with QoS 1 and 2 it waits. disconnect: the connection ends (v5: 0x96).",
    ),
    (
        "mqtt.sys_interval_secs",
        Kind::Integer {
            min: 0,
            max: 86_400,
        },
        Default::Integer(10),
        "Interval at which $SYS/broker/... statistics are published; 0: never.",
    ),
    (
        "mqtt.shutdown_grace_secs",
        Kind::Integer { min: 0, max: 3_600 },
        Default::Integer(5),
        "Time that connections have to receive their last output when the node stops.",
    ),
];

/// What tokens are signed with.
const ALGORITHMS: &[&str] = &[
    "of the set",
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "EdDSA",
];

pub(super) enum Default {
    Integer(u64),
    Boolean(bool),
    Text(&'static str),
    NoSecret,
}
