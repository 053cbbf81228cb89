//! The text format of a log line, the same as that of `tracing_subscriber` at a fraction of its
//! cost: each client that connects causes a line. No spans, which the node does not
//! use.

use std::io::Write as _;

use martlet_control::log_lines::{Kind, LogLines, Logged};
use martlet_control::text::printable;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::rotated_file::RotatedFile;
use super::standard::Standard;

/// Writes lines to standard error and to a file, and keeps the last ones. Each line is formatted
/// once.
pub(super) struct TextLines {
    pub(super) standard: Standard,
    /// Whether levels have colours on standard error.
    pub(super) colours: bool,
    pub(super) file: Option<RotatedFile>,
    pub(super) lines: LogLines,
}

impl<S: Subscriber> Layer<S> for TextLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.lines.note_and(event, |logged| {
            let is_urgent = logged.level() < Level::INFO;
            let colours = self.colours;
            self.standard
                .put(is_urgent, |line| write(&logged, line, colours));
            if let Some(file) = &self.file {
                let mut line = Vec::new();
                write(&logged, &mut line, false);
                file.put(&line);
            }
        });
    }
}

/// Appends time, level, message and fields as a line.
fn write(logged: &Logged<'_>, to: &mut Vec<u8>, colours: bool) {
    // Nothing fails in memory.
    let _ = write!(to, "{:.6}", logged.at());
    let (on, off) = match colours {
        true => (colour(logged.level()), "\x1b[0m"),
        false => ("", ""),
    };
    to.extend_from_slice(on.as_bytes());
    to.extend_from_slice(level(logged.level()));
    to.extend_from_slice(off.as_bytes());
    let mut is_first = true;
    for (name, kind, value) in logged.values() {
        if name.starts_with("log.") {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            to.push(b' ');
        }
        let is_message = name == "message";
        if !is_message {
            to.extend_from_slice(name.as_bytes());
            to.extend_from_slice(if kind == Kind::Sources {
                b".sources=["
            } else {
                b"="
            });
        }
        match kind {
            Kind::Text if !is_message => quote(to, value),
            Kind::Json => to.extend_from_slice(value),
            Kind::Text | Kind::Shown | Kind::Error => harmless(to, value),
            Kind::Sources => {
                harmless(to, value);
                to.push(b']');
            }
        }
    }
    to.push(b'\n');
}

/// A level, surrounded by spaces and padded to five characters.
fn level(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b" ERROR ",
        Level::WARN => b"  WARN ",
        Level::INFO => b"  INFO ",
        Level::DEBUG => b" DEBUG ",
        Level::TRACE => b" TRACE ",
    }
}

/// The colour of a level on a terminal.
fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// Appends a text in quotes, in the format of `Debug`.
fn quote(to: &mut Vec<u8>, text: &[u8]) {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'"' && *byte != b'\\';
    if !text.iter().all(is_plain) {
        let text = String::from_utf8_lossy(text);
        return to.extend_from_slice(format!("{text:?}").as_bytes());
    }
    to.push(b'"');
    to.extend_from_slice(text);
    to.push(b'"');
}

/// Appends a text in which nothing controls a terminal, and no line looks like one of its own.
fn harmless(to: &mut Vec<u8>, text: &[u8]) {
    if text.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return to.extend_from_slice(text);
    }
    let text = String::from_utf8_lossy(text);
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            to.extend_from_slice(b"\n  ");
        }
        to.extend_from_slice(printable(line).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt;
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'w> MakeWriter<'w> for Lines {
        type Writer = Self;

        fn make_writer(&'w self) -> Self {
            self.clone()
        }
    }

    impl<S: Subscriber> Layer<S> for Lines {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            LogLines::default().note_and(event, |logged| {
                write(&logged, &mut self.0.lock().unwrap(), false);
            });
        }
    }

    impl Lines {
        /// The written text without the time of each line.
        fn text(&self) -> String {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let lines = text.split_inclusive('\n');
            let timeless = lines.map(|line| match line.split_once("Z ") {
                Some((time, rest)) if time.len() == 26 => rest,
                _ => line,
            });
            timeless.collect()
        }
    }

    #[derive(Debug)]
    struct Failed(Option<Box<Self>>);

    impl std::fmt::Display for Failed {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("it failed")
        }
    }

    impl Error for Failed {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.0.as_ref().map(|source| &**source as _)
        }
    }

    fn log_all_kinds() {
        let (none, name) = (None::<&str>, "a \"b\"\\ é\n\u{1b}");
        tracing::info!(client_id = "plain", none, version = %5, there = true, "client connected");
        tracing::warn!(name, r#type = ?Some("x"), count = -3_i64, secs = 0.5, "odd: é");
        tracing::error!(bytes = 7_u64, error = &Failed(None) as &dyn Error);
        let failed = Failed(Some(Box::new(Failed(Some(Box::new(Failed(None)))))));
        tracing::debug!(
            error = &failed as &dyn Error,
            more = 1e30,
            long = "é".repeat(300),
            "x"
        );
        tracing::trace!("last");
    }

    #[test]
    fn nothing_in_a_line_controls_a_terminal_or_looks_like_another_line() {
        let own = Lines::default();
        let subscriber = tracing_subscriber::registry().with(own.clone());
        tracing::subscriber::with_default(subscriber, || {
            let odd = "a\u{1b}[2J\u{9b}\u{202e}\r\u{0}\n2026 INFO b";
            tracing::info!(shown = %odd, text = odd, "message {odd}");
        });
        let text = own.text();
        let controls = |letter: char| letter.is_control() && letter != '\n';
        assert!(
            !text.contains(controls) && !text.contains('\u{202e}'),
            "{text}"
        );
        assert!(
            text.lines().skip(1).all(|line| line.starts_with("  ")),
            "{text}"
        );
    }

    #[test]
    fn a_line_is_what_the_subscriber_would_write() {
        let (usual, own) = (Lines::default(), Lines::default());
        let layer = fmt::layer().with_target(false).with_ansi(false);
        let subscriber = tracing_subscriber::registry().with(layer.with_writer(usual.clone()));
        tracing::subscriber::with_default(subscriber, log_all_kinds);
        let subscriber = tracing_subscriber::registry().with(own.clone());
        tracing::subscriber::with_default(subscriber, log_all_kinds);
        assert_eq!(own.text(), usual.text());
        assert!(
            own.text()
                .starts_with(" INFO client connected client_id=\"plain\" version=5")
        );
    }
}
