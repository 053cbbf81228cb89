//! The table of causes. Each has a word, a weight, the causes that it suppresses, its meaning, and
//! the refusals that it explains.
//!
//! The order of the findings of a diagnosis, and which of them stands behind another one, follow
//! from this table alone. A part of the node that examines something says how a finding bears on
//! the question ([`Bearing`]), and never what it weighs.

use martlet_broker::{
    ProxyFault as Proxy, RefusalCause as Is, RevocationReason as Revoked, TlsFault as Tls,
    WebSocketFault as Web,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http_cause::HttpCause as Http;

/// Order of the findings of a diagnosis: what weighs more is reported first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// The client is kept out, whatever it does.
    Barred,
    /// The client is out, and cannot come in.
    Out,
    /// The topic that was asked about cannot be.
    Topic,
    /// Something was refused or lost recently.
    Trouble,
    /// The connection of the client was ended, and it has not come again.
    Ended,
    /// The client went of itself.
    Gone,
    /// A remark.
    Remark,
    /// The finding was the cause recently, and is no longer.
    Before,
    /// The client in question is well: the cause is another client, or concerns another topic.
    Aside,
}

/// How a finding bears on the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bearing {
    /// The finding is the present state, and weighs what its cause weighs.
    Present,
    /// The client is kept out, whatever it shows.
    Barred,
    /// The client was refused, and would be now.
    Refused,
    /// The finding concerns the topic that was asked about.
    Topic,
    /// Something happened to a client that is, or was, connected.
    Happened,
    /// The connection of the client was ended.
    Ended,
    /// The client left by itself.
    Left,
    /// The finding may matter.
    Remark,
    /// The finding is over.
    Over,
    /// The finding concerns another client or topic, or something that takes its course.
    Aside,
}

macro_rules! causes {
    (none [$none:pat];
        $($variant:ident = $name:literal, $weight:ident, [$($over:ident)*], $what:literal
            $(, of [$of:pat])? $(, http [$http:pat])?;)*) => {
        /// Cause of what went wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum Cause {
            $(#[doc = $what] $variant,)*
        }

        impl Cause {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it is written.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Meaning of the cause.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $what,)*
                }
            }

            /// Weight of a finding that is the present state.
            fn weight(self) -> Weight {
                match self {
                    $(Self::$variant => Weight::$weight,)*
                }
            }

            /// Cause of a refusal or an end, without regard to the reason code; none: the client
            /// wanted it so, or the reason code is more exact.
            pub(super) fn of_decision(cause: Is) -> Option<Self> {
                Some(match cause {
                    $($($of => Self::$variant,)?)*
                    Is::Limit(limit) => Self::of_limit(limit),
                    $none => return None,
                })
            }

            /// Cause of a refusal by the HTTP server, of which no client of MQTT is refused.
            pub(super) fn of_http_alone(cause: Http) -> Self {
                match cause {
                    $($($http => Self::$variant,)?)*
                    Http::Client(_) => Self::Other,
                }
            }

            /// Causes that follow from this one: about the same topic, or of the same client that
            /// is refused, they stand behind it.
            fn suppressed(self) -> &'static [Self] {
                match self {
                    $(Self::$variant => &[$(Self::$over),*],)*
                }
            }
        }
    };
}

impl Cause {
    /// Weight of a finding of this cause that bears on the question in this way.
    pub(crate) fn weight_of(self, bearing: Bearing) -> Weight {
        match bearing {
            Bearing::Present => self.weight(),
            Bearing::Barred => Weight::Barred,
            Bearing::Refused => Weight::Out,
            Bearing::Topic => Weight::Topic,
            Bearing::Happened => Weight::Trouble,
            Bearing::Ended => Weight::Ended,
            Bearing::Left => Weight::Gone,
            Bearing::Remark => Weight::Remark,
            Bearing::Over => Weight::Before,
            Bearing::Aside => Weight::Aside,
        }
    }

    /// Whether another cause follows from this one.
    pub(crate) fn suppresses(self, other: Self) -> bool {
        self.suppressed().contains(&other)
    }

    /// A connection is refused for it.
    pub fn is_of_admission(self) -> bool {
        self.weight() <= Weight::Out
    }

