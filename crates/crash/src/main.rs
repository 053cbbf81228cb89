//! `martlet-crash`: kills a broker repeatedly under load. See the library.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use martlet_crash::{Plan, run};

/// Kills a broker with SIGKILL at random moments under QoS 1 and 2 load, starts it again, and
/// compares what it acknowledged with what arrived.
#[derive(Debug, Parser)]
#[command(name = "martlet-crash")]
struct Options {
    /// How often the broker is killed
    #[arg(long, default_value_t = 1000)]
    kills: u32,
    /// Seed of the moments at which it is killed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Longest life of the broker, milliseconds
    #[arg(long, default_value_t = 250)]
    life_ms: u64,
    /// Publishers
    #[arg(long, default_value_t = 4)]
    publishers: u16,
    /// Subscribers to everything
    #[arg(long, default_value_t = 3)]
    subscribers: u16,
    /// Messages under way from each publisher
    #[arg(long, default_value_t = 20)]
    window: u16,
    /// Directory of the broker's data; by default one in the system's place for temporary files,
    /// which is removed if nothing is found
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The broker's command; {port} and {dir} are replaced. It must not bound its queues: a message
    /// that is dropped because a queue is full counts as lost
    #[arg(
        trailing_var_arg = true,
        default_values_t = [&*built(std::env::var("CARGO_TARGET_DIR").ok()), "serve", "--listen", "mqtt://127.0.0.1:{port}",
            "--http", "off", "--data-dir", "{dir}", "--log-level", "warn",
            "--set", "limits.queued_messages=4294967295",
            "--set", "limits.queued_bytes=1000000000000"].map(String::from)
    )]
    command: Vec<String>,
}

/// Path of a program built by Cargo.
fn built(target: Option<String>) -> String {
    let target = target.filter(|target| !target.is_empty());
    format!("{}/release/martlet", target.as_deref().unwrap_or("target"))
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::try_parse().unwrap_or_else(|error| refuse(&error));
    let directory = options.dir.clone().unwrap_or_else(|| {
        let name = format!("martlet-crash-{}", std::process::id());
        std::env::temp_dir().join(name)
    });
    let plan = Plan {
        command: options.command,
        directory: directory.clone(),
        kills: options.kills,
        seed: options.seed,
        life_max: Duration::from_millis(options.life_ms),
        publishers: options.publishers,
        subscribers: options.subscribers,
        window: options.window,
        progress_every: 50,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(run(&plan))?;
    let mut recoveries = outcome.recoveries.clone();
    recoveries.sort();
    println!("{} kills: {}", plan.kills, outcome.totals);
    if let (Some(median), Some(longest)) = (recoveries.get(recoveries.len() / 2), recoveries.last())
    {
        let (median, longest) = (median.as_millis(), longest.as_millis());
        println!("from start to CONNACK: median {median} ms, longest {longest} ms");
    }
    let violations = &outcome.violations;
    for violation in &violations.told {
        println!("VIOLATION: {violation}");
    }
    if violations.count == 0 {
        println!("nothing acknowledged was lost");
        if options.dir.is_none() {
            std::fs::remove_dir_all(&directory)?;
            std::fs::remove_file(directory.with_extension("log"))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let told = violations.told.len();
    println!("{} violations, {told} of them above", violations.count);
    println!("the broker's data are in {}", directory.display());
    Ok(ExitCode::FAILURE)
}

/// Prints an error about the arguments, or the requested help, and exits.
fn refuse(error: &clap::Error) -> ! {
    // The reader may have closed the pipe.
    let _ = error.print();
    if error.kind() == ErrorKind::UnknownArgument {
        eprintln!("\n{}", Options::command().render_help());
    }
    std::process::exit(error.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_where_cargo_puts_it() {
        assert_eq!(built(None), "target/release/martlet");
        assert_eq!(built(Some(String::new())), "target/release/martlet");
        assert_eq!(built(Some("/t".to_owned())), "/t/release/martlet");
    }
}
