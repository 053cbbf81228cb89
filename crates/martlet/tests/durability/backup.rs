//! Backups of running and stopped nodes, and what `martlet store` reports about damage.

use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use martlet_codec::QoS;

use crate::node::{Directory, MARTLET, Node, block_on, lasting, martlet, text};

async fn fill(node: &Node, count: u32) {
    let mut subscriber = node.connect(&lasting("subscriber")).await;
    subscriber.subscribe("a/#", QoS::AtLeastOnce).await;
    drop(subscriber);
    let mut publisher = node.connect(&lasting("publisher")).await;
    for number in 0..count {
        let payload = format!("number {number}");
        publisher
            .publish("a/b", &payload, QoS::AtLeastOnce, false)
            .await;
    }
}

async fn expect_all(node: &Node, count: u32) {
    let mut subscriber = node.connect(&lasting("subscriber")).await;
    for number in 0..count {
        assert_eq!(subscriber.message().await.1, format!("number {number}"));
    }
}

#[test]
fn a_backup_of_a_running_node_has_all_that_was_acknowledged_before() {
    let directory = Directory::new("backup");
    let file = directory.path().join("node.backup");
    let file = file.display().to_string();
    let data = directory.data().display().to_string();
    let elsewhere = Directory::new("backup-restored");
    let restored = elsewhere.data().display().to_string();
    block_on(async {
        let node = Node::start(&directory, &[]).await;
        fill(&node, 200).await;
        let made = martlet(&["backup", "create", &file, "--data-dir", &data]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = martlet(&["backup", "create", &file, "--data-dir", &data]);
        assert!(text(&again.stderr).contains("exists already"));
        let verified = martlet(&["backup", "verify", &file]);
        assert!(verified.status.success(), "{}", text(&verified.stderr));
        assert!(
            text(&verified.stdout).contains("200 entries"),
            "{}",
            text(&verified.stdout)
        );
        let refused = martlet(&["backup", "restore", &file, "--data-dir", &data]);
        assert!(
            text(&refused.stderr).contains("in use"),
            "{}",
            text(&refused.stderr)
        );
        expect_all(&node, 200).await;
    });
    let unpacked = martlet(&["backup", "restore", &file, "--data-dir", &restored]);
    assert!(unpacked.status.success(), "{}", text(&unpacked.stderr));
    let twice = martlet(&["backup", "restore", &file, "--data-dir", &restored]);
    assert!(text(&twice.stderr).contains("has a store already"));
    block_on(async {
        let node = Node::start(&elsewhere, &[]).await;
        expect_all(&node, 200).await;
    });
}

#[test]
fn a_backup_of_a_node_that_does_not_run_changes_nothing_beside_its_file() {
    for is_stopped in [false, true] {
        let directory = Directory::new("backup-read-only");
        let data = directory.data();
        block_on(async {
            let mut node = Node::start(&directory, &[]).await;
            fill(&node, 200).await;
            match is_stopped {
                true => {
                    let stopped = martlet(&["stop", "--data-dir", &data.display().to_string()]);
                    assert!(stopped.status.success(), "{}", text(&stopped.stderr));
                }
                false => node.broker.kill().unwrap(),
            }
        });
        // For all users except root they become read-only.
        let modes = |mode| {
            for path in [data.join("store"), data.clone()] {
                let mode = std::fs::Permissions::from_mode(mode);
                std::fs::set_permissions(path, mode).unwrap();
            }
        };
        modes(0o500);
        let before = everything_in(&data);
        let elsewhere = Directory::new("backup-read-only-there");
        let file = elsewhere.path().join("node.backup").display().to_string();
        let source = data.display().to_string();
        let made = martlet(&["backup", "create", &file, "--data-dir", &source]);
        let after = everything_in(&data);
        modes(0o700);
        assert!(made.status.success(), "{}", text(&made.stderr));
        assert!(before == after, "the data directory was changed");
        let verified = martlet(&["backup", "verify", &file]);
        let told = text(&verified.stdout);
        assert!(verified.status.success(), "{told}");
        // A kill may happen before the entries' records are written; the start creates these again.
        assert!(told.contains("200 messages"), "{told}");
        let restored = elsewhere.data().display().to_string();
        let unpacked = martlet(&["backup", "restore", &file, "--data-dir", &restored]);
        assert!(unpacked.status.success(), "{}", text(&unpacked.stderr));
        block_on(async {
            let node = Node::start(&elsewhere, &[]).await;
            expect_all(&node, 200).await;
        });
    }
}

/// Each file below a directory, with its time of change and its contents.
fn everything_in(directory: &Path) -> Vec<(PathBuf, SystemTime, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).expect("it is there") {
        let path = entry.expect("an entry").path();
        let found = path.metadata().expect("it is there");
        let changed = found.modified().expect("it has a time");
        match found.is_dir() {
            true => {
                all.extend(everything_in(&path));
                all.push((path, changed, Vec::new()));
            }
            // There may be a socket too.
            false => all.push((
                path.clone(),
                changed,
                std::fs::read(path).unwrap_or_default(),
            )),
        }
    }
    all.sort();
    all
}

