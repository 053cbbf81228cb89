//! Runs every script with Debian's Mosquitto over TCP, which tests the scripts themselves.
//!
//! If Mosquitto differs on a script, the script's header contains this and the statement. If such a
//! script passes, the trial fails, so that the headers stay correct. Without Mosquitto on this
//! machine the trials are ignored. `SLOW=1` also runs scripts with long waiting times.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use martlet_script::{BrokerProcess, Pace, Script, TcpStage, Version, free_port, load_all, play};

/// Scripts that wait longer run only in virtual time.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() {
    let program = PathBuf::from("/usr/sbin/mosquitto");
    let slow = std::env::var_os("SLOW").is_some_and(|value| value == "1");
    let mut trials = Vec::new();
    for script in load_all().expect("the scripts parse") {
        let config = config(&script);
        let left_out = script.martlet_only.is_some()
            || script.not_mosquitto.is_some()
            || (script.is_virtual && !(slow && script.waits() < PATIENCE))
            || !script.users.is_empty()
            || config.is_none()
            || !program.exists();
        let program = program.clone();
        let title = script.name.clone();
        let trial = Trial::test(title, move || {
            run(&program, &script, &config.unwrap_or_default())
        });
        trials.push(trial.with_ignored_flag(left_out));
    }
    let mut arguments = Arguments::from_args();
    // Most of the time is spent waiting, so more trials run at once than there are cores.
    arguments.test_threads = arguments.test_threads.or(Some(8));
    libtest_mimic::run(&arguments, trials).exit();
}

/// The settings of a script in Mosquitto's format; `None` if Mosquitto does not support them.
fn config(script: &Script) -> Option<String> {
    let mut config = "allow_anonymous true\n".to_owned();
    for (key, value) in &script.settings {
        let word = match key.as_str() {
            "maximum_qos" => "max_qos",
            "retain_available" => "retain_available",
            "packet_bytes" => "max_packet_size",
            "keep_alive_max_secs" => "max_keepalive",
            "queued_messages" => "max_queued_messages",
            "topic_alias_maximum" => "max_topic_alias",
            "receive_maximum" => "max_inflight_messages",
            _ => return None,
        };
        writeln!(config, "{word} {value}").ok()?;
    }
    Some(config)
}

/// Most starts of a Mosquitto: if it ends by itself, the result is discarded and it is restarted.
const STARTS: usize = 3;

/// A result that contradicts the header may be caused by a machine that stalled: it counts only if
/// it is the same with longer waiting times.
fn run(program: &Path, script: &Script, config: &str) -> Result<(), Failed> {
    let usual = compare(program, script, config, Pace::USUAL);
    usual.or_else(|_| compare(program, script, config, Pace::UNHURRIED))
}

fn compare(program: &Path, script: &Script, config: &str, pace: Pace) -> Result<(), Failed> {
    let mut difference = None;
    for version in &script.versions {
        for start in 1..=STARTS {
            let played = play_once(program, script, config, pace, *version)?;
            if played.has_ended.is_some() && start < STARTS {
                continue;
            }
            if let Some(mismatch) = played.mismatch {
                difference = Some(mismatch);
            }
            if let Some(status) = played.has_ended {
                let told = difference.unwrap_or_default();
                difference = Some(format!(
                    "Mosquitto has ended {STARTS} times: {status}\n{told}"
                ));
            }
            break;
        }
    }
    match (difference, &script.mosquitto_differs) {
        (Some(difference), None) => Err(difference.into()),
        (None, Some(why)) => {
            Err(format!("Mosquitto does not differ any more; the header says: {why}").into())
        }
        _ => Ok(()),
    }
}

struct Played {
    mismatch: Option<String>,
    /// How the process ended by itself, if it did.
    has_ended: Option<String>,
}

fn play_once(
    program: &Path,
    script: &Script,
    config: &str,
    pace: Pace,
    version: Version,
) -> Result<Played, Failed> {
    let address = free_port()?;
    let name = script.name.replace('/', "-");
    let file = std::env::temp_dir().join(format!("{name}-{}.conf", address.port()));
    // A listener's options follow it; those of the whole broker may too.
    let text = format!("listener {} {}\n{config}", address.port(), address.ip());
    std::fs::write(&file, text)?;
    let broker = BrokerProcess::start(Command::new(program).arg("-c").arg(&file), address);
    let mut broker = broker?;
    let mut stage = TcpStage::with_pace(address, pace);
    let result = play(&mut stage, script, version, "Mosquitto");
    let patience = match result {
        Ok(()) => Duration::ZERO,
        Err(_) => Duration::from_secs(2),
    };
    let has_ended = broker.has_ended(patience);
    drop(broker);
    let _ = std::fs::remove_file(&file);
    Ok(Played {
        mismatch: result.err().map(|mismatch| mismatch.to_string()),
        has_ended,
    })
}
