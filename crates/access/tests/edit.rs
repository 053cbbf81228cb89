//! Password files are replaced as a whole, and only the intended lines change.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use martlet_access::edit::{Edited, create, hash_plain, remove_user, set_user};
use martlet_access::hash::Kind;
use martlet_access::{Check, PasswordFile, Plain};

/// A directory that is removed with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("martlet-access-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn other_lines_stay_as_they_are() {
    let directory = Directory::new("lines");
    let path = directory.0.join("passwd");
    fs::write(&path, "# people\n\n bob : $6$AAAA$x\nalice:secret\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let added = set_user(&path, "carol", b"pw", Kind::Sha512).unwrap();
    assert_eq!(added, Edited::Added);
    assert_eq!(
        set_user(&path, "alice", b"pw", Kind::Sha512).unwrap(),
        Edited::Changed
    );
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("# people\n\n bob : $6$AAAA$x\nalice:$6$"),
        "{text}"
    );
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
    remove_user(&path, "bob").unwrap();
    let file = PasswordFile::parse("p", &fs::read(&path).unwrap(), Plain::Refused).unwrap();
    assert_eq!(file.check("alice", b"pw"), Check::Right { renew: true });
    assert!(!file.has_user("bob") && file.has_user("carol"));
    let error = remove_user(&path, "bob").unwrap_err().to_string();
    assert!(error.contains("there is no user bob"), "{error}");
    assert_eq!(
        fs::read_dir(&directory.0).unwrap().count(),
        1,
        "nothing is left beside it"
    );
}

#[test]
fn a_link_stays_one_and_a_file_is_never_made_twice() {
    let directory = Directory::new("link");
    let (path, link) = (directory.0.join("passwd"), directory.0.join("link"));
    create(&path, false).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(
        create(&path, false)
            .unwrap_err()
            .to_string()
            .contains("already exists")
    );
    symlink(&path, &link).unwrap();
    set_user(&link, "alice", b"pw", Kind::Pbkdf2Sha512).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&path).unwrap().starts_with("alice:$7$"));
}

#[test]
fn names_that_are_no_lines_and_empty_passwords_are_refused() {
    let directory = Directory::new("names");
    let path = directory.0.join("passwd");
    create(&path, false).unwrap();
    for name in ["", "a:b", " a", "#a", "a\nb"] {
        assert!(
            set_user(&path, name, b"pw", Kind::Sha512).is_err(),
            "{name:?}"
        );
    }
    assert!(set_user(&path, "a", b"", Kind::Sha512).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn passwords_become_hashes() {
    let directory = Directory::new("plain");
    let path = directory.0.join("passwd");
    fs::write(&path, "alice:secret\nbob:other\n").unwrap();
    assert_eq!(hash_plain(&path, Kind::Argon2id).unwrap(), 2);
    let file = PasswordFile::parse("p", &fs::read(&path).unwrap(), Plain::Refused).unwrap();
    assert_eq!(
        file.check("alice", b"secret"),
        Check::Right { renew: false }
    );
    assert_eq!(file.check("bob", b"secret"), Check::Wrong);
}

#[test]
fn many_edits_at_once_lose_none() {
    let directory = Directory::new("many");
    let path = directory.0.join("passwd");
    create(&path, false).unwrap();
    std::thread::scope(|scope| {
        for number in 0..16 {
            let path = &path;
            scope.spawn(move || {
                set_user(path, &format!("user{number}"), b"pw", Kind::Sha512).unwrap();
            });
        }
    });
    let file = PasswordFile::parse("p", &fs::read(&path).unwrap(), Plain::Refused).unwrap();
    assert_eq!(file.users().count(), 16);
}
