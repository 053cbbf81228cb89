//! Enhanced authentication: what the client says in CONNECT, and its answers to the server's AUTH.
//!
//! Knows whose turn it is; what is said is the method's own business. MQTT 5.0 §4.12.

use std::time::Duration;

use martlet_codec::{Auth, ConnAck, DecodeError, ReasonCode};

use super::{Direction, PacketSummary, Session, SessionError};

/// The client's side of an Authentication Method.
pub trait Authentication {
    /// Authentication Method.
    fn method(&self) -> &str;

    /// A connection begins, and with it an exchange: its first Authentication Data.
    fn begin(&mut self) -> Vec<u8>;

    /// Answers the server's Authentication Data.
    ///
    /// # Errors
    /// What is wrong with it; the connection ends.
    fn answer(&mut self, data: &[u8]) -> Result<Vec<u8>, String>;

    /// The server has accepted us, with this Authentication Data in its CONNACK.
    ///
    /// # Errors
    /// Why it is not the server that it should be; the connection ends before anything else is
    /// sent.
    fn finish(&mut self, data: &[u8]) -> Result<(), String>;
}

impl Session {
    /// Chooses by which method the client proves who it is, from the next connection on; MQTT 5.0
    /// alone has one. It takes the place of what the options name.
    pub fn set_authentication(&mut self, authentication: Box<dyn Authentication + Send>) {
        self.authentication = Some(authentication);
    }

    /// AUTH from the server before CONNACK: it goes on [MQTT-4.12.0-2], [MQTT-4.12.0-3].
    pub(super) fn receive_auth(
        &mut self,
        packet: &Auth<'_>,
        now: Duration,
    ) -> Result<(), SessionError> {
        let reason = packet.reason;
        self.trace(Direction::Received, || PacketSummary::Auth { reason });
        let authentication = self.authentication.as_mut();
        // [MQTT-4.12.0-6], [MQTT-4.12.0-5]
        let authentication = authentication.filter(|found| {
            packet.authentication_method == Some(found.method())
                && reason == ReasonCode::ContinueAuthentication
        });
        let Some(authentication) = authentication else {
            let what = "AUTH that continues no authentication";
            return Err(DecodeError::protocol(what, "MQTT-4.12.0-2").into());
        };
        let data = packet.authentication_data.unwrap_or_default();
        let answer = authentication.answer(data);
        let answer = answer.map_err(SessionError::Authentication)?;
        let auth = Auth {
            authentication_method: Some(authentication.method()),
            authentication_data: Some(&answer),
            ..Auth::new(reason)
        };
        auth.encode(&mut self.output);
        self.keep_alive.sent(now);
        self.trace(Direction::Sent, || PacketSummary::Auth { reason });
        Ok(())
    }

    /// Whether the server that has accepted us is the one that it should be.
    pub(super) fn check_server(&mut self, packet: &ConnAck<'_>) -> Result<(), SessionError> {
        let Some(authentication) = self
            .authentication
            .as_mut()
            .filter(|_| self.version.is_v5())
        else {
            return Ok(());
        };
        let data = packet.properties.authentication_data.unwrap_or_default();
        authentication
            .finish(data)
            .map_err(SessionError::Authentication)
    }
}
