//! Files that sinks may write: a separate one for each, and none of the node's. Two sinks with one
//! file would truncate each other's lines, and lines in a file of the node would damage it.
//!
//! Paths of a file are compared after resolving links, as far as they exist at the check.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::load::Effective;

/// Files of the node in its data directory. Names that begin with `martlet.db` belong to the
/// database.
const OWN_NAMES: &[&str] = &[
    "admin.sock",
    "alive",
    "alive.new",
    "lock",
    "martlet.pid",
    "registry",
    "restored.json",
    "secrets.key",
    "setup-link",
    "store",
    "store.restored",
    "store.restoring",
];
const DATABASE: &str = "martlet.db";

/// Files of the node that sinks must not write.
#[derive(Debug)]
pub(super) struct OwnFiles {
    data_dir: PathBuf,
    others: Vec<PathBuf>,
}

impl OwnFiles {
    /// The files of this configuration.
    pub(super) fn new(effective: &Effective, data_dir: &Path) -> Self {
        let settings = effective.settings();
        let named = [
            &settings.log.file,
            &settings.secrets.key_file,
            &settings.auth.password_file,
            &settings.auth.acl_file,
            &settings.events.push_ca_file,
        ];
        let named = named.into_iter().filter(|path| !path.is_empty());
        let named = named.map(PathBuf::from);
        Self {
            data_dir: canonical(data_dir),
            others: named.chain(effective.files.iter().cloned()).collect(),
        }
    }

    /// Why a sink must not write this file; `None` if it may.
    pub(super) fn refuses(&self, path: &Path) -> Option<String> {
        let is_own = self.is_in_data_dir(path)
            || self.names().any(|own| is_same(&own, path))
            || self.others.iter().any(|other| meet(other, path));
        is_own.then(|| {
            let path = path.display();
            format!("`path` is {path}, a file of the node itself: choose another name or directory")
        })
    }

    /// Whether it has the name of a file of the node, which may not exist yet.
    fn is_in_data_dir(&self, path: &Path) -> bool {
        let place = place(path);
        let Ok(within) = place.strip_prefix(&self.data_dir) else {
            return false;
        };
        let first = within.components().next();
        let first = first.map(|first| first.as_os_str().to_string_lossy().into_owned());
        first.is_some_and(|name| OWN_NAMES.contains(&&*name) || name.starts_with(DATABASE))
    }

    fn names(&self) -> impl Iterator<Item = PathBuf> {
        let names = OWN_NAMES.iter().chain([&DATABASE]);
        names.map(|name| self.data_dir.join(name))
    }
}

/// Whether two files are the same, or one could become the other by rotation, or keeps its length.
pub(super) fn meet(one: &Path, other: &Path) -> bool {
    let (a, b) = (place(one), place(other));
    is_same(one, other) || is_rotated(&a, &b) || is_rotated(&b, &a)
}

fn is_same(one: &Path, other: &Path) -> bool {
    let inode = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    let is_linked = inode(one).is_some_and(|inode_of_one| inode(other) == Some(inode_of_one));
    place(one) == place(other) || is_linked
}

/// The path with the links in its directory resolved.
fn place(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (path.parent(), path.file_name()) {
        (Some(directory), Some(name)) => canonical(directory).join(name),
        _ => path,
    }
}

fn canonical(directory: &Path) -> PathBuf {
    let found = directory.canonicalize();
    found
        .or_else(|_| std::path::absolute(directory))
        .unwrap_or_else(|_| directory.to_owned())
}

/// Whether a file could become the other one by rotation, or the other one keeps its length.
fn is_rotated(path: &Path, other: &Path) -> bool {
    let (path, other) = (
        path.as_os_str().as_encoded_bytes(),
        other.as_os_str().as_encoded_bytes(),
    );
    let number = other
        .strip_prefix(path)
        .and_then(|rest| rest.strip_prefix(b"."));
    number.is_some_and(|rest| {
        rest == b"synced" || !rest.is_empty() && rest.iter().all(u8::is_ascii_digit)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_to_one_file_and_to_files_of_the_node() {
        let name = format!("martlet-sink-files-{}", std::process::id());
        let place = std::env::temp_dir().join(name);
        let data = place.join("data");
        fs::create_dir_all(data.join("store")).unwrap();
        symlink(&data, place.join("link")).unwrap();
        fs::write(data.join("a.json"), "{}\n").unwrap();
        fs::hard_link(data.join("a.json"), place.join("hard.json")).unwrap();
        fs::write(data.join("martlet.db"), "").unwrap();
        fs::hard_link(data.join("martlet.db"), place.join("db.json")).unwrap();
        assert!(meet(&data.join("a.json"), &place.join("link/a.json")));
        assert!(meet(&data.join("new.json"), &place.join("link/new.json")));
        assert!(meet(&data.join("new.json"), &place.join("link/new.json.3")));
        assert!(meet(&data.join("a.json"), &place.join("hard.json")));
        assert!(!meet(&data.join("a.json"), &data.join("b.json")));
        let own = OwnFiles {
            data_dir: canonical(&data),
            others: vec![place.join("node.log")],
        };
        for path in [
            "link/lock",
            "data/store/x",
            "link/store/x",
            "data/martlet.db-wal",
            "db.json",
        ]
        .into_iter()
        .chain([
            "data/alive.new",
            "node.log",
            "node.log.2",
            "data/store.restored",
        ]) {
            let why = own.refuses(&place.join(path)).expect(path);
            assert!(
                why.contains(path) && why.contains("of the node itself"),
                "{why}"
            );
        }
        for path in [
            "lock",
            "data/a.json",
            "data/store.json",
            "data/out/lock",
            "hard.json",
        ] {
            assert_eq!(own.refuses(&place.join(path)), None, "{path}");
        }
        fs::remove_dir_all(&place).unwrap();
    }
}
