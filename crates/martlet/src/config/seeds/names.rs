//! Names of variables of other programs.

/// Each name and its meaning here.
pub(crate) const NAMES: &[(&str, &str)] = &[
    (
        "MQTT_BROKER_ENABLED",
        "`false`: `mqtt.enabled = false`, unless Martlet's own variables name a listener.",
    ),
    (
        "MQTT_BROKER_HOST",
        "Address to listen on; 127.0.0.1 if it is not given, see MQTT_PORT.",
    ),
    (
        "MQTT_BROKER_PORT",
        "Port of MQTT without TLS; 1883 if it is not given.",
    ),
    (
        "MQTT_HOST",
        "The same as MQTT_BROKER_HOST, where that is not given.",
    ),
    (
        "MQTT_PORT",
        "The same as MQTT_BROKER_PORT, where that is not given. Beside a name of system 4 \
         (LISTEN_ADDR, DATABASE_DSN, ENABLE_JETSTREAM, NATS_URL, PUBLISH_TIMEOUT_SEC) and without \
         a host, the node listens on all interfaces.",
    ),
    (
        "MQTT_WEBSOCKET_PORT",
        "Port of a WebSocket listener without TLS, at any path.",
    ),
    (
        "MQTT_BROKER_TLS_ENABLED",
        "`true`: TLS at MQTT_BROKER_PORT + 1 and at 8883. The port without TLS stays open, with a \
         warning.",
    ),
    ("MQTT_BROKER_TLS_CERT_FILE", "`tls.certificate`"),
    ("MQTT_BROKER_TLS_KEY_FILE", "`tls.key`"),
    ("MQTT_BROKER_LOGGING_ENABLED", "`log.connections`"),
    (
        "MQTT_USE_TLS",
        "`true`: TLS at MQTT_TLS_PORT. The port without TLS stays open, with a warning, unless it \
         is the same. Beside MQTT_CA_CERTS or MQTT_TLS_INSECURE and without a certificate it is a \
         setting of clients, which the node ignores, with MQTT_BROKER_PORT if that is the port of \
         TLS.",
    ),
    ("MQTT_TLS_PORT", "8883 if it is not given."),
    ("MQTT_CA_CERTS", "See MQTT_USE_TLS."),
    ("MQTT_TLS_INSECURE", "See MQTT_USE_TLS."),
    (
        "MQTT_CERT_FILE_PATH",
        "With MQTT_USE_TLS: `tls.certificate`",
    ),
    ("MQTT_KEY_FILE_PATH", "With MQTT_USE_TLS: `tls.key`"),
    (
        "MQTT_BROKER_AUTH_ENABLED",
        "`true`: `auth.enabled = \"on\"`. `false`: `\"off\"`, and `mqtt.allow_anonymous = true`.",
    ),
    (
        "MQTT_BROKER_ALLOW_ANONYMOUS",
        "`mqtt.allow_anonymous`, where MQTT_BROKER_AUTH_ENABLED is not `false`.",
    ),
    ("MQTT_BROKER_CREDENTIALS", "`auth.credentials`"),
    (
        "DATABASE_URL",
        "`registry.url`, if it begins with postgres:// or sqlite: and the database is for Martlet: \
         [the database](database.md).",
    ),
    ("DATABASE_DSN", "The same, where DATABASE_URL is not given."),
    (
        "MAX_DEVICES_PER_USER",
        "`registry.max_devices_per_user`, and `telemetry.enabled`.",
    ),
    ("API_KEY_ENABLED", "`true`: the keys of API_KEYS are valid."),
    (
        "API_KEYS",
        "With API_KEY_ENABLED: comma-separated keys of `http.api_keys`, each of which permits \
         everything; their names are api-key-1, api-key-2, …",
    ),
    (
        "IOTFLOW_ADMIN_TOKEN",
        "Sets `telemetry.enabled`, and `http.admin_token`: an API key that permits everything, also shown as \
         `Authorization: admin TOKEN`.",
    ),
    (
        "REVERB_APP_KEY",
        "With REVERB_SERVER_HOST, REVERB_SERVER_PORT or REVERB_HOST: `events.push_url`, so that \
         events are pushed there.",
    ),
    (
        "REVERB_SERVER_HOST",
        "The host of that URL, where the panel's server listens; 0.0.0.0 is this machine.",
    ),
    (
        "REVERB_SERVER_PORT",
        "Its port, without TLS; 8080 if it is not given.",
    ),
    (
        "REVERB_HOST",
        "The host of that URL, where no REVERB_SERVER name is given: where browsers find the server.",
    ),
    ("REVERB_PORT", "Its port; 443 if it is not given."),
    (
        "REVERB_SCHEME",
        "`http` is `ws://`; `https`, and if it is not given, `wss://`.",
    ),
    (
        "HTTP_SERVER_PORT",
        "A further HTTP listener on all interfaces, with system 1 first (`http.compat`) and \
         `/metrics` as JSON. A port, :PORT or HOST:PORT.",
    ),
    ("PORT", "A further HTTP listener with system 3 first."),
    (
        "HOST",
        "The host of that listener; all interfaces if it is not given.",
    ),
    (
        "LISTEN_ADDR",
        "A further HTTP listener with system 4 first: HOST:PORT, or :PORT for all interfaces.",
    ),
    ("ALLOWED_ORIGINS", "`http.origins`"),
    (
        "LOG_LEVEL",
        "`log.level`; `warning` is `warn`, `critical` is `error`.",
    ),
    ("LOG_FORMAT", "`log.format`."),
    ("LOG_FILE", "`log.file`; its directory is created."),
    ("RATE_LIMIT_PER_MINUTE", "`iotflow.requests_per_minute`."),
    ("RATE_LIMIT_BURST", "`iotflow.requests_burst`."),
    (
        "MQTT_DEFAULT_CONNECTION",
        "`integrations.default_connection`, in lower case: the connection of requests that name no broker. `internal`, and if it is not given: the node itself.",
    ),
    (
        "MQTT_TLS_ENABLED",
        "`true`: TLS in all connections of MQTT_<NAME>_HOST.",
    ),
    (
        "MQTT_TLS_VERIFY_PEER",
        "`true`: the certificates of their brokers are checked. If it is not given they are not, with a warning.",
    ),
    (
        "MQTT_TLS_CA_FILE",
        "PEM file of the CAs that signed these certificates. Default: those that the system trusts.",
    ),
    (
        "MQTT_AUTH_USERNAME",
        "User name of all these connections. Needs MQTT_AUTH_PASSWORD.",
    ),
    (
        "MQTT_AUTH_PASSWORD",
        "Their password. `${secret:NAME}` refers to a secret of the node.",
    ),
    (
        "WEBHOOK_ENABLED",
        "`true`: the webhook `webhook/microservice` gets every message, QoS 0 too, in the format \
         of the microservice, see [webhooks](webhooks.md#formats). Needs no \
         `integrations.allow_private` for loopback and private addresses, which the start reports.",
    ),
    ("WEBHOOK_URL", "URL of its requests."),
    (
        "WEBHOOK_METHOD",
        "Their method: POST, PUT or PATCH; POST if it is not given.",
    ),
    (
        "WEBHOOK_TIMEOUT",
        "Time limit of a request, seconds; 10 if it is not given.",
    ),
    (
        "WEBHOOK_RETRY_COUNT",
        "Number of retries of a message that the receiver fails to process; 3 if it is not given. \
         After that the message becomes a dead letter. If the receiver cannot be reached, attempts \
         are not limited.",
    ),
    (
        "WEBHOOK_RETRY_DELAY",
        "Longest pause between attempts, seconds; 5 if it is not given.",
    ),
    (
        "NATS_URL",
        "The sink `nats/service-mqtt` forwards every message of all tenants, QoS 0 too, to \
         `raw.<username>` there, see [NATS](nats.md). Needs no \
         `integrations.allow_private` for loopback and private addresses, which the start reports.",
    ),
    (
        "ENABLE_JETSTREAM",
        "`jetstream` of that sink; true if it is not given. `true` without NATS_URL: \
         nats://localhost:4222.",
    ),
    (
        "PUBLISH_TIMEOUT_SEC",
        "`timeout_secs` of that sink; 5 if it is not given.",
    ),
];

/// Why a name of [`GENERIC`] is ignored.
pub(super) const NOT_MEANT: &str = "many programs use this name: it applies in .env, or if a name is set that \
                         only one of these systems has";

/// Names that many programs use.
pub(crate) const GENERIC: &[&str] = &[
    "HOST",
    "PORT",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "LOG_FILE",
    "ALLOWED_ORIGINS",
    "RATE_LIMIT_PER_MINUTE",
    "RATE_LIMIT_BURST",
    "NATS_URL",
    "PUBLISH_TIMEOUT_SEC",
    "WEBHOOK_ENABLED",
    "WEBHOOK_URL",
    "WEBHOOK_METHOD",
    "WEBHOOK_TIMEOUT",
    "WEBHOOK_RETRY_COUNT",
    "WEBHOOK_RETRY_DELAY",
];

/// Names that only one of these systems uses.
pub(crate) const UNIQUE: &[&str] = &[
    "MQTT_BROKER_CREDENTIALS",
    "MQTT_BROKER_AUTH_ENABLED",
    "MQTT_DEFAULT_CONNECTION",
    "HTTP_SERVER_PORT",
    "IOTFLOW_ADMIN_TOKEN",
    "IOTDB_HOST",
    "ENABLE_JETSTREAM",
];
