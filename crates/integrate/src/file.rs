//! The file sink: appends one line of JSON per message to a file. The smallest complete sink, as a
//! template for others.

mod kind;
mod opening;
mod rotated;
mod settings;
mod synced;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::spawn_blocking;

use crate::caught::catch;
use crate::json;
use crate::outcome::Outcome;
use crate::sink::Sink;
use crate::sink_message::SinkMessage;

pub(crate) use kind::FileKind;
pub use rotated::RotatedFile;
pub use settings::FileSettings;

/// A sink that appends to a file.
#[derive(Debug)]
pub struct FileSink {
    /// Locked while a thread writes, which may take longer than the runner waits.
    file: Arc<Mutex<RotatedFile>>,
}

impl FileSink {
    /// A sink that opens its file with the first delivery.
    pub fn new(settings: FileSettings) -> Self {
        let file = Arc::new(Mutex::new(RotatedFile::new(settings)));
        Self { file }
    }

    /// Runs a function with the file on a thread that may block.
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
            catch(|| work(&mut file)).unwrap_or_else(Err)
        });
        done.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl Sink for FileSink {
    async fn deliver(&mut self, batch: &[SinkMessage]) -> Vec<Outcome> {
        let mut lines = Vec::new();
        for message in batch {
            if let Err(error) = json::write(&mut lines, message) {
                return vec![Outcome::Failed(format!(
                    "no JSON of it can be made: {error}"
                ))];
            }
            lines.push(b'\n');
        }
        let outcome = match self.with_file(move |file| file.append(&lines)).await {
            Ok(()) => Outcome::Done,
            Err(why) => Outcome::Failed(why),
        };
        vec![outcome; batch.len()]
    }

    fn health(&self) -> Option<String> {
        // Unknown while a thread writes.
        let file = self.file.try_lock().ok()?;
        file.trouble().map(str::to_owned)
    }

    async fn test(&mut self) -> Result<(), String> {
        self.with_file(RotatedFile::check).await
    }
}

/// Checks before the start whether a sink could write to this path. Creates nothing.
///
/// # Errors
/// It could not; the reason.
pub fn check_path(path: &Path) -> Result<(), String> {
    rotated::check_path(path)
}
