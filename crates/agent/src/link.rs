//! The connection to the broker: connects, sends from the queue, and removes acknowledged messages.
//!
//! Responsible for order and rate. Messages are passed to the session in the order of the queue,
//! within the rate limit, and few enough at a time to limit their memory. The session respects the
//! server's Receive Maximum, and resends unacknowledged messages after a lost connection. MQTT 5.0
//! §4.3.2, §4.4, §4.9.

use std::collections::BTreeMap;
use std::time::Duration;

use martlet_certificates::handshake_failure;
use martlet_client::{
    Acknowledgement, Client, ConnectOptions, Endpoint, Event, Message, NetError, Password,
    RequestError, RequestId, Session,
};
use martlet_codec::{QoS, ReasonCode};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::log::{self, Level, Seldom};
use crate::message::{IN_FLIGHT_MAX, Queued};
use crate::pace::{Rate, pause};
use crate::queue::End;
use crate::shared::{Shared, random};

/// Most bytes of messages that wait for PUBACK. One message is always sent, however long it is.
const IN_FLIGHT_BYTES_MAX: u64 = 1 << 20;
/// Time limit for connecting, including TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Duration after which a connection counts as successful, so that the next reconnect delay is
/// short.
const GOOD_CONNECTION: Duration = Duration::from_secs(10);
/// How long a stopping agent waits for acknowledgements.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after the broker has reported that it cannot accept a message now.
const BUSY_DELAY: Duration = Duration::from_secs(5);

/// Without PUBACK from the broker, no message could ever be deleted.
const QOS_0_ONLY: &str = "the broker accepts only messages of QoS 0, but the agent deletes a \
                          message only when the broker has acknowledged it, which needs QoS 1: all \
                          messages stay in the queue; permit QoS 1 there (mqtt.max_qos of Martlet, \
                          max_qos of Mosquitto), or give another broker with --host";

/// A message that was passed to the session.
#[derive(Clone, Debug)]
struct SentMessage {
    id: u64,
    bytes: u64,
    topic: String,
}

/// The sending side of the agent.
pub(crate) struct Link<'a> {
    shared: &'a Shared,
    endpoint: &'a Endpoint,
    connect: ConnectOptions,
    client: Client,
    rate: Rate,
    in_flight: BTreeMap<RequestId, SentMessage>,
    in_flight_bytes: u64,
    /// While this time is in the future, nothing is sent.
    busy_until: Option<Instant>,
    failures: u32,
    refused: Seldom,
    busy: Seldom,
    /// See [`crate::run`].
    settled: fn(),
}

/// Why a connection ended.
enum Over {
    /// A line for the log, and whether the connection counts as successful.
    Lost(String, bool),
    /// The agent is stopping.
    Stopped,
}

impl<'a> Link<'a> {
    /// Creates a link without a connection.
    pub(crate) fn new(
        endpoint: &'a Endpoint,
        connect: ConnectOptions,
        per_second: u64,
        settled: fn(),
        shared: &'a Shared,
    ) -> Self {
        let mut session = Session::new();
        session.set_send_maximum(IN_FLIGHT_MAX as u16);
        Self {
            shared,
            endpoint,
            connect,
            client: Client::new(session),
            rate: Rate::new(per_second),
            in_flight: BTreeMap::new(),
            in_flight_bytes: 0,
            busy_until: None,
            failures: 0,
            refused: Seldom::default(),
            busy: Seldom::default(),
            settled,
        }
    }

