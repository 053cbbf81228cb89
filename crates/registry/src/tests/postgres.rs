//! A server of PostgreSQL for the tests of one process: in a temporary directory, on a socket
//! there, as a user other than root, which it refuses to run as. It ends with the process that it
//! watches.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::DatabaseUrl;

struct Server {
    place: PathBuf,
    bin: PathBuf,
    /// The owner; none: this user.
    owner: Option<(u32, u32)>,
}

/// A database that nobody else has.
pub(super) fn new_database() -> DatabaseUrl {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let server = SERVER.get_or_init(Server::start);
    let name = format!("d{}", COUNT.fetch_add(1, Ordering::Relaxed));
    server.run("createdb", &["-T", "template0", &name]);
    server.url(&name)
}

/// Where the newest server is that Debian's packages have installed.
fn bin() -> PathBuf {
    let all = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let found = all.flatten().map(|version| version.path().join("bin"));
    let mut found: Vec<_> = found.filter(|bin| bin.join("initdb").is_file()).collect();
    found.sort_unstable();
    found
        .pop()
        .expect("the tests need a server of PostgreSQL: apt-get install postgresql")
}

/// The user that the package has made.
fn postgres_user() -> (u32, u32) {
    let all = fs::read_to_string("/etc/passwd").expect("there are users");
    let line = all.lines().find(|line| line.starts_with("postgres:"));
    let fields: Vec<_> = line.expect("there is a user postgres").split(':').collect();
    let number = |at: usize| fields[at].parse().expect("a number");
    (number(2), number(3))
}

impl Server {
    fn start() -> Self {
        let name = format!("martlet-pg-{}", std::process::id());
        // A socket's path is short.
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
        let initdb = [
            "--no-sync",
            "-A",
            "trust",
            "-U",
            "martlet",
            "-E",
            "UTF8",
            "-D",
            &data,
        ];
        server.run("initdb", &initdb);
        server.run_server();
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
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{program} {arguments:?}: {stderr}");
    }

    /// Runs the server, which is stopped, and its files removed, when this process has ended,
    /// however it did.
    #[expect(
        clippy::zombie_processes,
        reason = "the watcher ends after this process"
    )]
    fn run_server(&self) {
        let log = self.place.join("log").display().to_string();
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={} -c fsync=off -c \
             full_page_writes=off -c synchronous_commit=off -c max_connections=200",
            self.place.display()
        );
        let (data, options) = (self.data(), options.as_str());
        self.run(
            "pg_ctl",
            &["-w", "-D", &data, "-l", &log, "-o", options, "start"],
        );
        let watch = format!(
            "while test -d /proc/{}; do sleep 0.2; done; {}/pg_ctl -m immediate -D {data} stop; \
             rm -rf {}",
            std::process::id(),
            self.bin.display(),
            self.place.display()
        );
        let mut watcher = Command::new("sh");
        watcher.args(["-c", &watch]).process_group(0);
        watcher
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some((user, group)) = self.owner {
            watcher.uid(user).gid(group);
        }
        watcher.spawn().expect("there is a shell");
    }

    fn url(&self, database: &str) -> DatabaseUrl {
        let host = self.place.display().to_string().replace('/', "%2F");
        let url = format!("postgres://martlet@{host}/{database}");
        DatabaseUrl::parse(&url).expect("it is one")
    }
}
