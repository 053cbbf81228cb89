//! Runs the tests of all crates, several programs at once: many of them mostly wait.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::io::{Error, Result, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Programs that take longest; these are started first.
const LONG: &[&str] = &[
    "faults",
    "api",
    "seeds",
    "mosquitto",
    "binary",
    "martlet",
    "martlet_registry",
    "integration",
    "recovery",
    "repository",
    "durability",
    "storage",
];

/// More failed tests than this in one program are no accident: they are not repeated.
const REPEATED_AT_MOST: usize = 5;

/// Which tests a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The core, in a few minutes.
    Quick,
    /// Everything that a run before each landing has.
    All,
    /// Campaigns: many more seeds and inputs.
    Long,
}

impl Form {
    /// The form of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "quick" => Some(Self::Quick),
            "all" => Some(Self::All),
            "long" => Some(Self::Long),
            _ => None,
        }
    }

    /// Arguments of Cargo that choose the tests of the form.
    fn tests(self) -> &'static [&'static str] {
        match self {
            Self::Quick => &[
                "--package=martlet-codec",
                "--package=martlet-broker",
                "--package=martlet-script",
                "--lib",
                "--test=shard",
                "--test=packet_table",
            ],
            Self::All => &["--workspace", "--lib", "--bins", "--tests"],
            Self::Long => &[
                "--package=martlet-fuzzing",
                "--package=martlet-persistence",
                "--package=martlet-sim",
                "--package=martlet-store",
                "--package=martlet-telemetry",
                "--lib",
                "--bins",
                "--tests",
            ],
        }
    }

    /// How often campaigns try, where that differs from what the tests say.
    fn counts(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Quick | Self::All => &[],
            Self::Long => &[
                ("SIM_SEEDS", "20000"),
                ("STORE_SEEDS", "5000"),
                ("MARTLET_FUZZ_RUNS", "20"),
                ("MARTLET_TELEMETRY_VALUES", "1000000"),
            ],
        }
    }
}

/// A test program.
#[derive(Clone, Debug)]
struct Program {
    name: String,
    path: PathBuf,
    /// Directory of its crate, in which it runs.
    directory: PathBuf,
}

/// Result of a program.
struct Ended {
    name: String,
    passed: bool,
    took: Duration,
    /// Output about failures; empty if all tests passed at once.
    failures: String,
    /// Tests that failed, and passed when they were repeated alone.
    unstable: Vec<String>,
}

/// Builds the tests of a form and runs `at_once` programs at a time. The output of each is printed
/// when it has ended. A test that fails is repeated once, alone; one that passes then is named as
/// unstable at the end. Returns whether all have passed.
///
/// # Errors
/// Cargo cannot be run, or a program cannot be started.
pub fn run_tests(form: Form, at_once: usize) -> Result<bool> {
    let programs = Mutex::new(VecDeque::from(programs(form)?));
    let ended = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        loop {
            let next = programs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            let Some(program) = next else {
                return Ok(());
            };
            let one = run(&program, form.counts())?;
            ended
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(one);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            let ended = worker.join();
            ended.unwrap_or_else(|_| Err(Error::other("a thread that runs tests panicked")))
        })
    })?;
    let mut ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    ended.sort_by_key(|one| Reverse(one.took));
    eprintln!("The tests of crates that took longest:");
    for one in ended.iter().take(10) {
        eprintln!("{:6.0} s  {}", one.took.as_secs_f32(), one.name);
    }
    let failed: Vec<&Ended> = ended.iter().filter(|one| !one.passed).collect();
    // Repeated at the end, so that the last lines contain the failures.
    for one in &failed {
        let (name, took) = (&one.name, one.took.as_secs_f32());
        eprintln!("failed: {name} ({took:.1} s)\n{}", one.failures);
    }
    for one in &ended {
        for test in &one.unstable {
            let name = &one.name;
            eprintln!("unstable: {name}: {test} failed, and passed when it was repeated alone");
        }
    }
    Ok(failed.is_empty())
}

/// All test programs of a form, the longest first.
fn programs(form: Form) -> Result<Vec<Program>> {
    let mut programs = built(form.tests())?;
    let rank = |program: &Program| {
        let (_, target) = program.name.split_once(' ').unwrap_or_default();
        let place = LONG.iter().position(|long| *long == target);
        place.unwrap_or(LONG.len())
    };
    programs.sort_by_key(|program| (rank(program), program.name.clone()));
    Ok(programs)
}

/// The test programs of one build. Examples and benches are left out.
fn built(arguments: &[&str]) -> Result<Vec<Program>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--locked", "--no-run"]);
    cargo.arg("--message-format=json-render-diagnostics");
    cargo.args(arguments);
    let built = cargo.stderr(Stdio::inherit()).output()?;
    if !built.status.success() {
        return Err(Error::other("the tests were not built"));
    }
    let lines = String::from_utf8_lossy(&built.stdout);
    let programs: Vec<Program> = lines.lines().filter_map(program).collect();
    if programs.is_empty() {
        return Err(Error::other("cargo has named no tests"));
    }
    Ok(programs)
}

