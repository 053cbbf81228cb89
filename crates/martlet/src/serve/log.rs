//! The log: lines on standard error, and also in a file that is rotated when it is large.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use jiff::Timestamp;
use martlet_control::log_lines::LogLines;
use martlet_control::logging::Logging;
use martlet_text_file::owned;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use super::log_flood::FloodLimit;
use super::log_text::TextLines;
use super::rotated_file::RotatedFile;
use super::standard::Standard;
use crate::config::{LogFormat, LogSettings};

/// The running log.
pub(super) struct Log {
    /// Changes log levels while the node runs.
    pub(super) logging: Arc<Logging>,
    /// Standard error.
    pub(super) standard: Standard,
    file: Option<RotatedFile>,
    flood: FloodLimit,
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flood.tell();
    }
}

impl Log {
    /// Reopens the file after log rotation has renamed it.
    pub(super) fn reopen(&self) {
        if let Some(Err(error)) = self.file.as_ref().map(RotatedFile::reopen) {
            tracing::error!(%error, "the log file cannot be opened again");
        }
    }
}

/// Parses `log.level`.
///
/// # Errors
/// It is not a valid filter.
pub(super) fn filter(settings: &LogSettings) -> anyhow::Result<EnvFilter> {
    let filter = parsed(&settings.level);
    filter.with_context(|| format!("log.level is {:?}", settings.level))
}

/// Crates that log less unless `log.level` contains them, such as `sqlx=debug`. The node logs these
/// events itself.
const QUIET: &str = "sqlx=warn,async_nats=off";

/// Parses a filter. A level without an area applies to all our areas.
fn parsed(text: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::try_new(format!("{QUIET},{text}"))
}

/// Format of the log, once it has been started.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Format of the log; `None` before it is started.
pub(super) fn format() -> Option<LogFormat> {
    FORMAT.get().copied()
}

/// Starts logging to the configured targets.
///
/// # Errors
/// The level is invalid, or the file cannot be opened.
pub(super) fn start(settings: &LogSettings) -> anyhow::Result<Log> {
    let (filter, handle) = reload::Layer::new(filter(settings)?);
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && io::stderr().is_terminal();
    let standard = Standard::default();
    let file = settings.file.as_ref();
    let file = file.map(|file| RotatedFile::open(file, settings.format));
    let file = file.transpose()?;
    let lines = LogLines::default();
    let layers = if settings.format == LogFormat::Text {
        let text = TextLines {
            standard: standard.clone(),
            colours,
            file: file.clone(),
            lines: lines.clone(),
        };
        vec![text.boxed()]
    } else {
        let mut layers = vec![
            json_layer(standard.clone()),
            KeptLines(lines.clone()).boxed(),
        ];
        layers.extend(file.clone().map(json_layer));
        layers
    };
    let flood = FloodLimit::start(settings.lines_per_second).context("cannot start a thread")?;
    tracing_subscriber::registry()
        .with(layers)
        .with(flood.clone())
        .with(filter)
        .init();
    let _ = FORMAT.set(settings.format);
    let apply = move |text: &str| {
        let filter = parsed(text).map_err(|error| format!("{text:?}: {error}"))?;
        handle.reload(filter).map_err(|error| error.to_string())
    };
    Ok(Log {
        logging: Logging::new(&settings.level, Box::new(apply), lines),
        standard,
        file,
        flood,
    })
}

fn json_layer<W>(writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // The writer handles write errors itself: the layer would use `eprintln!`, which panics if
    // standard error is closed.
    let layer = fmt::layer()
        .with_timer(Clock)
        .with_writer(writer)
        .log_internal_errors(false);
    layer.with_ansi(false).json().flatten_event(true).boxed()
}

/// Keeps the last lines in memory.
struct KeptLines(LogLines);

impl Layer<Registry> for KeptLines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, Registry>) {
        self.0.note(event);
    }
}

/// The time of a line.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, to: &mut Writer<'_>) -> std::fmt::Result {
        write!(to, "{:.6}", Timestamp::now())
    }
}

/// Checks whether the log file can be opened or created. Creates nothing.
///
/// # Errors
/// It cannot be opened or created.
pub(crate) fn check_log_file(settings: &LogSettings) -> anyhow::Result<()> {
    let Some(file) = &settings.file else {
        return Ok(());
    };
    let path = &file.path;
    let opened = owned::open(path, OpenOptions::new().append(true));
    let usable = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut parents = path.ancestors().skip(1);
            let parent = parents.find(|parent| !file.makes_directory || parent.exists());
            let parent = parent.filter(|parent| *parent != Path::new(""));
            let parent = parent.unwrap_or(Path::new("."));
            rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).map_err(io::Error::from)
        }
        opened => opened.map(|_| ()),
    };
    usable.with_context(|| format!("log.file: cannot open {}", path.display()))
}
