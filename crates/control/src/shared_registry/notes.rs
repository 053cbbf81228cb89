//! Notes that are written in batches beside the changes: requests with their callers, and which
//! keys and credentials were used.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use martlet_registry::AuditLine;
use tokio::sync::oneshot;

use crate::wall_clock::now_signed_ms;

/// Notes that are yet to be written.
#[derive(Debug, Default)]
pub(super) struct Notes {
    queued: Mutex<Queued>,
    /// Held by writers of lines.
    pub(super) writing: tokio::sync::Mutex<()>,
    /// Held while uses are written: when it is free, all uses that were seen are in the tables.
    pub(super) writing_uses: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
pub(super) struct Queued {
    pub(super) lines: Vec<PendingAuditLine>,
    /// Bytes of these, approximately.
    pub(super) bytes: usize,
    /// Uses of API keys, by id: when the last was, and how many.
    pub(super) key_uses: HashMap<String, (i64, i64)>,
}

#[derive(Debug)]
pub(super) struct PendingAuditLine {
    pub(super) line: AuditLine,
    /// Where the caller waits until it is written.
    pub(super) written: Option<oneshot::Sender<Result<(), String>>>,
}

impl PendingAuditLine {
    /// Approximate number of bytes that it takes.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.line.text_bytes()
    }
}

impl Queued {
    pub(super) fn push(&mut self, line: PendingAuditLine) {
        self.bytes += line.bytes();
        self.lines.push(line);
    }

    pub(super) fn take(&mut self) -> Vec<PendingAuditLine> {
        self.bytes = 0;
        std::mem::take(&mut self.lines)
    }
}

impl Notes {
    /// Approximate number of bytes of the lines that wait.
    pub(super) fn memory_bytes(&self) -> usize {
        self.lock().bytes
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An API key was used.
    pub(super) fn use_key(&self, id: &str) {
        let mut queued = self.lock();
        let used = queued.key_uses.entry(id.to_owned()).or_default();
        *used = (now_signed_ms(), used.1 + 1);
    }
}