    /// Of one client it is reported once, in whatever words.
    pub(crate) fn is_reported_once(self) -> bool {
        self.is_of_admission() || self == Self::NoLocal
    }

    /// Something is wrong with what was asked about, and it is there.
    pub(crate) fn is_fault(self) -> bool {
        !matches!(self, Self::NothingWrong | Self::NobodyKnown)
    }

    /// Whether it is found before a client has sent its name, while TLS is negotiated.
    pub(crate) fn is_of_tls(self) -> bool {
        matches!(
            self,
            Self::TlsFailed
                | Self::ServerNotTrusted
                | Self::ServerCertificateExpired
                | Self::WrongTransport
                | Self::ClockWrong
                | Self::CertificateExpired
                | Self::CertificateRevoked
                | Self::CertificateForeign
                | Self::CertificateUnfit
                | Self::CertificateMissing
        )
    }
}

causes! {
    none [Is::Packet(_) | Is::ByReasonCode | Is::Goodbye | Is::ClosedByClient
        | Is::ConnectionFailed | Is::Closed | Is::LoginGivenUp | Is::EndedByOperator | Is::Detached
        | Is::CleanStart | Is::SessionExpired | Is::EndsWithConnection | Is::KeptForWill
        | Is::BelongsToOther | Is::NewerSession | Is::EndedWhileDown];
    NothingWrong = "nothing-wrong", Aside, [], "The node has found no problem.";
    NobodyKnown = "nobody-known", Trouble, [], "The name is unknown: no device, no user and no session has it, and no client has tried it.";
    NeverConnected = "never-connected", Trouble, [], "It exists, and has never connected.";
    Unstable = "unstable", Trouble, [], "It is connected, and its connections end repeatedly.";
    Away = "away", Gone, [], "It disconnected, and has not connected again.";
    WrongPassword = "wrong-password", Out, [], "Its password or credential is wrong.",
        of [Is::WrongPassword(_) | Is::WrongSecret | Is::SecretWithBlanks | Is::SecretAsUserName
            | Is::NoScramVerifier],
        http [Http::ApiKeyUnknown];
    UnknownName = "unknown-name", Out, [WrongPassword LockedOut], "No source of credentials has a user of that name.",
        of [Is::UnknownUser(_) | Is::CertificateNameUnknown | Is::NoDeviceInTopic];
    NoCredentials = "no-credentials", Out, [], "It sent no credentials, and needs them.",
        of [Is::PasswordMissing | Is::AnonymousRefused | Is::CredentialsRequired
            | Is::NoCredentials];
    LockedOut = "locked-out", Out, [], "Wrong credentials were tried too often.",
        of [Is::LockedOut(_)];
    Disabled = "disabled", Barred, [], "The user is disabled, or the device is not active.",
        of [Is::UserDisabled | Is::DeviceInactive | Is::DeviceMaintenance
            | Is::Revoked(Revoked::Disabled | Revoked::Inactive | Revoked::Maintenance)];
    Deleted = "deleted", Barred, [], "The user or device was removed.",
        of [Is::Deleted | Is::TeamDeleted | Is::Revoked(Revoked::Removed)];
    Banned = "banned", Barred, [], "An operator has banned it.",
        of [Is::Banned | Is::Revoked(Revoked::Banned)];
    CredentialExpired = "credential-expired", Barred, [], "Its credentials have expired, or were revoked.",
        of [Is::CredentialsEnded | Is::TokenEnded | Is::CredentialExpired
            | Is::Revoked(Revoked::Credentials)];
    KeyAsPassword = "key-as-password", Out, [], "It gives an API key or a provisioning key as its password.",
        of [Is::ApiKeyAsPassword | Is::ProvisioningKeyAsPassword];
    Inactive = "inactive", Trouble, [], "The device has published nothing for longer than its type permits.";
    ProvisioningKeyWrong = "provisioning-key-wrong", Out, [UnknownName], "The provisioning key of the device to be added is unknown or missing.",
        of [Is::ProvisioningKey];
    ProvisioningKeyEnded = "provisioning-key-ended", Out, [UnknownName], "The provisioning key of the device to be added has expired, was revoked, or has reached its number of devices.",
        of [Is::ProvisioningKeyUsedUp | Is::ProvisioningKeyExpired | Is::ProvisioningKeyRevoked];
    WrongClientId = "wrong-client-id", Out, [], "Its credentials are for another Client Identifier.",
        of [Is::NotItsClientId | Is::ClientIdOfDevice];
    ClientIdTaken = "client-id-taken", Out, [], "The session of its Client Identifier belongs to another user.",
        of [Is::ClientIdTaken];
    CertificateExpired = "certificate-expired", Out, [], "Its certificate has expired.",
        of [Is::Tls(Tls::CertificateExpired)];
    CertificateRevoked = "certificate-revoked", Out, [], "Its certificate is revoked.",
        of [Is::Tls(Tls::CertificateRevoked)];
    CertificateForeign = "certificate-foreign", Out, [], "Its certificate was issued by another CA.",
        of [Is::Tls(Tls::CertificateForeign)];
    CertificateUnfit = "certificate-unfit", Out, [], "Its certificate is not valid, or not for clients.",
        of [Is::CertificateNamesNobody | Is::Tls(Tls::CertificateOfCa
            | Tls::CertificateNotForClients | Tls::CertificateNotSigned | Tls::CertificateVersion
            | Tls::CertificateInvalid | Tls::NoSignatureOfClient)];
    CertificateNotRegistered = "certificate-not-registered", Out, [], "Its certificate is not registered for the device.",
        of [Is::CertificateNotRegistered];
    CertificateMissing = "certificate-missing", Out, [], "It presented no certificate, and the listener requires one.",
        of [Is::Tls(Tls::CertificateMissing)];
    ClockWrong = "clock-wrong", Out, [], "Its certificate or token is not valid yet: its clock, the node's or the issuer's is wrong.",
        of [Is::TokenNotYetValid | Is::Tls(Tls::CertificateNotYetValid)];
    ServerNotTrusted = "server-not-trusted", Out, [], "It does not trust the server's certificate.",
        of [Is::Tls(Tls::ServerNotTrusted)];
    ServerCertificateExpired = "server-certificate-expired", Out, [], "The certificate of the listener has expired, or the clock of the client is wrong.",
        of [Is::Tls(Tls::ServerExpired)];
    WrongTransport = "wrong-transport", Out, [], "It uses another protocol than the listener: TLS, WebSocket or HTTP instead of plain MQTT, or the other way round.",
        of [Is::Proxy(Proxy::Missing) | Is::NotMqtt | Is::TlsToMqtt | Is::HttpToMqtt
            | Is::Tls(Tls::NotTls | Tls::PlainMqtt)
            | Is::WebSocket(Web::NotHttp | Web::NotWebSocket | Web::NotGet)],
        http [Http::MqttToHttp | Http::WebSocketToHttp | Http::TlsToHttp];
    TlsFailed = "tls-failed", Out, [], "Its TLS handshake failed: it and the listener have no version, cipher suite or the like in common, or it ended the handshake itself.",
        of [Is::Tls(Tls::NoVersion | Tls::NoCipherSuite | Tls::OnlyRsa | Tls::OnlyEcdsa
            | Tls::NoKeyExchange | Tls::NoSignatureOfServer | Tls::NoExtension
            | Tls::NoApplicationProtocol | Tls::EndedByClient | Tls::LeftHandshake
            | Tls::LeftAfterHandshake | Tls::RecordTooLong | Tls::EmptyRecords | Tls::Undecryptable
            | Tls::Failed)];
    TokenBad = "token-bad", Out, [], "Its token is not valid.",
        of [Is::BadToken | Is::TokenOfOther];
    HookRefused = "hook-refused", Out, [], "The program behind auth.hook_url refused it.",
        of [Is::HookRefused];
    HookDown = "hook-down", Out, [], "The service that checks its login does not answer.",
        of [Is::HookDown];
    TokenKeysDown = "token-keys-down", Out, [], "The keys that check its token cannot be fetched.",
        of [Is::TokenKeysDown];
    RevocationListExpired = "revocation-list-expired", Out, [], "The revocation list of the listener has expired, so no certificate can be checked.",
        of [Is::Tls(Tls::RevocationListExpired)];
    ProxyRefused = "proxy-refused", Out, [], "It did not connect through the proxy of the listener, or the proxy's header is malformed, or not expected.",
        of [Is::Proxy(_)];
    OriginRefused = "origin-refused", Out, [], "The web page of the client has an origin that the listener does not allow.",
        of [Is::WebSocket(Web::OriginNotAllowed)];
    HostRefused = "host-refused", Trouble, [], "The Host of its HTTP request is not a name of the node.",
        http [Http::HostNotAllowed];
    RequestInvalid = "request-invalid", Trouble, [], "Its HTTP request is not valid: its path, method or content is wrong.",
        http [Http::RequestInvalid];
    WebsocketRefused = "websocket-refused", Out, [], "Its WebSocket request, or a frame, violates the WebSocket protocol.",
        of [Is::WebSocket(_)];
    ClientIdInvalid = "client-id-invalid", Out, [], "Its Client Identifier is empty or not valid.",
        of [Is::EmptyClientId | Is::ReservedClientId];
    WrongVersion = "wrong-version", Out, [], "It uses a version of MQTT that the node, or the listener, does not support.";
    LimitReached = "limit-reached", Trouble, [CommandWaits ConfigurationNotReported], "A limit of the node is reached.",
        of [Is::LoginsWait | Is::SharedSubscriptionsFull];
    ApiRefused = "api-refused", Trouble, [], "The user has no rights in the API and the panel.";
    NotPermitted = "not-permitted", Trouble, [CommandWaits ConfigurationNotReported], "A rule forbids it, or none permits it.",
        of [Is::Forbidden | Is::ServerTopic | Is::SharedFilter
            | Is::WillForbidden | Is::WillOnServerTopic | Is::PartRefused | Is::NotRegistered
            | Is::ReauthenticationFailed | Is::ReauthenticatedAsOther],
        http [Http::ApiKeyLacksScope];
    WrongTopic = "wrong-topic", Topic, [CommandWaits ConfigurationNotReported], "A rule permits that topic only with the client's own name, and the topic contains another name.";
    TakenOver = "taken-over", Trouble, [], "Another client with the same Client Identifier took its connection over.",
        of [Is::TakenOver];
    KeepAlive = "keep-alive", Trouble, [], "No packet came within 1.5 times the Keep Alive.",
        of [Is::KeepAlive];
    NoKeepAlive = "no-keep-alive", Remark, [], "No packet has come for a while, and its Keep Alive is 0: it may be gone.";
    ProtocolError = "protocol-error", Trouble, [], "It violated the MQTT protocol.";
    TooLarge = "too-large", Trouble, [], "A packet or payload was larger than permitted.";
    TooFast = "too-fast", Trouble, [], "It sends messages or requests faster than permitted.",
        http [Http::TooManyRequests | Http::TooManyDeviceRequests | Http::TooManyRouteRequests];
    QueueFull = "queue-full", Trouble, [], "Its queue is full.";
    SlowReader = "slow-reader", Trouble, [], "It reads more slowly than messages arrive.";
    Expired = "expired", Trouble, [], "Messages for it expired before they could be delivered.";
    NotKept = "not-kept", Trouble, [], "Messages arrived while it was not connected, or while an integration was busy, and were not queued.";
    SessionEnded = "session-ended", Trouble, [], "Its session ended: messages that waited for it were dropped, and later ones were not queued.";
    OtherSession = "other-session", Trouble, [], "Messages wait for it in a session of the same user that has another Client Identifier.";
    NotRetained = "not-retained", Trouble, [], "Messages were published before it subscribed, and were not retained.";
    NoRetained = "no-retained", Topic, [], "It gets no retained message: the message was cleared or has expired, or its subscription brings none.";
    RetainedAgain = "retained-again", Aside, [], "A retained message of a topic for commands is sent to it again at each subscribe.";
    WillRetained = "will-retained", Topic, [], "The retained message of the topic is the Will of a client that is connected again; or a Will has nearly the topic of the message that it should replace.";
    NoLocal = "no-local", Trouble, [], "It published the messages itself, and its subscription has No Local.";
    WillNotSent = "will-not-sent", Topic, [], "A Will was not published: its client sent DISCONNECT, or its Will Delay Interval is not over.";
    NotSubscribed = "not-subscribed", Trouble, [], "It has no subscription for the topic.";
    SubscriberAbsent = "subscriber-absent", Trouble, [], "Nobody is subscribed to the topic.";
    PublisherAbsent = "publisher-absent", Remark, [], "The client that the topic names is not connected.";
    NotPublished = "not-published", Trouble, [], "The node does not publish messages of that topic: they are disabled in its configuration.";
    QosDowngraded = "qos-downgraded", Aside, [], "Its subscription has a lower QoS than the messages are published with.";
    ListenerClosed = "listener-closed", Trouble, [], "The node no longer listens at the address to which it connected before.";
    ServerStopped = "server-stopped", Trouble, [], "The node was stopped.",
        of [Is::ServerStopping];
    StoreFailing = "store-failing", Topic, [], "The message store cannot write.",
        of [Is::StoreFailing];
    ReloadFailed = "reload-failed", Aside, [UnknownName NobodyKnown NotPermitted], "The last reload of the configuration failed: the settings before it are in force.";
    TablesFailing = "tables-failing", Aside, [], "The tables of users and devices cannot be used.";
    StoreFull = "store-full", Trouble, [], "The message store has no room for more messages.",
        of [Is::StoreFull];
    KeptInMemory = "kept-in-memory", Trouble, [], "The node keeps messages in memory only, and has been restarted since.";
    StoreSlow = "store-slow", Topic, [], "The message store writes more slowly than messages are published.";
    ComesTwice = "comes-twice", Trouble, [], "Two bridges carry the same messages between the same brokers, so each message comes twice.";
    IntegrationFailing = "integration-failing", Trouble, [], "An integration that forwards its messages does not deliver them.";
    IntegrationPaused = "integration-paused", Trouble, [], "An integration that forwards its messages is paused.";
    RuleOff = "rule-off", Trouble, [], "A rule about messages is off, or not in force.";
    RuleUnmatched = "rule-unmatched", Trouble, [], "A rule about messages has looked at no message, or its condition was true for none.";
    AlarmActive = "alarm-active", Aside, [], "An alarm about it is active.";
    AlarmSilent = "alarm-silent", Trouble, [], "The alarm of a rule is shelved or already active, so no notification is sent; or another alarm inhibits it.";
    RuleFailing = "rule-failing", Trouble, [], "A rule about messages fails.";
    RolloutPaused = "rollout-paused", Trouble, [], "A rollout of firmware is paused, or has not been started.";
    RolloutWaits = "rollout-waits", Trouble, [], "A rollout of firmware waits for the device.";
    RolloutFailed = "rollout-failed", Trouble, [], "A device has not installed the firmware of a rollout, or the rollout has ended without success.";
    FirmwareRefused = "firmware-refused", Trouble, [], "The device requested firmware that is not for its type, or that does not exist.";
    CommandWaits = "command-waits", Trouble, [], "A command waits for its device: the device does not receive it, or does not answer.";
    CommandFailed = "command-failed", Trouble, [], "A device could not execute a command, did not acknowledge it in time, or its answer is invalid.";
    ConfigurationNotReported = "configuration-not-reported", Trouble, [], "The device has not reported the desired configuration, or its report was not applied.";
    ConfigurationHidden = "configuration-hidden", Trouble, [], "A desired value of a group is overridden by the device's own desired value, or by the value of another group.";
    TimeWrong = "time-wrong", Trouble, [], "Telemetry of the device is stored with the device's own times, which are wrong by years.";
    ValueTypeChanged = "value-type-changed", Trouble, [], "Values of the device are stored as texts, and were numbers before.";
    TelemetryNotStored = "telemetry-not-stored", Trouble, [], "Telemetry that it published is not stored.";
    Other = "other", Trouble, [], "Something else: see the sentence.",
        of [Is::NoAuthenticationMethod | Is::AuthenticationMethod | Is::AuthenticationMessage
            | Is::NoSource | Is::NameOfDevice | Is::RegistrationPayload | Is::PayloadKeyUnreadable
            | Is::LoginFailed];
}
