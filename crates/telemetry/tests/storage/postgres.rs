//! Tests of the storage with PostgreSQL: a server in a temporary directory, on a socket there.
//! PostgreSQL refuses to run as root, so it runs as another user. It ends with the process that it
//! monitors.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use martlet_telemetry::{
    DatabaseUrl, Location, Point, Selection, Settings, Storage, StorageError, Value,
};

use crate::model::BEGIN;
use crate::place::{TestStorage, small};
use crate::{aggregates, deletions, ranges, tenants};

struct Server {
    place: PathBuf,
    bin: PathBuf,
    /// Owner of the server; `None`: this user.
    owner: Option<(u32, u32)>,
}

/// A database that no other test uses.
fn new_place() -> TestStorage {
    static SERVER: OnceLock<Server> = OnceLock::new();
    TestStorage::of_database(SERVER.get_or_init(Server::start).new_database())
}

/// Directory of the newest server installed by Debian's packages.
fn bin() -> PathBuf {
    let all = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let found = all.flatten().map(|version| version.path().join("bin"));
    let mut found: Vec<_> = found.filter(|bin| bin.join("initdb").is_file()).collect();
    found.sort_unstable();
    found
        .pop()
        .expect("the tests need a server of PostgreSQL: apt-get install postgresql")
}

/// The user that the package has created.
fn postgres_user() -> (u32, u32) {
    let all = fs::read_to_string("/etc/passwd").expect("there are users");
    let line = all.lines().find(|line| line.starts_with("postgres:"));
    let fields: Vec<_> = line.expect("there is a user postgres").split(':').collect();
    let number = |at: usize| fields[at].parse().expect("a number");
    (number(2), number(3))
}

impl Server {
    fn start() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("martlet-pgt-{}-{count}", std::process::id());
        // The path of a socket must be short.
        let place = Path::new("/tmp").join(name);
        fs::create_dir(&place).expect("a place for the server");
        let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        let owner = is_root.then(postgres_user);
        if let Some((user, group)) = owner {
            chown(&place, Some(user), Some(group)).expect("the place is given away");
        }
        let server = Self {
            place,
            bin: bin(),
            owner,
        };
        let data = server.data();
        let options = ["--no-sync", "-A", "trust", "-U", "martlet", "-E", "UTF8"];
        server.run("initdb", &[&options[..], &["-D", &data]].concat());
        server.run_server();
        server.watch();
        server
    }

    fn data(&self) -> String {
        self.place.join("data").display().to_string()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command.env("PGHOST", &self.place).env("PGUSER", "martlet");
        command.current_dir(&self.place);
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let done = self.command(program).args(arguments).output();
        let done = done.expect("it can be run");
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{program} {arguments:?}: {told}");
    }

    fn run_server(&self) {
        let log = self.place.join("log").display().to_string();
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={} -c fsync=off -c \
             full_page_writes=off -c synchronous_commit=off",
            self.place.display()
        );
        let (data, options) = (self.data(), options.as_str());
        self.run(
            "pg_ctl",
            &["-w", "-D", &data, "-l", &log, "-o", options, "start"],
        );
    }

    fn stop(&self) {
        self.run(
            "pg_ctl",
            &["-w", "-m", "immediate", "-D", &self.data(), "stop"],
        );
    }

    /// Stops the server and removes its files, after this process has ended for any reason.
    #[expect(
        clippy::zombie_processes,
        reason = "the watcher ends after this process"
    )]
    fn watch(&self) {
        let watch = format!(
            "while test -d /proc/{}; do sleep 0.2; done; {}/pg_ctl -m immediate -D {} stop; \
             rm -rf {}",
            std::process::id(),
            self.bin.display(),
            self.data(),
            self.place.display()
        );
        let mut watcher = Command::new("sh");
        watcher.args(["-c", &watch]).process_group(0);
        let watcher = watcher.stdin(Stdio::null()).stdout(Stdio::null());
        watcher.stderr(Stdio::null());
        if let Some((user, group)) = self.owner {
            watcher.uid(user).gid(group);
        }
        watcher.spawn().expect("there is a shell");
    }

    fn new_database(&self) -> DatabaseUrl {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("d{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.run("createdb", &["-T", "template0", &name]);
        let host = self.place.display().to_string().replace('/', "%2F");
        let url = format!("postgres://martlet@{host}/{name}");
        DatabaseUrl::parse(&url).expect("it is one")
    }
}

