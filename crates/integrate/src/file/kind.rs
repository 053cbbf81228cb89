//! `[[sinks.file]]` of the configuration.

use std::path::{Component, Path, PathBuf};

use martlet_settings::table;

use super::FileSink;
use super::settings::FileSettings;
use crate::Here;
use crate::configured_sink::ConfiguredSink;
use crate::given::required;
use crate::kind::{MakeIntegration, Surroundings};
use crate::runner::Settings;

/// The kind `file`.
#[derive(Debug)]
pub(crate) struct FileKind;

table! {
    /// Keys of `[[sinks.file]]`.
    FileKeys {
        /// File that the messages are appended to, one line of JSON for each. A path that does not
        /// begin with / begins at the data directory. The directory has to exist. A symbolic link
        /// is not followed. Each sink needs a file of its own, which is not one of the node's
        /// files. The file is created with mode 0640, and PATH.synced beside it, which has the
        /// length that is safe from a power cut.
        path: String;
        /// Size at which the file is renamed PATH.1, PATH.1 PATH.2, and so on. 0: never, for
        /// example because another program renames it; the next line then goes into a new file.
        file_bytes: u64 = 100_000_000, zero or from 1_000;
        /// Number of renamed files that are kept; older ones are removed.
        files_kept: u32 = 10, in 1..=10_000;
    }
}

impl MakeIntegration for FileKind {
    const NAME: &'static str = "file";
    type Keys = FileKeys;

    fn make(
        keys: &FileKeys,
        surroundings: &Surroundings<'_>,
        settings: Settings,
    ) -> Result<ConfiguredSink, String> {
        let path = required("path", &keys.path, "the path of a file")?;
        let file = FileSettings {
            path: whole_path(surroundings.data_dir, path)?,
            file_bytes: keys.file_bytes,
            files_kept: keys.files_kept,
        };
        let path = file.path.clone();
        let sink = ConfiguredSink::new(settings, move |_| FileSink::new(file.clone()));
        Ok(sink.with_file(path))
    }
}

/// The absolute path. `..` is rejected, so that two sinks cannot name one file differently.
fn whole_path(data_dir: &Path, path: &str) -> Result<PathBuf, String> {
    let joined = data_dir.join(path);
    let whole = std::path::absolute(&joined);
    let whole = whole.map_err(|error| format!("`path` is {path:?}: {error}"))?;
    let mut parts = Path::new(path).components();
    let goes_up = parts.any(|part| matches!(part, Component::ParentDir));
    match whole.file_name() {
        None => Err(format!("`path` is {path:?}, expected the path of a file")),
        Some(_) if goes_up => Err(format!(
            "`path` is {path:?}: leave out `..`, so that two sinks cannot mean one file"
        )),
        Some(_) => Ok(whole),
    }
}
