//! Events in files, for the configured time: events of clients, and packets and messages too if
//! configured. A crash may lose the events of its last second.
//!
//! * `files`: segments, one after the other; the oldest ones are deleted
//! * `read`: events of a time, page by page

mod files;
mod read;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::warn;

use crate::control::Control;
use crate::feed::{EventBatch, Filter, From};
use crate::wall_clock::now_ms;
use files::Writer;

pub use files::ArchiveSettings;
pub use read::{ArchiveError, ArchivePage, ArchivePosition, ArchiveQuery};

/// Directory of the archive in the data directory.
pub const DIRECTORY: &str = "events";
/// Time between two looks for segments that are too old, and two syncs.
const TICK: Duration = Duration::from_secs(1);
/// Time after which a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Name of the warning that events cannot be written.
const WARNING: &str = "event_archive";

/// The archive of a node.
#[derive(Debug)]
pub struct EventArchive {
    settings: ArchiveSettings,
    /// Events that were lost before they were written.
    lost: AtomicU64,
}

impl EventArchive {
    /// In the directory of these settings, which is made when it is needed.
    pub fn new(settings: ArchiveSettings) -> Self {
        Self {
            settings,
            lost: AtomicU64::new(0),
        }
    }

    /// Events that were lost before they were written, since the start.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Events that match, the oldest one first.
    ///
    /// # Errors
    /// The files cannot be read.
    pub async fn read(&self, query: ArchiveQuery) -> Result<ArchivePage, ArchiveError> {
        let directory = self.settings.directory.clone();
        let read = tokio::task::spawn_blocking(move || read::read(&directory, &query));
        let read = read.await;
        read.unwrap_or_else(|error| Err(ArchiveError(std::io::Error::other(error))))
    }

    fn note_lost(&self, events: u64) {
        let before = self.lost.fetch_add(events, Ordering::Relaxed);
        if before == 0 && events > 0 {
            warn!(events, "events were lost before they were archived");
        }
    }
}

/// Events of the files in a directory that match, the oldest one first: those of a node that does
/// not run, or of a copy. It blocks.
///
/// # Errors
/// The files cannot be read.
pub fn read_files(directory: &Path, query: &ArchiveQuery) -> Result<ArchivePage, ArchiveError> {
    read::read(directory, query)
}

/// Writes events to the archive, as long as the node runs.
pub async fn keep(control: Arc<Control>, archive: Arc<EventArchive>) {
    let filter = Filter {
        kinds: archive.settings.kinds,
        ..Filter::default()
    };
    let mut reader = match control.feed.read(filter, &From::Now) {
        Ok(reader) => reader,
        Err(error) => return warn!(%error, "cannot archive events"),
    };
    let mut writer = Writer::new(archive.settings.clone());
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let lines = tokio::select! {
            batch = reader.next() => {
                let Some(batch) = batch else { return };
                archive.note_lost(batch.missed);
                lines_of(&batch, control.feed.run())
            }
            _ = ticks.tick() => Vec::new(),
        };
        let is_tick = lines.is_empty();
        let written = tokio::task::spawn_blocking(move || {
            let done = match is_tick {
                true => writer.tick(now_ms()),
                false => writer.write(&lines, now_ms()),
            };
            (writer, done)
        });
        let Ok((back, done)) = written.await else {
            return warn!("events are no longer archived: writing them has panicked");
        };
        writer = back;
        match done {
            Ok(()) => control.health.withdraw(WARNING),
            Err(error) => {
                warn!(%error, "cannot archive events; retrying");
                let text = format!("Events cannot be archived, and some are lost: {error}.");
                control.health.warn_logged_as(WARNING, text);
                // By then the reader has the number of events that it has missed.
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Each event as a line: its tenant, time and kind, which are looked at first, and its JSON.
fn lines_of(batch: &EventBatch, run: &str) -> Vec<u8> {
    let mut lines = Vec::new();
    for entry in batch.entries() {
        // What was lost has no event.
        let Ok(shown) = entry.shown(run, 0) else {
            continue;
        };
        let head = format!("{} {} {} ", entry.tenant.0, entry.at_ms, entry.kind.name());
        let start = lines.len();
        lines.extend_from_slice(head.as_bytes());
        match serde_json::to_writer(&mut lines, &shown) {
            Ok(()) => lines.push(b'\n'),
            // Text and numbers alone: that cannot fail.
            Err(_) => lines.truncate(start),
        }
    }
    lines
}
