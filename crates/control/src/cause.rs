//! What went wrong, as the API names it. `martlet why` answers with it, and it distinguishes
//! entries of the journal.
//!
//! A refusal or an end has the cause that the broker or an authenticator gave it
//! ([`RefusalCause`]); here is the table from those to the names of the API. Words are not read.

use martlet_broker::{
    DropReason, Event, Limit, ProxyFault, RefusalCause, RevocationReason, TlsFault, WebSocketFault,
};
use martlet_codec::ReasonCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! causes {
    ($($variant:ident = $name:literal, $what:literal;)*) => {
        /// What went wrong.
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

            /// What it means.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $what,)*
                }
            }
        }
    };
}

causes! {
    NothingWrong = "nothing-wrong", "The node has found no problem.";
    NobodyKnown = "nobody-known", "The name is unknown: no device, no user and no session has it, and no client has tried it.";
    NeverConnected = "never-connected", "It exists, and has never connected.";
    Unstable = "unstable", "It is connected, and its connections end repeatedly.";
    Away = "away", "It disconnected, and has not connected again.";
    WrongPassword = "wrong-password", "Its password or credential is wrong.";
    UnknownName = "unknown-name", "No source of credentials has a user of that name.";
    NoCredentials = "no-credentials", "It sent no credentials, and needs them.";
    LockedOut = "locked-out", "Wrong credentials were tried too often.";
    Disabled = "disabled", "The user is disabled, or the device is not active.";
    Deleted = "deleted", "The user or device was removed.";
    Banned = "banned", "An operator has banned it.";
    CredentialExpired = "credential-expired", "Its credentials have expired, or were revoked.";
    KeyAsPassword = "key-as-password", "It gives an API key or a provisioning key as its password.";
    Inactive = "inactive", "The device has published nothing for longer than its type permits.";
    ProvisioningKeyWrong = "provisioning-key-wrong", "The provisioning key of the device to be added is unknown or missing.";
    ProvisioningKeyEnded = "provisioning-key-ended", "The provisioning key of the device to be added has expired, was revoked, or has reached its number of devices.";
    WrongClientId = "wrong-client-id", "Its credentials are for another Client Identifier.";
    ClientIdTaken = "client-id-taken", "The session of its Client Identifier belongs to another user.";
    CertificateExpired = "certificate-expired", "Its certificate has expired.";
    CertificateRevoked = "certificate-revoked", "Its certificate is revoked.";
    CertificateForeign = "certificate-foreign", "Its certificate was issued by another CA.";
    CertificateUnfit = "certificate-unfit", "Its certificate is not valid, or not for clients.";
    CertificateNotRegistered = "certificate-not-registered", "Its certificate is not registered for the device.";
    CertificateMissing = "certificate-missing", "It presented no certificate, and the listener requires one.";
    ClockWrong = "clock-wrong", "Its certificate or token is not valid yet: its clock, the node's or the issuer's is wrong.";
    ServerNotTrusted = "server-not-trusted", "It does not trust the server's certificate.";
    ServerCertificateExpired = "server-certificate-expired", "The certificate of the listener has expired, or the clock of the client is wrong.";
    WrongTransport = "wrong-transport", "It uses another protocol than the listener: TLS, WebSocket or HTTP instead of plain MQTT, or the other way round.";
    TlsFailed = "tls-failed", "Its TLS handshake failed: it and the listener have no version, cipher suite or the like in common, or it ended the handshake itself.";
    TokenBad = "token-bad", "Its token is not valid.";
    HookRefused = "hook-refused", "The program behind auth.hook_url refused it.";
    HookDown = "hook-down", "The service that checks its login does not answer.";
    TokenKeysDown = "token-keys-down", "The keys that check its token cannot be fetched.";
    RevocationListExpired = "revocation-list-expired", "The revocation list of the listener has expired, so no certificate can be checked.";
    ProxyRefused = "proxy-refused", "It did not connect through the proxy of the listener, or the proxy's header is malformed, or not expected.";
    OriginRefused = "origin-refused", "The web page of the client has an origin that the listener does not allow.";
    HostRefused = "host-refused", "The Host of its HTTP request is not a name of the node.";
    RequestInvalid = "request-invalid", "Its HTTP request is not valid: its path, method or content is wrong.";
    WebsocketRefused = "websocket-refused", "Its WebSocket request, or a frame, violates the WebSocket protocol.";
    ClientIdInvalid = "client-id-invalid", "Its Client Identifier is empty or not valid.";
    WrongVersion = "wrong-version", "It uses a version of MQTT that the node, or the listener, does not support.";
    LimitReached = "limit-reached", "A limit of the node is reached.";
    ApiRefused = "api-refused", "The user has no rights in the API and the panel.";
    NotPermitted = "not-permitted", "A rule forbids it, or none permits it.";
    WrongTopic = "wrong-topic", "A rule permits that topic only with the client's own name, and the topic contains another name.";
    TakenOver = "taken-over", "Another client with the same Client Identifier took its connection over.";
    KeepAlive = "keep-alive", "No packet came within 1.5 times the Keep Alive.";
    NoKeepAlive = "no-keep-alive", "No packet has come for a while, and its Keep Alive is 0: it may be gone.";
    ProtocolError = "protocol-error", "It violated the MQTT protocol.";
    TooLarge = "too-large", "A packet or payload was larger than permitted.";
    TooFast = "too-fast", "It publishes faster than permitted.";
    QueueFull = "queue-full", "Its queue is full.";
    SlowReader = "slow-reader", "It reads more slowly than messages arrive.";
    Expired = "expired", "Messages for it expired before they could be delivered.";
    NotKept = "not-kept", "Messages arrived while it was not connected, or while an integration was busy, and were not queued.";
    SessionEnded = "session-ended", "Its session ended: messages that waited for it were dropped, and later ones were not queued.";
    OtherSession = "other-session", "Messages wait for it in a session of the same user that has another Client Identifier.";
    NotRetained = "not-retained", "Messages were published before it subscribed, and were not retained.";
    NoRetained = "no-retained", "It gets no retained message: the message was cleared or has expired, or its subscription brings none.";
    RetainedAgain = "retained-again", "A retained message of a topic for commands is sent to it again at each subscribe.";
    WillRetained = "will-retained", "The retained message of the topic is the Will of a client that is connected again.";
    NoLocal = "no-local", "It published the messages itself, and its subscription has No Local.";
    WillNotSent = "will-not-sent", "A Will was not published: its client sent DISCONNECT, or its Will Delay Interval is not over.";
    NotSubscribed = "not-subscribed", "It has no subscription for the topic.";
    SubscriberAbsent = "subscriber-absent", "Nobody is subscribed to the topic.";
    PublisherAbsent = "publisher-absent", "The client that the topic names is not connected.";
    NotPublished = "not-published", "The node does not publish messages of that topic: they are disabled in its configuration.";
    QosDowngraded = "qos-downgraded", "Its subscription has a lower QoS than the messages are published with.";
    ListenerClosed = "listener-closed", "The node no longer listens at the address to which it \
         connected before.";
    ServerStopped = "server-stopped", "The node was stopped.";
    StoreFailing = "store-failing", "The message store cannot write.";
    ReloadFailed = "reload-failed", "The last reload of the configuration failed: the settings before it are in force.";
    TablesFailing = "tables-failing", "The tables of users and devices cannot be used.";
    StoreFull = "store-full", "The message store has no room for more messages.";
    KeptInMemory = "kept-in-memory", "The node keeps messages in memory only, and has been restarted since.";
    StoreSlow = "store-slow", "The message store writes more slowly than messages are published.";
    IntegrationFailing = "integration-failing", "An integration that forwards its messages does not deliver them.";
    IntegrationPaused = "integration-paused", "An integration that forwards its messages is \
         paused.";
    RuleOff = "rule-off", "A rule about messages is off, or not in force.";
    RuleUnmatched = "rule-unmatched", "A rule about messages has looked at no message, or its condition was true for none.";
    AlarmActive = "alarm-active", "An alarm about it is active.";
    AlarmSilent = "alarm-silent", "The alarm of a rule is shelved or already active, so no notification is sent; or another alarm inhibits it.";
    RuleFailing = "rule-failing", "A rule about messages fails.";
    RolloutPaused = "rollout-paused", "A rollout of firmware is paused, or has not been started.";
    RolloutWaits = "rollout-waits", "A rollout of firmware waits for the device.";
    RolloutFailed = "rollout-failed", "A device has not installed the firmware of a rollout, or the rollout has ended without success.";
    FirmwareRefused = "firmware-refused", "The device requested firmware that is not for its type, or that does not exist.";
    CommandWaits = "command-waits", "A command waits for its device: the device does not receive it, or does not answer.";
    CommandFailed = "command-failed", "A device could not execute a command, did not acknowledge it in time, or its answer is invalid.";
    ConfigurationNotReported = "configuration-not-reported", "The device has not reported the desired configuration, or its report was not applied.";
    ConfigurationHidden = "configuration-hidden", "A desired value of a group is overridden by the device's own desired value, or by the value of another group.";
    TimeWrong = "time-wrong", "Telemetry of the device is stored with the device's own times, which are wrong by years.";
    TelemetryNotStored = "telemetry-not-stored", "Telemetry that it published is not stored.";
    Other = "other", "Something else: see the sentence.";
}

