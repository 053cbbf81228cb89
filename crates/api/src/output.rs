//! Answers that are being sent: their bytes count as memory of the node until the connection has
//! taken them, and together they take a part of it at most.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Frame, SizeHint};
use martlet_control::Control;

use crate::connection::ListenerKind;
use crate::problem::Problem;

/// Answers of fewer bytes are not counted.
const COUNTED_FROM: usize = 4 * 1024;
/// Answers of fewer bytes are sent though larger ones have taken their part.
const SMALL: usize = 64 * 1024;
/// All answers together may take this many sixteenths of `limits.memory_bytes`, and this many bytes
/// where that is less.
const PARTS: usize = 2;
const LEAST: usize = 4 * 1024 * 1024;
/// Bytes beyond that for small answers, and for `admin.sock`.
const FOR_SMALL: usize = 4 * 1024 * 1024;
const FOR_SOCKET: usize = 8 * 1024 * 1024;
/// Bytes that answers may take together where the node has no memory left: an operator can still
/// look at the node.
const ALWAYS: usize = 1024 * 1024;
/// Bytes that the connection is given at once, and buffers.
const PIECE: usize = 16 * 1024;

/// Bytes of the answers that are being sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output(Arc<AtomicUsize>);

/// Which answer it is: that decides how much of the memory is left for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Health or metrics: always sent.
    Probe,
    /// The connection is one of `admin.sock`.
    Socket,
    /// Any other.
    Other,
}

impl Class {
    pub(crate) fn of(listener: ListenerKind, is_probe: bool) -> Self {
        match listener {
            _ if is_probe => Self::Probe,
            ListenerKind::Socket { .. } => Self::Socket,
            ListenerKind::Tcp { .. } => Self::Other,
        }
    }
}

impl Output {
    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes bytes of the memory for an answer; none: there is no room for it.
    fn hold(&self, control: &Arc<Control>, bytes: usize, class: Class) -> Option<AnswerMemory> {
        let most = control.memory_part().map_or(usize::MAX, |part| {
            let most = part.saturating_mul(PARTS).max(LEAST);
            match class {
                Class::Probe => usize::MAX,
                Class::Socket => most.saturating_add(FOR_SOCKET),
                Class::Other if bytes < SMALL => most.saturating_add(FOR_SMALL),
                Class::Other => most,
            }
        });
        let add = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= most);
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        let sum = before.ok()? + bytes;
        let mut held = AnswerMemory {
            bytes,
            borrowed: 0,
            output: self.clone(),
            control: Arc::clone(control),
        };
        if control.borrow_memory(bytes) {
            held.borrowed = bytes;
            return Some(held);
        }
        (class == Class::Probe || sum <= ALWAYS).then_some(held)
    }

    /// Counts an answer until it is sent. Without room for it, the answer is that.
    pub(crate) fn count(&self, control: &Arc<Control>, class: Class, answer: Response) -> Response {
        let bytes = answer.body().size_hint().exact();
        let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
        let Some(bytes) = bytes.filter(|bytes| *bytes >= COUNTED_FROM) else {
            return answer;
        };
        let Some(held) = self.hold(control, bytes, class) else {
            let detail = format!(
                "the node has no memory for this answer of {bytes} bytes: ask for fewer items, or \
                 read the answers to other requests first"
            );
            return Problem::unavailable(detail).into_response();
        };
        let held = Arc::new(held);
        answer.map(|body| {
            Body::new(MeteredBody {
                body,
                rest: Bytes::new(),
                left: bytes as u64,
                held,
            })
        })
    }
}

/// Memory of the node that an answer takes.
struct AnswerMemory {
    bytes: usize,
    /// Bytes of them that are borrowed from the node's memory.
    borrowed: usize,
    output: Output,
    control: Arc<Control>,
}

impl Drop for AnswerMemory {
    fn drop(&mut self) {
        self.output.0.fetch_sub(self.bytes, Ordering::Relaxed);
        self.control.return_memory(self.borrowed);
    }
}

/// Bytes of an answer: they count until the connection has dropped the last of them.
struct HeldBytes {
    bytes: Bytes,
    _held: Arc<AnswerMemory>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body that gives its bytes in short pieces: a connection takes a piece as a whole, whether or
/// not its client reads.
struct MeteredBody {
    body: Body,
    rest: Bytes,
    left: u64,
    held: Arc<AnswerMemory>,
}

impl HttpBody for MeteredBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => {
                        let _held = Arc::clone(&this.held);
                        this.rest = Bytes::from_owner(HeldBytes { bytes, _held });
                    }
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return Poll::Ready(other),
            }
        }
        let piece = this.rest.split_to(PIECE.min(this.rest.len()));
        this.left = this.left.saturating_sub(piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
