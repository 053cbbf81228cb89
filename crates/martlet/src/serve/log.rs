//! The log: lines on standard error, and beside them in a file that is put aside when it is large.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use martlet_control::log_lines::LogLines;
use martlet_control::logging::Logging;
use martlet_control::rfc3339;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use super::log_text::TextLines;
use crate::cmd::print::errln;
use crate::config::{LogFile, LogFormat, NodeConfig};

/// The log as it was started.
pub(super) struct Log {
    /// Changes the levels while the node runs.
    pub(super) logging: Arc<Logging>,
    /// Standard error.
    pub(super) standard: Standard,
    file: Option<RotatedFile>,
}

impl Log {
    /// Reopens the file: log rotation has renamed it.
    pub(super) fn reopen(&self) {
        if let Some(Err(error)) = self.file.as_ref().map(RotatedFile::reopen) {
            tracing::error!(%error, "the log file cannot be opened again");
        }
    }
}

/// What `log.level` says.
///
/// # Errors
/// It is no filter.
pub(super) fn filter(node: &NodeConfig) -> anyhow::Result<EnvFilter> {
    let filter = parsed(&node.log_level);
    filter.with_context(|| format!("log.level is {:?}", node.log_level))
}

/// Crates that log less unless `log.level` names them, as with `sqlx=debug`: the node says the same
/// in its own words.
const QUIET: &str = "sqlx=warn,async_nats=off";

/// A level without an area applies to our own areas.
fn parsed(text: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::try_new(format!("{QUIET},{text}"))
}

/// Lines go where the configuration says from now on.
///
/// # Errors
/// The level is none, or the file cannot be opened.
pub(super) fn start(node: &NodeConfig) -> anyhow::Result<Log> {
    let (filter, handle) = reload::Layer::new(filter(node)?);
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && io::stderr().is_terminal();
    let standard = Standard::default();
    let file = node.log_file.as_ref().map(RotatedFile::open).transpose()?;
    let lines = LogLines::default();
    let is_plain = node.log_format == LogFormat::Text && !colours;
    let layers = if is_plain {
        let text = TextLines {
            standard: standard.clone(),
            file: file.clone(),
            lines: lines.clone(),
        };
        vec![text.boxed()]
    } else {
        let mut layers = vec![
            layer(node.log_format, standard.clone(), colours),
            KeptLines(lines.clone()).boxed(),
        ];
        layers.extend(file.clone().map(|file| layer(node.log_format, file, false)));
        layers
    };
    tracing_subscriber::registry()
        .with(layers)
        .with(filter)
        .init();
    let apply = move |text: &str| {
        let filter = parsed(text).map_err(|error| format!("{text:?}: {error}"))?;
        handle.reload(filter).map_err(|error| error.to_string())
    };
    Ok(Log {
        logging: Logging::new(&node.log_level, Box::new(apply), lines),
        standard,
        file,
    })
}

fn layer<W>(format: LogFormat, writer: W, colours: bool) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // What cannot be written is the writer's to tell: the layer would use `eprintln!`, which panics
    // where standard error is closed.
    let layer = fmt::layer()
        .with_timer(Clock)
        .with_writer(writer)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => layer.with_ansi(colours).with_target(false).boxed(),
        LogFormat::Json => layer.with_ansi(false).json().flatten_event(true).boxed(),
    }
}

/// Bytes of lines that are gathered to be written together, at most.
const GATHERED_BYTES: usize = 16 * 1024;

/// Standard error. Lines of many events at once are written together: each would cost a call of the
/// system.
#[derive(Clone, Debug, Default)]
pub(super) struct Standard(Arc<Mutex<Gathered>>);

#[derive(Debug, Default)]
struct Gathered {
    is_on: bool,
    lines: Vec<u8>,
}

impl Standard {
    /// Lines of this, and of others meanwhile, are written when it is over; what is worse than
    /// `info` at once, with all before it.
    pub(super) fn gather<T>(&self, work: impl FnOnce() -> T) -> T {
        self.lock().is_on = true;
        let done = work();
        let mut gathered = self.lock();
        gathered.is_on = false;
        gathered.write();
        // A line may be long.
        gathered.lines.shrink_to(GATHERED_BYTES);
        done
    }

    /// A line is appended to those that wait. One that is urgent is written at once, with all
    /// before it.
    pub(super) fn put(&self, is_urgent: bool, append: impl FnOnce(&mut Vec<u8>)) {
        let mut gathered = self.lock();
        append(&mut gathered.lines);
        let may_wait = gathered.is_on && !is_urgent;
        if !may_wait || gathered.lines.len() >= GATHERED_BYTES {
            gathered.write();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    /// Writes what there is. Standard error may be a closed pipe: the node goes on without it.
    fn write(&mut self) {
        let _ = io::stderr().lock().write_all(&self.lines);
        self.lines.clear();
    }
}

/// One line on its way to standard error.
pub(super) struct StandardLine {
    to: Standard,
    is_urgent: bool,
}

impl Write for StandardLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let append = |lines: &mut Vec<u8>| lines.extend_from_slice(bytes);
        self.to.put(self.is_urgent, append);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Standard {
    type Writer = StandardLine;

    fn make_writer(&'w self) -> StandardLine {
        StandardLine {
            to: self.clone(),
            is_urgent: true,
        }
    }

    fn make_writer_for(&'w self, of: &Metadata<'_>) -> StandardLine {
        StandardLine {
            to: self.clone(),
            is_urgent: *of.level() < Level::INFO,
        }
    }
}

/// Keeps the last lines, beside where they are written.
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
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let us = now.unwrap_or_default().as_micros() as u64;
        rfc3339::with_text_of_us(us, |text| to.write_str(text))
    }
}

