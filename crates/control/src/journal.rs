//! What happened of late to clients, kept in memory for whoever asks, each with the way to mend it
//! where there is one.
//!
//! Bounded by number: who asks too late is told how much is gone. The data plane never waits for
//! it.

mod mend;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use martlet_broker::Event;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Entries that are kept.
const KEPT: usize = 10_000;

/// Longest text of a client in an entry, in bytes: identifiers and topics may have 64 KiB.
const TEXT_MAX: usize = 512;

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, from 1 at the start of the node.
    pub seq: u64,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// `connected`, `connect refused`, `re-authentication refused`, `disconnected`,
    /// `publish refused`, `subscribe refused`,
    /// `message dropped` or `queue full`.
    pub what: String,
    /// Client Identifier, as far as known.
    pub client_id: String,
    /// User Name, as far as known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_name: Option<String>,
    /// Where from; none on a Unix socket, or where it is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
    /// Topic Name or Topic Filter.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub topic: Option<String>,
    /// Name of the reason code.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What decided it: a rule, a limit, a statement of the specification.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mend: Option<String>,
}

impl Entry {
    /// Something was refused or lost.
    pub fn is_trouble(&self) -> bool {
        !matches!(&*self.what, "connected" | "disconnected")
    }
}

/// Entries behind a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// In order.
    pub events: Vec<Entry>,
    /// To be asked for next.
    pub next: u64,
    /// Entries that were asked for and are not kept any more.
    pub gone: u64,
}

/// The entries.
#[derive(Debug)]
pub struct Journal {
    kept: Mutex<Kept>,
    /// The number of the last entry.
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Entry>,
    last: u64,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            last: watch::Sender::new(0),
        }
    }
}

impl Journal {
    /// Writes one event down.
    pub fn write(&self, event: &Event) {
        let mut entry = entry_of(event);
        entry.mend = mend::way(event);
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        entry.at_ms = since.unwrap_or_default().as_millis() as u64;
        let mut kept = self.lock();
        kept.last += 1;
        entry.seq = kept.last;
        if kept.entries.len() >= KEPT {
            kept.entries.pop_front();
        }
        kept.entries.push_back(entry);
        let last = kept.last;
        drop(kept);
        self.last.send_replace(last);
    }

    /// Entries from number `from` on, `limit` at most, of those that `is_wanted`.
    pub fn page(&self, from: u64, limit: usize, is_wanted: impl Fn(&Entry) -> bool) -> Page {
        let kept = self.lock();
        let first = kept
            .entries
            .front()
            .map_or(kept.last + 1, |entry| entry.seq);
        let from = from.max(1);
        let skipped = from.saturating_sub(first) as usize;
        let mut page = Page {
            next: kept.last + 1,
            gone: first.saturating_sub(from),
            ..Page::default()
        };
        for entry in kept.entries.iter().skip(skipped) {
            if page.events.len() == limit {
                page.next = entry.seq;
                break;
            }
            if is_wanted(entry) {
                page.events.push(entry.clone());
            }
        }
        page
    }

    /// The number of the first of the last `count` entries that are wanted.
    pub fn tail(&self, count: usize, is_wanted: impl Fn(&Entry) -> bool) -> u64 {
        let kept = self.lock();
        let mut wanted = kept.entries.iter().rev().filter(|entry| is_wanted(entry));
        let first = match count {
            0 => None,
            count => wanted.by_ref().take(count).last(),
        };
        first.map_or(kept.last + 1, |entry| entry.seq)
    }