#[test]
fn a_backup_that_was_cut_or_changed_is_not_taken_for_a_whole_one() {
    let directory = Directory::new("backup-cut");
    let file = directory.path().join("node.backup");
    let name = file.display().to_string();
    let data = directory.data().display().to_string();
    block_on(async {
        let mut node = Node::start(&directory, &[]).await;
        fill(&node, 20).await;
        node.broker.kill().unwrap();
    });
    // No node runs, so the command reads the store itself.
    let made = martlet(&["backup", "create", &name, "--data-dir", &data]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let whole = std::fs::read(&file).unwrap();
    let fails = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let verified = martlet(&["backup", "verify", &name]);
        assert!(!verified.status.success());
        text(&verified.stderr)
    };
    let length = whole.len();
    for cut in [
        1,
        512,
        length / 2,
        length - 2_000,
        length - 513,
        length - 100,
        length - 1,
    ] {
        fails(&whole[..cut]);
    }
    let junk = fails(&[&whole, &b"junk"[..]].concat());
    assert!(
        junk.contains(&format!("after its end, at {length}")),
        "{junk}"
    );
    // Padded like the output of a tar program.
    std::fs::write(&file, [&whole, &[0; 9 * 512][..]].concat()).unwrap();
    assert!(martlet(&["backup", "verify", &name]).status.success());
    let mut changed = whole.clone();
    let place = whole
        .windows(8)
        .position(|bytes| bytes == b"number 7")
        .unwrap();
    changed[place] ^= 1;
    assert!(fails(&changed).contains("changed"));
}

#[test]
fn what_is_no_backup_is_called_so() {
    let directory = Directory::new("backup-other");
    let file = directory.path().join("other");
    let name = file.display().to_string();
    let says = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let verified = martlet(&["backup", "verify", &name]);
        assert_eq!(verified.status.code(), Some(1));
        text(&verified.stderr)
    };
    let expected = format!("martlet: {name} is not a backup of Martlet: ");
    assert_eq!(says(b""), format!("{expected}it is empty\n"));
    assert!(says(b"\x1f\x8b\x08rest").contains("it is compressed; unpack it first"));
    assert!(says(&[b'x'; 5000]).contains("it is not a tar archive"));
    let mut other = vec![0; 1536];
    other[..4].copy_from_slice(b"name");
    other[257..263].copy_from_slice(b"ustar ");
    assert!(says(&other).starts_with("martlet: "));
    let of_a_directory = martlet(&["backup", "verify", &directory.path().display().to_string()]);
    assert!(text(&of_a_directory.stderr).contains("it is not a file"));
}

#[test]
fn a_restore_that_was_cut_off_is_told_and_not_taken_for_an_empty_store() {
    let directory = Directory::new("restore-cut");
    let data = directory.data().display().to_string();
    let unfinished = directory.data().join("store.restoring");
    std::fs::create_dir_all(&unfinished).unwrap();
    let listen = ["--listen", "mqtt://127.0.0.1:0", "--http", "off"];
    let refused = martlet(&[&["serve", "--data-dir", &data], &listen[..]].concat());
    assert_eq!(refused.status.code(), Some(1));
    let error = text(&refused.stderr);
    let again = format!("run martlet backup restore --data-dir={data} again");
    assert!(error.contains(&again), "{error}");
    assert!(error.contains(&unfinished.display().to_string()), "{error}");
}

