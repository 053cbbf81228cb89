//! Environment variables for the client commands. Options take precedence.

use martlet_control::text::printable;
use martlet_environment::ClientEnvironment;

use crate::cmd::print::errln;
use crate::config;

/// Variables of the process, which take precedence, and of `.env` in the working directory. An
/// untrusted `.env` is skipped, with a line on standard error.
///
/// # Errors
/// A line for the user: the variable, and what was expected.
pub(crate) fn of_process() -> Result<ClientEnvironment, String> {
    let variables = match config::environment() {
        Ok(environment) => environment.variables,
        Err(error) => {
            errln!(
                "martlet: {}; the environment is ignored",
                printable(&error.to_string())
            );
            return ClientEnvironment::read(|name| std::env::var(name).ok());
        }
    };
    ClientEnvironment::read(|name| {
        let found = variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    })
}