    /// Connects repeatedly until the agent stops.
    pub(crate) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            match self.connect_and_send(&mut stopped).await {
                Over::Stopped => return self.disconnect().await,
                Over::Lost(why, was_good) => {
                    self.failures = match was_good {
                        true => 1,
                        false => self.failures.saturating_add(1),
                    };
                    // Without random numbers there is no jitter.
                    let delay = pause(self.failures, random().unwrap_or(999));
                    let place = self.place();
                    let text = format!(
                        "{place}: {why}; next attempt in {:.1} s",
                        delay.as_secs_f32()
                    );
                    log::line(Level::Warning, &text);
                    tokio::select! {
                        _ = stopped.wait_for(|is_stopped| *is_stopped) => return,
                        () = sleep(delay) => {}
                    }
                }
            }
        }
    }

    fn place(&self) -> String {
        match self.endpoint.host.contains(':') {
            true => format!("[{}]:{}", self.endpoint.host, self.endpoint.port),
            false => format!("{}:{}", self.endpoint.host, self.endpoint.port),
        }
    }

    async fn connect_and_send(&mut self, stopped: &mut watch::Receiver<bool>) -> Over {
        let connecting = timeout(
            CONNECT_TIMEOUT,
            self.client.connect(self.endpoint, &self.connect),
        );
        let connected = tokio::select! {
            _ = stopped.wait_for(|is_stopped| *is_stopped) => return Over::Stopped,
            connected = connecting => connected,
        };
        match connected {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Over::Lost(cannot_connect(&error), false),
            Err(_) => {
                self.client.close();
                return Over::Lost("cannot connect: no answer within 30 s".to_owned(), false);
            }
        }
        let began = Instant::now();
        loop {
            let wake_at = self.send();
            tokio::select! {
                biased;
                _ = stopped.wait_for(|is_stopped| *is_stopped) => return Over::Stopped,
                event = self.client.next_event() => match event {
                    Ok(event) => if let Some(why) = self.act_on(event) {
                        self.client.close();
                        return Over::Lost(why, began.elapsed() >= GOOD_CONNECTION);
                    },
                    Err(error) => {
                        let why = format!("the connection was lost: {}", words(&error));
                        return Over::Lost(why, began.elapsed() >= GOOD_CONNECTION);
                    }
                },
                () = self.shared.committed.notified() => {}
                () = until(wake_at) => {}
            }
        }
    }

    /// Handles an event. Returns a log line if the connection cannot be used.
    fn act_on(&mut self, event: Event) -> Option<String> {
        match event {
            Event::Connected(info) => {
                if info.maximum_qos == Some(QoS::AtMostOnce) {
                    return Some(QOS_0_ONLY.to_owned());
                }
                let text = format!(
                    "connected to {} as {}; {}",
                    self.place(),
                    self.connect.client_id,
                    self.shared.report()
                );
                log::line(Level::Info, &text);
                (self.settled)();
                None
            }
            Event::Refused {
                code,
                reason,
                reason_string,
            } => Some(self.refusal(code, reason, reason_string.as_deref())),
            Event::Disconnected {
                reason,
                reason_string,
                ..
            } => Some(self.disconnected(reason, reason_string.as_deref())),
            Event::Completed {
                request,
                acknowledgement:
                    Acknowledgement::Published {
                        reason,
                        reason_string,
                    },
            } => {
                self.completed(request, reason, reason_string.as_deref());
                None
            }
            _ => None,
        }
    }

    fn refusal(&self, code: u8, reason: ReasonCode, text: Option<&str>) -> String {
        let client_id = &self.connect.client_id;
        let advice = match (self.connect.version.is_v5(), code) {
            (true, 0x84) | (false, 1) => "try --protocol-version 311",
            (true, 0x86 | 0x87) | (false, 4 | 5) => {
                "check MQTT_USERNAME and MQTT_PASSWORD, and the broker's log"
            }
            (true, 0x85) | (false, 2) => "give another Client Identifier with --id",
            _ => "the broker's log shows why",
        };
        let why = reason.name();
        let text = self.quoted(text);
        format!("the broker refuses the connection of {client_id} ({why}{text}): {advice}")
    }

    fn disconnected(&self, reason: ReasonCode, text: Option<&str>) -> String {
        let text = self.quoted(text);
        match reason {
            ReasonCode::SessionTakenOver => format!(
                "another client has connected as {}: give each agent its own --id",
                self.connect.client_id
            ),
            _ => format!(
                "the broker has ended the connection ({}{text})",
                reason.name()
            ),
        }
    }

    /// Passes messages to the session, within the limits of rate and memory. Returns when to
    /// continue; `None`: when an acknowledgement or a message arrives.
    fn send(&mut self) -> Option<Instant> {
        while self.client.session().is_connected() {
            if let Some(until) = self.busy_until
                && Instant::now() < until
            {
                return Some(until);
            }
            let places = IN_FLIGHT_MAX - self.in_flight.len();
            let room = IN_FLIGHT_BYTES_MAX.saturating_sub(self.in_flight_bytes);
            if places == 0 || room == 0 {
                return None;
            }
            let now = self.client.now();
            let count = places.min(self.rate.available(now));
            if count == 0 {
                let delay = self.rate.next().saturating_sub(now);
                return Some(Instant::now() + delay.max(Duration::from_millis(1)));
            }
            let messages = self.shared.queue.borrow_mut().take(count, room);
            self.rate.sent(messages.len(), now);
            let is_all = messages.len() < count;
            self.publish(messages, now);
            if is_all {
                return None;
            }
        }
        None
    }

    fn publish(&mut self, messages: Vec<Queued>, now: Duration) {
        for message in messages {
            let (id, bytes) = (
                message.id,
                (message.topic.len() + message.payload.len()) as u64,
            );
            let topic = message.topic.clone();
            let result = self.client.session().publish(
                Message {
                    topic: message.topic,
                    payload: message.payload,
                    qos: QoS::AtLeastOnce,
                    duplicate: message.sent_before,
                    ..Message::default()
                },
                now,
            );
            match result {
                Ok(request) => {
                    self.in_flight
                        .insert(request, SentMessage { id, bytes, topic });
                    self.in_flight_bytes += bytes;
                }
                Err(RequestError::NotConnected | RequestError::TooManyInFlight) => {
                    self.shared.queue.borrow_mut().give_back(id);
                }
                Err(error) if is_of_message(error) => {
                    let text = format!(
                        "a message of {bytes} bytes to {topic:?} cannot be sent and is removed: \
                         {error}"
                    );
                    self.end(id, End::Refused, &text);
                }
                Err(error) => {
                    self.shared.queue.borrow_mut().give_back(id);
                    self.busy_until = Some(Instant::now() + BUSY_DELAY);
                    let place = self.place();
                    let text = format!(
                        "messages cannot be sent to {place} now: {error}; they stay in the queue \
                         and are sent again in 5 s"
                    );
                    self.busy.line(Level::Warning, &text);
                }
            }
        }
    }

    fn completed(&mut self, request: RequestId, reason: ReasonCode, text: Option<&str>) {
        let Some(SentMessage { id, bytes, topic }) = self.in_flight.remove(&request) else {
            return;
        };
        self.in_flight_bytes -= bytes;
        if !reason.is_error() {
            self.shared.queue.borrow_mut().end(id, End::Acknowledged);
            self.shared.ended.notify_one();
            return;
        }
        let why = format!("{}{}", reason.name(), self.quoted(text));
        match reason {
            // Another attempt would have the same result.
            ReasonCode::NotAuthorized
            | ReasonCode::TopicNameInvalid
            | ReasonCode::PacketTooLarge
            | ReasonCode::PayloadFormatInvalid => {
                let text =
                    format!("the broker refuses a message to {topic:?}, which is removed: {why}");
                self.end(id, End::Refused, &text);
            }
            _ => {
                self.shared.queue.borrow_mut().give_back(id);
                self.busy_until = Some(Instant::now() + BUSY_DELAY);
                let text = format!(
                    "the broker cannot accept a message to {topic:?} now ({why}); it is sent again \
                     in 5 s"
                );
                self.busy.line(Level::Warning, &text);
            }
        }
    }

    /// Text from the broker, prepared for the log. It may contain the password.
    fn quoted(&self, text: Option<&str>) -> String {
        let Some(text) = text else {
            return String::new();
        };
        let password = self.connect.password.as_ref();
        let password = password.and_then(|Password(bytes)| str::from_utf8(bytes).ok());
        match password.filter(|password| !password.is_empty()) {
            Some(password) => format!(": {:?}", text.replace(password, "***")),
            None => format!(": {text:?}"),
        }
    }

    fn end(&mut self, id: u64, how: End, text: &str) {
        self.refused.line(Level::Error, text);
        self.shared.queue.borrow_mut().end(id, how);
        self.shared.ended.notify_one();
    }

    /// Waits briefly for outstanding acknowledgements, then sends DISCONNECT.
    async fn disconnect(&mut self) {
        let rest = async {
            while !self.in_flight.is_empty() && self.client.session().is_connected() {
                match self.client.next_event().await {
                    Ok(event) => {
                        self.act_on(event);
                    }
                    Err(_) => return,
                }
            }
        };
        // Messages that are still unacknowledged are sent again after the next start.
        let _ = timeout(STOP_TIMEOUT, rest).await;
        if self.client.session().is_connected() {
            let none = Default::default();
            let session = self.client.session();
            session.disconnect(ReasonCode::Success, None, &none);
            let _ = timeout(STOP_TIMEOUT, self.client.finish()).await;
        }
    }
}

