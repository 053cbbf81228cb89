//! Authentication and rights of clients: `[auth]` and `[acl]`.

use martlet_access::Subscribing;
use martlet_certificates::NameFrom;
use martlet_control::authentication::sources::{Algorithm, HookForm};

use super::section::{List, section};
use super::value::Secret;
use super::words::Enabled;

section! {
    /// Authentication of clients.
    Auth {
        /// Whether clients have to authenticate. auto: as soon as one of the keys below names
        /// credentials. off: clients are not authenticated, whatever else is configured.
        enabled: Enabled = Enabled::Auto;
        /// Sources of credentials, in this order; the first source that knows a user decides.
        order: List<String> = "certificate, credentials, registry, password-file, jwt, hook";
        /// Whether users and devices of martlet.db in the data directory are accepted; martlet
        /// user, device and role change them. auto: as soon as there is one, and from then on. The
        /// rules of their role or type apply to them, not those of auth.acl_file.
        registry: Enabled = Enabled::Auto;
        /// Users with their passwords: user:password,user2:password2. Better: a password file.
        credentials: Secret = "";
        /// File of users with hashes of their passwords, in Mosquitto's form; martlet passwd edits
        /// it.
        password_file: String = "";
        /// Passwords in a password file may be plain text.
        plain_passwords: bool = false;
        /// A password whose hash in the password file is weak ($6$, plain, few iterations) gets an
        /// Argon2id hash there when its user logs in. The node has to be permitted to write the
        /// file.
        renew_hashes: bool = false;
        /// ACL file: rules that say which clients may publish and subscribe to which topics, in
        /// Mosquitto's form. Without a file, all clients may use all topics but those that begin
        /// with $, and read $SYS/#.
        acl_file: String = "";
        /// Which field of a client's certificate is its user name; its CONNECT needs no password
        /// then.
        certificate_user_name: Option<NameFrom> = None;
        /// The keys that tokens (JWT) in the place of passwords are signed with: https://… of a set
        /// (JWKS), or a file with such a set, a public key in PEM, or a shared secret of 32 bytes
        /// or more. A token needs `exp`, at which its connection ends; its claim acl {"pub": […],
        /// "sub": […], "all": […]} says what its client may do. When a key is removed from the
        /// file, the connections of clients that logged in with it end. When the URL or the
        /// requirements on tokens change, the connections of all clients with tokens end.
        jwt_keys: String = "";
        /// With https://…: how often the keys are fetched anew; also, every 10 seconds at most,
        /// when a token names a key that is not known. While the server does not answer, the last
        /// keys remain valid, for a day. A client that logged in with a key that the server has
        /// removed stays until its token expires.
        jwt_refresh_secs: u64 = 600, in 1..=86_400;
        /// Algorithm of the key in PEM or of the secret, and of a key of a set that does not name
        /// one.
        jwt_algorithm: Option<Algorithm> = None;
        /// Value that `iss` of a token must have.
        jwt_issuer: String = "";
        /// Value that `aud` of a token must have or contain.
        jwt_audience: String = "";
        /// Claim that holds the user name.
        jwt_user_claim: String = "sub";
        /// Claim that must be equal to the Client Identifier, so that a token is valid for one
        /// client only.
        jwt_client_claim: String = "";
        /// URL of a server that authenticates clients, with HTTP POST:
        /// https://panel.example/api/mqtt/auth. Connections that it has accepted end when the URL
        /// is removed or changed.
        hook_url: String = "";
        /// Form of the request to it and of its answer. panel: {client_id, api_key, api_secret};
        /// status 200 permits if the body is a JSON object whose values are all whole numbers, at
        /// least one, as {"team_id": 1, "api_token_id": 2, "mqtt_client_id": 3}; any other object,
        /// and any other status, refuses. status: {username, password, clientid}; a status of 200
        /// to 299 permits by itself, whatever the body is: choose it only where nothing stands
        /// between node and hook that answers in its place. go-auth: the same is sent; a status of
        /// 200 to 299 permits with {"Ok": true}, as mosquitto-go-auth, and by itself with an empty
        /// body or ok. result: the body {"result": "allow"} permits, as EMQX, with is_superuser,
        /// acl and expire_at as it has them.
        hook_form: HookForm = HookForm::Panel;
        /// Time that it may take to answer; after that the client is refused. Keep twice this time
        /// below limits.authenticate_timeout_secs, at which the connection is closed.
        hook_timeout_ms: u64 = 5_000, in 10..=60_000;
        /// Requests to it at once. More clients wait for auth.hook_timeout_ms at most and are then
        /// refused (0x88, the client may try again), so that a client gets an answer within twice
        /// that time.
        hook_concurrency: usize = 64, in 1..=10_000;
        /// Time for which a password that was right is not hashed again for the same client. An
        /// answer of the hook with Cache-Control: max-age is remembered no longer than that says.
        remember_secs: u64 = 300, in 0..=86_400;
        /// Time for which a password that was wrong is not hashed again, and not counted again for
        /// a lockout.
        refusal_remember_secs: u64 = 5, in 0..=3_600;
        /// MQTT 5 clients may prove by SCRAM-SHA-256 (enhanced authentication) that they have their
        /// password, instead of sending it; users of `auth.credentials` can. Names and passwords
        /// are compared as SASLprep has them (RFC 4013); a name that it forbids is refused. While
        /// this is on, another hash of each password is stored: a password that is set while it is
        /// off has none.
        scram: bool = false;
        /// Wrong credentials within a minute, from one address or for one user name, after which
        /// that address or name is locked out for a while. A listener with its own users counts for
        /// itself. Answers slow down before the lockout. One name counts for at most a third of the
        /// limit of its address, so a device with an old password does not lock out the other
        /// devices at that address. A name that logged in from an address within the last day,
        /// since the node started, is locked out there only for its own wrong credentials from
        /// there. The same wrong credentials of an MQTT client again, within refusal_remember_secs,
        /// count once. Certificates without a password are not counted. 0 is no limit.
        lockout_failures: u32 = 30, in 0..=1_000_000;
        /// Duration of such a lockout.
        lockout_secs: u64 = 60, in 1..=86_400;
    }
}

section! {
    /// Rules about topics.
    Acl {
        /// When read rules of ACL files are checked. at_delivery: a SUBSCRIBE is granted, and each
        /// message is checked when it is delivered, as in Mosquitto. refuse: a filter of which the
        /// client may not read everything is refused at once (SUBACK 0x87, v3: 0x80); messages are
        /// checked all the same.
        subscribe: Subscribing = Subscribing::AtDelivery;
    }
}
