//! Keep Alive: when to send PINGREQ, and when the server counts as lost.
//!
//! Computes these times, in the caller's time. It sends nothing. MQTT 5.0 §3.1.2.10.

use std::time::Duration;

use super::event::SessionError;

/// How long the server may take to answer CONNECT.
const CONNACK_TIMEOUT: Duration = Duration::from_secs(30);

/// The Keep Alive of one connection.
#[derive(Debug, Default)]
pub(super) struct KeepAlive {
    /// Zero means none.
    interval: Duration,
    began: Duration,
    last_sent: Duration,
    /// When a PINGREQ was sent, if no packet has been received since.
    ping_sent: Option<Duration>,
}

impl KeepAlive {
    /// Begins a connection.
    pub(super) fn begin(&mut self, secs: u16, now: Duration) {
        let interval = Duration::from_secs(secs.into());
        *self = Self {
            interval,
            began: now,
            last_sent: now,
            ping_sent: None,
        };
    }

    /// Sets the interval that the server requires [MQTT-3.1.2-21].
    pub(super) fn set_interval(&mut self, secs: u16) {
        self.interval = Duration::from_secs(secs.into());
    }

    /// The interval in seconds.
    pub(super) fn secs(&self) -> u16 {
        u16::try_from(self.interval.as_secs()).unwrap_or(u16::MAX)
    }

    /// Notes that a packet was sent.
    pub(super) fn sent(&mut self, now: Duration) {
        self.last_sent = now;
    }

    /// Notes that a packet was received; any packet shows that the server is alive.
    pub(super) fn received(&mut self) {
        self.ping_sent = None;
    }

    /// Deadline of CONNACK.
    pub(super) fn connack_deadline(&self) -> Duration {
        self.began + CONNACK_TIMEOUT
    }

    /// Returns an error if CONNACK is overdue.
    pub(super) fn check_connack(&self, now: Duration) -> Result<(), SessionError> {
        if now >= self.connack_deadline() {
            Err(SessionError::ConnAckTimeout)
        } else {
            Ok(())
        }
    }

    /// When to call `check`.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        let since = self.ping_sent.unwrap_or(self.last_sent);
        (!self.interval.is_zero()).then(|| since + self.interval)
    }

    /// Whether PINGREQ must be sent now [MQTT-3.1.2-20].
    pub(super) fn check(&mut self, now: Duration) -> Result<bool, SessionError> {
        let due = self.wake_at().is_some_and(|at| now >= at);
        match self.ping_sent {
            Some(_) if due => Err(SessionError::KeepAliveTimeout),
            None if due => {
                self.ping_sent = Some(now);
                self.last_sent = now;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
