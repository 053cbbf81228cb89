//! What has changed is written to the store and published, in batches, beside everything else.

use std::sync::Arc;
use std::time::Duration;

use martlet_broker::{Command, NewMessage, ShardId, TenantId};
use martlet_codec::{QoS, TopicName};
use tracing::{debug, warn};

use crate::control::Control;
use crate::presence::{Alive, ClientPresence, PresenceStore};

/// So often what has changed is looked at, and in every so many of these it is written.
const TICK: Duration = Duration::from_millis(200);
const TICKS_TO_WRITE: u32 = 5;
/// In every so many the node is noted to be alive.
const TICKS_ALIVE: u32 = 50;
/// How long a batch of messages may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages in one command.
const MESSAGES: usize = 256;
/// As events show who publishes.
const PUBLISHER: &str = "$presence";

/// Where it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceTopics(String);

impl PresenceTopics {
    /// By a pattern with `{client_id}` and `{state}` in it.
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

    /// The state of a client, and that the other one is over.
    fn messages(&self, client: &ClientPresence) -> Option<[NewMessage; 2]> {
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
    }
}

/// Carries presence to the store and to its topics for as long as the node runs.
pub async fn keep(
    control: Arc<Control>,
    store: Arc<dyn PresenceStore>,
    topics: Option<PresenceTopics>,
    alive: Arc<Alive>,
) {
    let presence = &control.presence;
    presence.keep_changes();
    if let Some((since_ms, why)) = alive.before() {
        match store.all_offline(since_ms, why).await {
            Ok(ended) => presence.restore(&ended),
            Err(error) => warn!(error, "who was connected before the start is not known"),
        }
    }
    let mut unwritten: Vec<ClientPresence> = Vec::new();
    let mut ticks = tokio::time::interval(TICK);
    for tick in 0_u32.. {
        ticks.tick().await;
        if tick % TICKS_ALIVE == 0 {
            let alive = Arc::clone(&alive);
            let noted = move || alive.note(crate::feed::now_ms(), false);
            match tokio::task::spawn_blocking(noted).await {
                Ok(Err(error)) => warn!(%error, "that the node is alive could not be written"),
                _ => debug!("alive"),
            }
        }
        let changed = presence.take_changes();
        if let Some(topics) = &topics {
            publish(&control, topics, &changed).await;
        }
        unwritten.extend(changed);
        if tick % TICKS_TO_WRITE == 0 && !unwritten.is_empty() {
            match store.write(&unwritten).await {
                Ok(()) => unwritten.clear(),
                Err(error) => {
                    warn!(
                        error,
                        "who is connected could not be written; it is tried again"
                    );
                    only_last(&mut unwritten);
                }
            }
        }
    }
}

/// Of each client what was said last.
fn only_last(clients: &mut Vec<ClientPresence>) {
    let mut seen = std::collections::HashSet::new();
    clients.reverse();
    clients.retain(|client| seen.insert(client.client_id.clone()));
    clients.reverse();
}

async fn publish(control: &Control, topics: &PresenceTopics, changed: &[ClientPresence]) {
    let messages = changed.iter().filter_map(|client| topics.messages(client));
    let messages: Vec<NewMessage> = messages.flatten().collect();
    for some in messages.chunks(MESSAGES) {
        let messages: Arc<[NewMessage]> = some.into();
        let command = |request| Command::Publish {
            request,
            tenant: TenantId(0),
            publisher: PUBLISHER.into(),
            messages: Arc::clone(&messages),
        };
        if let Err(error) = control.ask_shard(ShardId(0), PATIENCE, command).await {
            warn!(%error, "presence was not published in time");
        }
    }
}
