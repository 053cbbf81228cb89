//! Backups: one tar file with a consistent copy of everything a node keeps, and its way back.
//!
//! The archive ends with `MANIFEST.json`, which names each file with its length and CRC32C, and the
//! zeros that end a tar archive: one without them was cut off. Verifying reads the archive as a
//! store too, every record of it. `restore` unpacks one.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use martlet_store::{Damage, Disk, Engine, ReadOnly, Stats};
use serde::{Deserialize, Serialize};

mod restore;

use crate::presence::node_of;
use crate::wall_clock::now_ms;
pub use restore::{RESTORING, unfinished_restore};

/// The version of the archive's layout.
const FORMAT: u32 = 1;
const MANIFEST: &str = "MANIFEST.json";
const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// Where the store lies in an archive and in a data directory.
pub const STORE: &str = "store";
/// Where the tables of users and devices lie in both.
pub const TABLES: &str = martlet_registry::FILE;
/// Where telemetry lies in both, if it is in a file.
pub const TELEMETRY: &str = crate::telemetry::FILE;
/// Where files of firmware lie in both.
pub const FIRMWARE: &str = crate::firmware::DIRECTORY;
/// Where the key file of secrets lies in both, if the backup has it.
pub const KEY_FILE: &str = crate::secrets::KEY_FILE;
const CHUNK: usize = 256 * 1024;

/// Metadata of an archive.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// The program that made it.
    version: String,
    /// When it was made, milliseconds since the Unix epoch. Archives of older programs do not have
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made_ms: Option<u64>,
    /// Whether the key file of secrets is among the files. Archives of older programs do not have
    /// it.
    #[serde(default)]
    key_file: bool,
    /// The name of the node among those with the same tables, which have some of their rows by it.
    /// Archives of older programs do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    files: Vec<FileEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct FileEntry {
    /// Path in the archive.
    path: String,
    bytes: u64,
    crc32c: u32,
}

/// Error with a backup, or with the place for one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// A file or the archive cannot be read or written.
    #[error("{what} {path}")]
    Io {
        /// Operation that was to be done.
        what: &'static str,
        /// With which file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The file is something else than a backup.
    #[error("{path} is not a backup of Martlet: {why}")]
    NoBackup {
        /// The file.
        path: String,
        /// Description of what it seems to be instead.
        why: String,
    },
    /// The archive is only a part of a backup, or was changed.
    #[error("{path} is not a complete backup: {why}")]
    Incomplete {
        /// The archive.
        path: String,
        /// Part that is missing or wrong.
        why: String,
    },
    /// The backup was made by a newer program.
    #[error(
        "{path} has format {found}; this program supports formats up to {FORMAT}: use a newer one"
    )]
    TooNew {
        /// The archive.
        path: String,
        /// Format of the archive.
        found: u32,
    },
    /// The data directory is not empty.
    #[error("{0} has a store already; move it away or choose another --data-dir")]
    NotEmpty(PathBuf),
    /// The tables cannot be copied.
    #[error("copying the tables of users and devices")]
    SharedRegistry(#[source] martlet_registry::RegistryError),
    /// The tables are there already, or a file that belongs to them.
    #[error("{0} already exists; move it away or choose another --data-dir")]
    HasTables(PathBuf),
    /// Files that an earlier restore has left are not those that it noted.
    #[error(
        "{0} is left from a restore and cannot be understood: remove it if nothing depends on it"
    )]
    Leftover(PathBuf),
    /// The store in the archive does not open.
    #[error("the store in {path} does not open")]
    Store {
        /// The archive.
        path: String,
        /// Why not.
        source: martlet_store::OpenError,
    },
}

fn error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> BackupError + 'a {
    move |source| BackupError::Io {
        what,
        path: path.display().to_string(),
        source,
    }
}

/// Parts that an archive has besides the store and the tables.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackupParts<'a> {
    /// The key file of secrets.
    pub key_file: Option<&'a Path>,
    /// A copy of telemetry that does not change.
    pub telemetry: Option<&'a Path>,
}

