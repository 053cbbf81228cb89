//! Runs every script in virtual time on one shard, on three, on three whose store answers five
//! milliseconds late, and on two with turns so short that nearly everything is deferred.

use libtest_mimic::{Arguments, Failed, Trial};
use martlet_script::{Script, Update, VirtualStage, Wiring, load_all, play};

const WIRINGS: [(&str, u16, u64, bool); 5] = [
    ("1 shard", 1, 0, false),
    ("3 shards", 3, 0, false),
    ("3 shards, slow store", 3, 5, false),
    ("1 shard, short turns", 1, 0, true),
    ("2 shards, short turns", 2, 5, true),
];

fn main() {
    let scripts = load_all().expect("the scripts parse");
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        scripts.iter().for_each(update);
        return;
    }
    let mut trials = Vec::new();
    for script in &scripts {
        for (name, shards, durable_delay_ms, short_turns) in WIRINGS {
            let script = script.clone();
            let wiring = Wiring {
                shards,
                durable_delay_ms,
                seed: 7,
                short_turns,
            };
            let title = format!("{} [{name}]", script.name);
            let left_out = shards > 1 && script.one_shard.is_some();
            let trial = Trial::test(title, move || run(&script, wiring, name));
            trials.push(trial.with_ignored_flag(left_out));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn run(script: &Script, wiring: Wiring, name: &str) -> Result<(), Failed> {
    for version in &script.versions {
        let mut stage = VirtualStage::new(script, wiring)?;
        play(&mut stage, script, *version, name).map_err(|mismatch| mismatch.to_string())?;
    }
    Ok(())
}

/// Updates the expectations of a script that differs. Scripts for several versions are left to the
/// developer.
fn update(script: &Script) {
    let mut update = Update {
        script: script.clone(),
    };
    let [version] = script.versions[..] else {
        return;
    };
    for _ in 0..50 {
        let wiring = Wiring::default();
        let mut stage = VirtualStage::new(&update.script, wiring).expect("the settings are known");
        match play(&mut stage, &update.script, version, "1 shard") {
            Ok(()) => break,
            Err(mismatch) => update.apply(&mismatch).expect("a line can be written"),
        }
    }
    if update.script.lines != script.lines {
        println!("updated {}", script.name);
        update.write().expect("the script can be written");
    }
}
