//! The way back of a backup: all of it is in the data directory, or nothing that a node starts
//! with.
//!
//! `store.restoring` in the data directory is made first and removed last, and no node starts while
//! it is there. In it, `PLAN.json` names the files that the restore puts elsewhere, so that what a
//! restore was cut off in can be undone by the next one. A directory `store` that is a symbolic
//! link or a mount point stays, and its files are written there: no name in it counts before
//! `store.restoring` is removed.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Archive, BackupError, FIRMWARE, KEY_FILE, STORE, TABLES, TELEMETRY, error};
use crate::restore_note::{NOTE, RestoreNote};
use crate::wall_clock::now_ms;

/// The file in a data directory that marks a restore as in progress or interrupted.
pub const RESTORING: &str = "store.restoring";
/// Name of that file before it is in force, and after it.
const OVER: &str = "store.restored";
const PLAN: &str = "PLAN.json";
/// Directory that a file system has in its root directory.
const LOST_AND_FOUND: &str = "lost+found";
/// Endings of files that SQLite keeps beside a database, and would take for a part of the one that
/// comes.
const BESIDE_TABLES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Files that a restore puts outside its own directory.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Plan {
    /// Names of the files of the store.
    store: BTreeSet<String>,
    /// The tables too.
    tables: bool,
    /// The key file of secrets too.
    #[serde(default)]
    key_file: bool,
    /// Telemetry too.
    #[serde(default)]
    telemetry: bool,
    /// Names of the files of firmware that were not there before. A file with the same name has the
    /// same content.
    #[serde(default)]
    firmware: BTreeSet<String>,
}

/// The directory of a restore that was cut off, if there is one.
pub fn unfinished_restore(data_dir: &Path) -> Option<PathBuf> {
    let unfinished = data_dir.join(RESTORING);
    unfinished.is_dir().then_some(unfinished)
}

impl Archive {
    /// Unpacks it into a data directory that the caller has claimed. All of it is there and synced,
    /// or nothing but what was there before. The files belong to the owner of the directory.
    ///
    /// # Errors
    /// There is a store already, or the directory cannot be written.
    pub fn restore(&self, data_dir: &Path) -> Result<(), BackupError> {
        let places = DataPaths::new(data_dir);
        let was_cut_off = unfinished_restore(data_dir).is_some();
        let has_tables = self.places.contains_key(TABLES);
        let earlier = places.earlier()?;
        places.expect_room(has_tables, &earlier)?;
        places.expect_no_key(self.has_key_file(), &earlier)?;
        let has_telemetry = self.places.contains_key(TELEMETRY);
        places.expect_no_telemetry(has_telemetry, &earlier)?;
        let store = self.store()?;
        let mut plan = Plan {
            store: BTreeSet::new(),
            tables: has_tables,
            key_file: self.has_key_file(),
            telemetry: has_telemetry,
            firmware: BTreeSet::new(),
        };
        for name in store.places.keys() {
            if name.contains('/') || name.starts_with('.') {
                return Err(BackupError::Incomplete {
                    path: self.path.display().to_string(),
                    why: format!("{name:?} is not a valid name of a file of a store"),
                });
            }
            plan.store.insert(name.clone());
        }
        places.undo(&earlier)?;
        plan.firmware = self.firmware()?;
        plan.firmware
            .retain(|name| places.firmware.join(name).symlink_metadata().is_err());
        let done = self.unpack(&places, &plan);
        // Where a restore was cut off before, no node is to start with nothing.
        if done.is_err() && !was_cut_off {
            // What cannot be undone is left with the plan of it, and no node starts.
            let _ = places.undo(&plan).and_then(|()| places.end());
        }
        done
    }

