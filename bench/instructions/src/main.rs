//! `cargo instructions`: how many instructions and allocations a message costs inside the broker,
//! against the figures in the repository.
//!
//! Responsible for the command line, for running callgrind on this program itself, and for judging
//! what it counted. Instructions, unlike time, are the same on a busy machine; what the kernel does
//! is not in them (see `bench/compare` for that).

mod counting;
mod figures;
mod node;
mod paths;

use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::Parser;
use figures::{Figure, Figures};
use paths::{PATHS, Path};

/// Counts instructions and allocations per message, and compares them with the figures in the
/// repository.
#[derive(Parser)]
struct Options {
    /// Write the figures of today into the repository
    #[arg(long, conflicts_with = "run")]
    write: bool,
    /// Only these paths
    paths: Vec<String>,
    /// Print the bytes that a shard holds for each of this number of clients that do nothing, even
    /// if this machine lets a process open few files
    #[arg(long, value_name = "CLIENTS", conflicts_with_all = ["write", "paths"])]
    idle: Option<u32>,
    /// Runs one path, to be counted from outside
    #[arg(long, hide = true)]
    run: Option<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match judge(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Counts and compares; `false` if a path has become more expensive than it may.
fn judge(options: &Options) -> anyhow::Result<bool> {
    if let Some(count) = options.idle {
        let bytes = paths::bytes_of_idle(count.max(1));
        println!("{bytes:.0} bytes of the shard for each of {count} connected clients");
        return Ok(true);
    }
    if let Some(name) = &options.run {
        (find(name)?.run)();
        return Ok(true);
    }
    anyhow::ensure!(
        !cfg!(debug_assertions),
        "instructions are counted of an optimised build: cargo instructions"
    );
    for name in &options.paths {
        find(name)?;
    }
    let mut figures = Figures::read()?;
    let (mut is_good, mut has_gained) = (true, false);
    println!(
        "{:<14}{:>13}{:>10}  {:>12}",
        "per message", "instructions", "was", "allocations"
    );
    for path in PATHS {
        if !options.paths.is_empty() && !options.paths.iter().any(|name| name == path.name) {
            continue;
        }
        let now = count(path)?;
        let before = figures.get(path.name);
        let faults = figures::faults(path, now, before.filter(|_| !options.write));
        let was = before.map_or("-".to_owned(), |before| {
            format!("{:.1}", before.instructions)
        });
        let aim = match path.is_without_allocations && now.allocations >= 0.005 {
            true => " (to be none)",
            false => "",
        };
        println!(
            "{:<14}{:>13.1}{was:>10}  {:>12.3}  {}{aim}",
            path.name, now.instructions, now.allocations, path.what
        );
        for fault in faults {
            is_good = false;
            println!("  FAULT: {fault}");
        }
        has_gained |= before.is_some_and(|before| figures::is_gain(now, before));
        figures.set(path.name, now);
    }
    if options.write {
        figures.write()?;
    } else if !is_good {
        println!("If it is worth it: cargo instructions --write, and say why in the commit.");
    } else if has_gained {
        println!("Something has become cheaper. To keep it so: cargo instructions --write");
    }
    Ok(is_good || options.write)
}

fn find(name: &str) -> anyhow::Result<&'static Path> {
    let path = PATHS.iter().find(|path| path.name == name);
    path.with_context(|| {
        let names: Vec<_> = PATHS.iter().map(|path| path.name).collect();
        format!("{name} is not one of {}", names.join(", "))
    })
}

/// Counts one path: allocations here, instructions in callgrind.
fn count(path: &Path) -> anyhow::Result<Figure> {
    let measured = (path.run)();
    let messages = measured.messages.max(1) as f64;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", "--toggle-collect=*measured_call*"])
        .arg(std::env::current_exe()?)
        .args(["--run", path.name])
        .output()
        .context("valgrind is missing; on Debian: apt-get install valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "valgrind failed: {text}");
    let instructions = collected(&text).with_context(|| format!("not understood: {text}"))?;
    Ok(Figure {
        instructions: instructions as f64 / messages,
        allocations: measured.allocations as f64 / messages,
    })
}

/// The number in callgrind's line `==1== Collected : 1234`.
fn collected(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.split_once("Collected :"))?;
    line.1.trim().parse().ok().filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_what_callgrind_says() {
        let text = "==7== Events    : Ir\n==7== Collected : 1234\n";
        assert_eq!(collected(text), Some(1234));
        assert_eq!(collected("==7== Collected : 0"), None);
        assert_eq!(collected("killed"), None);
    }

    #[test]
    fn every_path_moves_messages() {
        for path in PATHS {
            let measured = (path.run)();
            assert!(measured.messages > 0, "{}", path.name);
        }
    }
}
