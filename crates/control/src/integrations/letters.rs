//! The dead-letter store in the tables.

use std::sync::Arc;

use martlet_codec::QoS;
use martlet_integrate::{
    DeadLetter, DeadLetterHead, DeadLetterStore, HostFuture, Publisher, StoredLetter,
};
use martlet_registry::{DeadLetterRow, DeadLettersKept, StoredDeadLetter};
use serde_json::{Value, json};

use crate::shared_registry::SharedRegistry;

/// Letters of a page, at most.
const PAGE_MAX: usize = 1_000;

/// Letters that are looked through for those of one client or device.
const LOOKED_THROUGH: u32 = 10_000;

/// A page of the list of dead letters, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterPage {
    /// The letters.
    pub items: Vec<DeadLetterHead>,
    /// Cursor of the next page; none: this is the last.
    pub next: Option<u64>,
}

/// The dead letters of a node.
#[derive(Debug)]
pub(super) struct Letters {
    tables: Arc<SharedRegistry>,
    node: String,
    kept: DeadLettersKept,
}

impl Letters {
    pub(super) fn new(tables: Arc<SharedRegistry>, node: &str, kept: DeadLettersKept) -> Self {
        Self {
            tables,
            node: node.to_owned(),
            kept,
        }
    }

    /// A page of letters of an integration (kind and name) after a cursor, `limit` (1 to 1,000) at
    /// most.
    pub(super) async fn list(
        &self,
        kind: &str,
        name: &str,
        after: Option<u64>,
        limit: usize,
    ) -> Result<LetterPage, String> {
        let limit = limit.clamp(1, PAGE_MAX);
        let (node, kind, name) = (self.node.clone(), kind.to_owned(), name.to_owned());
        let after = after.unwrap_or(0);
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                // One more, to know whether there is another page.
                let count = u32::try_from(limit + 1).unwrap_or(u32::MAX);
                let of = Some((&*kind, &*name));
                registry.dead_letters(&node, of, after, count).await
            })
        });
        let mut rows = read.await.map_err(|error| error.caller_text())?;
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        Ok(LetterPage {
            next: rows.last().filter(|_| has_more).map(|last| last.id),
            items: rows.into_iter().map(|row| letter_of(row).head).collect(),
        })
    }

    /// The letters of an integration (kind and name) of this tenant that `is_wanted` takes, by
    /// their publisher and topic, among the first ones.
    pub(super) async fn find(
        &self,
        kind: &str,
        name: &str,
        tenant: u32,
        is_wanted: impl Fn(Option<&str>, &str) -> bool,
    ) -> Result<Vec<DeadLetterHead>, String> {
        let (node, kind, name) = (self.node.clone(), kind.to_owned(), name.to_owned());
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                let of = Some((&*kind, &*name));
                registry.dead_letters(&node, of, 0, LOOKED_THROUGH).await
            })
        });
        let rows = read.await.map_err(|error| error.caller_text())?;
        let letters = rows.into_iter().map(letter_of).filter(|letter| {
            let by = letter.publisher.client_id.as_deref();
            letter.head.tenant == tenant && is_wanted(by, &letter.head.topic)
        });
        Ok(letters.map(|letter| letter.head).collect())
    }

    /// Notes that letters are to be sent again, or not. Returns the numbers of those for which it
    /// was otherwise.
    pub(super) async fn mark(&self, ids: Vec<u64>, sends_again: bool) -> Result<Vec<u64>, String> {
        let node = self.node.clone();
        let marked = self.tables.note(move |registry| {
            Box::pin(async move { registry.mark_dead_letters(&node, &ids, sends_again).await })
        });
        marked.await.map_err(|error| error.caller_text())
    }

    /// Numbers of the letters of an integration that are to be sent again.
    pub(super) async fn to_send(&self, kind: &str, name: &str) -> Result<Vec<u64>, String> {
        let (node, kind, name) = (self.node.clone(), kind.to_owned(), name.to_owned());
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.dead_letters_to_send(&node, &kind, &name).await })
        });
        read.await.map_err(|error| error.caller_text())
    }
}

