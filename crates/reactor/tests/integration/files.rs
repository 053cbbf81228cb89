//! Test of a node without free file descriptors, in a separate process, because the limit applies
//! to a whole process.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::*;
use rustix::process::{Resource, Rlimit, setrlimit};

/// Marks the child process.
const CHILD: &str = "MARTLET_TEST_FILES_CHILD";

const FILES: u64 = 128;

/// Number of files held open by other code, more than the connections leave.
const FILES_HELD: usize = 50;

/// Not a separate test: the node, when run as a child.
#[test]
fn node_with_few_files() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let limit = Rlimit {
        current: Some(FILES),
        maximum: Some(FILES),
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let node = node(2);
    let _held: Vec<_> = (0..FILES_HELD)
        .map(|_| std::fs::File::open("/dev/null").unwrap())
        .collect();
    println!("\nlistening on {}", node.tcp);
    for line in std::io::stdin().lines() {
        line.unwrap();
        let stats = node.running.stats();
        println!(
            "\nstats {} {} {}",
            stats.accepted, stats.accept_pauses, stats.ticks
        );
    }
    std::process::exit(0);
}

#[test]
fn without_open_files_left_accepting_pauses_instead_of_spinning() {
    // T5
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["files::node_with_few_files", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line_after = |word: &str| {
        let found = lines.find_map(|line| line.unwrap().strip_prefix(word).map(str::to_owned));
        found.expect(word)
    };
    let address = line_after("listening on ").trim().parse().unwrap();
    let mut stats = || {
        writeln!(input).unwrap();
        let numbers: Vec<u64> = line_after("stats ")
            .split(' ')
            .map(|number| number.parse().unwrap())
            .collect();
        (numbers[0], numbers[1], numbers[2])
    };
    let clients: Vec<Client> = (0..FILES + 20).map(|_| Client::tcp(address)).collect();
    while stats().1 == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let (_, pauses, ticks) = stats();
    // There is nothing to wait for: in this time the node must not spin.
    std::thread::sleep(Duration::from_millis(500));
    let later = stats();
    assert!(
        later.1 - pauses <= 7,
        "one try in 100 ms: {}",
        later.1 - pauses
    );
    assert!(later.2 - ticks <= 100, "{} ticks", later.2 - ticks);
    // Waiting clients are accepted when others have disconnected.
    drop(clients);
    Client::tcp(address).connect("after the flood");
    drop(input);
    child.wait().unwrap();
}
