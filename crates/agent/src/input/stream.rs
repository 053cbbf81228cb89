//! Standard input and named pipes. A thread reads each of them, since reading blocks.
//!
//! Responsible for received bytes and for detecting that writers have left. A thread blocks until
//! the agent has taken what it read before, so a fast writer blocks too.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::event::epoll;
use rustix::fs::{FileType, Mode, OFlags};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Number of bytes read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Most chunks that wait for the agent.
const CHUNKS_MAX: usize = 2;
/// Stack size of a reading thread, in bytes.
const STACK_BYTES: usize = 128 * 1024;
/// Interval at which it is checked whether the path still names the same pipe, in seconds.
const NAME_CHECK_SECS: i64 = 5;

/// Next item of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// Bytes.
    Bytes(Vec<u8>),
    /// The writers have closed the pipe: an unfinished line will not be continued.
    WritersLeft,
    /// The stream has ended: nothing follows.
    Ended,
    /// The stream cannot be read any more. The text is a line for the log. Nothing follows.
    Failed(String),
}

/// A stream that is read by a thread.
#[derive(Debug)]
pub(crate) struct InputStream {
    chunks: Receiver<Chunk>,
    is_stopped: Arc<AtomicBool>,
}

/// Passes the thread's chunks to the agent.
struct Outlet {
    chunks: Sender<Chunk>,
    is_stopped: Arc<AtomicBool>,
}

impl InputStream {
    /// Returns the next chunk.
    pub(crate) async fn next(&mut self) -> Chunk {
        self.chunks.recv().await.unwrap_or(Chunk::Ended)
    }

    /// Stops reading. Chunks that were already read can still be taken.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

impl Outlet {
    /// Passes on a chunk. Returns false if reading must stop.
    fn put(&self, chunk: Chunk) -> bool {
        let is_last = matches!(chunk, Chunk::Ended | Chunk::Failed(_));
        let is_taken = self.chunks.blocking_send(chunk).is_ok();
        is_taken && !is_last && !self.is_stopped.load(Ordering::Relaxed)
    }
}

/// Reads standard input.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn stdin() -> io::Result<InputStream> {
    start(move |outlet| {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let chunk = match stdin.read(&mut buffer) {
                Ok(0) => Chunk::Ended,
                Ok(count) => Chunk::Bytes(buffer[..count].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Chunk::Failed(format!("cannot read standard input: {error}")),
            };
            if !outlet.put(chunk) {
                return;
            }
        }
    })
}

/// Reads a named pipe, without end. If the path does not exist, creates a pipe that only this user
/// can open.
///
/// # Errors
/// The path exists and is no pipe, or the pipe cannot be created or opened.
pub(crate) fn pipe(path: &Path) -> Result<InputStream, String> {
    let failed = |error: io::Error| format!("cannot read the pipe {}: {error}", path.display());
    let pipe = Pipe::open(path).map_err(failed)?;
    start(move |outlet| pipe.read_all(&outlet)).map_err(failed)
}

fn start(work: impl FnOnce(Outlet) + Send + 'static) -> io::Result<InputStream> {
    let (sender, receiver) = channel(CHUNKS_MAX);
    let is_stopped = Arc::new(AtomicBool::new(false));
    let outlet = Outlet {
        chunks: sender,
        is_stopped: Arc::clone(&is_stopped),
    };
    let builder = thread::Builder::new().name("input".to_owned());
    builder
        .stack_size(STACK_BYTES)
        .spawn(move || work(outlet))?;
    Ok(InputStream {
        chunks: receiver,
        is_stopped,
    })
}

/// The reading end of a named pipe. It stays open when the writers leave, so that data of the next
/// writer is not lost.
struct Pipe {
    path: PathBuf,
    file: File,
    /// Signals each change, and only changes: a pipe without writers is always "ready".
    changes: rustix::fd::OwnedFd,
}

impl Pipe {
    fn open(path: &Path) -> io::Result<Self> {
        match path.metadata() {
            Ok(found) if found.file_type().is_fifo() => {}
            Ok(_) => {
                let why = "it is not a named pipe; give another path, or remove the existing file";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mode = Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, mode, 0)?;
            }
            Err(error) => return Err(error),
        }
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let mut options = File::options();
        let file = options.read(true).custom_flags(flags).open(path)?;
        let changes = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wanted = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&changes, file.as_fd(), epoll::EventData::new_u64(0), wanted)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            changes,
        })
    }

    fn read_all(mut self, outlet: &Outlet) {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut has_partial = false;
        loop {
            let chunk = match self.file.read(&mut buffer) {
                Ok(0) if has_partial => {
                    has_partial = false;
                    Chunk::WritersLeft
                }
                Ok(0) => match self.wait() {
                    Ok(()) => continue,
                    Err(error) => self.failed(&error),
                },
                Ok(count) => {
                    has_partial = true;
                    Chunk::Bytes(buffer[..count].to_vec())
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock => match self.wait() {
                        Ok(()) => continue,
                        Err(error) => self.failed(&error),
                    },
                    _ => self.failed(&error),
                },
            };
            if !outlet.put(chunk) {
                return;
            }
        }
    }

    /// Waits for a change of the pipe, or until the path names another pipe.
    fn wait(&mut self) -> io::Result<()> {
        let timeout = rustix::event::Timespec {
            tv_sec: NAME_CHECK_SECS,
            tv_nsec: 0,
        };
        let mut events = Vec::with_capacity(1);
        match epoll::wait(
            &self.changes,
            rustix::buffer::spare_capacity(&mut events),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if events.is_empty() && self.has_another()? {
            *self = Self::open(&self.path)?;
        }
        Ok(())
    }

    /// Whether the pipe was removed, and possibly replaced by a new one.
    fn has_another(&self) -> io::Result<bool> {
        let own = self.file.metadata()?;
        Ok(match self.path.metadata() {
            Ok(found) => (found.dev(), found.ino()) != (own.dev(), own.ino()),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        })
    }

    fn failed(&self, error: &io::Error) -> Chunk {
        Chunk::Failed(format!(
            "cannot read the pipe {}: {error}",
            self.path.display()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn text(stream: &mut InputStream) -> String {
        let mut text = String::new();
        loop {
            match stream.chunks.blocking_recv() {
                Some(Chunk::Bytes(bytes)) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
                Some(Chunk::WritersLeft) => return text,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_pipe_is_made_and_writers_come_and_go() {
        let name = format!("martlet-agent-pipe-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut stream = pipe(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        for word in ["first", "second\n", "third"] {
            // The writer closes it at once, before the reader may have noticed.
            let mut options = File::options();
            options
                .write(true)
                .open(&path)
                .unwrap()
                .write_all(word.as_bytes())
                .unwrap();
            assert_eq!(text(&mut stream), word);
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_is_no_pipe_is_refused() {
        let error = pipe(&std::env::temp_dir()).unwrap_err();
        assert!(error.contains("it is not a named pipe"), "{error}");
    }
}