impl Cause {
    /// Reason Codes of connections that end because a packet broke a rule of MQTT.
    pub(crate) const BROKEN_RULES: [ReasonCode; 6] = [
        ReasonCode::MalformedPacket,
        ReasonCode::ProtocolError,
        ReasonCode::TopicNameInvalid,
        ReasonCode::TopicFilterInvalid,
        ReasonCode::TopicAliasInvalid,
        ReasonCode::ReceiveMaximumExceeded,
    ];

    /// What a message is dropped for.
    pub fn of_drop(reason: DropReason) -> Self {
        match reason {
            DropReason::ClientAway | DropReason::PartBusy => Self::NotKept,
            DropReason::OutputFull => Self::SlowReader,
            DropReason::QueueFull => Self::QueueFull,
            DropReason::TooOld => Self::Expired,
            DropReason::PacketTooLarge => Self::TooLarge,
            DropReason::NotPermitted => Self::NotPermitted,
            DropReason::MemoryFull => Self::LimitReached,
            DropReason::NoMember => Self::SubscriberAbsent,
            DropReason::StoreFull => Self::StoreFull,
            DropReason::StoreStalled => Self::StoreSlow,
            DropReason::RefusedByReceiver
            | DropReason::SessionEnded
            | DropReason::ConnectionLost
            | DropReason::StoreDamaged => Self::Other,
        }
    }

