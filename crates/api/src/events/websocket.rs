//! Events as they happen, as text messages of a WebSocket.

use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use martlet_broker::TenantId;
use martlet_control::feed::FeedReader;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};
use tracing::debug;

use super::open_streams::OpenStream;
use super::params::{EventParams, Format};
use super::stream::{PIECE, Piece, Shaper, StreamCaller, heartbeats};
use crate::api::Api;
use crate::problem::Problem;

/// Longest message of a reader, bytes.
const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Heartbeats without any message after which a reader counts as gone.
const SILENT_BEATS: u32 = 4;
/// Bytes that are gathered before they are written.
const BUFFER: usize = 32 * 1024;
/// Bytes that wait for a reader, at most: of Pongs that do not fit, only the last one is sent.
const OUTPUT_BYTES_MAX: usize = 4 * BUFFER;
/// Frames that are gathered before they are written.
const FRAMES: usize = 256;

/// How a stream ends whose reader has lost a right that it needs.
const REVOKED: (CloseCode, &str) = (
    CloseCode::Policy,
    "the credentials are no longer valid for this",
);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

pub(super) fn answer(
    api: Api,
    reader: FeedReader,
    place: OpenStream,
    format: Format,
    mut parts: Parts,
    tenant: Option<TenantId>,
) -> Result<Response, Problem> {
    let header = |name| parts.headers.get(name);
    if header(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let problem = Problem::bad_request("Sec-WebSocket-Version must be 13");
        return Err(problem.with_header(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        ));
    }
    let Some(key) = header(header::SEC_WEBSOCKET_KEY) else {
        return Err(Problem::bad_request("Sec-WebSocket-Key is missing"));
    };
    let accept = derive_accept_key(key.as_bytes());
    let accept = HeaderValue::from_str(&accept);
    let accept = accept.map_err(|_| Problem::bad_request("Sec-WebSocket-Key is not a key"))?;
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let upgrade = upgrade.ok_or_else(|| Problem::bad_request("this is not HTTP/1.1"))?;
    let talk = Talk {
        shaper: Shaper::new(format, &reader),
        stream_caller: StreamCaller::new(api, parts, reader.filter()),
        reader,
        place,
        format,
        tenant,
    };
    tokio::spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => return debug!(%error, "no WebSocket after all"),
        };
        let config = WebSocketConfig::default()
            .max_message_size(Some(INPUT_BYTES_MAX))
            .max_frame_size(Some(INPUT_BYTES_MAX))
            .write_buffer_size(BUFFER)
            .max_write_buffer_size(OUTPUT_BYTES_MAX);
        let io = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        talk.run(socket).await;
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response())
}

/// How a stream ends whose reader does not read while too much waits for readers.
const ENDED: (CloseCode, &str) = (
    CloseCode::Again,
    "this reader does not read, and events that wait for readers use too much memory",
);
/// Time for the reader to take that.
const PATIENCE: Duration = Duration::from_secs(5);

/// Each event as a message.
async fn send(socket: &mut Socket, place: &OpenStream, pieces: Vec<Piece>) -> Result<(), Error> {
    let mut fed = 0;
    for piece in pieces {
        let count = match &piece {
            Piece::Shared(_, run) => run.len(),
            Piece::Own { .. } => 1,
        };
        for at in 0..count {
            let text = match &piece {
                Piece::Shared(lines, run) => Utf8Bytes::try_from(lines.json(run.start + at))?,
                Piece::Own { json, .. } => json.as_str().into(),
            };
            feed(socket, place, text).await?;
            fed += 1;
            if fed % FRAMES == 0 {
                socket.flush().await?;
                place.progress();
            }
        }
    }
    socket.flush().await
}

