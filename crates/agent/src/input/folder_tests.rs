use super::*;
use crate::queue::Limits;
use martlet_store::SimDisk;
use std::io::Write as _;

const LINE_BYTES_MAX: usize = 1_000;

/// A folder, a queue, and a clock.
struct Rig {
    path: PathBuf,
    disk: SimDisk,
    queue: Queue<SimDisk>,
    folder: Folder,
    now: Duration,
}

fn queue(disk: &SimDisk) -> Queue<SimDisk> {
    let limits = Limits {
        messages: 100_000,
        bytes: 100 << 20,
    };
    Queue::open(disk.clone(), limits, 7).unwrap().0
}

impl Rig {
    fn new(name: &str) -> Self {
        let name = format!("martlet-agent-folder-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        let disk = SimDisk::new(1);
        let queue = queue(&disk);
        Self {
            folder: Folder::open(&path, LINE_BYTES_MAX, &queue).unwrap(),
            path,
            disk,
            queue,
            now: Duration::from_secs(100),
        }
    }

    fn append(&self, name: &str, text: &str) {
        let mut options = File::options();
        let file = options.append(true).create(true).open(self.path.join(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Scans until there is nothing more, commits, and returns the new messages: topic and line.
    fn lines(&mut self) -> Vec<String> {
        while self.scan().more {
            self.queue.commit().unwrap();
        }
        self.queue.commit().unwrap();
        let taken = self.queue.take(usize::MAX, u64::MAX).into_iter();
        let line = |bytes| String::from_utf8(bytes).unwrap();
        taken
            .map(|message| format!("{}:{}", message.topic, line(message.payload)))
            .collect()
    }

    fn scan(&mut self) -> Scan {
        self.folder
            .scan(&mut self.queue, self.now, |file| file.to_owned())
    }

    /// Restarts as after a kill: only committed data is left.
    fn restart(&mut self) {
        self.disk.crash(3);
        self.queue = queue(&self.disk);
        self.folder = Folder::open(&self.path, LINE_BYTES_MAX, &self.queue).unwrap();
        // Earlier messages in the queue are not part of the test.
        self.queue.take(usize::MAX, u64::MAX);
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[test]
fn files_are_read_by_name_and_go_on_where_they_were() {
    let mut rig = Rig::new("order");
    rig.append("b", "3\n4\n");
    rig.append("a", "1\n\n2\n");
    assert_eq!(rig.lines(), ["a:1", "a:2", "b:3", "b:4"]);
    assert!(rig.lines().is_empty());
    rig.append("a", "5\n");
    assert_eq!(rig.lines(), ["a:5"]);
    rig.restart();
    assert!(rig.lines().is_empty());
    rig.append("b", "6\n");
    assert_eq!(rig.lines(), ["b:6"]);
}

#[test]
fn what_was_not_committed_is_read_again_after_a_crash() {
    let mut rig = Rig::new("crash");
    rig.append("a", "1\n");
    assert_eq!(rig.lines(), ["a:1"]);
    rig.append("a", "2\n");
    rig.scan();
    rig.restart();
    assert_eq!(rig.lines(), ["a:2"]);
}

#[test]
fn a_line_counts_when_it_ends_or_when_the_file_has_been_quiet() {
    let mut rig = Rig::new("partial");
    rig.append("a", "1\n2");
    assert_eq!(rig.lines(), ["a:1"]);
    rig.append("a", "3\n4");
    assert_eq!(rig.lines(), ["a:23"]);
    rig.now += QUIET - Duration::from_millis(1);
    assert!(rig.lines().is_empty());
    rig.now += Duration::from_millis(1);
    assert_eq!(rig.lines(), ["a:4"]);
    rig.now += QUIET;
    assert!(rig.lines().is_empty());
    rig.append("a", "\n5\n");
    assert_eq!(rig.lines(), ["a:5"]);
}

#[test]
fn a_renamed_file_goes_on_and_a_new_one_of_its_name_is_read_from_its_beginning() {
    let mut rig = Rig::new("rotate");
    rig.append("log", "1\n");
    assert_eq!(rig.lines(), ["log:1"]);
    rig.append("log", "2\n");
    fs::rename(rig.path.join("log"), rig.path.join("log.1")).unwrap();
    rig.append("log", "3\n");
    // Read under the topic of its first name, before the file that continues it.
    assert_eq!(rig.lines(), ["log:2", "log:3"]);
    rig.append("log.1", "4\n");
    rig.restart();
    assert_eq!(rig.lines(), ["log:4"]);
}

#[test]
fn a_file_that_was_cut_or_overwritten_is_read_from_its_beginning() {
    let mut rig = Rig::new("cut");
    rig.append("a", "first\nsecond\n");
    assert_eq!(rig.lines().len(), 2);
    fs::write(rig.path.join("a"), "x\n").unwrap();
    assert_eq!(rig.lines(), ["a:x"]);
    // Longer than before, so only its beginning shows that it was overwritten.
    fs::write(rig.path.join("a"), "y\nz\n").unwrap();
    assert_eq!(rig.lines(), ["a:y", "a:z"]);
}

#[test]
fn positions_of_removed_files_are_forgotten() {
    let mut rig = Rig::new("removed");
    rig.append("a", "1\n");
    rig.lines();
    assert_eq!(rig.queue.states(StateKind::File).len(), 1);
    fs::remove_file(rig.path.join("a")).unwrap();
    rig.lines();
    assert!(rig.queue.states(StateKind::File).is_empty());
}

#[test]
fn hidden_unfinished_and_compressed_files_links_and_directories_are_left_alone() {
    let mut rig = Rig::new("ignored");
    for name in [".a", "b.tmp", "c.gz", "d~"] {
        rig.append(name, "no\n");
    }
    fs::create_dir(rig.path.join("e")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", rig.path.join("f")).unwrap();
    assert!(rig.lines().is_empty());
    fs::rename(rig.path.join("b.tmp"), rig.path.join("b")).unwrap();
    assert_eq!(rig.lines(), ["b:no"]);
}

#[test]
fn a_line_that_is_too_long_is_left_out_however_it_arrives() {
    let mut rig = Rig::new("long");
    rig.append("a", "1\n");
    rig.append("a", &"x".repeat(LINE_BYTES_MAX));
    rig.append("a", "y");
    assert_eq!(rig.lines(), ["a:1"]);
    rig.append("a", &"x".repeat(100_000));
    assert!(rig.lines().is_empty());
    rig.restart();
    rig.append("a", "z\n2\n");
    assert_eq!(rig.lines(), ["a:2"]);
    rig.append("a", "3\n");
    assert_eq!(rig.lines(), ["a:3"]);
}

#[test]
fn a_large_file_is_read_in_several_scans() {
    let mut rig = Rig::new("large");
    let text: String = (0..50_000)
        .map(|number| format!("{number:020}\n"))
        .collect();
    rig.append("a", &text);
    assert!(rig.scan().more);
    assert!(rig.queue.uncommitted_bytes() < 8 * UNCOMMITTED_BYTES);
    let lines = rig.lines();
    assert_eq!(lines.len(), 50_000);
    assert!(lines.is_sorted());
}
