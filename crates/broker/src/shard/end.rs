//! How a connection ends, and why.

use std::sync::Arc;

use martlet_codec::{PacketType, ReasonCode};
use martlet_permission::{Refusal, RefusalCause, TlsFault};

use super::packet_error::PacketError;

/// How the transport of a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportEnd {
    /// The peer closed without DISCONNECT.
    EndOfStream,
    /// The socket failed.
    Error,
    /// A Close effect is carried out.
    Finished,
    /// The peer broke a rule of the transport: of TLS, WebSocket or the PROXY header.
    Violation(RefusalCause),
    /// The peer has shown a certificate that is not valid.
    BadCertificate {
        /// Why not.
        fault: TlsFault,
        /// The client that it names, as far as that is a name.
        claims: Option<Arc<str>>,
    },
}

impl TransportEnd {
    pub(super) fn cause(&self) -> RefusalCause {
        match self {
            Self::EndOfStream => RefusalCause::ClosedByClient,
            Self::Error => RefusalCause::ConnectionFailed,
            Self::Finished => RefusalCause::Closed,
            Self::Violation(cause) => *cause,
            Self::BadCertificate { fault, .. } => (*fault).into(),
        }
    }

    /// Why a connection was refused, with the listener where a client may have the wrong port.
    pub(super) fn refusal(&self, listener: &str) -> Refusal {
        let cause = self.cause();
        match cause {
            RefusalCause::Tls(TlsFault::PlainMqtt) => Refusal::from(cause).with_detail(format!(
                "the client speaks plain MQTT to the listener {listener}, which expects TLS"
            )),
            _ => cause.into(),
        }
    }
}

/// How an accepted connection is ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(super) reason: ReasonCode,
    pub(super) cause: RefusalCause,
    /// v5 clients get DISCONNECT; the transport is still there.
    pub(super) notify: bool,
    pub(super) will: WillAtEnd,
    /// Error in a packet, if that is why.
    pub(super) wrong: Option<WrongPacket>,
}

/// A packet that ended its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrongPacket {
    /// None: its first byte names no type.
    pub(super) packet_type: Option<PacketType>,
    /// The statement of the specification that it broke; empty where there is none.
    pub(super) statement: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WillAtEnd {
    /// The client sent DISCONNECT [MQTT-3.1.2-10].
    Discarded,
    /// The connection is lost, or was ended by the server [MQTT-3.1.2-8].
    Due,
    /// The server stops: the clients are not lost.
    Kept,
}

impl Ending {
    /// The server ends it, and sends the reason to the client.
    pub(crate) fn with_disconnect(reason: ReasonCode, cause: impl Into<RefusalCause>) -> Self {
        Self {
            reason,
            cause: cause.into(),
            notify: true,
            will: WillAtEnd::Due,
            wrong: None,
        }
    }

    /// The server ends it without a packet to the client.
    pub(crate) fn without_disconnect(reason: ReasonCode, cause: impl Into<RefusalCause>) -> Self {
        Self {
            notify: false,
            ..Self::with_disconnect(reason, cause)
        }
    }

    /// The server has not accepted the CONNECT after all: its Will is none.
    pub(crate) fn refused(reason: ReasonCode, cause: impl Into<RefusalCause>) -> Self {
        Self {
            will: WillAtEnd::Discarded,
            ..Self::with_disconnect(reason, cause)
        }
    }

    /// The server ends it because of a packet.
    pub(super) fn by_packet(error: PacketError, packet_type: Option<PacketType>) -> Self {
        let is_broken_rule = matches!(
            error.reason,
            ReasonCode::MalformedPacket
                | ReasonCode::ProtocolError
                | ReasonCode::TopicNameInvalid
                | ReasonCode::TopicFilterInvalid
                | ReasonCode::TopicAliasInvalid
                | ReasonCode::ReceiveMaximumExceeded
        );
        let wrong = WrongPacket {
            packet_type,
            statement: error.statement,
        };
        Self {
            wrong: is_broken_rule.then_some(wrong),
            ..Self::with_disconnect(error.reason, error.cause)
        }
    }

    /// The detail for operators: which packet, and which statement it broke.
    pub(super) fn in_full(&self, refusal: Refusal) -> Refusal {
        let Some(wrong) = &self.wrong else {
            return refusal;
        };
        let mut detail = match wrong.packet_type {
            Some(packet_type) => format!("{packet_type}: {}", refusal.detail()),
            None => refusal.detail().to_owned(),
        };
        if !wrong.statement.is_empty() {
            detail.push_str(&format!(" [{}]", wrong.statement));
        }
        refusal.with_detail(detail)
    }

    pub(super) fn lost(cause: impl Into<RefusalCause>) -> Self {
        let reason = ReasonCode::UnspecifiedError;
        Self {
            reason,
            cause: cause.into(),
            notify: false,
            will: WillAtEnd::Due,
            wrong: None,
        }
    }
}