/// Writes an archive to `out`: the files of a store, a given number of bytes of each, the tables
/// and the files of firmware beside it, and the other parts.
///
/// # Errors
/// A file cannot be read, or `out` does not take it.
pub fn write_archive(
    store: &Path,
    files: &[(String, u64)],
    parts: BackupParts<'_>,
    out: impl Write,
) -> Result<(), BackupError> {
    let mut archive = tar::Builder::new(out);
    let mut manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        made_ms: Some(now_ms()),
        key_file: parts.key_file.is_some(),
        node: store.parent().and_then(node_of),
        files: Vec::new(),
    };
    for (name, bytes) in files {
        let source = store.join(name);
        let file = File::open(&source).map_err(error("opening", &source))?;
        let path = format!("{STORE}/{name}");
        let entry = append_file(&mut archive, path, file, *bytes, &source)?;
        manifest.files.push(entry);
    }
    let tables = store.with_file_name(TABLES);
    let copy = martlet_registry::wait(martlet_registry::copy_of(&tables));
    if let Some(copy) = copy.map_err(BackupError::SharedRegistry)? {
        let bytes = copy.metadata().map_err(error("reading", &tables))?.len();
        let entry = append_file(&mut archive, TABLES.to_owned(), copy, bytes, &tables)?;
        manifest.files.push(entry);
    }
    append_firmware(&mut archive, &store.with_file_name(FIRMWARE), &mut manifest)?;
    for (name, source) in [(TELEMETRY, parts.telemetry), (KEY_FILE, parts.key_file)] {
        let Some(source) = source else {
            continue;
        };
        let file = File::open(source).map_err(error("opening", source))?;
        let bytes = file.metadata().map_err(error("reading", source))?.len();
        let entry = append_file(&mut archive, name.to_owned(), file, bytes, source)?;
        manifest.files.push(entry);
    }
    let text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::from);
    text.and_then(|text| append(&mut archive, MANIFEST, text.len() as u64, text.as_slice()))
        .and_then(|()| archive.into_inner())
        .and_then(|mut out| out.flush())
        .map_err(error("writing", Path::new("the archive")))
}

/// Appends the files of firmware. They never change, and the tables have been copied: one that is
/// gone belongs to a version that has been deleted since.
fn append_firmware(
    archive: &mut tar::Builder<impl Write>,
    directory: &Path,
    manifest: &mut Manifest,
) -> Result<(), BackupError> {
    let names = firmware_files(directory).map_err(error("reading", directory))?;
    for name in names {
        let source = directory.join(&name);
        let file = match File::open(&source) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => continue,
            file => file.map_err(error("opening", &source))?,
        };
        let bytes = file.metadata().map_err(error("reading", &source))?.len();
        let path = format!("{FIRMWARE}/{name}");
        let entry = append_file(archive, path, file, bytes, &source)?;
        manifest.files.push(entry);
    }
    Ok(())
}

/// Names of the files of firmware in a directory, in order; none if it is not there.
fn firmware_files(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Err(none) if none.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if crate::firmware::is_file_name(&name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Appends the given number of bytes of a file. Returns its entry for the manifest.
fn append_file(
    archive: &mut tar::Builder<impl Write>,
    path: String,
    file: File,
    bytes: u64,
    source: &Path,
) -> Result<FileEntry, BackupError> {
    let mut reader = Summed::new(file.take(bytes));
    append(archive, &path, bytes, &mut reader).map_err(error("copying", source))?;
    Ok(FileEntry {
        path,
        bytes,
        crc32c: reader.sum,
    })
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    path: &str,
    bytes: u64,
    reader: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_entry_type(tar::EntryType::Regular);
    archive.append_data(&mut header, path, reader)
}

/// Sums up what is read through it.
struct Summed<R> {
    inner: R,
    sum: u32,
    bytes: u64,
}

impl<R> Summed<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            sum: 0,
            bytes: 0,
        }
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.sum = crc32c::crc32c_append(self.sum, &buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

/// An archive whose files have been found, and checked against its manifest.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    /// Where each file's bytes lie.
    places: BTreeMap<String, ArchiveEntry>,
    made_ms: Option<u64>,
    node: Option<String>,
}

/// Where a file lies in an archive, and its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveEntry {
    offset: u64,
    bytes: u64,
    crc32c: u32,
}

/// Result of verifying a backup.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Files in it.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Numbers of what its store holds.
    pub stats: Stats,
    /// Places in its store that do not check, in words: damage that was there when it was made.
    pub damage: Vec<String>,
}

