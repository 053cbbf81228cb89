//! What went wrong, as one of a closed list: what `martlet why` answers, and by what entries of the
//! journal are told apart.

use martlet_broker::DropReason;
use martlet_codec::ReasonCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::journal::Entry;

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
    NobodyKnown = "nobody-known", "Nobody of that name is known: no device, no user, no session, and nobody has tried.";
    NeverConnected = "never-connected", "It is known, and has never connected.";
    Away = "away", "It said goodbye, or its connection ended, and it has not come again.";
    WrongPassword = "wrong-password", "Its password or credential is another.";
    UnknownName = "unknown-name", "No source of credentials knows the name.";
    NoCredentials = "no-credentials", "It has no credentials, and needs some.";
    LockedOut = "locked-out", "Wrong credentials were tried too often.";
    Disabled = "disabled", "The user is disabled, or the device is not active.";
    Deleted = "deleted", "The user or device is removed.";
    Banned = "banned", "An operator has banned it.";
    CredentialExpired = "credential-expired", "Its credentials have expired, or were revoked.";
    WrongClientId = "wrong-client-id", "Its Client Identifier is not the one that its credentials are for.";
    ClientIdTaken = "client-id-taken", "The session of its Client Identifier is another user's.";
    CertificateExpired = "certificate-expired", "Its certificate has expired.";
    CertificateRevoked = "certificate-revoked", "Its certificate is revoked.";
    CertificateForeign = "certificate-foreign", "Its certificate is of another CA.";
    CertificateUnfit = "certificate-unfit", "Its certificate is not valid, or not for clients.";
    CertificateMissing = "certificate-missing", "It has shown no certificate, and needs one.";
    ClockWrong = "clock-wrong", "What it shows is not valid yet: its clock, the node's or that of who issued it is wrong.";
    ServerNotTrusted = "server-not-trusted", "It does not trust the server's certificate.";
    WrongTransport = "wrong-transport", "It speaks something else than the listener: TLS, WebSocket or HTTP where MQTT is spoken, or the other way round.";
    TokenBad = "token-bad", "Its token is not good.";
    HookRefused = "hook-refused", "The program behind auth.hook_url refused it.";
    HookDown = "hook-down", "Who is asked about it does not answer.";
    WrongVersion = "wrong-version", "It speaks a version of MQTT that the node, or the listener, does not.";
    LimitReached = "limit-reached", "A limit of the node is reached.";
    NotPermitted = "not-permitted", "A rule forbids it, or none permits it.";
    WrongTopic = "wrong-topic", "A rule permits that topic with the client's own name in it, and there stands another.";
    TakenOver = "taken-over", "Another connection has the same Client Identifier.";
    KeepAlive = "keep-alive", "Nothing came for one and a half Keep Alives.";
    ProtocolError = "protocol-error", "It broke a rule of MQTT.";
    TooLarge = "too-large", "A packet was larger than is taken.";
    TooFast = "too-fast", "It published faster than it may.";
    QueueFull = "queue-full", "Its queue is full.";
    SlowReader = "slow-reader", "It reads more slowly than messages come.";
    Expired = "expired", "Messages for it were older than their senders permit when it could have had them.";
    NotKept = "not-kept", "Messages came while it was away, and were not kept for it.";
    NotSubscribed = "not-subscribed", "It has no subscription for the topic.";
    SubscriberAbsent = "subscriber-absent", "Nobody is subscribed to the topic.";
    QosDowngraded = "qos-downgraded", "Its subscription has a lower QoS than it is published with.";
    ListenerClosed = "listener-closed", "The node does not listen where it came in before.";
    ServerStopped = "server-stopped", "The node was stopped.";
    StoreFailing = "store-failing", "The message store cannot write.";
    Other = "other", "Something else; the words say what.";
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
            DropReason::QueueFull => Self::QueueFull,
            DropReason::PacketTooLarge => Self::TooLarge,
            DropReason::NotPermitted => Self::NotPermitted,
            DropReason::MemoryFull => Self::LimitReached,
            DropReason::NoMember => Self::SubscriberAbsent,
            _ => Self::Other,
        }
    }

    /// What an entry of the journal is about; none: nothing went wrong with it.
    pub fn of(entry: &Entry) -> Option<Self> {
        let why = entry.why.as_deref().unwrap_or_default();
        let reason = entry.reason.as_deref().unwrap_or_default();
        Some(match &*entry.what {
            "connect refused" | "re-authentication refused" => Self::of_refusal(reason, why),
            "disconnected" => return Self::of_end(reason, why),
            "publish refused" | "subscribe refused" => Self::of_request(reason, why),
            "messages dropped" => Self::TooFast,
            "queue full" => Self::QueueFull,
            "message dropped" => {
                let mut all = DropReason::ALL.iter();
                let found = all.find(|known| known.name() == reason);
                found.map_or(Self::Other, |reason| Self::of_drop(*reason))
            }
            _ => return None,
        })
    }

    /// Cause of a refusal, by the words of the deciding code.
    pub(crate) fn of_refusal(reason: &str, why: &str) -> Self {
        let has = |text: &str| why.contains(text);
        match () {
            () if has("locked out") => Self::LockedOut,
            () if has("limit ") => Self::LimitReached,
            () if why.starts_with("the Will on") => Self::NotPermitted,
            () if has("is banned") => Self::Banned,
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
            () if has("no answer within") || reason == ReasonCode::ServerUnavailable.name() => {
                Self::HookDown
            }
            () if has("the password is not") || has("that is no credential of") => {
                Self::WrongPassword
            }
            () if has("nobody of that name") || has("is neither a user nor a device") => {
                Self::UnknownName
            }
            () if has("it has no credentials") || has("does not permit anonymous") => {
                Self::NoCredentials
            }
            () if reason == ReasonCode::UnsupportedProtocolVersion.name() => Self::WrongVersion,
            () if reason == ReasonCode::BadUserNameOrPassword.name() => Self::WrongPassword,
            () if reason == ReasonCode::PacketTooLarge.name() => Self::TooLarge,
            () if reason == ReasonCode::ProtocolError.name()
                || reason == ReasonCode::MalformedPacket.name() =>
            {
                Self::ProtocolError
            }
            () => Self::Other,
        }
    }

    /// Why a connection ended; none: its client wanted it so.
    pub(crate) fn of_end(reason: &str, why: &str) -> Option<Self> {
        let is = |code: ReasonCode| reason == code.name();
        Some(match () {
            () if is(ReasonCode::SessionTakenOver) => Self::TakenOver,
            () if is(ReasonCode::KeepAliveTimeout) => Self::KeepAlive,
            () if why.contains("credentials were revoked") => Self::Disabled,
            () if is(ReasonCode::PacketTooLarge) || why.contains("limit packet_bytes") => {
                Self::TooLarge
            }
            () if is(ReasonCode::MessageRateTooHigh) => Self::TooFast,
            () if why.contains("limit output") => Self::SlowReader,
            () if why.contains("limit store_stalled") => Self::StoreFailing,
            () if why.contains("limit ") => Self::LimitReached,
            () if is(ReasonCode::ServerShuttingDown) => Self::ServerStopped,
            () if Self::BROKEN_RULES.into_iter().any(is) => Self::ProtocolError,
            () if is(ReasonCode::NotAuthorized) => Self::NotPermitted,
            () => return None,
        })
    }

    fn of_request(reason: &str, why: &str) -> Self {
        let is = |code: ReasonCode| reason == code.name();
        match () {
            () if is(ReasonCode::NotAuthorized) => Self::NotPermitted,
            () if is(ReasonCode::PacketTooLarge) => Self::TooLarge,
            () if is(ReasonCode::MessageRateTooHigh) => Self::TooFast,
            () if why.contains("limit ") || is(ReasonCode::QuotaExceeded) => Self::LimitReached,
            () => Self::Other,
        }
    }

    /// It is about coming in.
    pub(crate) fn is_at_door(self) -> bool {
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
        let bad = ReasonCode::BadUserNameOrPassword.name();
        let refused = ReasonCode::NotAuthorized.name();
        for (reason, why, cause) in [
            (
                bad,
                "the password is not that of /etc/passwd",
                Cause::WrongPassword,
            ),
            (
                bad,
                "that is no credential of the device d1",
                Cause::WrongPassword,
            ),
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
                "",
                "the client's certificate has expired",
                Cause::CertificateExpired,
            ),
            (
                "",
                "the client's certificate is not valid yet",
                Cause::ClockWrong,
            ),
            (
                "",
                "the client's certificate is not for clients",
                Cause::CertificateUnfit,
            ),
            (
                refused,
                "limit connect_rate_per_address",
                Cause::LimitReached,
            ),
        ] {
            assert_eq!(Cause::of_refusal(reason, why), cause, "{why}");
        }
    }
}
