//! `martlet backup`: creates, verifies and restores a copy of all data of a node.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use martlet_control::backup::{
    Archive, BackupParts, KEY_FILE, STORE, TABLES, Verified, write_archive,
};
use martlet_control::telemetry::{TelemetryCopy, copy_at_rest};
use martlet_persistence::DamageWords;
use martlet_text_file::owned;

use crate::cmd::admin;
use crate::cmd::errors::error_text;
use crate::cmd::node_options::NodeOptions;
use crate::cmd::print::{err, errln, outln, write_err};
use crate::config;
use crate::private_file;
use crate::serve::{check_restored, claim_data_dir, claim_store_to_read, program_name};

/// Arguments of `martlet backup`.
#[derive(Args, Debug)]
pub(crate) struct BackupCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Write a consistent copy of all data to a new file, whether or not the node runs
    ///
    /// Users and devices in PostgreSQL are not included, which is reported: use pg_dump for them.
    /// The data directory of a stopped node is only read. FILE.partial exists beside FILE until the
    /// copy is complete.
    ///
    /// Exit code 0: the file is complete. 1: no file was created.
    Create(CreateOptions),
    /// Read and check a whole backup, and show its contents
    ///
    /// Exit code 0: the backup is complete, and so was its source. 1: something in it is damaged,
    /// or it cannot be read.
    Verify {
        /// The backup
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Unpack a backup into an empty data directory of a stopped node
    ///
    /// Exit code 0: everything was unpacked. 1: the restore failed, and a node does not start with
    /// an incomplete data directory.
    Restore(BackupOptions),
}

/// Which node and which file.
#[derive(Args, Debug)]
struct BackupOptions {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    node: NodeOptions,
}

/// Which node and which file, and what is in it.
#[derive(Args, Debug)]
struct CreateOptions {
    #[command(flatten)]
    of: BackupOptions,
    /// Include the key file of secrets; everybody who can read the backup can then read the secrets
    #[arg(long)]
    with_key_file: bool,
}

/// Runs the command.
pub(crate) fn run(command: &BackupCommand) -> ExitCode {
    let outcome = match &command.action {
        Action::Create(options) => create(options),
        Action::Verify { file, json } => verify(file, *json),
        Action::Restore(options) => restore(options),
    };
    outcome.unwrap_or_else(|error| {
        errln!("martlet: {}", error_text(&error));
        ExitCode::FAILURE
    })
}

