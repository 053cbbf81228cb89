//! Tests of the system calls: an acknowledgement is sent after the sync of its record.

use std::process::{Command, Stdio};

use martlet_codec::QoS;
use rustix::process::{Pid, Signal, kill_process};

use crate::node::{Directory, Node, block_on, lasting};

/// `strace` traces each call of the node; the README lists its package.
#[test]
fn puback_is_sent_after_write_and_sync_and_not_before() {
    let directory = Directory::new("strace");
    let trace = directory.path().join("trace");
    block_on(async {
        let node = Node::start(&directory, &["--threads", "1"]).await;
        let mut subscriber = node.connect(&lasting("subscriber")).await;
        subscriber.subscribe("a", QoS::AtLeastOnce).await;
        drop(subscriber);
        let mut publisher = node.connect(&lasting("publisher")).await;
        let pid = node.broker.pid().expect("it runs").to_string();
        let calls = "trace=pwrite64,write,fdatasync,fsync,sendto,writev,sendmsg";
        let mut strace = Command::new("strace")
            .args(["-f", "-s", "200", "-e", calls, "-o"])
            .arg(&trace)
            .args(["-p", &pid])
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace is installed (see the README)");
        attached(&mut strace);
        publisher
            .publish("a", "traced payload", QoS::AtLeastOnce, false)
            .await;
        // SIGTERM detaches it, so that its file is complete.
        let pid = Pid::from_raw(strace.id() as i32).expect("the number of a process");
        kill_process(pid, Signal::TERM).expect("strace runs");
        strace.wait().expect("strace ends");
    });
    let text = std::fs::read_to_string(&trace).expect("the trace was written");
    let lines: Vec<&str> = text.lines().collect();
    let find = |what: &dyn Fn(&str) -> bool| lines.iter().position(|line| what(line));
    let written = find(&|line| line.contains("pwrite64") && line.contains("traced payload"));
    let written = written.unwrap_or_else(|| panic!("the message is not written:\n{text}"));
    let puback =
        find(&|line| line.contains("\"@\\2")).unwrap_or_else(|| panic!("no PUBACK:\n{text}"));
    let synced = lines[written..puback]
        .iter()
        .any(|line| line.contains("sync") && line.contains("= 0"));
    assert!(written < puback && synced, "no sync between them:\n{text}");
}

/// Waits until strace reports that it is attached to all threads.
fn attached(strace: &mut std::process::Child) {
    use std::io::BufRead as _;
    let stderr = strace.stderr.take().expect("it is a pipe");
    let mut lines = std::io::BufReader::new(stderr).lines();
    let line = lines
        .next()
        .expect("strace says something")
        .expect("in text");
    assert!(line.contains("attached"), "{line}");
    // The pipe stays open, since strace would end with it.
    std::thread::spawn(move || lines.for_each(drop));
}
