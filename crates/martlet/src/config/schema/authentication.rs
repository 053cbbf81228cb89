//! Authentication and rights of clients: `[auth]` and `[acl]`.

use martlet_access::Subscribing;
use martlet_certificates::NameFrom;
use martlet_control::authentication::sources::{Algorithm, HookForm};
use martlet_settings::{List, SecretValue, section};

use super::words::{Enabled, Here};

section! {
    /// Authentication of clients.
    Auth {
        /// Whether clients have to authenticate. auto: as soon as one of the keys below names
        /// credentials. off: clients are not authenticated, whatever else is configured.
        enabled: Enabled = Enabled::Auto;
        /// Sources of credentials, in the order in which they are checked; the first source that
        /// has the user decides.
        order: List<String> = "certificate, credentials, registry, password-file, jwt, hook";
        /// Whether users and devices of martlet.db in the data directory are accepted; martlet
        /// user, device and role change them. auto: as soon as the first user or device exists, and
        /// from then on. The rules of their role or type apply to them, not those of auth.acl_file.
        registry: Enabled = Enabled::Auto;
        /// Comma-separated users with their passwords: user:password,user2:password2. Better: a
        /// password file.
        credentials: List<SecretValue> = "";
        /// File of users with hashes of their passwords, in Mosquitto's format; martlet passwd
        /// edits it.
        password_file: String = "";
        /// Accept plain-text passwords in a password file.
        plain_passwords: bool = false;
        /// Replace a weak hash in the password file ($6$, plain, few iterations) by an Argon2id
        /// hash when its user logs in. The node must be permitted to write the file.
        renew_hashes: bool = false;
        /// ACL file: rules that permit or forbid clients to publish and subscribe to topics, in
        /// Mosquitto's format. Without a file, all clients may use all topics except those that
        /// begin with $, and may read $SYS/#.
        acl_file: String = "";
        /// Field of a client's certificate that is its user name. Its CONNECT then needs no
        /// password.
        certificate_user_name: Option<NameFrom> = None;
        /// Keys that verify tokens (JWT) sent as passwords: https://… of a set (JWKS), or a file
        /// with such a set, a public key in PEM, or a shared secret of 32 bytes or more. A token
        /// needs `exp`, at which its connection ends; its claim acl {"pub": […], "sub": […], "all":
        /// […]} contains the rights of its client. When a key is removed from the file, the
        /// connections of clients that logged in with it end. When the URL or the requirements on
        /// tokens change, the connections of all clients with tokens end.
        jwt_keys: String = "";
        /// With https://…: interval at which the keys are fetched again. They are also fetched when
        /// a token names an unknown key, at most every 10 seconds. While the server does not
        /// answer, the last keys remain valid, for a day. A client that logged in with a key that
        /// the server has removed stays until its token expires.
        jwt_refresh_secs: u64 = 600, in 1..=86_400;
        /// Algorithm of the key in PEM or of the secret, and of a key of a set that does not name
        /// one.
        jwt_algorithm: Option<Algorithm> = None;
        /// Value that `iss` of a token must have.
        jwt_issuer: String = "";
        /// Value that `aud` of a token must have or contain.
        jwt_audience: String = "";
        /// Claim that contains the user name.
        jwt_user_claim: String = "sub";
        /// Claim that must be equal to the Client Identifier, so that a token is valid for one
        /// client only.
        jwt_client_claim: String = "";
        /// URL of a server that authenticates clients, with HTTP POST:
        /// https://panel.example/api/mqtt/auth. Connections that it has accepted end when the URL
        /// is removed or changed.
        hook_url: String = "";
        /// Format of the request to it and of its answer. panel: {client_id, api_key, api_secret};
        /// status 200 permits if the body is a JSON object whose values are all whole numbers, at
        /// least one, as {"team_id": 1, "api_token_id": 2, "mqtt_client_id": 3}; any other object
        /// or status refuses the client. status: {username, password, clientid}; a status of 200 to
        /// 299 permits, the body is ignored: use it only if no proxy between node and hook can
        /// answer instead of the hook. go-auth: the same request; a status of 200 to 299 permits
        /// with the body {"Ok": true}, as in mosquitto-go-auth, with an empty body, or with ok.
        /// result: the body {"result": "allow"} permits, as in EMQX; its is_superuser, acl and
        /// expire_at are supported.
        hook_form: HookForm = HookForm::Panel;
        /// Time limit for its answer; after that the client is refused. Set it to less than half of
        /// limits.authenticate_timeout_secs, after which the connection is closed.
        hook_timeout_ms: u64 = 5_000, in 10..=60_000;
        /// Maximum number of concurrent requests to it. Further clients wait for at most
        /// auth.hook_timeout_ms and are then refused (0x88, the client may try again). So a client
        /// gets an answer within twice that time.
        hook_concurrency: usize = 64, in 1..=10_000;
        /// Time for which a correct password of a client is remembered and not hashed again. An
        /// answer of the hook with Cache-Control: max-age is remembered for at most max-age.
        remember_secs: u64 = 300, in 0..=86_400;
        /// Time for which a wrong password is remembered: it is not hashed again, and not counted
        /// again for a lockout.
        refusal_remember_secs: u64 = 5, in 0..=3_600;
        /// MQTT 5 clients may log in by SCRAM-SHA-256 (enhanced authentication) instead of sending
        /// their password; so may users of `auth.credentials`. Names and passwords are normalized
        /// by SASLprep (RFC 4013) before they are compared; a name that SASLprep forbids is
        /// refused. While this is on, a second hash of each password is stored. A password that is
        /// set while it is off has none, and cannot be used for SCRAM.
        scram: bool = false;
        /// Number of wrong credentials within a minute, from one address or for one user name,
        /// after which that address or name is locked out. A listener with its own users has
        /// counters of its own. Answers slow down before the lockout. One name counts for at most a
        /// third of the limit of its address, so a device with an old password does not lock out
        /// the other devices at that address. A name that logged in from an address within the last
        /// day, since the node started, is locked out at that address only for its own wrong
        /// credentials from there. If an MQTT client repeats the same wrong credentials within
        /// refusal_remember_secs, they count once. Certificates without a password are not counted.
        /// 0 is no limit.
        lockout_failures: u32 = 30, in 0..=1_000_000;
        /// Duration of such a lockout.
        lockout_secs: u64 = 60, in 1..=86_400;
    }
}

section! {
    /// Rules about topics.
    Acl {
        /// When read rules of ACL files are checked. at_delivery: a SUBSCRIBE is granted, and each
        /// message is checked when it is delivered, as in Mosquitto. refuse: a filter that also
        /// matches topics which the client may not read is refused at once (SUBACK 0x87, v3: 0x80);
        /// messages are still checked.
        subscribe: Subscribing = Subscribing::AtDelivery;
    }
}
