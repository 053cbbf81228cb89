//! Writing what waits to be written beside the changes.

use std::sync::Arc;
use std::time::Duration;

use martlet_registry::{AuditLine, CredentialUse};
use tokio::sync::oneshot;

use super::notes::PendingAuditLine;
use super::{SharedRegistry, SharedRegistryError};

/// Time that notes wait before they are written.
const SOON: Duration = Duration::from_millis(500);
/// Lines that wait, and bytes of them, at most; above that a caller waits until they are written.
const LINES_MAX: usize = 10_000;
const LINES_BYTES_MAX: usize = 4 << 20;
/// Number of these intervals between two writes of uses.
const USES_EVERY: u32 = 120;
/// Uses that are written at once, at most, so that another change does not wait for long.
const USES_AT_ONCE: usize = 500;
/// Answers to requests that may be repeated, and keys of such requests, at most.
const ANSWERS_MAX: u32 = 20_000;
const ANSWER_KEYS_MAX: u32 = 200_000;

impl SharedRegistry {
    /// Writes a line of the audit log: at once, with those that have come together, or soon.
    ///
    /// # Errors
    /// It is not written.
    pub(super) async fn write_line(
        self: &Arc<Self>,
        line: AuditLine,
        is_soon: bool,
    ) -> Result<(), String> {
        let (sender, mut written) = oneshot::channel();
        {
            let mut queued = self.notes.lock();
            let is_full = queued.lines.len() >= LINES_MAX || queued.bytes >= LINES_BYTES_MAX;
            let waits = !is_soon || is_full;
            queued.push(PendingAuditLine {
                line,
                written: waits.then_some(sender),
            });
            if !waits {
                return Ok(());
            }
        }
        let writing = self.notes.writing.lock().await;
        // A writer may have written this line too in the meantime.
        if let Ok(written) = written.try_recv() {
            return written;
        }
        self.write_lines().await;
        drop(writing);
        let lost = || Err("it was broken off".to_owned());
        written.await.unwrap_or_else(|_| lost())
    }

    /// All lines that there are, in one transaction. If that fails, the waiting callers get the
    /// error, and the others are tried again.
    async fn write_lines(self: &Arc<Self>) {
        let queued = self.notes.lock().take();
        if queued.is_empty() {
            return;
        }
        let lines: Vec<AuditLine> = queued.iter().map(|queued| queued.line.clone()).collect();
        let done = self.note(move |registry| {
            Box::pin(async move { registry.write_audit_lines(&lines).await })
        });
        let done = done.await.map_err(|error| error.to_string());
        let mut again = Vec::new();
        for line in queued {
            match (line.written, &done) {
                // The receiver has given up.
                (Some(waiting), done) => drop(waiting.send(done.clone())),
                (None, Ok(())) => {}
                (None, Err(_)) => again.push(PendingAuditLine {
                    line: line.line,
                    written: None,
                }),
            }
        }
        if !again.is_empty() {
            let mut queued = self.notes.lock();
            again.extend(queued.take());
            again.into_iter().for_each(|line| queued.push(line));
        }
    }

    async fn write_soon(self: &Arc<Self>) {
        let _writing = self.notes.writing.lock().await;
        self.write_lines().await;
    }

    /// Writes which keys and credentials were used since it was written last.
    ///
    /// # Errors
    /// The tables cannot be written.
    pub async fn write_uses(self: &Arc<Self>) -> Result<(), SharedRegistryError> {
        let _writing = self.notes.writing_uses.lock().await;
        let key_uses = std::mem::take(&mut self.notes.lock().key_uses);
        let of = |(id, (at_ms, uses))| CredentialUse { id, at_ms, uses };
        let key_uses: Vec<CredentialUse> = key_uses.into_iter().map(of).collect();
        if !key_uses.is_empty() {
            let written = self.note(move |registry| {
                Box::pin(async move { registry.write_api_key_uses(&key_uses).await })
            });
            written.await?;
        }
        let uses = self.held().map(|held| held.take_uses());
        for some in uses.unwrap_or_default().chunks(USES_AT_ONCE) {
            let some = some.to_vec();
            let written = self.note(move |registry| {
                Box::pin(async move { registry.write_secret_uses(&some).await })
            });
            written.await?;
        }
        Ok(())
    }

    /// Writes for as long as the node runs what may be written soon.
    pub async fn keep_notes(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SOON);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for tick in 1_u32.. {
            ticks.tick().await;
            self.write_soon().await;
            if tick.is_multiple_of(USES_EVERY) && self.are_there() {
                // What is wrong is in health. A use that is not written is no great loss.
                let _ = self.write_uses().await;
                let tidied = self.note(|registry| {
                    Box::pin(registry.forget_answers(ANSWERS_MAX, ANSWER_KEYS_MAX))
                });
                let _ = tidied.await;
            }
        }
    }

    /// Writes what is left, when the node stops.
    pub(super) async fn write_notes(self: &Arc<Self>) {
        self.write_soon().await;
        if self.are_there() {
            let _ = self.write_uses().await;
        }
    }
}