fn create(options: &CreateOptions) -> anyhow::Result<ExitCode> {
    let with_key_file = options.with_key_file;
    let options = &options.of;
    let data_dir = options.node.data_dir()?;
    let target = &options.file;
    if target.as_os_str() == "-" {
        bail!(
            "a backup is not written to standard output, because it is read again when it is \
             complete: name a file (./- if that is its name)"
        );
    }
    check_restored(&data_dir)?;
    if !data_dir.join(STORE).is_dir() {
        bail!(
            "{} has no store: there is nothing to copy",
            data_dir.display()
        );
    }
    if target.symlink_metadata().is_ok() {
        bail!("{} exists already; choose another name", target.display());
    }
    let key_file = key_file(options, &data_dir);
    let included = match with_key_file {
        true if key_file.is_none() => {
            bail!("there is no key file of secrets to include: leave out --with-key-file")
        }
        true => key_file.as_deref(),
        false => None,
    };
    let partial = partial_name(target);
    let file = create_new(&partial)?;
    let made = write_new(&file, &partial, &data_dir, included)
        .and_then(|made| name(&partial, target).map(|()| made));
    let (has_tables, damage) = match made {
        Ok((archive, damage)) => (archive.has_tables(), damage),
        Err(error) => {
            // An incomplete backup is useless.
            let _ = std::fs::remove_file(&partial);
            return Err(error);
        }
    };
    let bytes = std::fs::metadata(target)?.len();
    outln!("{}: {bytes} bytes", target.display());
    outln!(
        "the configuration and the files that it names, such as certificates, are not in the \
         backup: keep copies of them"
    );
    match (&key_file, with_key_file) {
        (Some(path), false) => {
            errln!(
                "martlet: warning: the key file of secrets is NOT in it: keep a copy of {} \
                 elsewhere, without which the secrets cannot be used",
                path.display()
            );
        }
        (Some(_), true) => {
            outln!("the key file of secrets is in it: keep the backup as secret as the secrets");
        }
        (None, _) => {}
    }
    let elsewhere = tables_elsewhere(options, &data_dir);
    if elsewhere.is_none() && !has_tables {
        outln!(
            "it contains no users and devices: the node has no tables ({} does not exist)",
            data_dir.join(TABLES).display()
        );
    }
    if let Some(place) = elsewhere {
        errln!(
            "martlet: warning: users and devices are NOT in it: they are in {place}; back that \
             database up too, with pg_dump"
        );
    }
    if let Some(damage) = damage {
        errln!("martlet: warning: {damage}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The key file of secrets, if there is one.
fn key_file(options: &BackupOptions, data_dir: &Path) -> Option<PathBuf> {
    let configured = options.node.load().ok();
    let configured = configured.map(|found| found.settings().secrets.key_file.clone());
    let path = match configured.filter(|path| !path.is_empty()) {
        None => data_dir.join(KEY_FILE),
        Some(path) => PathBuf::from(path),
    };
    path.is_file().then_some(path)
}

/// The location of the node's users and devices, if it is not a file.
fn tables_elsewhere(options: &BackupOptions, data_dir: &Path) -> Option<String> {
    let noted = config::noted_tables(data_dir).or_else(|| {
        let location = config::location(&options.node.load().ok()?).ok()?;
        Some(location.to_string())
    });
    noted.filter(|place| place.starts_with("postgres"))
}

fn partial_name(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// Creates the file for this user only. An existing file may be another user's, or a link to
/// another file.
fn create_new(partial: &Path) -> anyhow::Result<File> {
    owned::check(partial)?;
    private_file::create_new(partial).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => anyhow::anyhow!(
            "{} exists already: unless another backup is being written there, it is from an \
             interrupted backup or another user; remove it or choose another name",
            partial.display()
        ),
        _ => anyhow::Error::new(error).context(format!("cannot write {}", partial.display())),
    })
}

/// Renames a complete backup, unless the name exists by now.
fn name(partial: &Path, target: &Path) -> anyhow::Result<()> {
    let linked = std::fs::hard_link(partial, target);
    let named = match linked {
        Ok(()) => std::fs::remove_file(partial),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
        // The file system does not support hard links.
        Err(_) => std::fs::rename(partial, target),
    };
    named.with_context(|| format!("cannot name {}", target.display()))?;
    let parent = target.parent().filter(|path| !path.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let synced = File::open(parent).and_then(|parent| parent.sync_all());
    synced.with_context(|| format!("cannot sync {}", parent.display()))
}

/// Writes the backup, and then reads it completely. Requests it from the node if it runs; otherwise
/// reads the node's store, which may be read-only. Returns what is damaged, too, in words.
fn write_new(
    file: &File,
    partial: &Path,
    data_dir: &Path,
    key_file: Option<&Path>,
) -> anyhow::Result<(Archive, Option<String>)> {
    let writing = || format!("writing {}", partial.display());
    let damage = if admin::is_running(data_dir) {
        let target = match key_file {
            Some(_) => "/api/v1/backup?with_key_file=true",
            None => "/api/v1/backup",
        };
        let mut out = file;
        let headers = admin::download(data_dir, target, &mut out).with_context(writing)?;
        let damage = headers.get("martlet-damaged");
        damage.and_then(|text| Some(text.to_str().ok()?.to_owned()))
    } else {
        let store = data_dir.join(STORE);
        let disk = claim_store_to_read(&store)?;
        let files = martlet_store::files_at_rest(disk.clone());
        let files = files.with_context(|| format!("store {}", store.display()))?;
        let beside = partial.parent().filter(|path| !path.as_os_str().is_empty());
        let beside = beside.unwrap_or(Path::new("."));
        let telemetry = admin::wait(async { Ok(copy_at_rest(data_dir, beside).await?) })?;
        let parts = BackupParts {
            key_file,
            telemetry: telemetry.as_ref().and_then(TelemetryCopy::path),
        };
        write_archive(&store, &files, parts, BufWriter::new(file)).with_context(writing)?;
        // Until here the lock kept a node from starting.
        drop(disk);
        telemetry.and_then(|copy| copy.warning().map(str::to_owned))
    };
    file.sync_all().with_context(writing)?;
    // This detects an incomplete response now, and not when the backup is needed.
    Ok((Archive::open(partial, |_, _| {})?, damage))
}

fn verify(path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let mut bar = Progress::new();
    let archive = Archive::open(path, |read, all| bar.show(read, all))?;
    bar.end();
    let mut words = DamageWords::default();
    let verified = archive.verify(|engine, damage| words.describe(engine, damage))?;
    if json {
        outln!("{}", json_of(&verified, &archive));
    } else {
        let stats = &verified.stats;
        outln!(
            "{}: complete, {} files, {} bytes; {} messages, {} entries in {} queues, {} states",
            path.display(),
            verified.files,
            verified.bytes,
            stats.bodies,
            stats.entries,
            stats.queues,
            stats.states
        );
        if !archive.has_tables() {
            outln!("{NO_TABLES}");
        }
        outln!("{}", key_file_words(&archive));
        for damage in &verified.damage {
            outln!("damaged before the backup was made: {damage}");
        }
    }
    Ok(match verified.damage.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn json_of(verified: &Verified, archive: &Archive) -> serde_json::Value {
    let damage = &verified.damage;
    serde_json::json!({
        "files": verified.files,
        "bytes": verified.bytes,
        "messages": verified.stats.bodies,
        "entries": verified.stats.entries,
        "queues": verified.stats.queues,
        "states": verified.stats.states,
        "tables": archive.has_tables(),
        "key_file": archive.has_key_file(),
        "damage": damage,
    })
}

fn restore(options: &BackupOptions) -> anyhow::Result<ExitCode> {
    let data_dir = options.node.data_dir_at_rest()?;
    let mut bar = Progress::new();
    let archive = Archive::open(&options.file, |read, all| bar.show(read, all))?;
    bar.end();
    archive.verify(|_, damage| damage.to_string())?;
    let _claim = claim_data_dir(&data_dir)?;
    archive.restore(&data_dir)?;
    outln!(
        "{} is restored into {}",
        options.file.display(),
        data_dir.display()
    );
    if !archive.has_tables() {
        outln!("{NO_TABLES}");
    }
    match archive.has_key_file() {
        true => {
            let path = data_dir.join(KEY_FILE);
            outln!("The key file of secrets is {}", path.display());
        }
        false => {
            let (words, path) = (key_file_words(&archive), data_dir.join(KEY_FILE));
            outln!(
                "{words} If the node had secrets, put its key file to {} before the start",
                path.display()
            );
        }
    }
    let options_of_node = config::command_options(Some(&data_dir), options.node.config.as_deref());
    outln!(
        "Start the node with it: {} serve {options_of_node}",
        program_name()
    );
    Ok(ExitCode::SUCCESS)
}

/// Note about a backup without the tables of users and devices.
const NO_TABLES: &str = "It contains no users and devices: the node had no tables, or has them in \
                         PostgreSQL, which pg_dump backs up.";

fn key_file_words(archive: &Archive) -> &'static str {
    match archive.has_key_file() {
        true => "The key file of secrets is in it.",
        false => "The key file of secrets is not in it; nodes without secrets have none.",
    }
}

/// Progress of reading, on a terminal.
struct Progress {
    shown: Option<u64>,
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        Self {
            shown: None,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    fn show(&mut self, read: u64, all: u64) {
        let percent = read * 100 / all.max(1);
        if self.terminal && self.shown != Some(percent) {
            self.shown = Some(percent);
            let filled = "#".repeat(percent as usize / 4);
            write_err(&format!("\r[{filled:<25}] {percent:>3} %"));
            let _ = std::io::stderr().flush();
        }
    }

    fn end(&self) {
        if self.shown.is_some() {
            err!("\n");
        }
    }
}
