//! Rows as CSV, lines of JSON and line protocol, as they are read: however many there are, no more
//! than a page of them is in memory.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use martlet_control::csv::BYTE_ORDER_MARK;
use martlet_control::telemetry::{Order, QueryMemory, Range, RowFormat, Storage};

use super::view::id_of;
use crate::problem::Problem;
use crate::registry::word_of_query;

/// Rows of a page.
const PAGE: usize = 5_000;

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
    async fn next(&mut self) -> Option<Result<Bytes, std::io::Error>> {
        if !self.has_more {
            return None;
        }
        let memory = Arc::clone(&self.memory);
        let of_query = match self.storage.range_within(&self.range, memory).await {
            Ok(of_query) => of_query,
            Err(error) => {
                // The answer has begun: it is cut off, so that no client takes it for complete.
                self.has_more = false;
                tracing::warn!(%error, "an export of telemetry is broken off");
                return Some(Err(std::io::Error::other("telemetry cannot be read")));
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
        Some(Ok(text.into()))
    }
}

/// All rows of a range, by device, key and time.
pub(super) fn answer(
    (storage, memory): (Storage, Arc<dyn QueryMemory>),
    range: Range,
    ids: HashMap<i64, String>,
    (format, has_bom): (RowFormat, bool),
) -> Response {
    let source = ExportState {
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
    let chunks = futures_util::stream::unfold(source, |mut source| async move {
        let chunk = source.next().await?;
        Some((chunk, source))
    });
    let headers = [(header::CONTENT_TYPE, format.media_type())];
    (headers, Body::from_stream(chunks)).into_response()
}
