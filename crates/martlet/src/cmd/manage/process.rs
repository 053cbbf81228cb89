//! The node as a process of the script: started with a pid file, or by systemd if that runs it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use martlet_text_file::owned;
use rustix::process::{Pid, Signal, kill_process};

use super::managed_node::{DATA, ManagedNode};
use crate::cmd::admin;
use crate::cmd::print::{errln, out, outln};
use crate::serve::data_dir;

/// Name of the systemd unit.
const UNIT: &str = "martlet.service";

/// Files in the data directory.
const PID_FILE: &str = "martlet.pid";
const LOG_FILE: &str = "martlet.log";

/// When the node is started, a log file longer than this is renamed.
const LOG_BYTES_MAX: u64 = 10 << 20;

/// Time limit for a start or a stop.
const PATIENCE: Duration = Duration::from_secs(90);

/// Interval of checks whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// State of a broker that does not run, and what starts it.
pub(super) const STOPPED: &str = "The broker does not run; ./mqtt_manage.sh start starts it";

/// Number of log lines shown if a node did not start.
const SHOWN_LINES: usize = 20;

pub(super) fn log_file(managed: &ManagedNode) -> PathBuf {
    managed.data().join(LOG_FILE)
}

/// The last lines of a text.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(count)..];
    last.iter().map(|line| format!("{line}\n")).collect()
}

