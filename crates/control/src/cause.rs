//! What went wrong, as one of a closed list: what `martlet why` answers, and by what entries of the
//! journal are told apart.

use martlet_broker::{DropReason, Event, Limit, Why};
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
    NothingWrong = "nothing-wrong", "Nothing is wrong as far as the node can see.";
    NobodyKnown = "nobody-known", "The name is unknown: no device, no user and no session has it, and no client has tried it.";
    NeverConnected = "never-connected", "It exists, and has never connected.";
    Away = "away", "It disconnected, and has not connected again.";
    WrongPassword = "wrong-password", "Its password or credential is wrong.";
    UnknownName = "unknown-name", "No source of credentials knows the name.";
    NoCredentials = "no-credentials", "It has no credentials, and needs some.";
    LockedOut = "locked-out", "Wrong credentials were tried too often.";
    Disabled = "disabled", "The user is disabled, or the device is not active.";
    Deleted = "deleted", "The user or device was removed.";
    Banned = "banned", "An operator has banned it.";
    CredentialExpired = "credential-expired", "Its credentials have expired, or were revoked.";
    WrongClientId = "wrong-client-id", "Its Client Identifier is not the one that its credentials are for.";
    ClientIdTaken = "client-id-taken", "The session of its Client Identifier belongs to another user.";
    CertificateExpired = "certificate-expired", "Its certificate has expired.";
    CertificateRevoked = "certificate-revoked", "Its certificate is revoked.";
    CertificateForeign = "certificate-foreign", "Its certificate was issued by another CA.";
    CertificateUnfit = "certificate-unfit", "Its certificate is not valid, or not for clients.";
    CertificateMissing = "certificate-missing", "It presented no certificate, and the listener requires one.";
    ClockWrong = "clock-wrong", "Its certificate or token is not valid yet: its clock, the node's or the issuer's is wrong.";
    ServerNotTrusted = "server-not-trusted", "It does not trust the server's certificate.";
    WrongTransport = "wrong-transport", "It uses another protocol than the listener: TLS, WebSocket or HTTP instead of plain MQTT, or the other way round.";
    TlsFailed = "tls-failed", "Its TLS handshake failed: it and the listener have no version, cipher suite or the like in common, or it ended the handshake itself.";
    TokenBad = "token-bad", "Its token is not valid.";
    HookRefused = "hook-refused", "The program behind auth.hook_url refused it.";
    HookDown = "hook-down", "The service that decides about its login does not answer.";
    WrongVersion = "wrong-version", "It uses a version of MQTT that the node, or the listener, does not support.";
    LimitReached = "limit-reached", "A limit of the node is reached.";
    NotPermitted = "not-permitted", "A rule forbids it, or none permits it.";
    WrongTopic = "wrong-topic", "A rule permits that topic with the client's own name in it, and the topic has another name there.";
    TakenOver = "taken-over", "Another client with the same Client Identifier took its connection over.";
    KeepAlive = "keep-alive", "No packet came within 1.5 times the Keep Alive.";
    ProtocolError = "protocol-error", "It broke a rule of MQTT.";
    TooLarge = "too-large", "A packet or payload was larger than permitted.";
    TooFast = "too-fast", "It publishes faster than permitted.";
    QueueFull = "queue-full", "Its queue is full.";
    SlowReader = "slow-reader", "It reads more slowly than messages arrive.";
    Expired = "expired", "Messages for it expired before they could be delivered.";
    NotKept = "not-kept", "Messages arrived while it was away, and were not kept for it.";
    NotSubscribed = "not-subscribed", "It has no subscription for the topic.";
    SubscriberAbsent = "subscriber-absent", "Nobody is subscribed to the topic.";
    QosDowngraded = "qos-downgraded", "Its subscription has a lower QoS than the messages are published with.";
    ListenerClosed = "listener-closed", "The node no longer listens where it connected before.";
    ServerStopped = "server-stopped", "The node was stopped.";
    StoreFailing = "store-failing", "The message store cannot write.";
    StoreFull = "store-full", "The message store has no room for more messages.";
    StoreSlow = "store-slow", "The message store writes more slowly than messages are published.";
    IntegrationFailing = "integration-failing", "An integration that takes its messages does not deliver them.";
    IntegrationPaused = "integration-paused", "An integration that takes its messages is paused.";
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
            DropReason::ClientAway => Self::NotKept,
            DropReason::OutputFull => Self::SlowReader,
            DropReason::QueueFull | DropReason::TooOld => Self::QueueFull,
            DropReason::PacketTooLarge => Self::TooLarge,
            DropReason::NotPermitted => Self::NotPermitted,
            DropReason::MemoryFull => Self::LimitReached,
            DropReason::NoMember => Self::SubscriberAbsent,
            DropReason::StoreFull => Self::StoreFull,
            DropReason::StoreStalled => Self::StoreSlow,
            _ => Self::Other,
        }
    }

    /// What an event is about; none: nothing went wrong.
    pub fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Refused { reason, why, .. }
            | Event::ReauthenticationRefused { reason, why, .. } => Self::of_refusal(*reason, why),
            Event::Disconnected { reason, why, .. } => return Self::of_end(*reason, why),
            Event::PublishRefused { reason, why, .. }
            | Event::SubscribeRefused { reason, why, .. } => Self::of_request(*reason, why),
            Event::RateExceeded { .. } | Event::PublishesDelayed { .. } => Self::TooFast,
            Event::QueueFull { .. } => Self::QueueFull,
            // What ends with a session or its connection is told with that.
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

    /// Cause of a refused connection.
    fn of_refusal(reason: ReasonCode, why: &Why) -> Self {
        match why.limit() {
            Some(limit) => Self::of_limit(limit),
            None => Self::of_words(reason, why),
        }
    }

    /// Cause of a refusal that authenticators, TLS or WebSocket decide, who give words alone.
    pub(crate) fn of_words(reason: ReasonCode, why: &str) -> Self {
        let has = |text: &str| why.contains(text);
        match () {
            () if has("locked out") => Self::LockedOut,
            () if why.starts_with("the message store is full") => Self::StoreFull,
            () if why.starts_with("the message store ") => Self::StoreFailing,
            () if why.starts_with("the Will on") => Self::NotPermitted,
            () if has("is banned") => Self::Banned,
            () if has(" was deleted: martlet ") => Self::Deleted,
            () if has(" is disabled") || has(" is inactive") || has(" is maintenance") => {
                Self::Disabled
            }
            () if has("this credential of the device") && has("has expired") => {
                Self::CredentialExpired
            }
            () if has("certificate has expired") => Self::CertificateExpired,
            () if has("not valid yet") => Self::ClockWrong,
            () if has("is revoked") => Self::CertificateRevoked,
            () if has("of another CA") => Self::CertificateForeign,
            () if has("requires a client certificate") => Self::CertificateMissing,
            () if has("does not trust the server's certificate") => Self::ServerNotTrusted,
            () if has("the client's certificate") => Self::CertificateUnfit,
            () if has("TLS version in common")
                || has("TLS cipher suite in common")
                || has("TLS key exchange group in common")
                || has("no signature scheme in common")
                || has("the client's TLS lacks")
                || has("no application protocol (ALPN)")
                || has("the client ended the TLS handshake")
                || has("than a TLS record holds")
                || has("what came cannot be decrypted")
                || has("the TLS connection failed") =>
            {
                Self::TlsFailed
            }
            () if has("what came is not TLS")
                || has("the first packet is not CONNECT")
                || has("no PROXY header") =>
            {
                Self::WrongTransport
            }
            () if has("another user's") => Self::ClientIdTaken,
            () if has("Client Identifier of the device") || has("is the device's of that id") => {
                Self::WrongClientId
            }
            () if has("its token") => Self::TokenBad,
            () if has("the hook answered") => Self::HookRefused,
            () if has("no answer within") || reason == ReasonCode::ServerUnavailable => {
                Self::HookDown
            }
            () if has("the password is not") || has("wrong credential for") => Self::WrongPassword,
            () if has("nobody of that name") || has("is neither a user nor a device") => {
                Self::UnknownName
            }
            () if has("it has no credentials") || has("does not permit anonymous") => {
                Self::NoCredentials
            }
            () => match reason {
                ReasonCode::UnsupportedProtocolVersion => Self::WrongVersion,
                ReasonCode::BadUserNameOrPassword => Self::WrongPassword,
                ReasonCode::PacketTooLarge => Self::TooLarge,
                ReasonCode::ProtocolError | ReasonCode::MalformedPacket => Self::ProtocolError,
                _ => Self::Other,
            },
        }
    }

    /// Why a connection ended; none: its client wanted it so.
    pub(crate) fn of_end(reason: ReasonCode, why: &Why) -> Option<Self> {
        if let Some(limit) = why.limit() {
            return Some(Self::of_limit(limit));
        }
        Some(match reason {
            ReasonCode::SessionTakenOver => Self::TakenOver,
            ReasonCode::KeepAliveTimeout => Self::KeepAlive,
            ReasonCode::PacketTooLarge => Self::TooLarge,
            ReasonCode::MessageRateTooHigh => Self::TooFast,
            ReasonCode::ServerShuttingDown => Self::ServerStopped,
            _ if why.ends_with(" is inactive") || why.ends_with(" is disabled") => Self::Disabled,
            _ if why.ends_with(" is in maintenance") => Self::Disabled,
            _ if why.ends_with(" was removed") => Self::Deleted,
            _ if why.ends_with(" has banned it") => Self::Banned,
            _ if why.contains("credentials were revoked") => Self::CredentialExpired,
            reason if Self::BROKEN_RULES.contains(&reason) => Self::ProtocolError,
            ReasonCode::NotAuthorized => Self::NotPermitted,
            _ => return None,
        })
    }

    /// Cause of a refused publish or subscription.
    fn of_request(reason: ReasonCode, why: &Why) -> Self {
        if let Some(limit) = why.limit() {
            return Self::of_limit(limit);
        }
        match reason {
            ReasonCode::NotAuthorized => Self::NotPermitted,
            ReasonCode::PacketTooLarge => Self::TooLarge,
            ReasonCode::MessageRateTooHigh => Self::TooFast,
            ReasonCode::QuotaExceeded => Self::LimitReached,
            _ => Self::Other,
        }
    }

    /// The end of a connection is one of the problems that [`crate::journal::Entry::is_trouble`]
    /// finds: a limit or a broken rule of MQTT decided it.
    pub(crate) fn is_trouble_at_end(reason: ReasonCode, why: &Why) -> bool {
        why.limit().is_some() || Self::BROKEN_RULES.contains(&reason)
    }

    /// It is about coming in.
    pub fn is_at_door(self) -> bool {
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
                | Self::WrongClientId
                | Self::ClientIdTaken
                | Self::CertificateExpired
                | Self::CertificateRevoked
                | Self::CertificateForeign
                | Self::CertificateUnfit
                | Self::CertificateMissing
                | Self::ClockWrong
                | Self::ServerNotTrusted
                | Self::TlsFailed
                | Self::WrongTransport
                | Self::TokenBad
                | Self::HookRefused
                | Self::HookDown
                | Self::WrongVersion
        )
    }
}

