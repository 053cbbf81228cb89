//! Rows as CSV, lines of JSON and line protocol, as they are read: however many there are, no more
//! than a page of them is in memory.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, StreamExt as _};
use martlet_control::csv::BYTE_ORDER_MARK;
use martlet_control::telemetry::{Order, QueryMemory, Range, RowFormat, Storage, StorageError};

use super::view::id_of;
use crate::problem::Problem;
use crate::registry::word_of_query;

/// Rows of a page.
const PAGE: usize = 5_000;

/// Longest time for which a page waits for memory, and the pause between its attempts.
const MEMORY_WITHIN: Duration = Duration::from_secs(30);
const MEMORY_AGAIN: Duration = Duration::from_millis(50);

/// The format of an answer by its word; none: it is JSON.
///
/// # Errors
/// It is no format.
pub(super) fn format_of(word: Option<&str>) -> Result<Option<RowFormat>, Problem> {
    let read = |word: &str| match word {
        "json" => Some(None),
        "csv" => Some(Some(RowFormat::Csv)),
        "ndjson" => Some(Some(RowFormat::Ndjson)),
        "line" => Some(Some(RowFormat::LineProtocol)),
        _ => None,
    };
    let known = &["json", "csv", "ndjson", "line"];
    word_of_query("format", word.unwrap_or("json"), read, known)
}

struct ExportState {
    storage: Storage,
    memory: Arc<dyn QueryMemory>,
    range: Range,
    ids: HashMap<i64, String>,
    format: RowFormat,
    has_bom: bool,
    is_first: bool,
    has_more: bool,
}

impl ExportState {
    /// The next page as text. The memory for results may be taken by other queries of the caller:
    /// the page waits for it.
    async fn page(&mut self) -> Result<Bytes, StorageError> {
        let begin = Instant::now();
        let of_query = loop {
            let memory = Arc::clone(&self.memory);
            match self.storage.range_within(&self.range, memory).await {
                Err(StorageError::Memory) if begin.elapsed() < MEMORY_WITHIN => {
                    tokio::time::sleep(MEMORY_AGAIN).await;
                }
                found => break found?,
            }
        };
        let found = of_query.rows;
        let mut text = String::new();
        if std::mem::take(&mut self.is_first) {
            if self.has_bom && self.format == RowFormat::Csv {
                text.push(BYTE_ORDER_MARK);
            }
            text.push_str(&self.format.head());
        }
        self.has_more = found.next.is_some();
        self.range.after = found.next;
        for row in found.rows {
            let device = id_of(row.device, &self.ids);
            self.format.write(&mut text, &device, &row);
        }
        Ok(text.into())
    }

    /// A page behind the first one.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if !self.has_more {
            return None;
        }
        let page = self.page().await;
        Some(page.map_err(|error| {
            // The answer has begun: it is cut off, so that no client takes it for complete.
            self.has_more = false;
            tracing::warn!(%error, "an export of telemetry is broken off");
            io::Error::other("telemetry cannot be read")
        }))
    }
}

/// All rows of a range, by device, key and time.
///
/// # Errors
/// The first page cannot be read.
pub(super) async fn answer(
    storage: Storage,
    memory: Arc<dyn QueryMemory>,
    range: Range,
    ids: HashMap<i64, String>,
    format: RowFormat,
    has_bom: bool,
) -> Result<Response, Problem> {
    let mut source = ExportState {
        storage,
        memory,
        range: Range {
            order: Order::BySeries,
            limit: PAGE,
            after: None,
            ..range
        },
        ids,
        format,
        has_bom,
        is_first: true,
        has_more: true,
    };
    let first = source.page().await?;
    let others = stream::unfold(source, |mut source| async move {
        let page = source.next().await?;
        Some((page, source))
    });
    let pages = stream::iter([Ok(first)]).chain(others);
    let headers = [(header::CONTENT_TYPE, format.media_type())];
    Ok((headers, Body::from_stream(pages)).into_response())
}
