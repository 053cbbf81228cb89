//! The running node of a command that names none, while the default data directory is empty.
//!
//! `/proc/net/unix` lists the sockets on which processes listen, with their paths. A node writes
//! nothing to be found, a node that was killed leaves nothing, and the environment of its start
//! does not matter. Nodes with paths that are too long for a socket, and those of other systems
//! than Linux, are not found: their data directories have to be named.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use martlet_control::text::printable;
use serde_json::Value;

use crate::cmd::print::errln;
use crate::config::{self, FIND_NODES};
use crate::serve::ConfigOptions;
use crate::serve::admin_socket::{self, SocketPath};
use crate::serve::data_dir::claimed;

/// The data directory that was found, or why none could be.
static FOUND: OnceLock<Result<Option<PathBuf>, String>> = OnceLock::new();

/// Listening sockets of the machine, or of the container.
const SOCKETS: &str = "/proc/net/unix";

/// Flags of a listening socket there.
const LISTENS: &str = "00010000";

/// Time limit for the listeners of a node that is named in an error.
const PATIENCE: Duration = Duration::from_secs(2);

/// The data directory of the only running node of this user, for a command that names no node.
/// `None` if a variable or what the default data directory has decides, or no node runs. Prints
/// which node was found, once.
///
/// # Errors
/// Several nodes run.
pub(crate) fn data_dir() -> anyhow::Result<Option<&'static Path>> {
    match FOUND.get_or_init(find) {
        Ok(found) => Ok(found.as_deref()),
        Err(why) => Err(anyhow::Error::msg(why.clone())),
    }
}

/// The data directory that [`data_dir`] has returned.
pub(crate) fn found() -> Option<&'static Path> {
    FOUND.get()?.as_ref().ok()?.as_deref()
}

fn find() -> Result<Option<PathBuf>, String> {
    let below = std::env::var_os(FIND_NODES).unwrap_or_default();
    // The command reports an error of the configuration when it reads it.
    let Ok(effective) = ConfigOptions::default().load_own() else {
        return Ok(None);
    };
    let is_named = !effective.settings().node.data_dir.is_empty();
    if below == "off" || is_named || config::data_dir(&effective).is_ok_and(|it| has_data(&it)) {
        return Ok(None);
    }
    let mut nodes = running(&below);
    if nodes.len() > 1 {
        let named: Vec<String> = nodes.iter().map(|it| named(it)).collect();
        return Err(format!(
            "{} nodes of this user run: {}; choose one with --data-dir DIR",
            nodes.len(),
            named.join(", ")
        ));
    }
    let only = nodes.pop();
    if let Some(only) = &only {
        let option = config::command_options(Some(only), None);
        errln!(
            "martlet: using the only running node of this user: {}",
            printable(&option)
        );
    }
    Ok(only)
}

/// Whether a directory has anything in it. One that cannot be read counts.
fn has_data(directory: &Path) -> bool {
    match directory.read_dir() {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// Data directories of running nodes of this user, below a directory if it is not empty.
fn running(below: &OsString) -> Vec<PathBuf> {
    let own = rustix::process::geteuid().as_raw();
    let sockets = std::fs::read(SOCKETS).unwrap_or_default();
    let listed = listening(&String::from_utf8_lossy(&sockets));
    let mut nodes: Vec<PathBuf> = listed
        .into_iter()
        .filter(|it| it.metadata().is_ok_and(|found| found.uid() == own))
        // Other programs have sockets of this name, too.
        .filter(|it| it.starts_with(below) && claimed(it).is_some())
        .collect();
    nodes.sort();
    nodes.dedup();
    nodes
}

/// Directories of the listening sockets with the name of a node's, in the text of the kernel.
fn listening(sockets: &str) -> Vec<PathBuf> {
    let lines = sockets.lines().filter_map(|line| {
        let (fields, path) = line.split_at(line.find(" /")?);
        let path = Path::new(path.trim_start());
        let is_it = fields.split_whitespace().nth(3) == Some(LISTENS)
            && path.file_name()? == admin_socket::FILE_NAME;
        is_it.then(|| path.parent().map(Path::to_owned))?
    });
    lines.collect()
}

/// A node in an error: the option that chooses it, and its first listener.
fn named(data_dir: &Path) -> String {
    let option = config::command_options(Some(data_dir), None);
    match first_listener(data_dir) {
        Some(url) => format!("{option} ({url})"),
        None => format!("{option} (does not answer)"),
    }
}

fn first_listener(data_dir: &Path) -> Option<String> {
    let mut stream = SocketPath::connect(data_dir).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = b"GET /api/v1/status HTTP/1.0\r\nHost: martlet\r\n\r\n";
    stream.write_all(request).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let status: Value = serde_json::from_str(body).ok()?;
    let mut urls = status["listeners"]
        .as_array()?
        .iter()
        .filter_map(Value::as_str);
    let url = urls.next().unwrap_or("no listener");
    Some(url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_the_listening_sockets_of_their_name() {
        let sockets = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 17001 /var/lib/my node/admin.sock
0000000000000000: 00000003 00000000 00000000 0001 03 17002 /srv/connected/admin.sock
0000000000000000: 00000002 00000000 00010000 0001 01   173 /run/dbus/system_bus_socket
0000000000000000: 00000002 00000000 00010000 0001 01 17004 @/abstract/admin.sock
0000000000000000: 00000003 00000000 00000000 0001 03 17005
";
        assert_eq!(listening(sockets), [Path::new("/var/lib/my node")]);
    }

    #[test]
    fn a_directory_without_entries_has_no_data() {
        let directory = std::env::temp_dir().join(format!("martlet-empty-{}", std::process::id()));
        assert!(!has_data(&directory));
        std::fs::create_dir(&directory).unwrap();
        assert!(!has_data(&directory));
        std::fs::write(directory.join("lock"), "").unwrap();
        assert!(has_data(&directory));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
