//! Checks that an ACL file permits the same as in Mosquitto: compares random files, users, Client
//! Identifiers and topics with a running broker. Names with slashes get fewer rights here.
//!
//! `MARTLET_ACL_CASES` is the number of decisions to compare; the default is 100,000.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use martlet_access::{AclFile, Explanation, Subscribing};
use martlet_permission::Actions;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngSeed, TestRunner};

const DEADLINE: Duration = Duration::from_secs(10);

/// A broker with an ACL file that accepts all user names.
struct Mosquitto {
    process: Child,
    port: u16,
    directory: PathBuf,
}

impl Mosquitto {
    fn start(number: usize, acl: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("martlet-acl-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("acl"), acl).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nacl_file {}\nlog_type none\n\
             set_tcp_nodelay true\n",
            directory.join("acl").display()
        );
        fs::write(directory.join("conf"), config).unwrap();
        let sbin = PathBuf::from("/usr/sbin/mosquitto");
        let program = if sbin.is_file() {
            sbin
        } else {
            "mosquitto".into()
        };
        let process = Command::new(program)
            .arg("-c")
            .arg(directory.join("conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is not installed: it comes with the package mosquitto");
        Self {
            process,
            port,
            directory,
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// An MQTT 5 connection with the functions that this test needs.
struct Client(TcpStream);

impl Client {
    fn connect(broker: &Mosquitto, client_id: &str, user: Option<&str>) -> Self {
        let began = Instant::now();
        let socket = loop {
            match TcpStream::connect(("127.0.0.1", broker.port)) {
                Ok(socket) => break socket,
                Err(_) if began.elapsed() < DEADLINE => std::thread::yield_now(),
                Err(error) => panic!("mosquitto does not open its port: {error}"),
            }
        };
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let flags = 2 | if user.is_some() { 0x80 } else { 0 };
        let mut body = [&b"\0\x04MQTT\x05"[..], &[flags, 0, 0, 0]].concat();
        body.extend(text(client_id));
        user.into_iter().for_each(|user| body.extend(text(user)));
        let mut client = Self(socket);
        client.send(0x10, &body);
        let (kind, answer) = client.packet();
        assert_eq!((kind, answer[1]), (0x20, 0), "CONNACK");
        client
    }

    fn send(&mut self, head: u8, body: &[u8]) {
        let mut packet = vec![head];
        let mut length = body.len();
        loop {
            let more = if length > 127 { 0x80 } else { 0 };
            packet.push((length % 128) as u8 | more);
            length /= 128;
            if length == 0 {
                break;
            }
        }
        packet.extend_from_slice(body);
        self.0.write_all(&packet).unwrap();
    }

    fn packet(&mut self) -> (u8, Vec<u8>) {
        let head = self.byte();
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            length |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (head, body)
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.0.read_exact(&mut byte).unwrap();
        byte[0]
    }

    fn subscribe(&mut self, filters: &[&str]) {
        let mut body = vec![0, 1, 0];
        for filter in filters {
            body.extend(text(filter));
            body.push(0);
        }
        self.send(0x82, &body);
        while self.packet().0 != 0x90 {}
    }

    /// Returns whether each topic may be published to, by the reason code of its PUBACK.
    fn publish(&mut self, topics: &[String]) -> Vec<bool> {
        for (number, topic) in topics.iter().enumerate() {
            let id = (number as u16 + 1).to_be_bytes();
            let body = [&text(topic)[..], &id, &[0, number as u8]].concat();
            self.send(0x32, &body);
        }
        let mut permitted = vec![false; topics.len()];
        for _ in topics {
            let (kind, answer) = self.packet();
            assert_eq!(kind, 0x40, "PUBACK");
            let id = usize::from(u16::from_be_bytes([answer[0], answer[1]]));
            permitted[id - 1] = answer.get(2).copied().unwrap_or(0) < 0x80;
        }
        permitted
    }

    /// Returns which of the numbered messages have been received.
    fn received(&mut self, count: usize) -> Vec<bool> {
        self.send(0xC0, &[]);
        let mut came = vec![false; count];
        loop {
            let (kind, body) = self.packet();
            match kind & 0xF0 {
                0xD0 => return came,
                _ => came[usize::from(*body.last().unwrap())] = true,
            }
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

/// A file, and the topics to check.
fn case() -> impl Strategy<Value = (String, Vec<String>)> {
    let level = prop::sample::select(vec!["a", "b", "c1", "u1", "x y", "$a", "+", "+"]);
    let template = prop::sample::select(vec!["%c", "%u", "p%c", "%u-%c", "a", "c1", "+"]);
    let end = prop::sample::select(vec!["", "", "/#", "/#"]);
    let filter = (prop::collection::vec(level.clone(), 1..3), end.clone())
        .prop_map(|(levels, end)| levels.join("/") + end);
    let pattern = (prop::collection::vec(template, 1..3), end)
        .prop_map(|(levels, end)| levels.join("/") + end);
    let access = prop::sample::select(vec!["read ", "write ", "readwrite ", "deny ", "read "]);
    let user = prop::sample::select(vec!["user u1\n", "user u/2\n", "user $a\n"]);
    let line = prop_oneof![
        6 => (access.clone(), filter).prop_map(|(access, filter)| format!("topic {access}{filter}\n")),
        4 => (access, pattern).prop_map(|(access, filter)| format!("pattern {access}{filter}\n")),
        2 => user.prop_map(str::to_owned),
        1 => Just("# a comment\n".to_owned()),
    ];
    let usable = |line: &String| !line.ends_with(" \n") && !line.contains("  ");
    let lines = prop::collection::vec(line.prop_filter("a topic is there", usable), 1..16);
    let name = prop::sample::select(vec!["a", "b", "c1", "u1", "pc1", "u1-c1", "x y", "", "$a"]);
    let topic = prop::collection::vec(name, 1..4).prop_map(|levels| levels.join("/"));
    let topic = topic.prop_filter("a Topic Name is not empty", |topic| !topic.is_empty());
    (
        lines.prop_map(|lines| lines.concat()),
        prop::collection::vec(topic, 24),
    )
}

#[test]
fn an_acl_file_permits_what_it_permits_on_mosquitto() {
    let asked = std::env::var("MARTLET_ACL_CASES")
        .ok()
        .and_then(|text| text.parse().ok());
    let asked: usize = asked.unwrap_or(100_000);
    let config = Config {
        rng_seed: match asked {
            100_000 => RngSeed::Fixed(7),
            _ => RngSeed::Random,
        },
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let clients = [
        (None, "c1"),
        (Some("u1"), "c1"),
        (Some("u1"), "c/1"),
        (Some("u/2"), "c1"),
        (Some("$a"), "b"),
        (Some("other"), "u1"),
    ];
    let (mut decisions, mut permitted, mut number) = (0, 0, 0);
    while decisions < asked {
        let (acl, topics) = case().new_tree(&mut runner).unwrap().current();
        // The sender may publish to all topics.
        let acl = format!("{acl}user sender\ntopic readwrite #\ntopic readwrite $a/#\n");
        let file = AclFile::parse("acl", &acl, Subscribing::AtDelivery).unwrap();
        let broker = Mosquitto::start(number, &acl);
        number += 1;
        let mut sender = Client::connect(&broker, "sender", Some("sender"));
        let is_sent = sender.publish(&topics);
        for (user, client_id) in clients {
            // In Mosquitto, a name with slashes matches several levels; here it matches no pattern.
            let is_strict = client_id.contains('/') || user.is_some_and(|name| name.contains('/'));
            let mut client = Client::connect(&broker, client_id, user);
            client.subscribe(&["#", "$a/#"]);
            assert_eq!(sender.publish(&topics), is_sent);
            let received = client.received(topics.len());
            let published = client.publish_and_forget(&topics);
            for (at, topic) in topics.iter().enumerate() {
                let told = |action| file.explain(user, client_id, action, topic);
                let agree = |ours: &Explanation, theirs: bool, what: &str| {
                    let is_same = ours.allowed == theirs || (is_strict && theirs);
                    assert!(
                        is_same,
                        "{user:?} {client_id} {what} {topic}: {ours}\n{acl}"
                    );
                };
                let (write, read) = (told(Actions::PUBLISH), told(Actions::RECEIVE));
                agree(&write, published[at], "publishes");
                if is_sent[at] {
                    agree(&read, received[at], "reads");
                }
                decisions += 2;
                permitted += usize::from(read.allowed) + usize::from(write.allowed);
            }
        }
    }
    println!("{decisions} decisions, {permitted} permitted, {number} files");
    assert!(permitted > decisions / 20 && permitted < decisions / 2);
}

impl Client {
    /// Like [`Client::publish`], for a client that receives its own messages.
    fn publish_and_forget(&mut self, topics: &[String]) -> Vec<bool> {
        let mut permitted = vec![false; topics.len()];
        for (number, topic) in topics.iter().enumerate() {
            let id = (number as u16 + 1).to_be_bytes();
            let body = [&text(topic)[..], &id, &[0, number as u8]].concat();
            self.send(0x32, &body);
            loop {
                let (kind, answer) = self.packet();
                if kind == 0x40 {
                    permitted[number] = answer.get(2).copied().unwrap_or(0) < 0x80;
                    break;
                }
            }
        }
        permitted
    }
}
