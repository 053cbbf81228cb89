//! Events as they happen, as server-sent events; and what both kinds of streams share.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use martlet_control::feed::{Batch, Filter, Frame, Gone, Panel, Reader};
use martlet_control::principal::Scope;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::Format;
use crate::api::{Api, Connection};
use crate::guard;

/// So often there is a sign of life, and it is looked whether the reader still may.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// A chunk of a stream is about so long.
const CHUNK: usize = 64 * 1024;

/// One event as it is sent.
pub(super) struct Ready {
    /// Whoever has got it resumes after this one; none: where it was.
    pub(super) id: Option<String>,
    /// It is a [`Gone`].
    pub(super) is_gone: bool,
    pub(super) json: String,
}

/// Puts events into the form that was asked for.
pub(super) struct Shaper {
    format: Format,
    panel: Panel,
    run: String,
    payload_max: usize,
}

impl Shaper {
    pub(super) fn new(format: Format, reader: &Reader) -> Self {
        Self {
            format,
            panel: panel(reader.filter()),
            run: reader.run().to_owned(),
            payload_max: reader.filter().payload_bytes,
        }
    }

    pub(super) fn shape(&mut self, batch: &Batch) -> Vec<Ready> {
        let mut out = Vec::with_capacity(batch.entries.len() + 1);
        let gone = [
            batch.is_new_run.then(Gone::new_run),
            (batch.gone > 0).then(|| Gone::too_slow(batch.gone)),
        ];
        let mut frames = Vec::new();
        for gone in gone.into_iter().flatten() {
            self.panel.flush(&mut frames);
            out.push(told(&gone));
            out.extend(frames.drain(..).map(|frame| self.framed(frame)));
        }
        for entry in &batch.entries {
            match self.format {
                Format::Events => match entry.shown(&self.run, self.payload_max) {
                    Ok(event) => out.push(Ready {
                        json: json(&event),
                        id: Some(event.id),
                        is_gone: false,
                    }),
                    Err(gone) => out.push(told(&gone)),
                },
                Format::Panel => {
                    self.panel.put(entry, self.payload_max, &mut frames);
                    if let Err(lost) = &entry.told {
                        out.push(told(&Gone::lost(*lost)));
                    }
                    out.extend(frames.drain(..).map(|frame| self.framed(frame)));
                }
            }
        }
        out
    }

    fn framed(&self, frame: Frame) -> Ready {
        Ready {
            id: Some(format!("{}-{}", self.run, frame.after)),
            is_gone: false,
            json: frame.json,
        }
    }
}

fn panel(filter: &Filter) -> Panel {
    Panel::new(filter, usize::MAX)
}

fn told(gone: &Gone) -> Ready {
    Ready {
        id: None,
        is_gone: true,
        json: json(gone),
    }
}

fn json(value: &impl serde::Serialize) -> String {
    // Numbers and texts always become JSON.
    serde_json::to_string(value).unwrap_or_default()
}

/// Who asked, to be looked at again: a key may be taken away, a session may end.
pub(super) struct Asker {
    api: Api,
    parts: Parts,
    scopes: Vec<Scope>,
}

impl Asker {
    pub(super) fn new(api: Api, parts: Parts, filter: &Filter) -> Self {
        let mut asker = Self {
            api,
            parts,
            scopes: Vec::new(),
        };
        asker.wants(filter);
        asker
    }

    pub(super) fn wants(&mut self, filter: &Filter) {
        self.scopes = vec![Scope::EventsRead];
        if filter.payload_bytes > 0 {
            self.scopes.push(Scope::RetainedRead);
        }
    }

    pub(super) async fn still_may(&self) -> bool {
        let connection = self.parts.extensions.get::<Connection>().copied();
        let connection = connection.unwrap_or(Connection::UNKNOWN);
        for scope in &self.scopes {
            if !guard::may(&self.api, *scope, connection, &self.parts).await {
                return false;
            }
        }
        true
    }
}

pub(super) fn heartbeats() -> Interval {
    let mut beats = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

/// What a stream of server-sent events is made from.
struct Source {
    reader: Reader,
    shaper: Shaper,
    asker: Asker,
    beats: Interval,
    is_begun: bool,
}

pub(super) fn answer(api: Api, reader: Reader, format: Format, parts: Parts) -> Response {
    let source = Source {
        shaper: Shaper::new(format, &reader),
        asker: Asker::new(api, parts, reader.filter()),
        reader,
        beats: heartbeats(),
        is_begun: false,
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

impl Source {
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.is_begun, true) {
            // Browsers that lose it come back after a second.
            return Some(Bytes::from_static(b"retry: 1000\n\n"));
        }
        loop {
            let batch = tokio::select! {
                batch = self.reader.next() => batch?,
                _ = self.beats.tick() => {
                    if !self.asker.still_may().await {
                        return None;
                    }
                    return Some(Bytes::from_static(b":\n\n"));
                }
            };
            let mut chunk = String::with_capacity(CHUNK);
            for ready in self.shaper.shape(&batch) {
                if let Some(id) = &ready.id {
                    chunk.push_str("id: ");
                    chunk.push_str(id);
                    chunk.push('\n');
                }
                if ready.is_gone {
                    chunk.push_str("event: gone\n");
                }
                chunk.push_str("data: ");
                chunk.push_str(&ready.json);
                chunk.push_str("\n\n");
            }
            // By the panel's format some become nothing yet.
            if !chunk.is_empty() {
                return Some(chunk.into());
            }
        }
    }
}
