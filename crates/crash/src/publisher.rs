//! A publisher with a persistent session. It resends unacknowledged messages and records
//! acknowledged ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use martlet_client::{Acknowledgement, Client, ConnectOptions, Event, Message, RequestId, Session};
use martlet_codec::{ProtocolVersion, QoS};

use crate::Run;
use crate::ledger::{KINDS, Kind, Mark};

/// Publishes until the run has ended. Odd ones use MQTT 3.1.1, even ones 5.0.
pub(crate) async fn keep_publishing(run: Arc<Run>, number: u16) {
    let mut session = Session::new();
    session.set_send_maximum(run.window);
    let mut publisher = Publisher {
        client: Client::new(session),
        under_way: HashMap::new(),
        next_kind: 0,
        number,
        run,
    };
    let options = persistent(&format!("publisher-{number}"), number.is_multiple_of(2));
    let mut known = false;
    while !publisher.run.has_ended() {
        let endpoint = publisher.run.endpoint.clone();
        if publisher.client.connect(&endpoint, &options).await.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        while let Ok(event) = publisher.client.next_event().await {
            match event {
                Event::Connected(info) => {
                    if known && !info.session_present {
                        publisher.run.ledger.session_lost(&options.client_id);
                    }
                    known = true;
                    publisher.fill_window();
                }
                Event::Completed {
                    request,
                    acknowledgement,
                } => publisher.completed(request, &acknowledgement),
                _ => {}
            }
        }
    }
}

/// The CONNECT of a client whose session never expires.
pub(crate) fn persistent(client_id: &str, v5: bool) -> ConnectOptions {
    ConnectOptions {
        version: match v5 {
            true => ProtocolVersion::V5,
            false => ProtocolVersion::V311,
        },
        client_id: client_id.to_owned(),
        clean_start: false,
        session_expiry_secs: v5.then_some(u32::MAX),
        ..ConnectOptions::default()
    }
}

struct Publisher {
    client: Client,
    under_way: HashMap<RequestId, Mark>,
    next_kind: usize,
    number: u16,
    run: Arc<Run>,
}

impl Publisher {
    fn completed(&mut self, request: RequestId, acknowledgement: &Acknowledgement) {
        if let Acknowledgement::Published { reason, .. } = acknowledgement
            && let Some(mark) = self.under_way.remove(&request)
            && !reason.is_error()
        {
            self.run.ledger.acknowledged(mark);
        }
        self.fill_window();
    }

    fn fill_window(&mut self) {
        while self.under_way.len() < usize::from(self.run.window) && !self.run.is_finishing() {
            let kind = KINDS[self.next_kind];
            self.next_kind = (self.next_kind + 1) % KINDS.len();
            let mark = self.run.ledger.next(self.number, kind);
            let message = Message {
                topic: mark.topic(),
                payload: mark.number.to_string().into(),
                qos: match kind {
                    Kind::AtLeastOnce | Kind::Retained => QoS::AtLeastOnce,
                    Kind::ExactlyOnce | Kind::Shared => QoS::ExactlyOnce,
                },
                retain: kind == Kind::Retained,
                ..Message::default()
            };
            let now = self.client.now();
            match self.client.session().publish(message, now) {
                Ok(request) => {
                    self.under_way.insert(request, mark);
                }
                Err(error) => unreachable!("a message of our own is refused: {error}"),
            }
        }
    }
}
