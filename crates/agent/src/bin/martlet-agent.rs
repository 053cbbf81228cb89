//! The agent as a separate program, for devices on which `martlet` is too large.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use martlet_agent::{Action, AgentOptions, run};

/// Store lines and metrics of a device in a queue on disk, and send them to an MQTT broker.
#[derive(Parser)]
#[command(name = "martlet-agent", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    options: AgentOptions,
}

fn main() -> ExitCode {
    let options = Cli::parse().options;
    match options.action {
        None => run(&options, || {}),
        Some(Action::Import(import)) => {
            let _ = writeln!(
                std::io::stderr().lock(),
                "error: this program is too small to read SQLite: import {} with `martlet agent \
                 import`, into the same directory of the queue",
                import.file.display()
            );
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_options_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
