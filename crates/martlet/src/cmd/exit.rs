//! Exit codes of the client commands, which are mosquitto's, and their texts.
//!
//! Responsible for printing an error to standard error and for its exit code. Does not end the
//! process.

use std::io;
use std::process::ExitCode;

use martlet_certificates::handshake_failure;
use martlet_client::{NetError, SessionError};
use martlet_codec::{ProtocolVersion, ReasonCode};

use crate::cmd::print::errln;

/// Wrong arguments, no connection, a system error.
pub(crate) const ERROR: u8 = 1;
/// The server violated the protocol.
pub(crate) const PROTOCOL: u8 = 2;
/// The connection was lost.
pub(crate) const CONNECTION_LOST: u8 = 7;
/// The time of `-W` has expired.
pub(crate) const TIMED_OUT: u8 = 27;

/// Why a client command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// Lines for standard error.
    pub(crate) text: String,
}

impl Failure {
    /// A failure with the line `Error: …`.
    pub(crate) fn error(code: u8, text: impl std::fmt::Display) -> Self {
        Self {
            code,
            text: format!("Error: {text}"),
        }
    }

    /// Converts the failure or end of a network connection.
    pub(crate) fn from_net(error: &NetError) -> Self {
        match error {
            NetError::Lookup(_) => Self {
                code: ERROR,
                text: "Unable to connect (Lookup error.).".into(),
            },
            NetError::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => lost(),
            NetError::Io(error) => Self::error(ERROR, system_error(error)),
            NetError::Tls(error) => Self::error(ERROR, handshake_failure(error)),
            NetError::WebSocket(_) | NetError::Handshake(_) => Self::error(ERROR, error),
            NetError::Http => Self::error(PROTOCOL, error),
            NetError::Closed | NetError::NotConnected => lost(),
            NetError::Session(SessionError::Protocol(error)) => Self {
                code: PROTOCOL,
                text: format!(
                    "Error: A network protocol error occurred when communicating with the broker.\n\
                     {error}"
                ),
            },
            NetError::Session(error @ SessionError::Authentication(_)) => Self::error(ERROR, error),
            NetError::Session(error) => Self::error(CONNECTION_LOST, error),
        }
    }

    /// Converts a refusing CONNACK.
    pub(crate) fn refused(version: ProtocolVersion, code: u8, reason: ReasonCode) -> Self {
        let why = match (version.is_v5(), code) {
            (true, _) => reason_text(reason),
            (false, 1) => "Connection Refused: unacceptable protocol version.",
            (false, 2) => "Connection Refused: identifier rejected.",
            (false, 3) => "Connection Refused: broker unavailable.",
            (false, 4) => "Connection Refused: bad user name or password.",
            (false, 5) => "Connection Refused: not authorised.",
            (false, _) => "Connection Refused: unknown reason.",
        };
        Self {
            code,
            text: format!("Connection error: {why}"),
        }
    }

    /// Adds a line.
    pub(crate) fn with_line(self, line: &str) -> Self {
        Self {
            text: format!("{}\n{line}", self.text),
            ..self
        }
    }
}

/// Prints the text about wrong arguments and returns their exit code.
pub(crate) fn usage(text: &str) -> ExitCode {
    errln!("{text}");
    ExitCode::from(ERROR)
}

/// The exit code of a finished client command. Prints a failure unless `quiet`.
pub(crate) fn finish(result: Result<u8, Failure>, quiet: bool) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !quiet {
                errln!("{}", failure.text);
            }
            ExitCode::from(failure.code)
        }
    }
}

/// The text of a reason code, as in mosquitto's clients.
pub(crate) fn reason_text(reason: ReasonCode) -> &'static str {
    match reason {
        ReasonCode::BadUserNameOrPassword => "Bad username or password",
        ReasonCode::ClientIdentifierNotValid => "Client identifier not valid",
        other => other.name(),
    }
}

/// The system's text for an error, without its number.
pub(crate) fn system_error(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn lost() -> Failure {
    Failure::error(
        CONNECTION_LOST,
        "The connection was lost.\nIf the broker has ended it, as it may for a message that it \
         refuses, its log shows why (with Martlet: martlet logs, martlet why CLIENT).",
    )
}