/// A file that is renamed when it is large: `martlet.log`, `martlet.log.1`, …, of which the highest
/// number is the oldest, and is removed in the end.
#[derive(Clone, Debug)]
pub(super) struct RotatedFile(Arc<Mutex<Rotation>>);

#[derive(Debug)]
struct Rotation {
    settings: LogFile,
    file: File,
    bytes: u64,
}

impl RotatedFile {
    fn open(settings: &LogFile) -> anyhow::Result<Self> {
        let path = &settings.path;
        if let Some(directory) = settings.path.parent().filter(|_| settings.makes_directory) {
            fs::create_dir_all(directory)
                .with_context(|| format!("log.file: cannot make {}", directory.display()))?;
        }
        let opened =
            open(path).with_context(|| format!("log.file: cannot open {}", path.display()));
        let (file, bytes) = opened?;
        Ok(Self(Arc::new(Mutex::new(Rotation {
            settings: settings.clone(),
            file,
            bytes,
        }))))
    }

    fn reopen(&self) -> io::Result<()> {
        let mut rotation = self.lock();
        (rotation.file, rotation.bytes) = open(&rotation.settings.path)?;
        Ok(())
    }

    /// Writes a line.
    pub(super) fn put(&self, line: &[u8]) {
        if let Err(error) = self.lock().write_line(line) {
            errln!("martlet: the log file cannot be written: {error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rotation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rotation {
    /// A line is written whole into one file.
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let len = line.len() as u64;
        if self.bytes > 0 && self.bytes + len > self.settings.bytes {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.bytes += len;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.settings.path;
        for number in (1..self.settings.kept).rev() {
            ignore_missing(fs::rename(
                numbered(path, number),
                numbered(path, number + 1),
            ))?;
        }
        match self.settings.kept {
            0 => ignore_missing(fs::remove_file(path))?,
            _ => ignore_missing(fs::rename(path, numbered(path, 1)))?,
        }
        (self.file, self.bytes) = open(path)?;
        Ok(())
    }
}

fn ignore_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Whether the file of the log can be opened, or made; nothing is made here.
///
/// # Errors
/// It cannot.
pub(crate) fn check_log_file(node: &NodeConfig) -> anyhow::Result<()> {
    let Some(settings) = &node.log_file else {
        return Ok(());
    };
    let path = &settings.path;
    let opened = OpenOptions::new().append(true).open(path);
    let usable = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut parents = path.ancestors().skip(1);
            let parent = parents.find(|parent| !settings.makes_directory || parent.exists());
            let parent = parent.filter(|parent| *parent != Path::new(""));
            let parent = parent.unwrap_or(Path::new("."));
            rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).map_err(io::Error::from)
        }
        opened => opened.map(|_| ()),
    };
    usable.with_context(|| format!("log.file: cannot open {}", path.display()))
}

/// Names of clients and topics stand in it, so it is its owner's and group's.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o640).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

/// One line on its way.
pub(super) struct RotatedLine(RotatedFile);

impl Write for RotatedLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for RotatedFile {
    type Writer = RotatedLine;

    fn make_writer(&'w self) -> RotatedLine {
        RotatedLine(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_wait_only_while_others_come_and_none_that_is_grave_does() {
        let standard = Standard::default();
        let put = |is_urgent| {
            let mut line = StandardLine {
                to: standard.clone(),
                is_urgent,
            };
            line.write_all(b"\n").unwrap();
            standard.lock().lines.len()
        };
        assert_eq!(put(false), 0);
        standard.gather(|| {
            assert_eq!(
                [put(false), put(false), put(true), put(false)],
                [1, 2, 0, 1]
            );
        });
        assert!(standard.lock().lines.is_empty() && !standard.lock().is_on);
    }

    #[test]
    fn a_file_that_is_large_is_put_aside_and_the_oldest_goes() {
        let directory = std::env::temp_dir().join(format!("martlet-log-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("martlet.log");
        let settings = LogFile {
            path: path.clone(),
            bytes: 30,
            kept: 2,
            makes_directory: false,
        };
        let file = RotatedFile::open(&settings).unwrap();
        for number in 0..10 {
            let line = format!("line {number} of ten\n");
            file.make_writer().write_all(line.as_bytes()).unwrap();
        }
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!(read(&path), "line 8 of ten\nline 9 of ten\n");
        assert_eq!(read(&numbered(&path, 1)), "line 6 of ten\nline 7 of ten\n");
        assert!(numbered(&path, 2).exists() && !numbered(&path, 3).exists());
        // Who moves it away has it written to elsewhere until it is opened anew.
        fs::rename(&path, directory.join("moved")).unwrap();
        file.reopen().unwrap();
        file.make_writer().write_all(b"after\n").unwrap();
        assert_eq!(read(&path), "after\n");
        fs::remove_dir_all(&directory).unwrap();
    }
}
