//! Status topics: retained, one for each state that a client may be in.

use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{Answer, Command, NewMessage, ShardId, TenantId, is_assigned_client_id};
use martlet_codec::{QoS, TopicName};
use tracing::warn;

use crate::control::{Control, ControlError};
use crate::presence::ClientPresence;

/// How long a batch of messages may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clients in one command.
const CLIENTS: usize = 128;
/// The publisher that events show.
const PUBLISHER: &str = "$presence";

/// Where it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceTopics(String);

impl PresenceTopics {
    /// Topics by a pattern with `{client_id}` and `{state}` in it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(pattern: &str) -> Result<Self, String> {
        for part in ["{client_id}", "{state}"] {
            if !pattern.contains(part) {
                return Err(format!("{pattern:?} lacks {part}"));
            }
        }
        let this = Self(pattern.to_owned());
        let is_topic = this.of("c", "online").is_some();
        let wrong = || format!("{pattern:?} does not become a topic");
        is_topic.then_some(this).ok_or_else(wrong)
    }

    /// None: this client's identifier cannot stand in a topic.
    pub(super) fn of(&self, client_id: &str, state: &str) -> Option<String> {
        // The identifier last, so that nothing in it is taken for the pattern.
        let topic = self.0.replace("{state}", state);
        let topic = topic.replace("{client_id}", client_id);
        let is_good = TopicName::new(&topic).is_ok() && !topic.starts_with('$');
        (is_good && !client_id.contains(['+', '#'])).then_some(topic)
    }

    /// Messages with the state of a client, and to clear the other state. None for clients with an
    /// assigned Client Identifier: it is used only once, and each would leave a retained message.
    pub(super) fn messages(&self, client: &ClientPresence) -> Option<[NewMessage; 2]> {
        if is_assigned_client_id(&client.client_id) {
            return None;
        }
        let states = match client.online {
            true => ["online", "offline"],
            false => ["offline", "online"],
        };
        let payload = serde_json::json!({
            "status": states[0],
            "since": client.since_ms,
            "reason": client.why,
        });
        let now = message(self.of(&client.client_id, states[0])?, payload.to_string());
        let over = message(self.of(&client.client_id, states[1])?, String::new());
        Some([over, now])
    }
}

fn message(topic: String, payload: String) -> NewMessage {
    NewMessage {
        topic: topic.into(),
        payload: payload.into_bytes().into(),
        qos: QoS::AtLeastOnce,
        retain: true,
        payload_is_utf8: None,
        message_expiry_secs: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
        hops: 0,
    }
}

/// Publishes the states of clients. Returns those for which it is unknown whether it succeeded.
pub(super) async fn publish(
    control: &Control,
    topics: &PresenceTopics,
    changed: &[ClientPresence],
) -> Vec<ClientPresence> {
    let mut unreported = Vec::new();
    let mut changed: Vec<&ClientPresence> = changed.iter().collect();
    changed.sort_by_key(|client| client.tenant);
    let of_tenants = changed.chunk_by(|one, other| one.tenant == other.tenant);
    for some in of_tenants.flat_map(|clients| clients.chunks(CLIENTS)) {
        let tenant = TenantId(some.first().map_or(0, |client| client.tenant));
        let messages = some.iter().filter_map(|client| topics.messages(client));
        let messages: Arc<[NewMessage]> = messages.flatten().collect();
        let command = |request| Command::Publish {
            request,
            tenant,
            publisher: PUBLISHER.into(),
            messages: Arc::clone(&messages),
        };
        let answer = control.ask_shard(ShardId(0), PATIENCE, command).await;
        if let Some(why) = why_again(answer) {
            warn!(why, "could not publish presence in time; retrying");
            unreported.extend(some.iter().map(|client| (*client).clone()));
        }
    }
    unreported
}

/// Why messages are to be published again; none if they are published, or never will be.
fn why_again(answer: Result<Answer, ControlError>) -> Option<String> {
    match answer {
        Ok(Answer::Publish(outcomes)) => {
            let refused = outcomes.iter().find(|outcome| outcome.comes_later());
            refused.map(|outcome| outcome.reason.name().to_owned())
        }
        Ok(Answer::Refused(reason)) => Some(reason.name().to_owned()),
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}