#[test]
fn a_restore_that_fails_leaves_only_what_an_earlier_one_has_left() {
    let directory = Directory::new("restore-fails");
    let data = directory.data().display().to_string();
    let file = directory.path().join("node.backup").display().to_string();
    block_on(async {
        let mut node = Node::start(&directory, &[]).await;
        fill(&node, 20).await;
        node.broker.kill().unwrap();
    });
    let made = martlet(&["backup", "create", &file, "--data-dir", &data]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let elsewhere = Directory::new("restore-fails-there");
    let there = elsewhere.data();
    let restoring = there.join("store.restoring");
    // Files are limited to 1 KiB, which is too little for the log.
    let limited = format!(
        "trap '' XFSZ; ulimit -f 1; exec {MARTLET} backup restore {file} --data-dir {}",
        there.display()
    );
    for left in [false, true] {
        if left {
            std::fs::create_dir_all(&restoring).unwrap();
        }
        let failed = Command::new("sh").args(["-c", &limited]).output().unwrap();
        assert_eq!(failed.status.code(), Some(1));
        let error = text(&failed.stderr);
        assert!(error.contains("store.restoring/"), "{error}");
        assert_eq!(restoring.exists(), left);
    }
}

#[test]
fn a_backup_to_standard_output_is_refused_and_makes_no_file() {
    let directory = Directory::new("backup-stdout");
    std::fs::create_dir_all(directory.data().join("store")).unwrap();
    let data = directory.data().display().to_string();
    let mut create = Command::new(MARTLET);
    create.args(["backup", "create", "-", "--data-dir", &data]);
    let refused = create.current_dir(directory.path()).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let error = text(&refused.stderr);
    assert!(error.contains("name a file"), "{error}");
    assert!(!directory.path().join("-").exists());
}

#[test]
fn damage_is_named_costs_itself_alone_and_can_be_repaired() {
    let directory = Directory::new("damage");
    let data = directory.data().display().to_string();
    block_on(async {
        let mut node = Node::start(&directory, &[]).await;
        fill(&node, 50).await;
        node.broker.kill().unwrap();
    });
    let check = || martlet(&["store", "check", "--data-dir", &data]);
    let clean = check();
    assert!(
        clean.status.success(),
        "{}{}",
        text(&clean.stdout),
        text(&clean.stderr)
    );
    flip(&directory.data().join("store"), b"number 7");
    let damaged = check();
    assert_eq!(damaged.status.code(), Some(1));
    assert!(
        text(&damaged.stdout).contains(".log at "),
        "{}",
        text(&damaged.stdout)
    );
    block_on(async {
        let mut node = Node::start(&directory, &[]).await;
        let mut subscriber = node.connect(&lasting("subscriber")).await;
        for number in (0..50).filter(|number| *number != 7) {
            assert_eq!(subscriber.message().await.1, format!("number {number}"));
        }
        node.broker.kill().unwrap();
    });
    let repaired = martlet(&["store", "repair", "--data-dir", &data]);
    assert!(repaired.status.success(), "{}", text(&repaired.stderr));
    let clean = check();
    assert!(clean.status.success(), "{}", text(&clean.stdout));
    let stats = martlet(&["store", "stats", "--data-dir", &data, "--json"]);
    assert!(
        text(&stats.stdout).contains("\"segments\""),
        "{}",
        text(&stats.stderr)
    );
}

#[test]
fn a_store_that_lost_its_only_segment_says_so_and_starts() {
    let directory = Directory::new("lost-segment");
    let data = directory.data().display().to_string();
    block_on(async {
        let mut node = Node::start(&directory, &[]).await;
        fill(&node, 5).await;
        node.broker.kill().unwrap();
    });
    std::fs::remove_file(directory.data().join("store/00000001.log")).unwrap();
    let check = || martlet(&["store", "check", "--data-dir", &data]);
    let damaged = check();
    assert_eq!(damaged.status.code(), Some(1));
    let told = text(&damaged.stdout);
    assert!(told.starts_with("00000001.log is missing: "), "{told}");
    block_on(async {
        let mut node = Node::start(&directory, &[]).await;
        fill(&node, 5).await;
        node.crash().await;
        expect_all(&node, 5).await;
        node.broker.kill().unwrap();
    });
    assert_eq!(check().status.code(), Some(0));
}

#[test]
fn what_is_wrong_with_the_small_files_of_a_store_is_told_and_mended() {
    let directory = Directory::new("small-files");
    let data = directory.data().display().to_string();
    let store = directory.data().join("store");
    block_on(async {
        let mut node = Node::start(&directory, &[]).await;
        fill(&node, 5).await;
        node.broker.kill().unwrap();
    });
    let mut identity = std::fs::read(store.join("STORE")).unwrap();
    (identity[9], identity[521]) = (7, 7);
    std::fs::write(store.join("STORE"), identity).unwrap();
    std::fs::write(store.join("MARK"), b"no mark").unwrap();
    std::fs::write(store.join("00000099.a.checkpoint"), b"no checkpoint").unwrap();
    let check = || martlet(&["store", "check", "--data-dir", &data]);
    let damaged = check();
    assert_eq!(damaged.status.code(), Some(1), "{}", text(&damaged.stderr));
    let told = text(&damaged.stdout);
    for place in [
        "STORE at 0: ",
        "STORE at 512: ",
        "MARK at 0: ",
        "00000099.a.checkpoint at 0: ",
    ] {
        assert!(told.contains(place), "{place}in {told}");
    }
    assert_eq!(told.lines().count(), 5, "{told}");
    block_on(async {
        let mut node = Node::start(&directory, &[]).await;
        expect_all(&node, 5).await;
        node.broker.kill().unwrap();
    });
    assert!(store.join("00000099.a.checkpoint.damaged").exists());
    assert_eq!(check().status.code(), Some(0), "{}", text(&check().stdout));
}

#[test]
fn a_store_of_which_only_the_mark_is_left_is_not_begun_anew() {
    let directory = Directory::new("only-mark");
    let data = directory.data().display().to_string();
    let store = directory.data().join("store");
    block_on(async {
        let mut node = Node::start(&directory, &[]).await;
        fill(&node, 5).await;
        node.broker.kill().unwrap();
    });
    for entry in std::fs::read_dir(&store).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("MARK") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let listen = ["--listen", "mqtt://127.0.0.1:0", "--http", "off"];
    let serve = [&["serve", "--data-dir", &data], &listen[..]].concat();
    let check = ["store", "check", "--data-dir", &data];
    let repair = ["store", "repair", "--data-dir", &data];
    for (command, code) in [(&serve[..], 1), (&check[..], 2), (&repair[..], 2)] {
        let refused = martlet(command);
        let error = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(code), "{error}");
        assert!(error.contains("remove MARK"), "{error}");
        assert!(error.contains(&store.display().to_string()), "{error}");
    }
    std::fs::remove_file(store.join("MARK")).unwrap();
    block_on(async {
        let node = Node::start(&directory, &[]).await;
        fill(&node, 5).await;
        expect_all(&node, 5).await;
    });
}

/// Flips a bit where these bytes first occur in any file of the directory.
fn flip(directory: &Path, wanted: &[u8]) {
    for entry in std::fs::read_dir(directory).expect("the store is there") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("it can be read");
        let Some(place) = bytes
            .windows(wanted.len())
            .position(|found| found == wanted)
        else {
            continue;
        };
        let file = std::fs::File::options()
            .write(true)
            .open(&path)
            .expect("it can be written");
        file.write_all_at(&[bytes[place] ^ 4], place as u64)
            .expect("it is written");
        return;
    }
    panic!("{} is nowhere", text(wanted));
}