    /// Names of the files of firmware in it.
    fn firmware(&self) -> Result<BTreeSet<String>, BackupError> {
        let prefix = format!("{FIRMWARE}/");
        let names = self
            .places
            .keys()
            .filter_map(|name| name.strip_prefix(&prefix));
        let names: BTreeSet<String> = names.map(str::to_owned).collect();
        match names
            .iter()
            .find(|name| !crate::firmware::is_file_name(name))
        {
            None => Ok(names),
            Some(name) => Err(BackupError::Incomplete {
                path: self.path.display().to_string(),
                why: format!("{name:?} is not the name of a firmware file"),
            }),
        }
    }

    /// Writes files of firmware beside their places.
    fn unpack_firmware(&self, places: &DataPaths, plan: &Plan) -> Result<(), BackupError> {
        if plan.firmware.is_empty() {
            return Ok(());
        }
        let beside = places.restoring.join(FIRMWARE);
        make_directory(&beside)?;
        let disk = self.store()?;
        for name in &plan.firmware {
            if let Some(place) = self.places.get(&format!("{FIRMWARE}/{name}")) {
                let path = beside.join(name);
                disk.copy(*place, &path).map_err(error("writing", &path))?;
                places.give(&path)?;
            }
        }
        Ok(())
    }

    fn unpack(&self, places: &DataPaths, plan: &Plan) -> Result<(), BackupError> {
        places.begin(plan)?;
        let in_place = places.keeps_store()?;
        let store = match in_place {
            true => places.store.clone(),
            false => places.restoring.join(STORE),
        };
        if !in_place {
            make_directory(&store)?;
        }
        let disk = self.store()?;
        for (name, place) in &disk.places {
            let path = store.join(name);
            disk.copy(*place, &path).map_err(error("writing", &path))?;
            places.give(&path)?;
        }
        for name in [TABLES, TELEMETRY, KEY_FILE] {
            if let Some(place) = self.places.get(name) {
                let path = places.restoring.join(name);
                disk.copy(*place, &path).map_err(error("writing", &path))?;
                places.give(&path)?;
            }
        }
        self.unpack_firmware(places, plan)?;
        let note = RestoreNote {
            backup_ms: self.made_ms,
            restored_ms: now_ms(),
            has_tables: plan.tables,
            node: self.node.clone(),
        };
        let path = places.restoring.join(NOTE);
        note.write(&path).map_err(error("writing", &path))?;
        places.give(&path)?;
        places.give(&store)?;
        sync_directory(&store)?;
        if !in_place {
            fs::rename(&store, &places.store).map_err(error("renaming", &store))?;
        }
        for (is_there, name, target) in [
            (plan.tables, TABLES, &places.tables),
            (plan.telemetry, TELEMETRY, &places.telemetry),
            (plan.key_file, KEY_FILE, &places.key_file),
            (true, NOTE, &places.note),
        ] {
            if is_there {
                let path = places.restoring.join(name);
                fs::rename(&path, target).map_err(error("renaming", &path))?;
            }
        }
        places.put_firmware(plan)?;
        sync_directory(&places.restoring)?;
        sync_directory(&places.data_dir)?;
        places.end()
    }
}

/// Paths of everything in a data directory.
struct DataPaths {
    data_dir: PathBuf,
    restoring: PathBuf,
    over: PathBuf,
    store: PathBuf,
    tables: PathBuf,
    telemetry: PathBuf,
    key_file: PathBuf,
    firmware: PathBuf,
    note: PathBuf,
}