#[tokio::test]
async fn ranges_are_those_of_the_model() {
    ranges::check_against_the_model(&new_place(), 12).await;
}

#[tokio::test]
async fn values_that_arrive_backwards_are_kept() {
    ranges::check_backwards(&new_place(), 4).await;
}

#[tokio::test]
async fn bad_points_are_refused() {
    ranges::check_refusals(&new_place()).await;
}

#[tokio::test]
async fn sums_are_those_of_the_model() {
    aggregates::check_against_the_model(&new_place(), 5).await;
}

#[tokio::test]
async fn a_tenant_has_its_share() {
    tenants::check_share(&new_place()).await;
}

#[tokio::test]
async fn deleted_values_are_gone() {
    deletions::check_deletion(&new_place()).await;
}

#[tokio::test]
async fn values_are_kept_by_age_and_bytes() {
    deletions::check_retention(&new_place(), 1_000_000).await;
}

#[tokio::test]
async fn a_quiet_tenant_keeps_its_days() {
    deletions::check_tenants(&new_place(), 1_000_000).await;
}

#[tokio::test]
async fn a_tenant_has_its_share_of_what_is_kept() {
    tenants::check_share_of_kept(&new_place(), 1_000_000).await;
}

#[tokio::test]
async fn while_the_server_is_away_errors_say_so_and_then_it_goes_on() {
    let server = Server::start();
    let place = TestStorage::of_database(server.new_database());
    let settings = Settings {
        connect_max: Duration::from_secs(2),
        ..small()
    };
    let storage = place.open(settings.clone()).await;
    let point = |device| Point {
        device,
        tenant: 0,
        key: "level".into(),
        time: BEGIN,
        origin: 0,
        value: Value::Number(1.5),
    };
    storage.write(vec![point(1)]).await.expect("written");
    server.stop();
    for _ in 0..3 {
        let told = storage.write(vec![point(2)]).await.unwrap_err();
        assert!(matches!(told, StorageError::Unreachable { .. }), "{told}");
        let told = storage.latest(&Selection::device(1)).await.unwrap_err();
        assert!(matches!(told, StorageError::Unreachable { .. }), "{told}");
    }
    let opened = Storage::open(place.location(), settings).await.map(drop);
    assert!(
        matches!(opened, Err(StorageError::Unreachable { .. })),
        "{opened:?}"
    );
    server.run_server();
    storage.write(vec![point(2)]).await.expect("written again");
    for device in [1, 2] {
        let rows = storage.latest(&Selection::device(device)).await.unwrap();
        assert_eq!(rows.len(), 1);
    }
}

#[tokio::test]
async fn two_nodes_write_to_one_database() {
    let place = new_place();
    let (one, other) = (place.open(small()).await, place.open(small()).await);
    let points = |from: i64| -> Vec<Point> {
        let point = |index: i64| Point {
            device: index % 7,
            tenant: 0,
            key: "level".into(),
            time: BEGIN + index,
            origin: 0,
            value: Value::Integer(index),
        };
        (from..from + 2000).map(point).collect()
    };
    for round in 0..5 {
        // The same days and series, and identical values from both nodes.
        let written = tokio::join!(
            one.write(points(round * 1000)),
            other.write(points(round * 1000))
        );
        assert_eq!(written.0.unwrap().stored + written.1.unwrap().stored, 4000);
        let packed = tokio::join!(one.pack(), other.pack());
        packed.0.and(packed.1).unwrap();
    }
    let mut count = 0;
    for device in 0..7 {
        count += other.count(device).await.unwrap();
    }
    assert_eq!(count, 6000);
}

#[tokio::test]
async fn urls_that_are_none_are_errors_without_the_password() {
    let url = DatabaseUrl::parse("postgres://u:secret@h:port/d").unwrap();
    let opened = Storage::open(Location::Postgres(url), small()).await;
    let told = opened.map(drop).unwrap_err().to_string();
    assert!(
        told.contains("postgres://u@h") && !told.contains("secret"),
        "{told}"
    );
}
