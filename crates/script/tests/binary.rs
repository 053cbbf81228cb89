//! Runs every script without long waiting times over TCP with the `martlet` binary.
//!
//! `MARTLET_BIN` is the path of the binary. By default the one in this build's target folder is
//! used. Without a binary the trials are ignored.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use martlet_script::{BrokerProcess, Script, TcpStage, load_all, play};

/// Scripts that wait longer run only in virtual time.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() {
    let program = binary();
    let slow = std::env::var_os("SLOW").is_some_and(|value| value == "1");
    let mut trials = Vec::new();
    for script in load_all().expect("the scripts parse") {
        let left_out = (script.is_virtual && !(slow && script.waits() < PATIENCE))
            || !script.users.is_empty()
            || program.is_none();
        let left_out = left_out || script.one_shard.is_some();
        let program = program.clone().unwrap_or_default();
        let title = script.name.clone();
        let trial = Trial::test(title, move || run(&program, &script));
        trials.push(trial.with_ignored_flag(left_out));
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(8));
    libtest_mimic::run(&arguments, trials).exit();
}

fn binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("MARTLET_BIN") {
        return Some(PathBuf::from(named));
    }
    // This test is target/<profile>/deps/binary-….
    let test = std::env::current_exe().ok()?;
    let built = test.parent()?.parent()?.join("martlet");
    built.exists().then_some(built)
}

fn run(program: &Path, script: &Script) -> Result<(), Failed> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    for version in &script.versions {
        // It contains a socket, whose path must be short.
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let name = format!("martlet-script-{}-{number}", std::process::id());
        let data = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&data)?;
        let config = data.join("martlet.toml");
        std::fs::write(&config, configuration(&script.settings))?;
        let mut command = Command::new(program);
        command.args(["serve", "--http", "off", "--log-level", "error"]);
        command.arg("--config").arg(&config);
        command.arg("--data-dir").arg(&data);
        let mut broker = BrokerProcess::start_announced(&mut command)?;
        let mut stage = TcpStage::new(broker.address);
        let result = play(&mut stage, script, *version, "martlet");
        let alive = broker.has_ended(Duration::ZERO).is_none();
        drop(broker);
        let _ = std::fs::remove_dir_all(&data);
        result.map_err(|mismatch| mismatch.to_string())?;
        if !alive {
            return Err("the broker has ended".into());
        }
    }
    Ok(())
}

/// A configuration file with one listener, on a port chosen by the system, and the settings of a
/// script.
fn configuration(settings: &[(String, String)]) -> String {
    let (mut limits, mut mqtt) = (String::new(), String::new());
    let mut listener = "url = \"mqtt://127.0.0.1:0\"\n".to_owned();
    for (key, value) in settings {
        let (table, name) = match key.as_str() {
            "maximum_qos" => (&mut listener, "max_qos"),
            "wildcard_subscription_available" => (&mut listener, "wildcard_subscriptions"),
            "subscription_ids_available" => (&mut listener, "subscription_identifiers"),
            "shared_subscription_available" => (&mut listener, "shared_subscriptions"),
            "allow_anonymous" | "allow_empty_client_id" | "retain_available" => {
                (&mut listener, key.as_str())
            }
            "queue_full" | "refuse_control_characters" | "response_information" => {
                (&mut mqtt, key.as_str())
            }
            _ => (&mut limits, key.as_str()),
        };
        let plain = value.parse::<u64>().is_ok() || value.parse::<bool>().is_ok();
        let value = if plain {
            value.clone()
        } else {
            format!("{value:?}")
        };
        table.push_str(&format!("{name} = {value}\n"));
    }
    format!("[limits]\n{limits}[mqtt]\n{mqtt}[[listeners]]\n{listener}")
}
