//! `[[sinks.file]]` of the configuration.

use std::path::{Component, Path, PathBuf};

use super::FileSink;
use super::settings::FileSettings;
use crate::configured_sink::ConfiguredSink;
use crate::kind::{Key, Kind, Surroundings, Takes};
use crate::runner::Settings;
use crate::table::Table;

/// The kind `file`.
pub const KIND: Kind = Kind {
    name: "file",
    keys: KEYS,
    make,
};

const KEYS: &[Key] = &[
    Key::new(
        "path",
        Takes::Text,
        "File that the messages are appended to, one line of JSON for each. A path that does not begin with / begins at the data directory. The directory has to exist. A symbolic link is not followed. Each sink needs a file of its own, which is not one of the node's files. The file is created with mode 0640, and PATH.synced beside it, which has the length that is safe from a power cut.",
    ),
    Key::new(
        "file_bytes",
        Takes::NoneOrAtLeast { min: 1_000 },
        "Size at which the file is renamed PATH.1, PATH.1 PATH.2, and so on. Default: 100000000. 0: never, for example because another program renames it; the next line then goes into a new file.",
    ),
    Key::new(
        "files_kept",
        Takes::Integer {
            min: 1,
            max: 10_000,
        },
        "Number of renamed files that are kept; older ones are removed. Default: 10.",
    ),
];

const FILE_BYTES: u64 = 100_000_000;
const FILES_KEPT: u64 = 10;

fn make(
    table: &Table,
    surroundings: &Surroundings<'_>,
    settings: Settings,
) -> Result<ConfiguredSink, String> {
    let file = file_settings(table, surroundings.data_dir)?;
    let path = file.path.clone();
    let sink = ConfiguredSink::new(settings, move |_| FileSink::new(file.clone()));
    Ok(sink.with_file(path))
}

fn file_settings(table: &Table, data_dir: &Path) -> Result<FileSettings, String> {
    let path = table.required("path", "the path of a file")?;
    let files_kept = table.number("files_kept", FILES_KEPT);
    Ok(FileSettings {
        path: whole_path(data_dir, path)?,
        file_bytes: table.number("file_bytes", FILE_BYTES),
        files_kept: u32::try_from(files_kept).unwrap_or(u32::MAX),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::TableValue;

    #[test]
    fn keys_that_are_missing_have_their_defaults() {
        let path = || ("path".to_owned(), TableValue::Text("out/a.json".to_owned()));
        let table: Table = [path()].into_iter().collect();
        let file = file_settings(&table, Path::new("/data")).unwrap();
        assert_eq!(file.path, Path::new("/data/out/a.json"));
        assert_eq!((file.file_bytes, file.files_kept), (100_000_000, 10));
        let set = ["file_bytes", "files_kept"].into_iter().zip([0, 3]);
        let set = set.map(|(key, number)| (key.to_owned(), TableValue::Number(number)));
        let table: Table = set.chain([path()]).collect();
        let file = file_settings(&table, Path::new("/data")).unwrap();
        assert_eq!((file.file_bytes, file.files_kept), (0, 3));
        assert!(file_settings(&Table::default(), Path::new("/data")).is_err());
    }
}
