//! Tables of remedies that need no name: a text for each fault, refusal, drop and limit.

use martlet_broker::{
    DropReason as Drop, Limit, PasswordSource as Kept, ProxyFault as Proxy, RefusalCause as Is,
    TlsFault as Tls, WebSocketFault as Web,
};
use martlet_codec::ReasonCode as Code;

use crate::http_cause::HttpCause as Http;
use crate::remedy::form::{self, CommandForm};

/// Remedy of a table. In its words, `{name}` stands for the first value of its command.
#[derive(Clone, Copy)]
pub(super) struct Text {
    /// Words; empty: nothing is known to help.
    pub(super) words: &'static str,
    pub(super) form: Option<CommandForm>,
}

/// Functions that look up the remedy for a value. Each line has the values that have it in common,
/// its words and the form of its command, if there is one.
macro_rules! texts {
    ($($(#[$doc:meta])* fn $name:ident($of:ident) {
        $($($value:pat_param)|+ => $words:literal $(, $form:ident)?;)*
    })*) => {
        $($(#[$doc])*
        pub(super) fn $name(of: $of) -> Text {
            match of {
                $($($value)|+ => Text { words: $words, form: texts!(@ $($form)?) },)*
            }
        })*
    };
    (@) => { None };
    (@ $form:ident) => { Some(form::$form) };
}

texts! {
    /// Remedy for a TLS connection that failed for this.
    fn of_tls(Tls) {
        Tls::NoVersion => "have the client use TLS 1.2 or later, or only 1.3 if tls.version (tls_version of the listener) is \"1.3\": update its TLS library, or set the version there";
        Tls::NoCipherSuite => "have the client offer a cipher suite with ECDHE and AES-GCM or ChaCha20 for the kind of the server's key (ECDSA or RSA): update its TLS library, or remove the list of ciphers there";
        Tls::OnlyRsa => "give the listener a certificate with an RSA key (martlet cert server --rsa=2048), or have the client offer a cipher suite with ECDHE-ECDSA: update its TLS library";
        Tls::OnlyEcdsa => "give the listener a certificate with an ECDSA key (martlet cert server), or have the client offer a cipher suite with ECDHE-RSA";
        Tls::NoKeyExchange => "have the client offer cipher suites with ECDHE and the curve X25519 or P-256: update its TLS library, or remove the list of ciphers or curves there";
        Tls::NoSignatureOfServer => "the client cannot verify a certificate with a key of that kind: update its TLS library, or give the listener a certificate with a key of another kind (ECDSA or RSA)";
        Tls::NoSignatureOfClient => "the key of the client's certificate is of a kind that the server does not verify: issue a new certificate with an ECDSA P-256 or RSA key of 2048 bits or more (see martlet cert client --help)";
        Tls::NoExtension => "the client's TLS library is too old: update it";
        Tls::NoApplicationProtocol => "have the client offer the ALPN protocol mqtt, or none";
        Tls::CertificateExpired => "renew the client's certificate (see martlet cert renew --help), and give it to the client";
        Tls::CertificateNotYetValid => "check the clocks of the node and of the machine that issued the certificate; if both are right, wait, or renew it (see martlet cert renew --help)";
        Tls::CertificateRevoked => "give the client a new certificate: see martlet cert client --help";
        Tls::RevocationListExpired => "write a new one: see martlet cert crl --help";
        Tls::CertificateOfCa => "issue a certificate for the client by the listener's client_ca (see martlet cert client --help); a CA's own certificate is not for clients";
        Tls::CertificateForeign => "give the client a certificate of the listener's client_ca, or add its CA there";
        Tls::CertificateNotForClients => "give the client a certificate for clients (extended key usage clientAuth): see martlet cert client --help";
        Tls::CertificateNotSigned => "the CA has another key now, or the certificate was changed: issue a new one with the listener's client_ca (see martlet cert client --help)";
        Tls::CertificateVersion => "issue a new certificate for the client (see martlet cert client --help), or set tls.x509_version1 = true (x509_version1 of the listener) to accept certificates of X.509 version 1";
        Tls::CertificateInvalid => "issue a new certificate for the client: see martlet cert client --help";
        Tls::CertificateMissing => "give the client a certificate (see martlet cert client --help), or set client_certificates = \"optional\"";
        Tls::ServerNotTrusted => "give the client the CA of the server's certificate (--cafile), have it connect by a name that is in the certificate, and check whether the certificate has expired: martlet cert check HOST:PORT --cafile CA shows all three";
        Tls::ServerExpired => "give the listener a new certificate if its own has expired (martlet cert check HOST:PORT shows until when it is valid), else set the clock of the client";
        Tls::EndedByClient => "the client's own log shows why; often it connects by a name that is not in the server's certificate, or does not trust its CA: martlet cert check HOST:PORT shows both";
        Tls::LeftHandshake | Tls::LeftAfterHandshake => "look at the client's own log; often it does not accept the server's certificate: check that the name that it connects to is in the certificate, and that it has the CA (martlet cert check HOST:PORT --cafile CA shows both). A probe of a load balancer or monitor does the same, and needs nothing";
        Tls::NotTls => "have the client connect with TLS, or to the port of a listener for its protocol (martlet status lists them)";
        Tls::PlainMqtt => "turn on TLS in the client (a URL with mqtts://, --cafile), or have it connect to the port of a listener without TLS (martlet status lists them)";
        Tls::RecordTooLong | Tls::EmptyRecords | Tls::Undecryptable => "the received data is not valid TLS: check the client's TLS library, and what is between it and the node (a proxy, a load balancer)";
        Tls::Failed => "look at the client's TLS library and its version; openssl s_client -connect, from the client's machine, shows the handshake";
    }

    /// Remedy for a WebSocket connection that was refused or ended for this.
    fn of_web_socket(Web) {
        Web::UnknownPath => "connect to the path of the listener's URL, which martlet status shows (ws://…/mqtt); a listener whose URL ends with /* accepts every path";
        Web::OriginNotAllowed => "add the origin of the page, such as https://app.example, to `origins` of the listener";
        Web::NoSubprotocol => "have the client offer the subprotocol mqtt, in a browser new WebSocket(url, \"mqtt\"); MQTT libraries do so by default";
        Web::NotWebSocket | Web::NotGet => "the port is for MQTT over WebSocket, not for pages: connect with ws:// or wss://; a proxy in between has to pass on the headers Upgrade and Connection";
        Web::HttpVersion => "have the proxy in between speak HTTP/1.1 to the node (nginx: proxy_http_version 1.1)";
        Web::NotHttp | Web::Malformed => "the client uses MQTT without WebSocket, or TLS, at a WebSocket port: connect with ws://, or to another listener";
        Web::Version | Web::Key => "the client's WebSocket library is too old or faulty: it must conform to RFC 6455";
        Web::HeadTooLong | Web::TooManyHeaders => "send fewer or shorter headers: they include the cookies of the page's site";
        Web::NoHost | Web::HasBody | Web::HeaderTwice | Web::HeaderNotUtf8 => "look at the client's WebSocket library, and at the proxy in between: the request does not conform to RFC 6455";
        Web::TextFrame => "have the client send binary frames: MQTT libraries do so by default";
        Web::FrameTooLong => "raise limits.packet_bytes and restart the node, or have the client send less in one WebSocket frame";
        Web::ReservedBits | Web::ReservedOpcode | Web::NotMasked | Web::FragmentedControl | Web::ControlTooLong | Web::NothingToContinue | Web::MessageUnfinished | Web::LengthForm | Web::EmptyFrames | Web::CloseHalfCode | Web::CloseCode | Web::CloseNotUtf8 => "look at the client's WebSocket library, and at the proxy in between: the frames do not conform to RFC 6455";
    }

    /// Remedies of refused connections and requests.
    fn of_refusal(Is) {
        Is::NoCredentials | Is::AnonymousRefused => "give the client a user name and password (see martlet user add --help), or the listener allow_anonymous = true; mqtt.allow_anonymous sets it for all";
        Is::PasswordMissing => "have the client send its password; that of a device is its secret";
        Is::NotMqtt => "the client uses another protocol at a port of plain MQTT";
        Is::HttpToMqtt => "have the client use the port of the HTTP listener, or for MQTT over WebSocket that of a ws listener: martlet status lists them";
        Is::TlsToMqtt => "have the client connect to the port of a listener with TLS (martlet status lists them), or without TLS to this one";
        Is::Proxy(Proxy::Missing) => "connect through the proxy, or to a listener without proxy_from";
        Is::Proxy(Proxy::Unexpected) => "set proxy_from of the listener to the address of the proxy, or have the proxy send no PROXY header";
        Is::Proxy(Proxy::NotTrusted) => "add the address to the listener's proxy_from";
        Is::Proxy(Proxy::Malformed | Proxy::TooLong) => "have the proxy send a PROXY header of version 1 or 2, or connect to a listener without proxy_from";
        Is::ClientIdTaken => "two clients have the same Client Identifier: give each its own";
        Is::EmptyClientId => "give the client a Client Identifier, or the listener allow_empty_client_id = true";
        Is::HookRefused => "find out why the program behind auth.hook_url refuses the client";
        Is::HookDown => "check that the program behind auth.hook_url runs and answers in time, or raise auth.hook_timeout_ms";
        Is::TokenKeysDown => "check that the keys of auth.jwt_keys can be fetched";
        Is::BadToken | Is::TokenEnded => "give the client a new token";
        Is::TokenOfOther => "give the client a token of its own, or set its Client Identifier to the one that the token is for";
        Is::TokenNotYetValid => "set the clock of the node and that of the token's issuer, or have the client wait";
        Is::WillOnServerTopic => "clients cannot publish to topics that begin with $SYS, $share, $CONTROL or $events";
        Is::AuthenticationMethod => "have the client log in by user name and password; for SCRAM-SHA-256, set auth.scram = true and restart the node, then set the user's password again: one that was set while auth.scram was off cannot be used by SCRAM";
        Is::NoScramVerifier => "set the password of the user again while auth.scram is on, or have the client log in by user name and password";
        Is::AuthenticationMessage => "look at the client's MQTT library: the SCRAM user name has to be the User Name of CONNECT, and the messages those of RFC 5802";
        Is::NoSource => "add users or devices (martlet user add, martlet device add), or set another source of credentials in [auth]";
        Is::LoginsWait => "have fewer clients connect at a time; if a hook checks them, see that it answers fast";
        Is::LoginFailed => "martlet health shows what does not work";
        Is::ReservedClientId => "give the client a Client Identifier that does not begin with $";
        Is::NameOfDevice => "give the client a User Name that is not the id of a device, or have it log in as that device with its secret";
        Is::CertificateNamesNobody => "issue the client another certificate, which has its user name in the field that the listener reads";
        Is::PayloadKeyUnreadable => "have the device send a JSON object with api_key as a member, and a Will without it";
        Is::NoAuthenticationMethod => "have the client log in by user name and password, without an Authentication Method";
        _ => "";
    }

    /// Remedies of refusals by the registry, which name a user or device, proved or not.
    fn of_subject(Is) {
        Is::UserDisabled => "enable the user", USER_ENABLE;
        Is::DeviceInactive | Is::DeviceMaintenance => "activate the device", DEVICE_ACTIVATE;
        Is::WrongSecret => "first check which credential the client uses (it may be mistyped or outdated); if the correct one is lost, give the device another", DEVICE_ROTATE;
        Is::SecretAsUserName => "set the User Name of the client to {name}, and its password to the secret; programs between may have logged the secret as a name: to give the device another one, run", DEVICE_ROTATE;
        Is::SecretWithBlanks => "remove what is around the secret in the settings of the client, such as the line break at the end of a file that it is read from, or the quotation marks of a file of variables";
        Is::CredentialExpired => "give it another credential", DEVICE_ROTATE;
        Is::CertificateNotRegistered => "register the certificate that the client presents, if it is the device's: POST /api/v1/devices/{name}/credentials with its PEM as certificate";
        Is::NotItsClientId => "set the Client Identifier (client id) of the client to {name}: by its MQTT library's or firmware's setting, by -i with martlet pub and mosquitto_pub; if it is another device, give it an id and a secret of its own (martlet device add)";
        Is::ClientIdOfDevice => "have the client log in as the device, with the User Name {name} and its secret, or set another Client Identifier (client id) on it";
        Is::TeamDeleted => "restore the team", TEAM_RESTORE;
        _ => "";
    }

    /// Remedies of refused requests to add a device by a provisioning key.
    fn of_provisioning(Is) {
        Is::ProvisioningKeyUsedUp | Is::ProvisioningKeyExpired | Is::ProvisioningKeyRevoked => "add another provisioning key (martlet provision add NAME), which is shown once, and give it to the device; to list the keys, run", PROVISION_LS;
        Is::ProvisioningKey => "check that the device has the complete key, or add another one (martlet provision add NAME) and give it to the device; to list the keys, run", PROVISION_LS;
        _ => "";
    }

    /// Remedies of refusals by the HTTP server.
    fn of_http(Http) {
        Http::Client(Is::Forbidden) => "have the device send only requests about itself";
        Http::ApiKeyUnknown => "have the program that sends the request use a valid key (martlet key add adds one); to list them, run", KEY_LS;
        Http::ApiKeyLacksScope => "give the user an API role that has the scope (martlet user set NAME --api-role ROLE)";
        Http::RequestInvalid => "correct the request: its method, path or content; /docs of the node lists all routes";
        Http::HostNotAllowed => "add the name to http.hosts, if it is one of this node; or have the client use localhost or a loopback address";
        Http::TooManyRequests => "have the device send fewer requests, each with several values, or raise http.rate and http.burst";
        Http::TooManyDeviceRequests => "have the device send fewer requests, each with several values, or raise iotflow.requests_per_minute and iotflow.requests_burst";
        Http::TooManyRouteRequests => "have the device send fewer requests, each with several values; the limit of this route is fixed, as in the system that it is of";
        Http::MqttToHttp => "have the client connect to the port of an MQTT listener: martlet status lists them";
        Http::WebSocketToHttp => "have the client connect to the port of a ws listener: martlet status lists them; if there is none, add one (--listen ws://ADDRESS:9001/mqtt)";
        Http::TlsToHttp => "have an MQTT client connect to the port of a listener with TLS (martlet status lists them); have other clients use http://, or set http.tls_certificate and http.tls_key";
        Http::Client(_) => "";
    }

    /// Remedies of passwords that are kept in the tables or a file, and of others.
    fn of_password(Kept) {
        Kept::Registry | Kept::File => "first check which credential the client uses (it may be mistyped or outdated); if the correct one is lost, set another", USER_PASSWD;
        Kept::Configuration => "first check which credential the client uses; the correct one is in auth.credentials of the node; martlet config show says where it is set";
        Kept::Other => "";
    }

    /// Remedies of the ends of connections.
    fn of_end(Is) {
        Is::TakenOver => "if it happens repeatedly, two clients have the same Client Identifier: give each its own";
        Is::KeepAlive => "the client or the network to it no longer responds; a longer Keep Alive tolerates longer gaps";
        Is::TokenEnded => "have the client connect with a new token";
        Is::CredentialsEnded => "have the client connect with a credential that is still valid";
        _ => "";
    }

    /// Remedies of packets that broke a rule of MQTT; the words before name packet and rule.
    fn of_packet(Code) {
        Code::UnsupportedProtocolVersion => "the client must use MQTT 3.1, 3.1.1 or 5.0";
        Code::MalformedPacket => "the client sent bytes that are not such a packet: look at its MQTT library and its version, and that nothing but that library writes to its connection; a trace shows the packets before it", TRACE;
        Code::TopicFilterInvalid => "have the client subscribe to a valid Topic Filter: # matches the rest of a topic and must be its last level, + matches one whole level, as in plant/+/temp or plant/#";
        Code::ClientIdentifierNotValid => "give the client a Client Identifier (client id) of its own, without a character that is not shown, such as the line break at the end of a file that it is read from; with MQTT 3.1.1 it may do without one if it connects with Clean Session";
        Code::TopicNameInvalid => "the client used a topic that is empty, or has the wildcards + or # or a control character, such as a tab: look at the topics that it publishes to, at its Will Topic and at its MQTT library; a trace shows the packets before it", TRACE;
        Code::ProtocolError | Code::TopicAliasInvalid | Code::ReceiveMaximumExceeded => "the client sent a packet that MQTT forbids there: look at its MQTT library and its version, and that two of its threads do not use one connection; a trace shows the packets before it", TRACE;
        _ => "";
    }

    /// Remedies of registrations, and of messages that name their device by `api_key`.
    fn of_screened(Is) {
        Is::ProvisioningKey | Is::ProvisioningKeyUsedUp | Is::ProvisioningKeyExpired | Is::ProvisioningKeyRevoked => "give the device a provisioning key that is valid: martlet provision add NAME adds one";
        Is::RegistrationPayload => "have the device send a JSON object with provisioning_key, and name, device_type, description, location, firmware_version, hardware_version or request_id";
        Is::NotRegistered => "register under another id, or with another provisioning key; a device that exists and has lost its secret gets another by martlet device rotate";
        Is::NoDeviceInTopic => "have the device publish to a topic with its id or number, or add it (martlet device add)";
        Is::PayloadKeyUnreadable => "have the device send a JSON object with api_key as a member, and a Will without it";
        Is::WrongSecret | Is::UnknownUser(_) => "first check which api_key the device sends; if the correct one is lost, give the device another secret (martlet device rotate)";
        _ => "";
    }

    /// Remedy for messages that were dropped with their session, which ended for this cause.
    fn of_session_end(Is) {
        Is::SessionExpired => "have the client connect more often, or with a longer Session Expiry Interval (at most limits.session_expiry_max_secs); publish again what it needs";
        Is::CleanStart => "have the client connect with Clean Start 0 (before MQTT 5: Clean Session 0), so that it gets what waits for it; publish again what it needs";
        Is::EndsWithConnection => "have the client connect with a Session Expiry Interval above 0 (before MQTT 5: Clean Session 0)";
        Is::EndedByOperator => "publish again what the client needs";
        _ => "";
    }

    /// Remedies for messages that were dropped for a reason that is no limit.
    fn of_drop(Drop) {
        Drop::ClientAway => "publish and subscribe with QoS 1 and a session that persists, to have it kept";
        Drop::PartBusy => "set keep_qos0 = true for the integration in the configuration, or publish with QoS 1";
        Drop::QueueFull => "have the client connect more often or read faster, let the session of a client that does not connect again expire sooner, or raise limits.queued_messages or limits.queued_bytes and restart the node";
        Drop::PacketTooLarge => "have the client announce a larger Maximum Packet Size, or have smaller messages published";
        Drop::NotPermitted => "permit it in its rules, if it should be received: martlet why with the topic shows where they are";
        Drop::TooOld => "find out why the integration delivers its messages too late, or raise its max_age_secs";
        Drop::StoreFull => "make room on the disk of the message store, or raise limits.store_bytes and restart the node";
        Drop::StoreStalled => "martlet health shows why the message store writes slowly";
        Drop::StoreDamaged => "stop the node; martlet store check then shows what else is damaged";
        Drop::RefusedByReceiver => "check the receiver, which answers with a reason code of 0x80 or above: its own log shows why";
        Drop::NoMember => "have a member of the share group connect, or publish and subscribe with QoS 1, so that messages wait for one";
        _ => "";
    }

    /// Remedy for a limit that was reached. `{option}` stands for its option, `{key}` for the last
    /// part of that, and `{raise}` for words to raise it.
    fn of_limit(Limit) {
        Limit::ListenerConnections => "raise max_connections of the listener and restart the node, or find the clients that use the most connections (martlet client ls)";
        Limit::MaximumQos => "have the client use a lower QoS, or {raise} (max_qos, if its listener sets it)";
        Limit::RetainAvailable | Limit::WildcardSubscriptions | Limit::SharedSubscriptions | Limit::SubscriptionIdentifiers => "have the client not use it, or set {option} = true and restart the node ({key}, if its listener sets it)";
        Limit::PacketBytes | Limit::ConnectPacketBytes | Limit::PayloadBytes | Limit::WillBytes => "{raise}, or have the client send less at once";
        Limit::ClientIdBytes | Limit::TopicBytes | Limit::TopicLevels => "{raise}, or give the client a shorter one";
        Limit::TopicAliasMaximum | Limit::ReceiveMaximum => "have the client keep to what CONNACK permits: look at its MQTT library; or raise {option}";
        Limit::ConnectTimeout => "find out what connects from that address: an MQTT client sends CONNECT immediately; a port scanner, a health check or a program that speaks TLS or another protocol does not; on a slow network, {raise} (connect_timeout_secs, if its listener sets it)";
        Limit::AuthenticateTimeout => "find out what delays the login: the program behind auth.hook_url, the server with the keys of tokens, or a client that does not answer; or {raise}";
        Limit::PublishRate | Limit::PublishBytesRate => "have the client publish less, or {raise}";
        Limit::QueuedMessages | Limit::QueuedBytes | Limit::MemoryShare => "have the client connect more often or read faster, let the session of a client that does not connect again expire sooner, or raise {option} and restart the node";
        Limit::PartQueue => "find out why the integration delivers its messages too late, or raise its {option} (and restart the node, if the configuration has it)";
        Limit::UserSessions => "have the device connect with the same Client Identifier each time, so that it resumes its session, let its sessions expire sooner, or {raise} of its device type";
        Limit::DiscoverySecs => "have the device register as soon as it is connected, and connect again with its secret; or {raise}";
        Limit::OutputBytes => "have the client read faster, or subscribe with QoS 1, so that messages wait in its queue; or {raise}";
        Limit::OutputStalled => "check the client and the network to it: it reads nothing; or {raise}";
        Limit::KeepAliveMax => "the client, or the network to it, is silent for too long: have it ping more often, or {raise}";
        Limit::TeamStore => "make room: have the clients of the team connect whose messages are queued, end their sessions (martlet session ls), or delete retained messages; or {raise}; martlet team show has what each team uses";
        Limit::StoreBytes => "{raise}, or make room: have the clients connect whose messages are queued, or end their sessions (martlet session ls); martlet health shows when there is room again";
        Limit::DiskFull => "make room on the disk of the data directory: martlet health shows when there is room again";
        Limit::StoreStalled => "check the disk of the message store; for details, run martlet status";
        Limit::Memory | Limit::MemoryOfLogins | Limit::MemoryOfClient => "{raise}, or give the machine more memory";
        Limit::Sessions => "end the sessions of clients that do not connect again (martlet session ls, martlet session rm CLIENT), let them expire sooner (limits.session_expiry_max_secs), or {raise}";
        Limit::WillsBytes => "{raise}, which the shards (node.threads) share in equal parts, or have the clients set shorter Wills (limits.will_bytes limits each)";
        Limit::MemoryKept => "martlet health shows what uses the memory: remove some of it, limit it (limits.retained_bytes, limits.wills_bytes, limits.sessions), or {raise}";
        _ => "{raise}, or find the clients that use the most";
    }
}

/// Remedy for a limit that was reached.
pub(crate) fn by_limit(limit: Limit) -> String {
    let option = limit.option();
    let raise = match limit {
        // Of the tables, and of none but integrations.
        Limit::UserSessions | Limit::PartQueue => format!("raise {option}"),
        _ if option.starts_with("auth.") => format!("raise {option} (martlet reload reads it)"),
        _ => format!("raise {option} and restart the node"),
    };
    let key = option.rsplit('.').next().unwrap_or_default();
    let words = of_limit(limit).words.replace("{raise}", &raise);
    words.replace("{option}", option).replace("{key}", key)
}

/// Remedy for messages that were dropped for this reason. Where a limit is the reason, the remedy
/// is that of the limit.
pub(crate) fn by_drop(reason: Drop) -> Option<String> {
    Some(match reason {
        Drop::OutputFull => by_limit(Limit::OutputBytes),
        Drop::MemoryFull => by_limit(Limit::Memory),
        reason => of_drop(reason).words.to_owned(),
    })
    .filter(|words| !words.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_names_the_option_of_the_limit() {
        for limit in Limit::ALL {
            let words = by_limit(*limit);
            let of_disk = matches!(limit, Limit::StoreStalled | Limit::DiskFull);
            assert!(words.contains(limit.option()) || of_disk, "{words}");
            assert!(!words.contains('{'), "{words}");
        }
    }
}
