//! Describes damage of a store for operators: which client's message, and which topic, as far as
//! they are known.
//!
//! The remains of a damaged message are not verified: they are shown as a guess, and never
//! delivered.

use std::collections::BTreeMap;

use martlet_broker::{MessageId, SessionEpoch};
use martlet_store::{BodyId, Damage, Disk, Engine, Holds, Lost, QueueId, StateKey};

use crate::body::decode_body;
use crate::state::{decode_group, decode_session, kind};

/// Longest list of clients that is shown completely.
const NAMED_MAX: usize = 10;

/// Describes damage found in one store.
#[derive(Debug, Default)]
pub struct DamageWords {
    /// Sessions and share groups by epoch; read on first use.
    names: Option<BTreeMap<u64, String>>,
}

impl DamageWords {
    /// The damage and what it costs, on one line. `engine` is the store with the damage.
    pub fn describe<D: Disk>(&mut self, engine: &Engine<D>, damage: &Damage) -> String {
        let place = damage.place();
        match &damage.lost {
            Lost::Body {
                id,
                queues,
                remains,
            } => {
                let message = message(*id, engine.holds(*id), remains);
                let waiting = self.waiting(engine, queues);
                format!("{place}{message} is lost{waiting}")
            }
            Lost::State(key) => format!("{place}{} is lost", self.state(engine, *key)),
            Lost::Segment { bodies, states } => {
                format!("{place}{bodies} messages and {states} sessions and subscriptions are lost")
            }
            Lost::Records { count: 1, first } => format!(
                "{place}record {first} is lost: a message, an acknowledgement, or a change of a session"
            ),
            Lost::Records { count, first } => format!(
                "{place}{count} records from {first} on are lost: messages, acknowledgements, or \
                 changes of sessions"
            ),
            Lost::CheckpointBlock => format!(
                "{place}a block of the checkpoint is lost: as much of it as possible is read from the log; \
                 messages may be repeated, and sessions that had ended, and subscriptions and \
                 retained messages that had been removed, may exist again"
            ),
            Lost::WithoutCheckpoint { first, count } => format!(
                "{place}there is no checkpoint to say what {count} records from {first} on \
                 brought: it is sought in what is left of the log; messages may come again, what \
                 ended or was cleared may be there again, and some messages and receipts of QoS 2 \
                 may be lost"
            ),
            Lost::Rest { first } => format!(
                "{place}what was recorded from record {first} on is lost: messages, \
                 acknowledgements, or changes of sessions"
            ),
            _ => damage.to_string(),
        }
    }

    fn waiting<D: Disk>(&mut self, engine: &Engine<D>, queues: &[QueueId]) -> String {
        let mut text = String::new();
        for (index, queue) in queues.iter().take(NAMED_MAX).enumerate() {
            text.push_str(if index == 0 { "; it waited for " } else { ", " });
            text.push_str(&self.name(engine, queue.0));
        }
        if queues.len() > NAMED_MAX {
            text.push_str(&format!(" and {} others", queues.len() - NAMED_MAX));
        }
        text
    }

    fn state<D: Disk>(&mut self, engine: &Engine<D>, key: StateKey) -> String {
        let mut owner = || self.name(engine, key.owner);
        match key.kind {
            kind::START => "the number of runs".to_owned(),
            kind::SESSION => format!("session {:#x}, of a client that is not known,", key.owner),
            kind::GROUP => format!("share group {:#x}", key.owner),
            kind::WILL => format!("the Will of {}", owner()),
            kind::SUBSCRIPTION => format!("subscription {} of {}", key.number, owner()),
            kind::RETAINED_OWED => format!(
                "what subscription {} of {} is owed of retained messages",
                key.number,
                owner()
            ),
            _ => format!("state {} of kind {} of {}", key.number, key.kind, owner()),
        }
    }

    fn name<D: Disk>(&mut self, engine: &Engine<D>, owner: u64) -> String {
        let names = self.names.get_or_insert_with(|| names(engine));
        let name = names.get(&owner).cloned();
        name.unwrap_or_else(|| format!("session {owner:#x}"))
    }
}

fn names<D: Disk>(engine: &Engine<D>) -> BTreeMap<u64, String> {
    let mut names = BTreeMap::new();
    let is_wanted = |key: StateKey| matches!(key.kind, kind::SESSION | kind::GROUP);
    engine.states_of(is_wanted, |key, _, bytes| {
        let Ok(bytes) = bytes else { return };
        let epoch = SessionEpoch(key.owner);
        let name = match key.kind {
            kind::GROUP => {
                decode_group(bytes).map(|group| format!("share group {:?}", group.filter))
            }
            _ => decode_session(epoch, bytes)
                .map(|session| format!("client {:?}", session.client_id)),
        };
        if let Ok(name) = name {
            names.insert(key.owner, name);
        }
    });
    names
}

/// A message, with its remains as a guess.
fn message(id: BodyId, holds: Holds, remains: &[u8]) -> String {
    let kind = match holds.contains(Holds::RETAINED) {
        true => "retained message",
        false => "message",
    };
    let mut text = format!("{kind} {:#x}", id.0);
    let Ok(body) = decode_body(MessageId(id.0), remains) else {
        return text;
    };
    text.push_str(&format!(
        " (perhaps of topic {:?}",
        body.message.contents.topic()
    ));
    if let Some(publisher) = body.publisher {
        text.push_str(&format!(" from client {:?}", publisher.client_id));
    }
    text.push(')');
    text
}