/// The test program in a line of Cargo's output; `None` if there is none.
fn program(line: &str) -> Option<Program> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["reason"] != "compiler-artifact" || line["profile"]["test"] != true {
        return None;
    }
    let directory = Path::new(line["manifest_path"].as_str()?).parent()?;
    let of_crate = directory.file_name()?.to_string_lossy();
    let target = line["target"]["name"].as_str()?;
    Some(Program {
        name: format!("{of_crate} {target}"),
        path: line["executable"].as_str()?.into(),
        directory: directory.to_owned(),
    })
}

fn run(program: &Program, counts: &[(&str, &str)]) -> Result<Ended> {
    let began = Instant::now();
    let output = command(program, counts).output()?;
    let name = &program.name;
    let mut passed = output.status.success();
    let (mut failures_of, mut unstable) = (String::new(), Vec::new());
    if !passed {
        let printed = String::from_utf8_lossy(&output.stdout);
        failures_of = failures(&printed);
        let failed = failed_tests(&printed);
        if failed.is_empty() {
            // It crashed: of a stack overflow, say.
            let told = String::from_utf8_lossy(&output.stderr);
            let status = output.status;
            failures_of = format!("{failures_of}\n{}\n{status}", failures(&told));
        }
        if (1..=REPEATED_AT_MOST).contains(&failed.len()) {
            for test in failed {
                let mut alone = command(program, counts);
                if alone.args(["--exact", &test]).output()?.status.success() {
                    unstable.push(test);
                } else {
                    unstable.clear();
                    break;
                }
            }
            passed = !unstable.is_empty();
        }
    }
    let took = began.elapsed();
    let mut text = format!("\n     Running {name} ({:.1} s)\n", took.as_secs_f32()).into_bytes();
    text.extend(&output.stdout);
    text.extend(&output.stderr);
    if !passed {
        text.extend(format!("{name}: {}\n", output.status).into_bytes());
    }
    // The reader may have closed the pipe.
    let _ = std::io::stdout().write_all(&text);
    Ok(Ended {
        name: name.clone(),
        passed,
        took,
        failures: failures_of,
        unstable,
    })
}

/// A program, which runs in the directory of its crate.
fn command(program: &Program, counts: &[(&str, &str)]) -> Command {
    let mut command = Command::new(&program.path);
    command.current_dir(&program.directory);
    command.env("CARGO_MANIFEST_DIR", &program.directory);
    // Passwords of tests need no protection, and hashes that have it cost some 20 ms each.
    command.env("MARTLET_CHEAP_HASHES", "1");
    command.envs(counts.iter().copied());
    command.stdin(Stdio::null());
    command
}

/// Names of the tests that failed, by what their program has printed.
fn failed_tests(printed: &str) -> Vec<String> {
    let lines = printed
        .lines()
        .filter_map(|line| line.strip_prefix("test "));
    let failed = lines.filter_map(|line| line.strip_suffix(" ... FAILED"));
    failed.map(str::to_owned).collect()
}

/// A program's output about failures: from the line `failures:` on. A program that crashed has no
/// such line; then its last lines.
fn failures(printed: &str) -> String {
    const LAST: usize = 40;
    if let Some(at) = printed.find("\nfailures:\n") {
        return printed[at..].to_owned();
    }
    let lines: Vec<&str> = printed.lines().collect();
    lines[lines.len().saturating_sub(LAST)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_with_tests_are_found_among_what_cargo_says() {
        let line = |test: bool, executable: &str| {
            format!(
                "{{\"reason\":\"compiler-artifact\",\"manifest_path\":\"/p/crates/store/Cargo.toml\",\
                 \"target\":{{\"name\":\"model\"}},\"profile\":{{\"test\":{test}}},\
                 \"executable\":{executable}}}"
            )
        };
        let found = program(&line(true, "\"/p/target/model-1\"")).unwrap();
        assert_eq!(found.name, "store model");
        assert_eq!(found.directory, Path::new("/p/crates/store"));
        assert!(program(&line(false, "\"/p/target/martlet\"")).is_none());
        assert!(program(&line(true, "null")).is_none());
        assert!(program("{\"reason\":\"build-finished\"}").is_none());
    }

    #[test]
    fn failures_are_found_in_what_a_program_prints() {
        let printed =
            "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nleft: 1\n";
        assert_eq!(
            failures(printed),
            "\nfailures:\n\n---- b stdout ----\nleft: 1\n"
        );
        assert_eq!(failures("test a ...\nkilled"), "test a ...\nkilled");
        assert_eq!(failed_tests(printed), ["b"]);
    }
}