impl Archive {
    /// Opens an archive, reads all of it and compares it with its manifest. `progress` gets how
    /// many bytes have been read, of how many.
    ///
    /// # Errors
    /// It cannot be read, is cut off or changed, or of a newer program.
    pub fn open(path: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Self, BackupError> {
        let file = File::open(path).map_err(error("opening", path))?;
        let length = length_of_archive(path, &file)?;
        let incomplete = |why: String| BackupError::Incomplete {
            path: path.display().to_string(),
            why,
        };
        let mut places = BTreeMap::new();
        let mut manifest = None;
        let mut end = 0;
        let mut archive = tar::Archive::new(&file);
        let entries = archive.entries().map_err(error("reading", path))?;
        for entry in entries {
            let entry = entry.map_err(|cut| incomplete(cut.to_string()))?;
            let offset = entry.raw_file_position();
            let beyond = offset.saturating_add(entry.size());
            end = beyond.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
            let name = entry.path().map_err(|bad| incomplete(bad.to_string()))?;
            let name = name.display().to_string();
            if name == MANIFEST {
                let mut text = String::new();
                let mut entry = entry.take(MANIFEST_BYTES_MAX);
                let read = entry.read_to_string(&mut text);
                read.map_err(|cut| incomplete(cut.to_string()))?;
                manifest = Some(text);
                continue;
            }
            let mut reader = Summed::new(entry);
            let mut buffer = vec![0; CHUNK];
            loop {
                let read = reader.read(&mut buffer);
                if read.map_err(|cut| incomplete(cut.to_string()))? == 0 {
                    break;
                }
                progress(offset + reader.bytes, length);
            }
            let (bytes, crc32c) = (reader.bytes, reader.sum);
            let place = ArchiveEntry {
                offset,
                bytes,
                crc32c,
            };
            places.insert(name, place);
        }
        let Some(manifest) = manifest else {
            let prefix = format!("{STORE}/");
            return Err(match places.keys().any(|name| name.starts_with(&prefix)) {
                true => incomplete(format!("it was cut off, {MANIFEST} at its end is missing")),
                false => no_backup(path, "it is a tar archive of something else"),
            });
        };
        let manifest: Manifest = serde_json::from_str(&manifest)
            .map_err(|bad| incomplete(format!("{MANIFEST}: {bad}")))?;
        if manifest.format > FORMAT {
            return Err(BackupError::TooNew {
                path: path.display().to_string(),
                found: manifest.format,
            });
        }
        for entry in &manifest.files {
            let place = places.get(&entry.path);
            let same = place
                .is_some_and(|place| place.bytes == entry.bytes && place.crc32c == entry.crc32c);
            if !same {
                let what = if place.is_some() {
                    "changed"
                } else {
                    "missing"
                };
                return Err(incomplete(format!("{} is {what}", entry.path)));
            }
        }
        if let Some(why) = trouble_at_end(&file, end, length).map_err(error("reading", path))? {
            return Err(incomplete(why));
        }
        // What the manifest does not name is none of ours.
        places.retain(|name, _| manifest.files.iter().any(|entry| entry.path == *name));
        Ok(Self {
            path: path.to_owned(),
            file,
            places,
            made_ms: manifest.made_ms,
            node: manifest.node,
        })
    }

    /// Reads the store in it, every record. `describe` puts damage into words.
    ///
    /// # Errors
    /// It does not open.
    pub fn verify(
        &self,
        mut describe: impl FnMut(&Engine<ReadOnly<ArchiveDisk>>, &Damage) -> String,
    ) -> Result<Verified, BackupError> {
        let disk = self.store()?;
        let mut damage = Vec::new();
        let stats = martlet_store::check_with(disk, |engine, found| {
            damage.push(describe(engine, &found));
        });
        Ok(Verified {
            files: self.places.len(),
            bytes: self.places.values().map(|place| place.bytes).sum(),
            stats: stats.map_err(|source| BackupError::Store {
                path: self.path.display().to_string(),
                source,
            })?,
            damage,
        })
    }

    /// Whether it has the tables of users and devices.
    pub fn has_tables(&self) -> bool {
        self.places.contains_key(TABLES)
    }

    /// Whether it has the key file that secrets of other systems are sealed with.
    pub fn has_key_file(&self) -> bool {
        self.places.contains_key(KEY_FILE)
    }

    fn store(&self) -> Result<ArchiveDisk, BackupError> {
        let file = self
            .file
            .try_clone()
            .map_err(error("opening", &self.path))?;
        let prefix = format!("{STORE}/");
        let places = self.places.iter().filter_map(|(name, place)| {
            let name = name.strip_prefix(&prefix)?;
            Some((name.to_owned(), *place))
        });
        Ok(ArchiveDisk {
            file,
            places: places.collect(),
        })
    }
}

fn no_backup(path: &Path, why: &str) -> BackupError {
    BackupError::NoBackup {
        path: path.display().to_string(),
        why: why.to_owned(),
    }
}

/// Bytes of a block of a tar archive; two blocks of zeros are its end.
const BLOCK: u64 = 512;

/// Returns what is wrong behind the last file of an archive, which ends at `end`. More zeros than
/// needed are usual where a tar program rewrote the archive.
fn trouble_at_end(file: &File, end: u64, length: u64) -> io::Result<Option<String>> {
    if length < end.saturating_add(2 * BLOCK) {
        return Ok(Some(
            "it was cut off, its last bytes are missing".to_owned(),
        ));
    }
    let mut buffer = vec![0; CHUNK];
    let mut at = end;
    loop {
        let count = file.read_at(&mut buffer, at)?;
        if count == 0 {
            return Ok(None);
        }
        if let Some(place) = buffer[..count].iter().position(|byte| *byte != 0) {
            let place = at + place as u64;
            return Ok(Some(format!(
                "it contains other data after its end, at {place}"
            )));
        }
        at += count as u64;
    }
}

/// How long a file is that may be an archive.
fn length_of_archive(path: &Path, file: &File) -> Result<u64, BackupError> {
    let found = file.metadata().map_err(error("opening", path))?;
    if !found.is_file() {
        return Err(no_backup(path, "it is not a file"));
    }
    match other_format(file).map_err(error("reading", path))? {
        Some(why) => Err(no_backup(path, why)),
        None => Ok(found.len()),
    }
}

/// Format of a file by its first bytes, if it is no tar archive.
fn other_format(file: &File) -> io::Result<Option<&'static str>> {
    let mut head = [0; TAR_MAGIC_AT + TAR_MAGIC.len()];
    let mut got = 0;
    while got < head.len() {
        match file.read_at(&mut head[got..], got as u64)? {
            0 => break,
            count => got += count,
        }
    }
    let head = &head[..got];
    Ok(if head.is_empty() {
        Some("it is empty")
    } else if head.starts_with(&[0x1F, 0x8B]) || head.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
        Some("it is compressed; unpack it first")
    } else if !head.ends_with(TAR_MAGIC) {
        Some("it is not a tar archive")
    } else {
        None
    })
}

