//! Every script that does not wait for long over TCP against the `martlet` binary.
//!
//! `MARTLET_BIN` names the binary; else the one in this build's target folder is taken, and
//! without one the trials are ignored.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use martlet_script::{BrokerProcess, Script, TcpStage, free_port, load_all, play};

/// Scripts that wait longer are for virtual time only.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() {
    let program = binary();
    let slow = std::env::var_os("SLOW").is_some_and(|value| value == "1");
    let mut trials = Vec::new();
    for script in load_all().expect("the scripts parse") {
        let left_out =
            (script.is_virtual && !(slow && script.waits() < PATIENCE)) || program.is_none();
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
    for version in &script.versions {
        let address = free_port()?;
        let data = std::env::temp_dir().join(format!("martlet-script-{}", address.port()));
        std::fs::create_dir_all(&data)?;
        let mut command = Command::new(program);
        command.args([
            "serve",
            "--http",
            "off",
            "--listen",
            &format!("mqtt://{address}"),
        ]);
        command.arg("--data-dir").arg(&data);
        for (key, value) in &script.settings {
            command.env(variable(key), value);
        }
        let mut broker = BrokerProcess::start(&mut command, address)?;
        let mut stage = TcpStage::new(address);
        let result = play(&mut stage, script, *version, "martlet");
        let alive = broker.is_alive();
        drop(broker);
        let _ = std::fs::remove_dir_all(&data);
        result.map_err(|mismatch| mismatch.to_string())?;
        if !alive {
            return Err("the broker has ended".into());
        }
    }
    Ok(())
}

/// The environment variable of a setting.
fn variable(key: &str) -> String {
    let table = match key {
        "maximum_qos"
        | "retain_available"
        | "wildcard_subscription_available"
        | "subscription_ids_available"
        | "shared_subscription_available"
        | "queue_full"
        | "refuse_control_characters"
        | "response_information"
        | "allow_anonymous" => "MQTT",
        _ => "LIMITS",
    };
    format!("MARTLET_{table}__{}", key.to_uppercase())
}