/// A long text is sent in several frames: the connection buffers a frame as a whole.
async fn feed(socket: &mut Socket, place: &OpenStream, text: Utf8Bytes) -> Result<(), Error> {
    if text.len() <= PIECE {
        return socket.feed(Message::Text(text)).await;
    }
    let mut rest = Bytes::from(text);
    let mut kind = Data::Text;
    while !rest.is_empty() {
        let piece = rest.split_to(PIECE.min(rest.len()));
        let frame = Frame::message(piece, OpCode::Data(kind), rest.is_empty());
        socket.feed(Message::Frame(frame)).await?;
        place.progress();
        kind = Data::Continue;
    }
    Ok(())
}

struct Talk {
    reader: FeedReader,
    place: OpenStream,
    shaper: Shaper,
    stream_caller: StreamCaller,
    format: Format,
    tenant: Option<TenantId>,
}

impl Talk {
    async fn run(mut self, mut socket: Socket) {
        let ended = self.talk(&mut socket).await;
        // Nothing of it waits any more.
        self.place.hold(0);
        match ended {
            Ok((code, reason)) => {
                let frame = CloseFrame {
                    code,
                    reason: reason.into(),
                };
                // It may be gone already, or not read.
                let _ = tokio::time::timeout(PATIENCE, socket.close(Some(frame))).await;
            }
            Err(error) => debug!(%error, "a reader of events has disconnected"),
        }
    }

    /// Until there is a reason to close.
    async fn talk(&mut self, socket: &mut Socket) -> Result<(CloseCode, &'static str), Error> {
        let mut beats = heartbeats();
        let mut silent = 0;
        loop {
            tokio::select! {
                batch = self.reader.next_with(|| self.place.room()) => {
                    let Some(batch) = batch else {
                        return Ok((CloseCode::Away, "the node stops"));
                    };
                    if !self.stream_caller.may_get().await {
                        return Ok(REVOKED);
                    }
                    let pieces = self.shaper.shape(&self.reader, &batch);
                    // The feed may forget the events while they wait for the reader.
                    drop(batch);
                    self.place.hold(pieces.iter().map(Piece::bytes).sum());
                    tokio::select! {
                        sent = send(socket, &self.place, pieces) => sent?,
                        () = self.place.ended() => return Ok(ENDED),
                    }
                    self.place.hold(0);
                }
                received = socket.next() => {
                    silent = 0;
                    match received {
                        None | Some(Ok(Message::Close(_))) => {
                            return Ok((CloseCode::Normal, ""));
                        }
                        Some(Ok(Message::Text(text))) => {
                            let Some(answer) = self.change(&text).await else {
                                return Ok(REVOKED);
                            };
                            socket.send(Message::text(answer)).await?;
                        }
                        Some(Ok(Message::Binary(_))) => {
                            return Ok((CloseCode::Unsupported, "text frames alone"));
                        }
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return Err(error),
                    }
                }
                () = self.stream_caller.changed() => {
                    if !self.stream_caller.still_may().await {
                        return Ok(REVOKED);
                    }
                }
                _ = beats.tick() => {
                    silent += 1;
                    if silent > SILENT_BEATS {
                        return Ok((CloseCode::Away, "no sign of life"));
                    }
                    if !self.stream_caller.still_may().await {
                        return Ok(REVOKED);
                    }
                    socket.send(Message::Ping(Bytes::new())).await?;
                }
            }
        }
    }

    /// Sets another filter, if the rights that apply now permit it; returns the answer. None: the
    /// reader may read no events any more.
    async fn change(&mut self, text: &str) -> Option<String> {
        let principal = self.stream_caller.now().await?;
        let params = serde_json::from_str::<EventParams>(text);
        let params = params.map_err(|error| error.to_string());
        let request = params.and_then(|params| {
            let request = params.request(&principal, self.tenant);
            request.map_err(|problem| problem.detail().to_owned())
        });
        Some(match request {
            Ok(request) => {
                self.format = request.format;
                self.stream_caller.wants(&request.filter);
                self.reader.set_filter(request.filter);
                self.shaper = Shaper::new(self.format, &self.reader);
                r#"{"kind":"filter"}"#.to_owned()
            }
            Err(detail) => serde_json::json!({"kind": "error", "detail": detail}).to_string(),
        })
    }
}