    /// What an event is about; none: nothing went wrong.
    pub fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Refused { reason, why, .. }
            | Event::ReauthenticationRefused { reason, why, .. } => {
                Self::of_refusal(*reason, why.cause)
            }
            Event::ProvisioningRefused { why, .. } | Event::RequestRefused { why, .. } => {
                Self::of_refusal(ReasonCode::NotAuthorized, why.cause)
            }
            Event::Disconnected { reason, why, .. } => return Self::of_end(*reason, why.cause),
            Event::PublishRefused { reason, why, .. }
            | Event::SubscribeRefused { reason, why, .. } => Self::of_request(*reason, why.cause),
            Event::RateExceeded { .. } | Event::PublishesDelayed { .. } => Self::TooFast,
            Event::QueueFull { .. } => Self::QueueFull,
            Event::MessagesLost {
                ended: Some(cause), ..
            } if *cause != RefusalCause::EndsWithConnection => Self::SessionEnded,
            // The end of a connection has its own event.
            Event::MessagesLost {
                reason: DropReason::SessionEnded | DropReason::ConnectionLost,
                ..
            } => return None,
            Event::MessagesLost { reason, .. } | Event::Dropped { reason, .. } => {
                Self::of_drop(*reason)
            }
            _ => return None,
        })
    }

    /// What a limit is about.
    pub fn of_limit(limit: Limit) -> Self {
        match limit {
            Limit::PacketBytes | Limit::ConnectPacketBytes | Limit::PayloadBytes => Self::TooLarge,
            Limit::PublishRate | Limit::PublishBytesRate => Self::TooFast,
            Limit::QueuedMessages | Limit::QueuedBytes | Limit::PartQueue | Limit::MemoryShare => {
                Self::QueueFull
            }
            Limit::OutputBytes | Limit::OutputStalled => Self::SlowReader,
            Limit::KeepAliveMax => Self::KeepAlive,
            Limit::StoreStalled => Self::StoreFailing,
            Limit::StoreBytes | Limit::DiskFull => Self::StoreFull,
            _ => Self::LimitReached,
        }
    }

    /// The cause of a refusal or an end, without regard to the reason code; none: the client wanted
    /// it so, or the reason code is more exact. This is a table.
    fn of_decision(cause: RefusalCause) -> Option<Self> {
        use RefusalCause as Is;
        Some(match cause {
            Is::Limit(limit) => Self::of_limit(limit),
            Is::Revoked(reason) => Self::of_revocation(reason),
            Is::LockedOut(_) => Self::LockedOut,
            Is::CertificateNotRegistered => Self::CertificateNotRegistered,
            Is::WrongPassword(_)
            | Is::WrongSecret
            | Is::SecretWithBlanks
            | Is::SecretAsUserName
            | Is::NoScramVerifier
            | Is::ApiKeyUnknown => Self::WrongPassword,
            Is::ApiKeyLacksScope => Self::NotPermitted,
            Is::PasswordMissing => Self::NoCredentials,
            Is::ApiKeyAsPassword | Is::ProvisioningKeyAsPassword => Self::KeyAsPassword,
            Is::ProvisioningKey => Self::ProvisioningKeyWrong,
            Is::UnknownUser(_) | Is::CertificateNameUnknown | Is::NoDeviceInTopic => {
                Self::UnknownName
            }
            Is::Tls(fault) => Self::of_tls(fault),
            Is::WebSocket(fault) => Self::of_web_socket(fault),
            Is::Proxy(ProxyFault::Missing)
            | Is::NotMqtt
            | Is::TlsToMqtt
            | Is::HttpToMqtt
            | Is::MqttToHttp => Self::WrongTransport,
            Is::Proxy(_) => Self::ProxyRefused,
            Is::TakenOver => Self::TakenOver,
            Is::KeepAlive => Self::KeepAlive,
            Is::ServerStopping => Self::ServerStopped,
            Is::EmptyClientId | Is::ReservedClientId => Self::ClientIdInvalid,
            Is::ClientIdTaken => Self::ClientIdTaken,
            Is::AnonymousRefused | Is::CredentialsRequired | Is::NoCredentials => {
                Self::NoCredentials
            }
            Is::CredentialsEnded | Is::TokenEnded | Is::CredentialExpired => {
                Self::CredentialExpired
            }
            Is::UserDisabled | Is::DeviceInactive | Is::DeviceMaintenance => Self::Disabled,
            Is::Deleted | Is::TeamDeleted => Self::Deleted,
            Is::Banned => Self::Banned,
            Is::ProvisioningKeyUsedUp | Is::ProvisioningKeyExpired | Is::ProvisioningKeyRevoked => {
                Self::ProvisioningKeyEnded
            }
            Is::NotItsClientId | Is::ClientIdOfDevice => Self::WrongClientId,
            Is::CertificateNamesNobody => Self::CertificateUnfit,
            Is::BadToken | Is::TokenOfOther => Self::TokenBad,
            Is::TokenNotYetValid => Self::ClockWrong,
            Is::HookRefused => Self::HookRefused,
            Is::HookDown => Self::HookDown,
            Is::TokenKeysDown => Self::TokenKeysDown,
            Is::TooManyRequests => Self::TooFast,
            Is::LoginsWait | Is::SharedSubscriptionsFull => Self::LimitReached,
            Is::Forbidden
            | Is::ServerTopic
            | Is::WillForbidden
            | Is::WillOnServerTopic
            | Is::PartRefused
            | Is::NotRegistered
            | Is::ReauthenticationFailed
            | Is::ReauthenticatedAsOther => Self::NotPermitted,
            Is::RequestInvalid => Self::RequestInvalid,
            Is::HostNotAllowed => Self::HostRefused,
            Is::StoreFull => Self::StoreFull,
            Is::StoreFailing => Self::StoreFailing,
            Is::NoAuthenticationMethod
            | Is::AuthenticationMethod
            | Is::AuthenticationMessage
            | Is::NoSource
            | Is::NameOfDevice
            | Is::RegistrationPayload
            | Is::PayloadKeyUnreadable
            | Is::LoginFailed => Self::Other,
            Is::Packet(_)
            | Is::ByReasonCode
            | Is::Goodbye
            | Is::ClosedByClient
            | Is::ConnectionFailed
            | Is::Closed
            | Is::LoginGivenUp
            | Is::EndedByOperator
            | Is::Detached
            | Is::CleanStart
            | Is::SessionExpired
            | Is::EndsWithConnection
            | Is::KeptForWill
            | Is::BelongsToOther
            | Is::NewerSession
            | Is::EndedWhileDown => return None,
        })
    }

    fn of_revocation(reason: RevocationReason) -> Self {
        match reason {
            RevocationReason::Credentials => Self::CredentialExpired,
            RevocationReason::Disabled
            | RevocationReason::Inactive
            | RevocationReason::Maintenance => Self::Disabled,
            RevocationReason::Removed => Self::Deleted,
            RevocationReason::Banned => Self::Banned,
        }
    }

    fn of_tls(fault: TlsFault) -> Self {
        match fault {
            TlsFault::NotTls | TlsFault::PlainMqtt => Self::WrongTransport,
            TlsFault::CertificateMissing => Self::CertificateMissing,
            TlsFault::CertificateExpired => Self::CertificateExpired,
            TlsFault::CertificateNotYetValid => Self::ClockWrong,
            TlsFault::CertificateRevoked => Self::CertificateRevoked,
            TlsFault::CertificateForeign => Self::CertificateForeign,
            TlsFault::CertificateOfCa
            | TlsFault::CertificateNotForClients
            | TlsFault::CertificateNotSigned
            | TlsFault::CertificateVersion
            | TlsFault::CertificateInvalid
            | TlsFault::NoSignatureOfClient => Self::CertificateUnfit,
            TlsFault::RevocationListExpired => Self::RevocationListExpired,
            TlsFault::ServerNotTrusted => Self::ServerNotTrusted,
            TlsFault::ServerExpired => Self::ServerCertificateExpired,
            TlsFault::NoVersion
            | TlsFault::NoCipherSuite
            | TlsFault::NoKeyExchange
            | TlsFault::NoSignatureOfServer
            | TlsFault::NoExtension
            | TlsFault::NoApplicationProtocol
            | TlsFault::EndedByClient
            | TlsFault::RecordTooLong
            | TlsFault::EmptyRecords
            | TlsFault::Undecryptable
            | TlsFault::Failed => Self::TlsFailed,
        }
    }

    fn of_web_socket(fault: WebSocketFault) -> Self {
        match fault {
            WebSocketFault::NotHttp | WebSocketFault::NotWebSocket | WebSocketFault::NotGet => {
                Self::WrongTransport
            }
            WebSocketFault::OriginNotAllowed => Self::OriginRefused,
            _ => Self::WebsocketRefused,
        }
    }

    /// Cause of a refused connection.
    pub(crate) fn of_refusal(reason: ReasonCode, cause: RefusalCause) -> Self {
        Self::of_decision(cause).unwrap_or(match reason {
            ReasonCode::UnsupportedProtocolVersion => Self::WrongVersion,
            ReasonCode::PacketTooLarge => Self::TooLarge,
            ReasonCode::ClientIdentifierNotValid => Self::ClientIdInvalid,
            _ => match cause {
                RefusalCause::Packet(_) => Self::ProtocolError,
                _ => Self::Other,
            },
        })
    }

    /// Why a connection ended; none: its client wanted it so.
    pub(crate) fn of_end(reason: ReasonCode, cause: RefusalCause) -> Option<Self> {
        match (cause, reason) {
            (RefusalCause::Packet(_), ReasonCode::PacketTooLarge) => Some(Self::TooLarge),
            (RefusalCause::Packet(_), _) => Some(Self::ProtocolError),
            _ => Self::of_decision(cause),
        }
    }

    /// Cause of a refused publish or subscription.
    fn of_request(reason: ReasonCode, cause: RefusalCause) -> Self {
        Self::of_decision(cause).unwrap_or(match reason {
            ReasonCode::NotAuthorized => Self::NotPermitted,
            ReasonCode::PacketTooLarge => Self::TooLarge,
            ReasonCode::MessageRateTooHigh => Self::TooFast,
            ReasonCode::QuotaExceeded => Self::LimitReached,
            _ => Self::Other,
        })
    }

    /// The end of a connection is one of the problems that [`crate::journal::Entry::is_trouble`]
    /// finds: a limit or a broken rule of MQTT decided it.
    pub(crate) fn is_trouble_at_end(reason: ReasonCode, cause: RefusalCause) -> bool {
        match cause {
            RefusalCause::Limit(_) => true,
            RefusalCause::Packet(_) => Self::BROKEN_RULES.contains(&reason),
            _ => false,
        }
    }

    /// It is about the provisioning key by which a device is to be added.
    pub(crate) fn is_of_provisioning_key(self) -> bool {
        matches!(
            self,
            Self::ProvisioningKeyWrong | Self::ProvisioningKeyEnded
        )
    }

    /// A connection is refused for it.
    pub fn is_of_admission(self) -> bool {
        matches!(
            self,
            Self::WrongPassword
                | Self::UnknownName
                | Self::NoCredentials
                | Self::LockedOut
                | Self::Disabled
                | Self::Deleted
                | Self::Banned
                | Self::CredentialExpired
                | Self::KeyAsPassword
                | Self::ProvisioningKeyWrong
                | Self::ProvisioningKeyEnded
                | Self::WrongClientId
                | Self::ClientIdTaken
                | Self::CertificateExpired
                | Self::CertificateRevoked
                | Self::CertificateForeign
                | Self::CertificateUnfit
                | Self::CertificateMissing
                | Self::CertificateNotRegistered
                | Self::ClockWrong
                | Self::ServerNotTrusted
                | Self::ServerCertificateExpired
                | Self::TlsFailed
                | Self::WrongTransport
                | Self::TokenBad
                | Self::HookRefused
                | Self::HookDown
                | Self::TokenKeysDown
                | Self::WrongVersion
                | Self::ClientIdInvalid
                | Self::RevocationListExpired
                | Self::ProxyRefused
                | Self::OriginRefused
                | Self::WebsocketRefused
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use martlet_broker::{PasswordSource, Refusal, UserSources};

    use super::*;

    /// Phrases by which causes were once found in the words of a refusal.
    pub(crate) const WORDS_OF_OLD: &[&str] = &[
        "locked out",
        "locked out for this user name",
        "the message store is full",
        "the message store ",
        "the Will on",
        "x is banned",
        "user x was deleted: martlet user restore x",
        "user x is disabled",
        "device x is inactive",
        "device x is maintenance",
        "the device is in maintenance",
        "the user or device was removed",
        "an operator has banned it",
        "its credentials were revoked",
        "this credential of the device x has expired, or is revoked",
        "the client's certificate has expired",
        "not valid yet",
        "x is revoked",
        "of another CA",
        "the listener requires a client certificate",
        "does not trust the server's certificate",
        "the client's certificate",
        "no TLS version in common",
        "no TLS cipher suite in common",
        "no TLS key exchange group in common",
        "no signature scheme in common with the client",
        "the client's TLS lacks",
        "no application protocol (ALPN)",
        "the client ended the TLS handshake",
        "the client sent more than a TLS record may contain",
        "the received data cannot be decrypted",
        "the TLS connection failed",
        "received data is not TLS",
        "the first packet is not CONNECT",
        "no PROXY header",
        "this address is not one of them",
        "another user's",
        "the Client Identifier of the device x must be x",
        "the Client Identifier x is the device's of that id alone",
        "its token",
        "the hook answered",
        "no answer within",
        "the password is not",
        "wrong password, according to /etc/passwd",
        "wrong credential for device x",
        "no user of that name exists (looked up in: the registry x)",
        "x is neither a user nor a device of the tables",
        "it has no credentials",
        "does not permit anonymous",
        "one of the server's own",
        "unknown path",
        "SCRAM-SHA-256 as x",
    ];

    #[test]
    fn names_are_the_written_ones() {
        for cause in Cause::ALL {
            let written = serde_json::to_string(cause).expect("it is text");
            assert_eq!(written, format!("\"{}\"", cause.name()));
        }
    }

    #[test]
    fn refusals_are_told_apart_by_their_cause_alone() {
        let refused = |cause| Cause::of_refusal(ReasonCode::NotAuthorized, cause);
        for (cause, expected) in [
            (
                RefusalCause::WrongPassword(PasswordSource::File),
                Cause::WrongPassword,
            ),
            (RefusalCause::WrongSecret, Cause::WrongPassword),
            (
                RefusalCause::UnknownUser(UserSources::default()),
                Cause::UnknownName,
            ),
            (RefusalCause::DeviceMaintenance, Cause::Disabled),
            (RefusalCause::CredentialExpired, Cause::CredentialExpired),
            (
                RefusalCause::Tls(TlsFault::CertificateExpired),
                Cause::CertificateExpired,
            ),
            (
                RefusalCause::Tls(TlsFault::CertificateNotYetValid),
                Cause::ClockWrong,
            ),
            (
                RefusalCause::Tls(TlsFault::CertificateNotForClients),
                Cause::CertificateUnfit,
            ),
            (RefusalCause::WillForbidden, Cause::NotPermitted),
        ] {
            assert_eq!(refused(cause), expected, "{cause:?}");
        }
    }

    #[test]
    fn a_limit_is_known_by_its_type() {
        let of = |reason, limit| Cause::of_end(reason, RefusalCause::Limit(limit));
        let quota = ReasonCode::QuotaExceeded;
        assert_eq!(of(quota, Limit::StoreStalled), Some(Cause::StoreFailing));
        assert_eq!(of(quota, Limit::StoreBytes), Some(Cause::StoreFull));
        assert_eq!(of(quota, Limit::DiskFull), Some(Cause::StoreFull));
        assert_eq!(of(quota, Limit::QueuedBytes), Some(Cause::QueueFull));
        assert_eq!(of(quota, Limit::MaximumQos), Some(Cause::LimitReached));
        let late = ReasonCode::KeepAliveTimeout;
        assert_eq!(of(late, Limit::KeepAliveMax), Some(Cause::KeepAlive));
        assert_eq!(
            Cause::of_end(ReasonCode::Success, RefusalCause::Goodbye),
            None
        );
    }

    /// What clients choose: a Client Identifier, a user name, a topic.
    #[test]
    fn names_that_clients_choose_are_no_causes() {
        for name in WORDS_OF_OLD {
            let will = Refusal::operators_only(
                RefusalCause::WillForbidden,
                format!("the Will on {name:?} is refused: no rule permits it"),
            );
            let event = Event::Refused {
                will_topic: Some((*name).into()),
                reason: ReasonCode::NotAuthorized,
                why: will,
            };
            assert_eq!(Cause::of(&event), Some(Cause::NotPermitted), "{name}");
            let forbids = format!("acl file, line 1 forbids {name}");
            let event = Event::PublishRefused {
                topic: (*name).to_owned(),
                reason: ReasonCode::NotAuthorized,
                why: Refusal::operators_only(RefusalCause::Forbidden, forbids),
            };
            assert_eq!(Cause::of(&event), Some(Cause::NotPermitted), "{name}");
            let unknown = format!("nobody of the name {name} is known to {name}");
            let event = Event::Refused {
                will_topic: None,
                reason: ReasonCode::BadUserNameOrPassword,
                why: Refusal::operators_only(
                    RefusalCause::UnknownUser(UserSources::default()),
                    unknown,
                ),
            };
            assert_eq!(Cause::of(&event), Some(Cause::UnknownName), "{name}");
            let event = Event::Disconnected {
                reason: ReasonCode::Success,
                why: Refusal::from(RefusalCause::Goodbye).with_detail(*name),
                will: None,
            };
            assert_eq!(Cause::of(&event), None, "{name}");
        }
    }
}
