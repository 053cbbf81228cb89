//! The exchange of enhanced authentication with the server.
//!
//! Tracks whose turn it is; the content is up to the method. MQTT 5.0 §4.12.

use std::time::Duration;

use martlet_codec::{Auth, ConnAck, DecodeError, ReasonCode};

use super::Session;
use super::event::{Direction, PacketSummary, SessionError};

impl Session {
    /// Processes an AUTH from the server before CONNACK [MQTT-4.12.0-2], [MQTT-4.12.0-3].
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

    /// Verifies the server that has accepted us.
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