impl DataPaths {
    fn new(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            restoring: data_dir.join(RESTORING),
            over: data_dir.join(OVER),
            store: data_dir.join(STORE),
            tables: data_dir.join(TABLES),
            telemetry: data_dir.join(TELEMETRY),
            key_file: data_dir.join(KEY_FILE),
            firmware: data_dir.join(FIRMWARE),
            note: data_dir.join(NOTE),
        }
    }

    /// Files that a restore that was cut off may have put in its places.
    fn earlier(&self) -> Result<Plan, BackupError> {
        let path = self.restoring.join(PLAN);
        match fs::read(&path) {
            // Cut off before it began.
            Err(none) if none.kind() == io::ErrorKind::NotFound => Ok(Plan::default()),
            Err(failed) => Err(error("reading", &path)(failed)),
            Ok(bytes) => {
                let plan: Result<Plan, _> = serde_json::from_slice(&bytes);
                plan.map_err(|_| BackupError::Leftover(self.restoring.clone()))
            }
        }
    }

    /// There is nothing but what an earlier restore has left.
    fn expect_room(&self, has_tables: bool, earlier: &Plan) -> Result<(), BackupError> {
        for entry in read_directory(&self.store)? {
            let is_known = entry
                .to_str()
                .is_some_and(|name| name == LOST_AND_FOUND || earlier.store.contains(name));
            if !is_known {
                return Err(BackupError::NotEmpty(self.store.clone()));
            }
        }
        if !has_tables && !earlier.tables {
            return Ok(());
        }
        expect_no_database(&self.tables, earlier.tables)
    }

    /// There is no telemetry where the backup's goes.
    fn expect_no_telemetry(&self, has_telemetry: bool, earlier: &Plan) -> Result<(), BackupError> {
        match has_telemetry || earlier.telemetry {
            true => expect_no_database(&self.telemetry, earlier.telemetry),
            false => Ok(()),
        }
    }

    /// There is no other key file where the backup's goes.
    fn expect_no_key(&self, has_key: bool, earlier: &Plan) -> Result<(), BackupError> {
        let is_there = self.key_file.symlink_metadata().is_ok();
        match has_key && is_there && !earlier.key_file {
            true => Err(BackupError::HasTables(self.key_file.clone())),
            false => Ok(()),
        }
    }

    /// Takes away what a restore with this plan may have put in its places.
    fn undo(&self, plan: &Plan) -> Result<(), BackupError> {
        let files = plan.store.iter().map(|name| self.store.join(name));
        let tables = plan.tables.then(|| self.tables.clone());
        let telemetry = plan.telemetry.then(|| self.telemetry.clone());
        let key_file = plan.key_file.then(|| self.key_file.clone());
        let firmware = plan.firmware.iter().map(|name| self.firmware.join(name));
        let all = files.chain(tables).chain(telemetry);
        let all = all.chain([self.note.clone()]);
        for path in all.chain(key_file).chain(firmware) {
            remove(fs::remove_file(&path)).map_err(error("removing", &path))?;
        }
        if self.firmware.is_dir() {
            sync_directory(&self.firmware)?;
        }
        if self.store.is_dir() {
            sync_directory(&self.store)?;
        }
        sync_directory(&self.data_dir)
    }

    /// Writes the mark of a restore in progress.
    fn begin(&self, plan: &Plan) -> Result<(), BackupError> {
        for leftover in [
            &self.over,
            &self.restoring.join(STORE),
            &self.restoring.join(TABLES),
            &self.restoring.join(TELEMETRY),
            &self.restoring.join(KEY_FILE),
            &self.restoring.join(FIRMWARE),
            &self.restoring.join(NOTE),
        ] {
            let is_directory = leftover.is_dir();
            let removed = match is_directory {
                true => fs::remove_dir_all(leftover),
                false => fs::remove_file(leftover),
            };
            remove(removed).map_err(error("removing", leftover))?;
        }
        make_directory(&self.over)?;
        let text = serde_json::to_vec(plan).map_err(io::Error::from);
        let path = self.over.join(PLAN);
        let written = text.and_then(|text| {
            let mut file = File::create_new(&path)?;
            file.write_all(&text)?;
            file.sync_all()
        });
        written.map_err(error("writing", &path))?;
        sync_directory(&self.over)?;
        self.give(&self.over)?;
        if self.restoring.is_dir() {
            // One plan takes the place of the other; nothing of either is there now.
            let (new, old) = (self.over.join(PLAN), self.restoring.join(PLAN));
            fs::rename(&new, &old).map_err(error("renaming", &new))?;
            sync_directory(&self.restoring)?;
            remove(fs::remove_dir(&self.over)).map_err(error("removing", &self.over))?;
        } else {
            let renamed = fs::rename(&self.over, &self.restoring);
            renamed.map_err(error("renaming", &self.over))?;
        }
        sync_directory(&self.data_dir)
    }

    /// Moves files of firmware to their places.
    fn put_firmware(&self, plan: &Plan) -> Result<(), BackupError> {
        if plan.firmware.is_empty() {
            return Ok(());
        }
        if !self.firmware.is_dir() {
            make_directory(&self.firmware)?;
            self.give(&self.firmware)?;
        }
        for name in &plan.firmware {
            let path = self.restoring.join(FIRMWARE).join(name);
            fs::rename(&path, self.firmware.join(name)).map_err(error("renaming", &path))?;
        }
        sync_directory(&self.firmware)
    }

    /// From here on all of it counts, or nothing of it is there.
    fn end(&self) -> Result<(), BackupError> {
        match fs::rename(&self.restoring, &self.over) {
            Err(none) if none.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(error("renaming", &self.restoring))?,
        }
        sync_directory(&self.data_dir)?;
        remove(fs::remove_dir_all(&self.over)).map_err(error("removing", &self.over))
    }

    /// The directory of the store cannot be replaced by another: it is a symbolic link or a mount
    /// point. An empty one that can be is removed.
    fn keeps_store(&self) -> Result<bool, BackupError> {
        match self.store.symlink_metadata() {
            Err(none) if none.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(failed) => Err(error("reading", &self.store)(failed)),
            Ok(found) if found.is_dir() => match fs::remove_dir(&self.store) {
                Ok(()) => Ok(false),
                Err(busy) if is_kept(&busy) => Ok(true),
                Err(failed) => Err(error("removing", &self.store)(failed)),
            },
            Ok(_) => Ok(true),
        }
    }

    /// Gives what root has made to the owner of the data directory.
    fn give(&self, path: &Path) -> Result<(), BackupError> {
        let owner = self.data_dir.metadata();
        let owner = owner.map_err(error("reading", &self.data_dir))?;
        let given = path.canonicalize().and_then(|path| give(&path, &owner));
        given.map_err(error("giving to the owner of the data directory", path))
    }
}

