//! Log lines about forwarded messages: a limited number per second, and a count of the rest.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::sink_message::SinkMessage;

/// Maximum number of lines per second. One more line counts the other messages.
const LINES_MAX: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// The lines of one sink. Clones share the state.
#[derive(Clone, Debug)]
pub(super) struct LogLines(Arc<(Box<str>, Mutex<State>)>);

#[derive(Debug, Default)]
struct State {
    /// Start of the current second.
    began: Option<Instant>,
    /// Number of lines in it.
    lines: u32,
    /// Number of messages without a line that are not counted in a line yet.
    rest: u64,
}

/// How a message is logged.
#[derive(Debug, PartialEq, Eq)]
enum MessageLine {
    Own,
    /// Counted only; the first of a second schedules a line with the count at its end.
    Counted {
        is_first: bool,
    },
}

impl State {
    /// Handles a forwarded message. Returns its line, and a count of earlier messages to log
    /// before it.
    fn forwarded(&mut self, now: Instant) -> (MessageLine, Option<u64>) {
        let is_over = self.began.is_none_or(|began| now >= began + SECOND);
        let mut earlier = None;
        if is_over {
            earlier = self.ended();
            (self.began, self.lines) = (Some(now), 0);
        }
        if self.lines < LINES_MAX {
            self.lines += 1;
            return (MessageLine::Own, earlier);
        }
        self.rest += 1;
        let is_first = self.rest == 1;
        (MessageLine::Counted { is_first }, earlier)
    }

    /// Number of messages to log at the end of a second.
    fn ended(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.rest)).filter(|rest| *rest > 0)
    }
}

impl LogLines {
    /// Lines of the sink of this name.
    pub(super) fn new(sink: &str) -> Self {
        Self(Arc::new((sink.into(), Mutex::default())))
    }

    /// Logs that NATS has accepted a message. Needs a Tokio runtime.
    pub(super) fn forwarded(&self, message: &SinkMessage, subject: &str) {
        let (line, earlier) = self.state().forwarded(Instant::now());
        self.count(earlier);
        match line {
            MessageLine::Own => tracing::info!(
                sink = &*self.0.0,
                subject,
                topic = message.topic(),
                client_id = message.client_id().unwrap_or_default(),
                bytes = message.payload().len(),
                "forwarded a message to NATS"
            ),
            MessageLine::Counted { is_first: true } => {
                let lines = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(SECOND).await;
                    let rest = lines.state().ended();
                    lines.count(rest);
                });
            }
            MessageLine::Counted { is_first: false } => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, messages: Option<u64>) {
        if let Some(messages) = messages {
            tracing::info!(
                sink = &*self.0.0,
                messages,
                "forwarded more messages to NATS, without a line for each"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_messages_of_a_second_have_a_line_and_the_rest_a_number() {
        let (mut state, start) = (State::default(), Instant::now());
        for _ in 0..LINES_MAX {
            assert_eq!(state.forwarded(start), (MessageLine::Own, None));
        }
        let counted = |is_first| (MessageLine::Counted { is_first }, None);
        assert_eq!(state.forwarded(start), counted(true));
        assert_eq!(state.forwarded(start), counted(false));
        assert_eq!(state.forwarded(start + SECOND), (MessageLine::Own, Some(2)));
        assert_eq!(state.ended(), None);
        for _ in 1..LINES_MAX {
            assert_eq!(state.forwarded(start + SECOND), (MessageLine::Own, None));
        }
        assert_eq!(state.forwarded(start + SECOND), counted(true));
        assert_eq!(state.ended(), Some(1));
    }
}
