//! The file sink: one line of JSON for each message, appended to a file. The smallest complete
//! sink, to begin others with.

mod rotated;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::sink::{Outcome, Sink, SinkMessage};

pub use rotated::RotatedFile;

/// Settings of a file sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// Path of the file; its directory has to exist.
    pub path: PathBuf,
    /// Size at which the file is renamed to `PATH.1`, bytes; 0: never.
    pub file_bytes: u64,
    /// Number of renamed files that are kept, 1 or more.
    pub files_kept: u32,
}

/// A sink that appends to a file.
#[derive(Debug)]
pub struct FileSink {
    /// Locked while a thread writes, which may be longer than the runner waits.
    file: Arc<Mutex<RotatedFile>>,
}

impl FileSink {
    /// A sink that opens its file with the first delivery.
    pub fn new(settings: FileSettings) -> Self {
        let file = Arc::new(Mutex::new(RotatedFile::new(settings)));
        Self { file }
    }

    /// Does something with the file on a thread that may block.
    async fn with_file(
        &self,
        work: impl FnOnce(&mut RotatedFile) -> Result<(), String> + Send + 'static,
    ) -> Result<(), String> {
        let file = Arc::clone(&self.file);
        let done = spawn_blocking(move || {
            let mut file = match file.try_lock() {
                Ok(file) => file,
                Err(std::sync::TryLockError::Poisoned(poisoned)) => {
                    PoisonError::into_inner(poisoned)
                }
                Err(std::sync::TryLockError::WouldBlock) => {
                    return Err("an earlier write has not returned yet: the disk hangs".to_owned());
                }
            };
            work(&mut file)
        });
        done.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl Sink for FileSink {
    async fn deliver(&mut self, batch: &[SinkMessage]) -> Vec<Outcome> {
        let mut lines = Vec::new();
        for message in batch {
            if let Err(error) = write_line(&mut lines, message) {
                return vec![Outcome::Failed(format!(
                    "no JSON of it can be made: {error}"
                ))];
            }
        }
        let outcome = match self.with_file(move |file| file.append(&lines)).await {
            Ok(()) => Outcome::Done,
            Err(why) => Outcome::Failed(why),
        };
        vec![outcome; batch.len()]
    }

    async fn test(&mut self) -> Result<(), String> {
        self.with_file(RotatedFile::check).await
    }
}

/// A line of the file.
#[derive(Serialize)]
struct Line<'a> {
    id: u64,
    topic: &'a str,
    /// The payload if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    /// Else the payload in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    qos: u8,
    retain: bool,
    client_id: Option<&'a str>,
    user: Option<&'a str>,
    device: Option<&'a str>,
    received_at: String,
    repeated: bool,
}

fn write_line(to: &mut Vec<u8>, message: &SinkMessage) -> serde_json::Result<()> {
    let text = std::str::from_utf8(message.payload()).ok();
    let line = Line {
        id: message.id(),
        topic: message.topic(),
        payload: text,
        payload_base64: text.is_none().then(|| STANDARD.encode(message.payload())),
        qos: message.qos() as u8,
        retain: message.retain(),
        client_id: message.client_id(),
        user: message.user(),
        device: message.device(),
        received_at: rfc3339(message.received_ms()),
        repeated: message.repeated(),
    };
    serde_json::to_writer(&mut *to, &line)?;
    to.push(b'\n');
    Ok(())
}

/// A time in UTC, to the millisecond.
fn rfc3339(ms: u64) -> String {
    let time = i64::try_from(ms).ok().map(Timestamp::from_millisecond);
    let time = time.and_then(Result::ok).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Whether a sink could write to this path now: for a check before the start, which makes nothing.
///
/// # Errors
/// It could not; the reason in words.
pub fn check_path(path: &Path) -> Result<(), String> {
    rotated::check_path(path)
}