/// Whether the error is permanent for this message. Other errors come from the connection or the
/// broker, and the message may be sent on another connection.
fn is_of_message(error: RequestError) -> bool {
    match error {
        RequestError::InvalidTopic | RequestError::PacketTooLarge => true,
        RequestError::NotConnected
        | RequestError::QosNotSupported
        | RequestError::RetainNotSupported
        | RequestError::TopicAliasInvalid
        | RequestError::TooManyInFlight => false,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn cannot_connect(error: &NetError) -> String {
    format!("cannot connect: {}", words(error))
}

fn words(error: &NetError) -> String {
    match error {
        NetError::Tls(error) => handshake_failure(error),
        NetError::Io(error) => {
            let text = error.to_string();
            match text.find(" (os error") {
                Some(end) => text[..end].to_owned(),
                None => text,
            }
        }
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_with_a_message_itself_removes_it() {
        for of_message in [RequestError::InvalidTopic, RequestError::PacketTooLarge] {
            assert!(is_of_message(of_message), "{of_message}");
        }
        for of_broker in [
            RequestError::NotConnected,
            RequestError::QosNotSupported,
            RequestError::RetainNotSupported,
            RequestError::TopicAliasInvalid,
            RequestError::TooManyInFlight,
        ] {
            assert!(!is_of_message(of_broker), "{of_broker}");
        }
    }
}
