//! Standard input and named pipes, each read by a thread, since reading them waits.
//!
//! Responsible for the bytes as they arrive and for where a writer has ended. A thread waits while
//! the agent has not taken what it read before, so a writer that is too fast waits too.

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

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks that wait for the agent.
const CHUNKS_MAX: usize = 2;
/// Stack of a thread that reads, bytes.
const STACK_BYTES: usize = 128 * 1024;
/// How often a pipe is looked at whether it still has its name, seconds.
const NAME_CHECK_SECS: i64 = 5;

/// What a stream brings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// Bytes.
    Bytes(Vec<u8>),
    /// The writers have left: what has no end of line yet will get none.
    WritersLeft,
    /// The stream has ended: nothing follows.
    Ended,
    /// It cannot be read any more: a line for the log. Nothing follows.
    Failed(String),
}

/// A stream that a thread reads.
#[derive(Debug)]
pub(crate) struct InputStream {
    chunks: Receiver<Chunk>,
    is_stopped: Arc<AtomicBool>,
}

/// What a thread needs to hand over what it has read.
struct Outlet {
    chunks: Sender<Chunk>,
    is_stopped: Arc<AtomicBool>,
}

impl InputStream {
    /// What was read next.
    pub(crate) async fn next(&mut self) -> Chunk {
        self.chunks.recv().await.unwrap_or(Chunk::Ended)
    }

    /// From now on nothing more is read; what was read can still be taken.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

impl Outlet {
    /// Hands a chunk over; false: no more is to be read.
    fn put(&self, chunk: Chunk) -> bool {
        let is_last = matches!(chunk, Chunk::Ended | Chunk::Failed(_));
        let is_taken = self.chunks.blocking_send(chunk).is_ok();
        is_taken && !is_last && !self.is_stopped.load(Ordering::Relaxed)
    }
}

/// Reads standard input.
///
/// # Errors
/// No thread can be started.
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

/// Reads a named pipe, for ever. Where there is nothing of that name a pipe is made that only this
/// user may open.
///
/// # Errors
/// There is something else of that name, or it cannot be made or opened.
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

/// The reading end of a named pipe. It stays open when the writers leave: what a next one writes
/// before it is looked at again is not lost.
struct Pipe {
    path: PathBuf,
    file: File,
    /// Wakes up at each change, and only then: a pipe without writers is "ready" all the time.
    changes: rustix::fd::OwnedFd,
}

impl Pipe {
    fn open(path: &Path) -> io::Result<Self> {
        match path.metadata() {
            Ok(found) if found.file_type().is_fifo() => {}
            Ok(_) => {
                let why = "it is not a named pipe; give another path, or remove what is there";
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

    /// Waits for a change of the pipe, or until it is another one that has its name.
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

    /// Somebody has removed the pipe, and perhaps made a new one.
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
            // It is closed at once, before anybody may have looked.
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
