//! Events as they happen, as server-sent events; and what both kinds of streams share.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use martlet_control::feed::{EventBatch, EventGap, EventTexts, FeedReader, Filter, Frame, Panel};
use martlet_control::principal::{Principal, Scope};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::open_streams::OpenStream;
use super::params::Format;
use crate::api::Api;
use crate::connection::HttpConnection;
use crate::guard;

/// Interval of heartbeats, at which the rights of the reader are checked, too.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// After a change of the tables the rights are read again before anything is sent, at most once in
/// this interval.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Length of a chunk of a stream, approximately.
const CHUNK: usize = 64 * 1024;
/// Lines that are shorter in total are copied, so that more leaves at once.
const CHUNK_SMALL: usize = 4 * 1024;
/// Bytes that a connection is given at once: it takes them whether or not its client reads.
pub(super) const PIECE: usize = 16 * 1024;

/// Something to be sent.
pub(super) enum Piece {
    /// These of the lines that all readers of the form share.
    Shared(Arc<EventTexts>, Range<usize>),
    /// An event by itself.
    Own {
        /// Event to resume after, for a reader that has received it; none: the position is
        /// unchanged.
        id: Option<String>,
        /// Whether it is an [`EventGap`].
        has_ended: bool,
        json: String,
    },
}

impl Piece {
    /// Bytes of its text.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Shared(lines, run) => lines.stream(run.clone()).len(),
            Self::Own { json, .. } => json.len(),
        }
    }
}

/// Puts events into the form that was asked for.
pub(super) struct Shaper {
    format: Format,
    panel: Panel,
    payload_max: usize,
}

impl Shaper {
    pub(super) fn new(format: Format, reader: &FeedReader) -> Self {
        Self {
            format,
            panel: panel(reader.filter()),
            payload_max: reader.filter().payload_bytes,
        }
    }

    pub(super) fn shape(&mut self, reader: &FeedReader, batch: &EventBatch) -> Vec<Piece> {
        let mut out = Vec::new();
        let gap_list = [
            batch.is_new_run.then(EventGap::new_run),
            (batch.missed > 0).then(|| EventGap::too_slow(batch.missed)),
        ];
        let mut frames = Vec::new();
        for gap in gap_list.into_iter().flatten() {
            self.panel.flush(&mut frames);
            out.push(gap_frame(&gap));
            out.extend(frames.drain(..).map(|frame| framed(reader, frame)));
        }
        match self.format {
            Format::Events => {
                for part in &batch.parts {
                    let (lines, runs) = reader.lines(part);
                    let shared = |run| Piece::Shared(Arc::clone(&lines), run);
                    out.extend(runs.into_iter().map(shared));
                }
            }
            Format::Panel => {
                for entry in batch.entries() {
                    self.panel.put(&entry, self.payload_max, &mut frames);
                    if let Some(lost) = entry.lost() {
                        out.push(gap_frame(&EventGap::lost(lost)));
                    }
                    out.extend(frames.drain(..).map(|frame| framed(reader, frame)));
                }
            }
        }
        out
    }
}

fn framed(reader: &FeedReader, frame: Frame) -> Piece {
    Piece::Own {
        id: Some(format!("{}-{}", reader.run(), frame.after)),
        has_ended: false,
        json: frame.json,
    }
}

fn panel(filter: &Filter) -> Panel {
    Panel::new(filter, usize::MAX)
}

fn gap_frame(gap: &EventGap) -> Piece {
    Piece::Own {
        id: None,
        has_ended: true,
        json: json(gap),
    }
}

fn json(value: &impl serde::Serialize) -> String {
    // Numbers and texts always become JSON.
    serde_json::to_string(value).unwrap_or_default()
}

/// The caller. It is checked again later: a key may be taken away, a session may end.
pub(super) struct StreamCaller {
    api: Api,
    parts: Parts,
    scopes: Vec<Scope>,
    /// Notifies of changes to keys and users, among others.
    changes: Option<watch::Receiver<()>>,
    has_changed: bool,
    looked: Instant,
}

impl StreamCaller {
    pub(super) fn new(api: Api, parts: Parts, filter: &Filter) -> Self {
        let changes = api.tables().ok().map(|tables| tables.changes());
        let mut stream_caller = Self {
            api,
            parts,
            scopes: Vec::new(),
            changes,
            has_changed: false,
            looked: Instant::now(),
        };
        stream_caller.wants(filter);
        stream_caller
    }

    pub(super) fn wants(&mut self, filter: &Filter) {
        self.scopes = vec![Scope::EventsRead];
        if filter.payload_bytes > 0 {
            self.scopes.push(Scope::RetainedRead);
        }
    }

    /// Waits until something was changed that may have taken it back: where much is, once in a
    /// while.
    pub(super) async fn changed(&mut self) {
        // It may be broken off anywhere, and asked for anew.
        if !self.has_changed {
            let changed = match &mut self.changes {
                Some(changes) => changes.changed().await.is_ok(),
                None => false,
            };
            if !changed {
                // The tables are there as long as the node.
                return std::future::pending().await;
            }
            self.has_changed = true;
        }
        tokio::time::sleep_until(self.looked + LOOK_EVERY).await;
    }