    /// Waits until there is an entry with this number, or the time is over.
    pub async fn wait(&self, from: u64, timeout: Duration) {
        let mut last = self.last.subscribe();
        let arrived = last.wait_for(|last| *last >= from);
        // Late is no error.
        let _ = tokio::time::timeout(timeout, arrived).await;
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry_of(event: &Event) -> Entry {
    let entry = |what: &str, client_id: &str| Entry {
        what: what.to_owned(),
        client_id: short(client_id),
        ..Entry::default()
    };
    match event {
        Event::Connected {
            client_id, address, ..
        } => Entry {
            address: address_text(*address),
            ..entry("connected", client_id)
        },
        Event::Refused {
            client_id,
            user_name,
            address,
            reason,
            why,
        } => Entry {
            user_name: user_name.as_deref().map(short),
            address: address_text(*address),
            reason: Some(reason.name().to_owned()),
            why: Some(short(why)),
            ..entry("connect refused", client_id)
        },
        Event::ReauthenticationRefused {
            client_id,
            reason,
            why,
        } => Entry {
            reason: Some(reason.name().to_owned()),
            why: Some(short(why)),
            ..entry("re-authentication refused", client_id)
        },
        Event::Disconnected {
            client_id,
            reason,
            why,
        } => Entry {
            reason: Some(reason.name().to_owned()),
            why: Some(short(why)),
            ..entry("disconnected", client_id)
        },
        Event::Dropped {
            client_id,
            topic,
            reason,
            ..
        } => Entry {
            topic: Some(short(topic)),
            reason: Some(reason.name().to_owned()),
            why: Some(reason.meaning().to_owned()),
            ..entry("message dropped", client_id)
        },
        Event::QueueFull {
            owner, messages, ..
        } => Entry {
            why: Some(format!("{messages} messages wait in its queue")),
            ..entry("queue full", owner)
        },
        Event::PublishRefused {
            client_id,
            address,
            topic,
            reason,
            why,
        } => Entry {
            address: address_text(*address),
            topic: Some(short(topic)),
            reason: Some(reason.name().to_owned()),
            why: Some(short(why)),
            ..entry("publish refused", client_id)
        },
        Event::SubscribeRefused {
            client_id,
            address,
            filter,
            reason,
            why,
        } => Entry {
            address: address_text(*address),
            topic: Some(short(filter)),
            reason: Some(reason.name().to_owned()),
            why: Some(short(why)),
            ..entry("subscribe refused", client_id)
        },
    }
}

/// The beginning of a text that may be long.
fn short(text: &str) -> String {
    match text.len() <= TEXT_MAX {
        true => text.to_owned(),
        false => format!("{}…", &text[..text.floor_char_boundary(TEXT_MAX)]),
    }
}

fn address_text(address: Option<(IpAddr, u16)>) -> Option<String> {
    address.map(|(ip, port)| SocketAddr::new(ip, port).to_string())
}

#[cfg(test)]
mod tests {
    use martlet_codec::ReasonCode;

    use super::*;

    fn disconnected(client_id: &str) -> Event {
        Event::Disconnected {
            client_id: client_id.to_owned(),
            reason: ReasonCode::Success,
            why: "the client said goodbye".into(),
        }
    }

    fn clients(page: &Page) -> Vec<&str> {
        let events = page.events.iter();
        events.map(|entry| &*entry.client_id).collect()
    }

    #[test]
    fn pages_follow_each_other_and_tell_what_is_gone() {
        let journal = Journal::default();
        let all = |_: &Entry| true;
        assert_eq!(journal.page(0, 10, all).next, 1);
        (0..KEPT + 5).for_each(|number| journal.write(&disconnected(&number.to_string())));
        let page = journal.page(1, 2, all);
        assert_eq!((clients(&page), page.gone), (vec!["5", "6"], 5));
        let page = journal.page(page.next, 1, all);
        assert_eq!((clients(&page), page.gone, page.next), (vec!["7"], 0, 9));
        let tail = journal.tail(2, all);
        let page = journal.page(tail, 100, all);
        assert_eq!(clients(&page), ["10003", "10004"]);
        assert!(journal.page(page.next, 100, all).events.is_empty());
        assert_eq!(journal.tail(0, all), page.next);
        let of_client = |entry: &Entry| entry.client_id == "77";
        assert_eq!(
            clients(&journal.page(journal.tail(9, of_client), 9, of_client)),
            ["77"]
        );
    }

    #[test]
    fn long_texts_are_cut() {
        let journal = Journal::default();
        journal.write(&disconnected(&"é".repeat(40_000)));
        let page = journal.page(0, 1, |_| true);
        let text = &page.events[0].client_id;
        assert!(
            text.len() <= TEXT_MAX + 4 && text.ends_with('…'),
            "{}",
            text.len()
        );
    }

    #[tokio::test]
    async fn who_waits_is_told_of_the_next_entry() {
        let journal = std::sync::Arc::new(Journal::default());
        let waiting = {
            let journal = std::sync::Arc::clone(&journal);
            tokio::spawn(async move { journal.wait(1, Duration::from_secs(60)).await })
        };
        tokio::task::yield_now().await;
        journal.write(&disconnected("c"));
        waiting.await.expect("it ends");
    }
}
