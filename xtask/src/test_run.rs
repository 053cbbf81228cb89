//! Runs the tests of all crates, several programs at once: many of them mostly wait.

use std::collections::VecDeque;
use std::io::{Error, Result, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Programs that take longest; these are started first.
const LONG: &[&str] = &["mosquitto", "binary", "seeds", "repository", "api"];

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
    /// Its output about failures; empty if it passed.
    failures: String,
}

/// Builds the tests of the workspace and runs `at_once` programs at a time. The output of each is
/// printed when it has ended. Returns whether all have passed.
///
/// # Errors
/// Cargo cannot be run, or a program cannot be started.
pub fn run_tests(at_once: usize) -> Result<bool> {
    let programs = Mutex::new(VecDeque::from(programs()?));
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
            let one = run(&program)?;
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
    let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failed: Vec<&Ended> = ended.iter().filter(|one| !one.passed).collect();
    // Repeated at the end, so that the last lines contain the failures.
    for one in &failed {
        let (name, took) = (&one.name, one.took.as_secs_f32());
        eprintln!("failed: {name} ({took:.1} s)\n{}", one.failures);
    }
    Ok(failed.is_empty())
}

/// All test programs, the longest first.
fn programs() -> Result<Vec<Program>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--locked", "--workspace", "--no-run"]);
    cargo.arg("--message-format=json-render-diagnostics");
    let built = cargo.stderr(Stdio::inherit()).output()?;
    if !built.status.success() {
        return Err(Error::other("the tests were not built"));
    }
    let lines = String::from_utf8_lossy(&built.stdout);
    let mut programs: Vec<Program> = lines.lines().filter_map(program).collect();
    if programs.is_empty() {
        return Err(Error::other("cargo has named no tests"));
    }
    let rank = |program: &Program| {
        let (_, target) = program.name.split_once(' ').unwrap_or_default();
        let place = LONG.iter().position(|long| *long == target);
        place.unwrap_or(LONG.len())
    };
    programs.sort_by_key(|program| (rank(program), program.name.clone()));
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

fn run(program: &Program) -> Result<Ended> {
    let began = Instant::now();
    let mut command = Command::new(&program.path);
    command.current_dir(&program.directory);
    command.env("CARGO_MANIFEST_DIR", &program.directory);
    let output = command.stdin(Stdio::null()).output()?;
    let (took, passed) = (began.elapsed(), output.status.success());
    let failures = if passed {
        String::new()
    } else {
        failures(&String::from_utf8_lossy(&output.stdout))
    };
    let name = &program.name;
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
        failures,
    })
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
    }
}
