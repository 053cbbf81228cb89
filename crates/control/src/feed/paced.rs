//! Connection from which little is read in a second, whatever the other side sends: small frames
//! cost more than their bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Bytes that are read in a [`PERIOD`].
const BYTES: usize = 64 * 1024;
const PERIOD: Duration = Duration::from_secs(1);

/// Connection from which [`BYTES`] are read in a period.
#[derive(Debug)]
pub(super) struct Paced<S> {
    stream: S,
    period: Duration,
    /// Bytes that may still be read in this period.
    left: usize,
    /// End of the period.
    end: Pin<Box<Sleep>>,
}

impl<S> Paced<S> {
    /// A connection with a period of one second.
    pub(super) fn new(stream: S) -> Self {
        Self::of(stream, PERIOD)
    }

    fn of(stream: S, period: Duration) -> Self {
        Self {
            stream,
            period,
            left: BYTES,
            end: Box::pin(sleep(period)),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            ready!(self.end.as_mut().poll(context));
        }
        let now = Instant::now();
        if self.end.deadline() <= now {
            self.left = BYTES;
            let end = now + self.period;
            self.end.as_mut().reset(end);
        }
        let end = to.remaining().min(self.left);
        let mut part = ReadBuf::new(to.initialize_unfilled_to(end));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        let count = part.filled().len();
        self.left -= count;
        to.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Reads what a server sends without end, as far as it is there at once; the bytes.
    async fn read_at_once(period: Duration) -> usize {
        let (mut server, own) = tokio::io::duplex(8 * BYTES);
        let sent = [0; 4 * BYTES];
        server.write_all(&sent).await.expect("it is written");
        let mut own = Paced::of(own, period);
        // Few reads: a task may do a limited number at once.
        let (mut count, mut part) = (0, [0; 16 * 1024]);
        while let Some(read) = own.read(&mut part).now_or_never() {
            count += read.expect("it is read");
        }
        count
    }

    #[tokio::test]
    async fn a_server_that_sends_without_end_is_read_for_a_part_of_each_period() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(read_at_once(hour).await, BYTES);
        assert_eq!(read_at_once(Duration::ZERO).await, 4 * BYTES);
    }
}
