//! A mosquitto broker on a free port, the two families of clients, and their comparison.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than any case takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// The advice for a refused client without credentials.
pub(crate) const CREDENTIALS_ADVICE: &str = "Give credentials with -u USER -P PASSWORD.";

/// Beginning of the advice for a client with credentials that a broker on this machine refused.
pub(crate) const WHY_ADVICE: &str = "If the broker is Martlet, this shows why: martlet why ";

/// A temporary directory, removed on drop.
pub(crate) struct TempDir(pub(crate) PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("martlet-clients-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("the temporary directory takes another");
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a directory"))
            .expect("the temporary directory takes another");
        std::fs::write(&path, text).expect("the temporary directory takes a file");
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running mosquitto broker.
pub(crate) struct Broker {
    child: Child,
    pub(crate) port: u16,
    pub(crate) web_socket_port: u16,
    /// The home directory of the clients, empty unless a test writes to it.
    pub(crate) home: TempDir,
}

impl Broker {
    /// Starts a broker that accepts anonymous clients.
    pub(crate) fn open() -> Self {
        Self::start("allow_anonymous true\n")
    }

    /// Starts a broker with the user `u`, password `pw`, who may use topics under `ok/`.
    pub(crate) fn with_password() -> Self {
        let home = TempDir::new();
        let passwords = home.0.join("passwords");
        let status = Command::new(find("mosquitto_passwd", "mosquitto"))
            .args(["-c", "-b"])
            .arg(&passwords)
            .args(["u", "pw"])
            .stderr(Stdio::null())
            .status();
        assert!(status.expect("mosquitto_passwd runs").success());
        let acl = home.write("acl", "user u\ntopic readwrite ok/#\n");
        // The broker may give up root and must still be able to read both.
        for path in [&passwords, &acl] {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
                .expect("our own file");
        }
        let (passwords, acl) = (passwords.display(), acl.display());
        Self::start_in(
            home,
            &format!("password_file {passwords}\nacl_file {acl}\n"),
        )
    }

    pub(crate) fn start(options: &str) -> Self {
        Self::start_in(TempDir::new(), options)
    }

    fn start_in(home: TempDir, options: &str) -> Self {
        let (port, web_socket_port) = (free_port(), free_port());
        let configuration = format!(
            "{options}queue_qos0_messages true\nmax_queued_messages 0\n\
             listener {port} 127.0.0.1\nlistener {web_socket_port} 127.0.0.1\n\
             protocol websockets\n"
        );
        home.write("mosquitto.conf", &configuration);
        let child = spawn_broker(&home);
        let broker = Self {
            child,
            port,
            web_socket_port,
            home,
        };
        broker.wait_until_it_listens();
        broker
    }

    /// Kills the broker and restarts it on the same ports.
    pub(crate) fn restart(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
        self.child = spawn_broker(&self.home);
        self.wait_until_it_listens();
    }

    fn wait_until_it_listens(&self) {
        let end = Instant::now() + DEADLINE;
        for port in [self.port, self.web_socket_port] {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(Instant::now() < end, "mosquitto does not listen on {port}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Publishes with mosquitto_pub, and asserts success.
    pub(crate) fn publish(&self, args: &[&str]) {
        let run = self.run(Family::Mosquitto, "pub", args, b"");
        assert_eq!(run.code, 0, "mosquitto_pub {args:?}: {}", run.stderr);
    }

    /// Starts a client command without waiting for it.
    pub(crate) fn spawn(&self, family: Family, command: &str, args: &[&str]) -> Child {
        self.command(family, command, args)
            .spawn()
            .expect("the client starts")
    }

    /// Runs a client command with `input` on its standard input.
    pub(crate) fn run(&self, family: Family, command: &str, args: &[&str], input: &[u8]) -> Run {
        let mut child = self.spawn(family, command, args);
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        // A client that does not read its input may have exited.
        let _ = stdin.write_all(input);
        drop(stdin);
        let what = format!("{family:?} {command} {args:?}");
        Run::new(wait(child, &what), command)
    }

    /// Runs one command line with both families and asserts equal results, except for the advice of
    /// Martlet's clients.
    pub(crate) fn compare(&self, command: &str, args: &[&str]) -> Run {
        self.compare_with_input(command, args, b"")
    }

    pub(crate) fn compare_with_input(&self, command: &str, args: &[&str], input: &[u8]) -> Run {
        let mosquitto = self.run(Family::Mosquitto, command, args, input);
        let martlet = self.run(Family::Martlet, command, args, input);
        assert_eq!(
            martlet.without_advice(),
            mosquitto,
            "{command} {args:?} (left: martlet, right: mosquitto)"
        );
        martlet
    }

    fn command(&self, family: Family, command: &str, args: &[&str]) -> Command {
        let mut result = match family {
            Family::Martlet => {
                let mut result = Command::new(env!("CARGO_BIN_EXE_martlet"));
                result.arg(command);
                result
            }
            Family::Mosquitto => {
                Command::new(find(&format!("mosquitto_{command}"), "mosquitto-clients"))
            }
        };
        result
            .env("HOME", &self.home.0)
            .env_remove("XDG_CONFIG_HOME")
            .env("TZ", "UTC");
        let port = self.port.to_string();
        let names_broker = args
            .iter()
            .any(|arg| ["-L", "-p", "--no-port"].contains(arg));
        if !names_broker && command != "bench" {
            result.args(["-h", "127.0.0.1", "-p", &port]);
        }
        result.args(args.iter().filter(|arg| **arg != "--no-port"));
        result
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        result
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The families of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Martlet,
    Mosquitto,
}

pub(crate) const FAMILIES: [Family; 2] = [Family::Mosquitto, Family::Martlet];

/// Result of a command, without parts that may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    fn new(output: Output, command: &str) -> Self {
        let text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            text.lines()
                .map(|line| normalise(line, command))
                .collect::<Vec<_>>()
        };
        let mut stderr = text(&output.stderr);
        // mosquitto's clients end some errors with one blank line and others with two.
        stderr.retain(|line| !line.is_empty());
        Self {
            // A process killed by a signal has no exit code.
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout).join("\n"),
            stderr: stderr.join("\n"),
        }
    }

    /// Returns the run without the line that mosquitto's clients do not print.
    fn without_advice(&self) -> Self {
        let lines = self.stderr.lines();
        let is_advice = |line: &str| line == CREDENTIALS_ADVICE || line.starts_with(WHY_ADVICE);
        let kept: Vec<&str> = lines.filter(|line| !is_advice(line)).collect();
        Self {
            stderr: kept.join("\n"),
            ..self.clone()
        }
    }
}

/// Replaces client ids, times and the name of the program.
fn normalise(line: &str, command: &str) -> String {
    let mut line = line.replace(
        &format!("mosquitto_{command}"),
        &format!("martlet {command}"),
    );
    if let Some(rest) = line.strip_prefix("Client ")
        && let Some((_, rest)) = rest.split_once(' ')
    {
        line = format!("Client ID {rest}");
    }
    if let Some(start) = line.find("\"tst\":\"")
        && let Some(len) = line[start + 7..].find('"')
    {
        line.replace_range(start + 7..start + 7 + len, "NOW");
    }
    if let Some(start) = line.find("\"tst\":\t\"")
        && let Some(len) = line[start + 8..].find('"')
    {
        line.replace_range(start + 8..start + 8 + len, "NOW");
    }
    line
}

/// Sends a process a signal.
pub(crate) fn send_signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("the number of a process");
    kill_process(pid, signal).expect("the process is there");
}

/// Waits for a child with a time limit.
pub(crate) fn wait(mut child: Child, what: &str) -> Output {
    let end = Instant::now() + DEADLINE;
    // The pipes are read meanwhile, so that the child never blocks.
    let stdout = read_all(child.stdout.take());
    let stderr = read_all(child.stderr.take());
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            panic!("{what} does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let join =
        |thread: std::thread::JoinHandle<Vec<u8>>| thread.join().expect("reading does not panic");
    Output {
        status,
        stdout: join(stdout),
        stderr: join(stderr),
    }
}

fn spawn_broker(home: &TempDir) -> Child {
    Command::new(find("mosquitto", "mosquitto"))
        .arg("-c")
        .arg(home.0.join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mosquitto starts")
}

fn read_all(pipe: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Finds a program of Debian, even if the search path lacks `/usr/sbin`.
fn find(program: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let candidates = directories.map(|directory| directory.join(program));
    let found = candidates
        .into_iter()
        .find(|path: &PathBuf| Path::is_file(path));
    found.unwrap_or_else(|| panic!("{program} is missing: install the Debian package {package}"))
}

/// A free port, below those that the system assigns to outgoing connections.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let process = std::process::id() % 1000;
    for _ in 0..1000 {
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + ((process * 12 + count) % 12_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