/// Fields of the header of a tar archive, and their positions.
const TAR_MAGIC: &[u8] = b"ustar";
const TAR_MAGIC_AT: usize = 257;

/// The files of a store within an archive, to be read only.
pub struct ArchiveDisk {
    file: File,
    places: BTreeMap<String, ArchiveEntry>,
}

impl ArchiveDisk {
    fn copy(&self, place: ArchiveEntry, to: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut out = options.write(true).create_new(true).mode(0o600).open(to)?;
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < place.bytes {
            let count = buffer.len().min((place.bytes - at) as usize);
            self.file
                .read_exact_at(&mut buffer[..count], place.offset + at)?;
            out.write_all(&buffer[..count])?;
            at += count as u64;
        }
        out.sync_all()
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for ArchiveDisk {
    type File = ArchiveEntry;

    fn create(&self, _: &str, _: u64) -> io::Result<ArchiveEntry> {
        read_only()
    }

    fn open(&self, name: &str) -> io::Result<ArchiveEntry> {
        let place = self.places.get(name).copied();
        place.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write_at(&self, _: &ArchiveEntry, _: u64, _: &[u8]) -> io::Result<()> {
        read_only()
    }

    fn read_at(&self, file: &ArchiveEntry, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(file.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = bytes.len().min(left);
        self.file
            .read_exact_at(&mut bytes[..count], file.offset + offset)?;
        Ok(count)
    }

    fn sync(&self, _: &ArchiveEntry) -> io::Result<()> {
        read_only()
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        read_only()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        read_only()
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let places = self.places.iter();
        Ok(places
            .map(|(name, place)| (name.clone(), place.bytes))
            .collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        read_only()
    }
}
