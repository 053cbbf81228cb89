//! One network connection as a stream of bytes, over any transport.
//!
//! Responsible for non-blocking reading and writing, over TCP directly or in WebSocket frames;
//! [MQTT-6.0.0-2] a frame may hold any part of the stream. It does not inspect packets.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Sink, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message};

use super::carrier::{Carrier, io_error};
use super::endpoint::Endpoint;
use super::error::NetError;

/// Number of bytes read or framed at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// A connection. Its methods may be called again after `Pending` or cancellation.
pub(super) enum Stream {
    /// Packets directly over TCP or TLS.
    Plain(Carrier),
    /// Packets in binary frames.
    WebSocket(Box<WebSocketStream<Carrier>>),
}

impl Stream {
    /// Performs the WebSocket handshake with the subprotocol `mqtt` [MQTT-6.0.0-3].
    pub(super) async fn web_socket(
        stream: Carrier,
        endpoint: &Endpoint,
        path: &str,
    ) -> Result<Self, NetError> {
        let host = match endpoint.host.contains(':') {
            true => format!("[{}]", endpoint.host),
            false => endpoint.host.clone(),
        };
        let scheme = if endpoint.tls.is_some() { "wss" } else { "ws" };
        let url = format!("{scheme}://{host}:{}{path}", endpoint.port);
        let mut request = url.into_client_request().map_err(web_socket_error)?;
        let protocol = HeaderValue::from_static("mqtt");
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", protocol);
        let handshake = tokio_tungstenite::client_async(request, stream).await;
        let (stream, _) = handshake.map_err(handshake_error)?;
        Ok(Self::WebSocket(Box::new(stream)))
    }

    /// Appends received bytes to `buffer`, at least one.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<Result<(), NetError>> {
        match self {
            Self::Plain(stream) => poll_read_plain(stream, context, buffer),
            Self::WebSocket(stream) => loop {
                let message = ready!(Pin::new(&mut **stream).poll_next(context));
                match message.transpose().map_err(web_socket_error)? {
                    None | Some(Message::Close(_)) => return Poll::Ready(Err(NetError::Closed)),
                    Some(Message::Binary(bytes)) if !bytes.is_empty() => {
                        buffer.extend_from_slice(&bytes);
                        return Poll::Ready(Ok(()));
                    }
                    // [MQTT-6.0.0-1] A data frame that is not binary ends the connection.
                    Some(Message::Text(_)) => {
                        let what = "the server sent a text frame".to_owned();
                        return Poll::Ready(Err(NetError::WebSocket(what)));
                    }
                    Some(_) => {}
                }
            },
        }
    }

    /// Writes from the front of `output` until it is empty and all bytes are passed to the system.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        output: &mut Vec<u8>,
    ) -> Poll<Result<(), NetError>> {
        match self {
            Self::Plain(stream) => {
                let mut written = 0;
                let result = loop {
                    if written == output.len() {
                        break Poll::Ready(Ok(()));
                    }
                    match Pin::new(&mut *stream).poll_write(context, &output[written..]) {
                        Poll::Ready(Ok(0)) => break Poll::Ready(Err(NetError::Closed)),
                        Poll::Ready(Ok(count)) => written += count,
                        Poll::Ready(Err(error)) => break Poll::Ready(Err(io_error(error))),
                        Poll::Pending => break Poll::Pending,
                    }
                };
                output.drain(..written);
                // TLS buffers encrypted bytes until it is flushed.
                let flushed = Pin::new(stream).poll_flush(context);
                match (result, flushed) {
                    (Poll::Ready(Ok(())), flushed) => flushed.map_err(io_error),
                    (result, _) => result,
                }
            }
            Self::WebSocket(stream) => {
                let mut sink = Pin::new(&mut **stream);
                while !output.is_empty() {
                    ready!(sink.as_mut().poll_ready(context)).map_err(web_socket_error)?;
                    let count = output.len().min(CHUNK_BYTES);
                    let frame = output.drain(..count).collect::<Vec<u8>>();
                    let frame = Message::Binary(frame.into());
                    sink.as_mut().start_send(frame).map_err(web_socket_error)?;
                }
                sink.poll_flush(context).map_err(web_socket_error)
            }
        }
    }

    /// Shuts down the sending direction.
    pub(super) fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        match self {
            Self::Plain(stream) => Pin::new(stream)
                .poll_shutdown(context)
                .map_err(NetError::Io),
            Self::WebSocket(stream) => Pin::new(&mut **stream)
                .poll_close(context)
                .map_err(web_socket_error),
        }
    }
}

fn poll_read_plain(
    stream: &mut Carrier,
    context: &mut Context<'_>,
    buffer: &mut Vec<u8>,
) -> Poll<Result<(), NetError>> {
    let start = buffer.len();
    buffer.resize(start + CHUNK_BYTES, 0);
    let mut chunk = ReadBuf::new(&mut buffer[start..]);
    let result = Pin::new(stream).poll_read(context, &mut chunk);
    let count = chunk.filled().len();
    buffer.truncate(start + count);
    match result {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Ok(())) if count == 0 => Poll::Ready(Err(NetError::Closed)),
        Poll::Ready(result) => Poll::Ready(result.map_err(io_error)),
    }
}

fn handshake_error(error: tungstenite::Error) -> NetError {
    match error {
        tungstenite::Error::Http(answer) => NetError::Handshake(Some(answer.status().as_u16())),
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::HttpFormat(_)
        | tungstenite::Error::Protocol(
            ProtocolError::HandshakeIncomplete | ProtocolError::HttparseError(_),
        ) => NetError::Handshake(None),
        tungstenite::Error::Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
            ) =>
        {
            NetError::Handshake(None)
        }
        other => web_socket_error(other),
    }
}

fn web_socket_error(error: tungstenite::Error) -> NetError {
    match error {
        tungstenite::Error::Io(error) => io_error(error),
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            NetError::Closed
        }
        other => NetError::WebSocket(other.to_string()),
    }
}
