//! Causes of what went wrong, as the API names them. `martlet why` answers with one, and they
//! distinguish entries of the journal.
//!
//! A refusal or an end has the cause that the broker or an authenticator gave it
//! ([`RefusalCause`]); here is the table from those to the names of the API. Words are not read.

mod table;

use martlet_broker::{DropReason, Event, Limit, RefusalCause};
use martlet_codec::ReasonCode;

use crate::event::NodeEvent;
use crate::http_cause::HttpCause;

pub use table::Cause;
pub(crate) use table::{Bearing, Weight};

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

    /// Cause for which a message is dropped.
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

    /// Cause of an event; none: nothing went wrong.
    pub fn of(event: &NodeEvent) -> Option<Self> {
        match event {
            NodeEvent::Shard(event) => Self::of_shard(event),
            NodeEvent::ProvisioningRefused { why, .. } => {
                Some(Self::of_refusal(ReasonCode::NotAuthorized, why.cause))
            }
            NodeEvent::RequestRefused { why, .. } | NodeEvent::ConnectionRefused { why } => {
                Some(Self::of_http(why.cause))
            }
            _ => None,
        }
    }

    /// Cause of an event of a shard; none: nothing went wrong.
    fn of_shard(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Refused { reason, why, .. }
            | Event::ReauthenticationRefused { reason, why, .. } => {
                Self::of_refusal(*reason, why.cause)
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

    /// Cause that a limit is about.
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

    /// Cause of a refusal by the HTTP server.
    fn of_http(cause: HttpCause) -> Self {
        match cause {
            HttpCause::Client(cause) => Self::of_refusal(ReasonCode::NotAuthorized, cause),
            cause => Self::of_http_alone(cause),
        }
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

    /// Whether it is about the provisioning key by which a device is to be added.
    pub(crate) fn is_of_provisioning_key(self) -> bool {
        matches!(
            self,
            Self::ProvisioningKeyWrong | Self::ProvisioningKeyEnded
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use martlet_broker::{PasswordSource, Refusal, TlsFault, UserSources};

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

    /// Names that clients choose: a Client Identifier, a user name, a topic.
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
            assert_eq!(
                Cause::of(&event.into()),
                Some(Cause::NotPermitted),
                "{name}"
            );
            let forbids = format!("acl file, line 1 forbids {name}");
            let event = Event::PublishRefused {
                topic: (*name).to_owned(),
                reason: ReasonCode::NotAuthorized,
                why: Refusal::operators_only(RefusalCause::Forbidden, forbids),
            };
            assert_eq!(
                Cause::of(&event.into()),
                Some(Cause::NotPermitted),
                "{name}"
            );
            let unknown = format!("nobody of the name {name} is known to {name}");
            let event = Event::Refused {
                will_topic: None,
                reason: ReasonCode::BadUserNameOrPassword,
                why: Refusal::operators_only(
                    RefusalCause::UnknownUser(UserSources::default()),
                    unknown,
                ),
            };
            assert_eq!(Cause::of(&event.into()), Some(Cause::UnknownName), "{name}");
            let event = Event::Disconnected {
                reason: ReasonCode::Success,
                why: Refusal::from(RefusalCause::Goodbye).with_detail(*name),
                will: None,
            };
            assert_eq!(Cause::of(&event.into()), None, "{name}");
        }
    }
}