/// There is no database at a path, unless an earlier restore has put it there, and nothing beside
/// it that SQLite would take for a part of it.
fn expect_no_database(path: &Path, is_of_earlier: bool) -> Result<(), BackupError> {
    let beside = BESIDE_TABLES.map(|end| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    });
    let own = (!is_of_earlier).then(|| path.to_owned());
    for path in own.into_iter().chain(beside) {
        if path.symlink_metadata().is_ok() {
            return Err(BackupError::HasTables(path));
        }
    }
    Ok(())
}

fn is_kept(error: &io::Error) -> bool {
    // A mount point, or one with `lost+found` in it.
    matches!(
        error.kind(),
        io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty
    )
}

fn give(path: &Path, owner: &Metadata) -> io::Result<()> {
    match path.symlink_metadata()?.uid() == owner.uid() {
        true => Ok(()),
        false => match lchown(path, Some(owner.uid()), Some(owner.gid())) {
            // Only root gives files away.
            Err(denied) if denied.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            given => given,
        },
    }
}

/// That there is none to be removed is as good.
fn remove(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(none) if none.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn make_directory(path: &Path) -> Result<(), BackupError> {
    let created = DirBuilder::new().mode(0o700).create(path);
    created.map_err(error("making", path))
}

fn sync_directory(path: &Path) -> Result<(), BackupError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(error("syncing", path))
}

/// Names in a directory; none if it is not there. A symbolic link to nothing is an error.
fn read_directory(path: &Path) -> Result<Vec<std::ffi::OsString>, BackupError> {
    if path.symlink_metadata().is_err() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(path).and_then(|entries| {
        let names = entries.map(|entry| Ok(entry?.file_name()));
        names.collect()
    });
    entries.map_err(error("reading", path))
}