impl DeadLetterStore for Letters {
    fn put(&self, letters: Vec<DeadLetter>) -> HostFuture<'_, Result<u64, String>> {
        Box::pin(async move {
            let rows: Vec<DeadLetterRow> = letters.into_iter().map(row_of).collect();
            let (node, kept) = (self.node.clone(), self.kept);
            let put = self.tables.note(move |registry| {
                Box::pin(async move { registry.put_dead_letters(&node, &rows, kept).await })
            });
            put.await.map_err(|error| error.caller_text())
        })
    }

    fn get(&self, id: u64) -> HostFuture<'_, Result<Option<StoredLetter>, String>> {
        Box::pin(async move {
            let node = self.node.clone();
            let read = self.tables.read(move |registry| {
                Box::pin(async move { registry.dead_letter(&node, id).await })
            });
            let found = read.await.map_err(|error| error.caller_text())?;
            Ok(found.map(|stored| match stored {
                StoredDeadLetter::Whole(row) => StoredLetter::Whole(Box::new(letter_of(row))),
                StoredDeadLetter::Damaged(what) => {
                    StoredLetter::Damaged(format!("damaged: {what}"))
                }
            }))
        })
    }

    fn note_damaged(&self, id: u64, why: String) -> HostFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let node = self.node.clone();
            let noted = self.tables.note(move |registry| {
                Box::pin(async move { registry.note_damaged_letter(&node, id, &why).await })
            });
            noted.await.map_err(|error| error.caller_text())
        })
    }

    fn remove(&self, ids: Vec<u64>) -> HostFuture<'_, Result<u64, String>> {
        Box::pin(async move {
            let node = self.node.clone();
            let removed = self.tables.note(move |registry| {
                Box::pin(async move { registry.remove_dead_letters(&node, &ids).await })
            });
            removed.await.map_err(|error| error.caller_text())
        })
    }
}

fn row_of(letter: DeadLetter) -> DeadLetterRow {
    let DeadLetter {
        head,
        publisher,
        properties,
        payload,
    } = letter;
    let publisher = json!({
        "client_id": publisher.client_id,
        "user": publisher.user,
        "device": publisher.device,
    });
    DeadLetterRow {
        id: head.id,
        kind: head.kind,
        name: head.name,
        tenant: head.tenant,
        message_id: head.message_id,
        topic: head.topic,
        payload_bytes: head.payload_bytes,
        qos: head.qos.bits(),
        retain: head.retain,
        retained: head.retained,
        received_ms: head.received_ms,
        refused_ms: head.refused_ms,
        reason: head.reason,
        refusals: head.refusals,
        publisher: publisher.to_string(),
        properties,
        payload,
    }
}

fn letter_of(row: DeadLetterRow) -> DeadLetter {
    let names: Value = serde_json::from_str(&row.publisher).unwrap_or_default();
    let name = |key: &str| names[key].as_str().map(str::to_owned);
    DeadLetter {
        head: DeadLetterHead {
            id: row.id,
            kind: row.kind,
            name: row.name,
            tenant: row.tenant,
            message_id: row.message_id,
            topic: row.topic,
            payload_bytes: row.payload_bytes,
            qos: QoS::from_bits(row.qos).unwrap_or_default(),
            retain: row.retain,
            retained: row.retained,
            received_ms: row.received_ms,
            refused_ms: row.refused_ms,
            reason: row.reason,
            refusals: row.refusals,
        },
        publisher: Publisher {
            client_id: name("client_id"),
            user: name("user"),
            device: name("device"),
        },
        properties: row.properties,
        payload: row.payload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_comes_back_from_its_row_as_it_was() {
        let letter = DeadLetter {
            head: DeadLetterHead {
                id: 3,
                kind: "file".to_owned(),
                name: "audit".to_owned(),
                tenant: 2,
                message_id: u64::MAX,
                topic: "a/b".to_owned(),
                payload_bytes: 2,
                qos: QoS::ExactlyOnce,
                retain: true,
                retained: false,
                received_ms: 5,
                refused_ms: 6,
                reason: "too large".to_owned(),
                refusals: 7,
            },
            publisher: Publisher {
                client_id: Some("pump \"1\"".to_owned()),
                user: None,
                device: None,
            },
            properties: vec![1],
            payload: vec![0, 255],
        };
        assert_eq!(letter_of(row_of(letter.clone())), letter);
    }
}
