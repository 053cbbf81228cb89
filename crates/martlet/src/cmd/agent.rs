//! `martlet agent`: the agent on a device, and the import of a queue in SQLite.
//!
//! Responsible for reading SQLite, which would make the agent's own program too large. Everything
//! else is in the agent's library.

use std::process::ExitCode;

use martlet_agent::{Action, AgentOptions, ImportOptions, Imported, ImportedRow, import};
use martlet_control::text::printable;
use martlet_registry::{OfflineMessage, offline_messages, wait};

use crate::cmd::print::{errln, outln};

/// Most row numbers that are printed.
const NAMED_MAX: usize = 10;

/// Runs the command.
pub(crate) fn run(options: &AgentOptions) -> ExitCode {
    match &options.action {
        // A device has little memory, and the agent does not need most of the program.
        None => martlet_agent::run(options, martlet_allocator::release_code),
        Some(Action::Import(options)) => match import_file(options) {
            Ok(done) => print(options, &done),
            Err(why) => {
                errln!("martlet: {}", printable(&why));
                ExitCode::FAILURE
            }
        },
    }
}

fn import_file(options: &ImportOptions) -> Result<Imported, String> {
    let messages = wait(offline_messages(&options.file)).map_err(|error| error.to_string())?;
    let row = |message: OfflineMessage| ImportedRow {
        number: message.number,
        topic: message.topic,
        payload: message.payload,
        time: message.time,
    };
    let rows: Vec<ImportedRow> = messages.into_iter().map(row).collect();
    import(options, &rows)
}

/// Prints the result. The exit code is 3 if a row was not imported.
fn print(options: &ImportOptions, done: &Imported) -> ExitCode {
    let file = options.file.display().to_string();
    outln!(
        "{}: {} messages imported, {} were imported before; {} are in the queue",
        printable(&file),
        done.added,
        done.known,
        done.messages
    );
    if !done.invalid.is_empty() {
        let numbers = done.invalid.iter().take(NAMED_MAX);
        let numbers: Vec<String> = numbers.map(ToString::to_string).collect();
        let more = match done.invalid.len() > NAMED_MAX {
            true => ", …",
            false => "",
        };
        errln!(
            "martlet: {} rows have a topic that no broker accepts and were left out: {}{more}",
            done.invalid.len(),
            numbers.join(", ")
        );
    }
    if done.dropped > 0 {
        errln!(
            "martlet: the queue is full: its {} oldest messages were dropped; --queue-messages and \
             --queue-bytes make it larger",
            done.dropped
        );
    }
    match done.invalid.is_empty() && done.dropped == 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(3),
    }
}