pub(super) fn start(managed: &ManagedNode) -> anyhow::Result<ExitCode> {
    if is_of_systemd(managed) {
        return systemctl("start");
    }
    if admin::is_running(&managed.data()) {
        outln!("The broker runs already");
        return Ok(ExitCode::SUCCESS);
    }
    martlet_store::make_directory(&managed.data())
        .with_context(|| format!("cannot make {}", managed.data().display()))?;
    let mut child = spawn(managed)?;
    let pid = child.id();
    let mut options = OpenOptions::new();
    owned::open(
        &managed.data().join(PID_FILE),
        options.write(true).create(true).truncate(true),
    )
    .and_then(|mut file| writeln!(file, "{pid}"))
    .context("cannot write the pid file")?;
    let began = Instant::now();
    while !is_ready(&managed.data()) {
        if let Some(status) = child.try_wait()? {
            let _ = fs::remove_file(managed.data().join(PID_FILE));
            let text = fs::read_to_string(log_file(managed)).unwrap_or_default();
            errln!("{}", last_lines(&text, SHOWN_LINES).trim_end());
            bail!(
                "the broker did not start ({status}); its log is {}",
                log_file(managed).display()
            );
        }
        if began.elapsed() > PATIENCE {
            bail!(
                "the broker is not ready after {} s; its log is {}",
                PATIENCE.as_secs(),
                log_file(managed).display()
            );
        }
        std::thread::sleep(LOOK_EVERY);
    }
    outln!(
        "The broker runs (process {pid}); its log is {}",
        log_file(managed).display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Starts the node in a separate process group, so that a signal of the terminal does not end it.
fn spawn(managed: &ManagedNode) -> anyhow::Result<Child> {
    let path = log_file(managed);
    let is_long = path
        .metadata()
        .is_ok_and(|found| found.len() > LOG_BYTES_MAX);
    if is_long {
        fs::rename(&path, path.with_extension("log.1")).context("cannot put the log aside")?;
    }
    let mut options = OpenOptions::new();
    let log = owned::open(&path, options.create(true).append(true).mode(0o600));
    let log = log.with_context(|| format!("cannot open {}", path.display()))?;
    let program = std::env::current_exe().context("cannot find the program")?;
    let mut command = Command::new(program);
    command.arg("serve").arg("--data-dir").arg(managed.data());
    if let Some(configuration) = managed.configuration() {
        command.arg("-c").arg(configuration);
    }
    command
        .current_dir(&managed.directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    command.spawn().context("cannot start the broker")
}

/// Shows the state of the broker; fails if it does not run.
pub(super) fn status(managed: &ManagedNode) -> ExitCode {
    if is_stopped(managed) {
        outln!("{STOPPED}");
        return ExitCode::FAILURE;
    }
    managed.run(&["status"])
}

/// Whether no process runs the broker, not even one that has no socket yet.
pub(super) fn is_stopped(managed: &ManagedNode) -> bool {
    let data = managed.data();
    !admin::is_running(&data) && data_dir::claimed(&data).is_none()
}

fn is_ready(data_dir: &Path) -> bool {
    admin::is_running(data_dir) && admin::ask(data_dir, "GET", "/health/ready").is_ok()
}

pub(super) fn stop(managed: &ManagedNode) -> anyhow::Result<ExitCode> {
    if is_of_systemd(managed) {
        return systemctl("stop");
    }
    let data = managed.data();
    if admin::is_running(&data) {
        let done = managed.run(&["stop"]);
        if done == ExitCode::SUCCESS {
            let _ = fs::remove_file(data.join(PID_FILE));
        }
        return Ok(done);
    }
    if data_dir::claimed(&data).is_none() {
        let _ = fs::remove_file(data.join(PID_FILE));
        outln!("The broker does not run");
        return Ok(ExitCode::SUCCESS);
    }
    // It has not opened its socket yet, or has already closed it.
    let pid = pid_of(&data).context("the broker does not answer, and there is no pid file")?;
    kill_process(pid, Signal::TERM).context("cannot end the broker")?;
    let began = Instant::now();
    while data_dir::claimed(&data).is_some() {
        if began.elapsed() > PATIENCE {
            bail!("the broker still runs after {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let _ = fs::remove_file(data.join(PID_FILE));
    outln!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn pid_of(data: &Path) -> Option<Pid> {
    let text = fs::read_to_string(data.join(PID_FILE)).ok()?;
    Pid::from_raw(text.trim().parse().ok()?)
}

pub(super) fn restart(managed: &ManagedNode) -> anyhow::Result<ExitCode> {
    if is_of_systemd(managed) {
        return systemctl("restart");
    }
    // Errors in the configuration are detected while the broker still runs.
    let checked = managed.run(&["config", "check"]);
    if checked != ExitCode::SUCCESS {
        errln!("The broker was not restarted: its configuration has mistakes");
        return Ok(checked);
    }
    let stopped = stop(managed)?;
    match stopped == ExitCode::SUCCESS {
        true => start(managed),
        false => Ok(stopped),
    }
}

/// Whether systemd runs the node with this data: its unit contains the directory of the link.
fn is_of_systemd(managed: &ManagedNode) -> bool {
    let mut command = Command::new("systemctl");
    let asked = [
        "show",
        UNIT,
        "--property=LoadState,WorkingDirectory,ExecStart",
    ];
    let Ok(shown) = command.args(asked).stderr(Stdio::null()).output() else {
        return false;
    };
    is_unit_of(&String::from_utf8_lossy(&shown.stdout), &managed.directory)
}

fn is_unit_of(shown: &str, directory: &Path) -> bool {
    let property = |name: &str| {
        let mut lines = shown.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    let data = directory.join(DATA).display().to_string();
    property("LoadState") == Some("loaded")
        && (property("WorkingDirectory").is_some_and(|found| Path::new(found) == directory)
            || property("ExecStart").is_some_and(|line| {
                let mut words = line.split([' ', '=', ';']);
                words.any(|word| word.trim_end_matches('/') == data)
            }))
}

fn systemctl(verb: &str) -> anyhow::Result<ExitCode> {
    let done = Command::new("systemctl").args([verb, UNIT]).status();
    let done = done.map_err(|error: io::Error| anyhow::anyhow!("cannot run systemctl: {error}"))?;
    out!("systemctl {verb} {UNIT}\n");
    Ok(match done.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_the_nodes_if_it_names_the_directory() {
        let is_own = |shown: &str| is_unit_of(shown, Path::new("/srv/iotflow"));
        assert!(is_own(
            "LoadState=loaded\nWorkingDirectory=/srv/iotflow\nExecStart={ }\n"
        ));
        assert!(is_own(
            "LoadState=loaded\nWorkingDirectory=\nExecStart={ path=/usr/bin/martlet ; \
             argv[]=/usr/bin/martlet serve --data-dir /srv/iotflow/data ; }\n"
        ));
        for other in [
            "LoadState=not-found\nWorkingDirectory=/srv/iotflow\n",
            "LoadState=loaded\nWorkingDirectory=/srv/other\n",
            "LoadState=loaded\nExecStart={ argv[]=/usr/bin/martlet --data-dir=/srv/iotflow/data2 ; }\n",
            "",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }

    #[test]
    fn the_end_of_a_log_has_whole_lines() {
        assert_eq!(last_lines("a\nb\nc", 2), "b\nc\n");
        assert_eq!(last_lines("a\n", 2), "a\n");
        assert_eq!(last_lines("", 2), "");
    }
}