    /// Whether the reader has the rights for what it is about to get. After a change of the tables
    /// they are read again first.
    pub(super) async fn may_get(&mut self) -> bool {
        let changes = self.changes.as_ref();
        let has_changed = changes.is_some_and(|changes| changes.has_changed().unwrap_or(false));
        if has_changed || self.has_changed {
            self.changed().await;
            return self.still_may().await;
        }
        true
    }

    /// The rights that apply now permit what was asked for.
    pub(super) async fn still_may(&mut self) -> bool {
        let Some(now) = self.now().await else {
            return false;
        };
        self.scopes.iter().all(|scope| now.scopes.has(*scope))
    }

    /// The reader with the rights that apply now; none: it may read no events any more.
    pub(super) async fn now(&mut self) -> Option<Principal> {
        (self.looked, self.has_changed) = (Instant::now(), false);
        if let Some(changes) = &mut self.changes {
            changes.mark_unchanged();
        }
        let connection = self.parts.extensions.get::<HttpConnection>().copied();
        let connection = connection.unwrap_or(HttpConnection::UNKNOWN);
        guard::still(&self.api, Scope::EventsRead, connection, &self.parts).await
    }
}

pub(super) fn heartbeats() -> Interval {
    let mut beats = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

/// Parts that a stream of server-sent events is made from.
struct StreamState {
    reader: FeedReader,
    place: OpenStream,
    shaper: Shaper,
    stream_caller: StreamCaller,
    beats: Interval,
    /// The last of what has left was the beginning of an event.
    is_within_event: bool,
    /// The reader got the end of its stream.
    has_ended: bool,
}

pub(super) fn answer(
    api: Api,
    reader: FeedReader,
    place: OpenStream,
    format: Format,
    parts: Parts,
) -> Response {
    // Browsers that lose it come back after a second.
    place.keep([Bytes::from_static(b"retry: 1000\n\n")].into());
    let source = StreamState {
        shaper: Shaper::new(format, &reader),
        stream_caller: StreamCaller::new(api, parts, reader.filter()),
        reader,
        place,
        beats: heartbeats(),
        is_within_event: false,
        has_ended: false,
    };
    let chunks = futures_util::stream::unfold(source, |mut source| async move {
        let chunk = source.next().await?;
        Some((Ok::<Bytes, Infallible>(chunk), source))
    });
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream; charset=utf-8"),
        ),
        // Proxies pass it on as it comes.
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}

impl StreamState {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            // By the panel's format some become nothing yet.
            if let Some((piece, goes_on)) = self.place.pop(PIECE) {
                self.is_within_event = goes_on;
                return Some(piece);
            }
            if self.place.has_ended() {
                return self.end();
            }
            // All of them have left.
            self.place.hold(0);
            let batch = tokio::select! {
                batch = self.reader.next_with(|| self.place.room()) => batch?,
                () = self.stream_caller.changed() => {
                    if !self.stream_caller.still_may().await {
                        return None;
                    }
                    continue;
                }
                _ = self.beats.tick() => {
                    if !self.stream_caller.still_may().await {
                        return None;
                    }
                    return Some(Bytes::from_static(b":\n\n"));
                }
            };
            if !self.stream_caller.may_get().await {
                return None;
            }
            let pieces = self.shaper.shape(&self.reader, &batch);
            self.place.keep(chunked(pieces));
        }
    }

    /// The last event, with the reason why the stream ends.
    fn end(&mut self) -> Option<Bytes> {
        if std::mem::replace(&mut self.has_ended, true) {
            return None;
        }
        let gap = EventGap::ended();
        let text = match self.is_within_event {
            // What has left of an event is discarded where a stream ends without an empty line.
            true => format!("\n: {}\n", gap.why),
            false => format!("event: gone\ndata: {}\n\n", json(&gap)),
        };
        Some(text.into())
    }
}

/// Large pieces leave as they are, small ones together.
fn chunked(pieces: Vec<Piece>) -> VecDeque<Bytes> {
    let mut chunks = VecDeque::new();
    let mut chunk = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Shared(lines, run) => {
                let text = lines.stream(run);
                if text.len() < CHUNK_SMALL {
                    chunk.extend_from_slice(&text);
                    continue;
                }
                if !chunk.is_empty() {
                    chunks.push_back(std::mem::take(&mut chunk).into());
                }
                chunks.push_back(text);
            }
            Piece::Own {
                id,
                has_ended,
                json,
            } => {
                if let Some(id) = id {
                    chunk.extend_from_slice(format!("id: {id}\n").as_bytes());
                }
                if has_ended {
                    chunk.extend_from_slice(b"event: gone\n");
                }
                chunk.extend_from_slice(b"data: ");
                chunk.extend_from_slice(json.as_bytes());
                chunk.extend_from_slice(b"\n\n");
            }
        }
        if chunk.len() >= CHUNK {
            chunks.push_back(std::mem::take(&mut chunk).into());
        }
    }
    if !chunk.is_empty() {
        chunks.push_back(chunk.into());
    }
    chunks
}
