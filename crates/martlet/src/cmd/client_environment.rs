//! What the environment says to the client commands. Options are stronger.

use martlet_control::text::printable;
use martlet_environment::ClientEnvironment;

use crate::cmd::print::errln;
use crate::config;

/// The process's, over that of `.env` in the working directory. A `.env` that cannot be trusted is
/// left out, with a line on standard error.
///
/// # Errors
/// A line for the user: which variable, and what was expected.
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
