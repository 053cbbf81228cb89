//! A limit of log lines of one kind: above it, lines are counted and reported in one line. A flood
//! of connects or refusals would otherwise fill the disk and hide all other lines.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use martlet_control::event_log::TRACED;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, info, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Time in which lines of a kind are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// Counts lines by the place in the program that writes them. Lines for debugging, and those of
/// what is traced, are not limited.
#[derive(Clone, Debug)]
pub(super) struct FloodLimit(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    /// Lines of one kind in a window; 0: no limit.
    max: u64,
    kinds: Mutex<HashMap<Identifier, Window>>,
    /// Some lines were left out.
    left_out: Condvar,
}

#[derive(Debug)]
struct Window {
    begun: Instant,
    lines: u64,
    left_out: u64,
    level: Level,
    /// The message of the first line that was left out.
    text: String,
}

/// Lines of one kind that were left out.
#[derive(Debug, PartialEq, Eq)]
struct LeftOut {
    level: Level,
    text: String,
    lines: u64,
}

impl FloodLimit {
    /// A limit; 0 is none. A thread reports what was left out.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(max: u32) -> std::io::Result<Self> {
        let limit = Self::new(max);
        let told = limit.clone();
        if max > 0 {
            let thread = std::thread::Builder::new().name("martlet-log".to_owned());
            thread.spawn(move || told.tell_forever())?;
        }
        Ok(limit)
    }

    fn new(max: u32) -> Self {
        Self(Arc::new(Counted {
            max: max.into(),
            kinds: Mutex::default(),
            left_out: Condvar::new(),
        }))
    }

    fn tell_forever(&self) {
        loop {
            let mut kinds = self.lock();
            while kinds.values().all(|window| window.left_out == 0) {
                kinds = { self.0.left_out.wait(kinds) }.unwrap_or_else(PoisonError::into_inner);
            }
            drop(kinds);
            std::thread::sleep(WINDOW);
            self.tell();
        }
    }

    /// Reports the lines that were left out since the last report.
    pub(super) fn tell(&self) {
        for LeftOut { level, text, lines } in self.take() {
            let max = self.0.max;
            match level < Level::INFO {
                true => warn!(
                    lines,
                    kind = text,
                    "more than {max} lines of one kind in a second"
                ),
                false => info!(
                    lines,
                    kind = text,
                    "more than {max} lines of one kind in a second"
                ),
            }
        }
    }

    fn take(&self) -> Vec<LeftOut> {
        let mut kinds = self.lock();
        let left_out = kinds.values_mut().filter(|window| window.left_out > 0);
        let taken = left_out.map(|window| LeftOut {
            level: window.level,
            text: std::mem::take(&mut window.text),
            lines: std::mem::take(&mut window.left_out),
        });
        taken.collect()
    }

    /// Whether a line is within the limit; one that is not is counted.
    fn admits(
        &self,
        of: &'static Metadata<'static>,
        now: Instant,
        text: impl FnOnce() -> String,
    ) -> bool {
        if self.0.max == 0 || *of.level() > Level::INFO || of.target() == TRACED {
            return true;
        }
        let kind = of.callsite();
        {
            let mut kinds = self.lock();
            let window = kinds.entry(kind.clone()).or_insert_with(|| Window {
                begun: now,
                lines: 0,
                left_out: 0,
                level: *of.level(),
                text: String::new(),
            });
            if now.saturating_duration_since(window.begun) >= WINDOW {
                (window.begun, window.lines) = (now, 0);
            }
            window.lines += 1;
            if window.lines <= self.0.max {
                return true;
            }
            window.left_out += 1;
            if window.left_out > 1 {
                return false;
            }
        }
        // What a line shows of itself may be logged too, so nothing is locked meanwhile.
        let text = text();
        if let Some(window) = self.lock().get_mut(&kind) {
            window.text = text;
        }
        self.0.left_out.notify_all();
        false
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identifier, Window>> {
        self.0.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for FloodLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.admits(event.metadata(), Instant::now(), || {
            let mut message = Message::default();
            event.record(&mut message);
            message.0
        })
    }
}

/// The message of a line.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = martlet_broker::shortened(&format!("{value:?}")).into_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Counts the lines that are written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<u64>>);

    impl<S: Subscriber> Layer<S> for Written {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            *self.0.lock().unwrap() += 1;
        }
    }

    #[test]
    fn lines_of_one_kind_above_the_limit_are_counted() {
        let (limit, written) = (FloodLimit::new(3), Written::default());
        let subscriber = tracing_subscriber::registry()
            .with(written.clone())
            .with(limit.clone());
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..10 {
                info!(number, "client connected");
                tracing::debug!("a message");
            }
            warn!("another kind");
        });
        // Three of the first kind, ten for debugging and one of the last kind.
        assert_eq!(*written.0.lock().unwrap(), 3 + 10 + 1);
        let left_out = LeftOut {
            level: Level::INFO,
            text: "client connected".to_owned(),
            lines: 7,
        };
        assert_eq!(limit.take(), [left_out]);
        assert_eq!(limit.take(), []);
    }

    #[test]
    fn no_limit_is_none() {
        let (limit, written) = (FloodLimit::new(0), Written::default());
        let subscriber = tracing_subscriber::registry()
            .with(written.clone())
            .with(limit);
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..10_000 {
                info!("client connected");
            }
        });
        assert_eq!(*written.0.lock().unwrap(), 10_000);
    }
}