#[cfg(test)]
mod tests {
    use martlet_broker::Reached;

    use super::*;

    #[test]
    fn names_are_the_written_ones() {
        for cause in Cause::ALL {
            let written = serde_json::to_string(cause).expect("it is text");
            assert_eq!(written, format!("\"{}\"", cause.name()));
        }
    }

    #[test]
    fn refusals_are_told_apart_by_who_decides_them() {
        let bad = ReasonCode::BadUserNameOrPassword;
        let refused = ReasonCode::NotAuthorized;
        let wrong = ReasonCode::ProtocolError;
        for (reason, why, cause) in [
            (
                bad,
                "wrong password, according to /etc/passwd",
                Cause::WrongPassword,
            ),
            (bad, "wrong credential for device d1", Cause::WrongPassword),
            (
                bad,
                "nobody of that name is known to the registry",
                Cause::UnknownName,
            ),
            (refused, "device d1 is maintenance", Cause::Disabled),
            (
                refused,
                "this credential of the device d1 has expired",
                Cause::CredentialExpired,
            ),
            (
                wrong,
                "the client's certificate has expired",
                Cause::CertificateExpired,
            ),
            (
                wrong,
                "the client's certificate is not valid yet",
                Cause::ClockWrong,
            ),
            (
                wrong,
                "the client's certificate is not for clients",
                Cause::CertificateUnfit,
            ),
        ] {
            assert_eq!(Cause::of_words(reason, why), cause, "{why}");
        }
    }

    #[test]
    fn a_limit_is_known_by_its_type_whatever_words_it_has() {
        let reached = |limit| Reached { limit, value: 3 }.why();
        let of = |reason, limit| Cause::of_end(reason, &reached(limit));
        let quota = ReasonCode::QuotaExceeded;
        assert_eq!(of(quota, Limit::StoreStalled), Some(Cause::StoreFailing));
        assert_eq!(of(quota, Limit::StoreBytes), Some(Cause::StoreFull));
        assert_eq!(of(quota, Limit::DiskFull), Some(Cause::StoreFull));
        assert_eq!(of(quota, Limit::QueuedBytes), Some(Cause::QueueFull));
        assert_eq!(of(quota, Limit::MaximumQos), Some(Cause::LimitReached));
        let late = ReasonCode::KeepAliveTimeout;
        assert_eq!(of(late, Limit::KeepAliveMax), Some(Cause::KeepAlive));
        let said = Why::from("a topic named limit packet_bytes");
        assert_eq!(Cause::of_end(ReasonCode::Success, &said), None);
        assert_eq!(Cause::of_refusal(quota, &said), Cause::Other);
    }
}
