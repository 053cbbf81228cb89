//! `martlet bench`: the load generator on the command line.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use martlet_environment::ClientEnvironment;
use martlet_load::{INTERRUPTED, Options, Target, is_interrupted, measure};
use rustls::ClientConfig;
use rustls::client::Resumption;

use super::exit;
use crate::cmd::client_environment;
use crate::cmd::print::{errln, outln};
use crate::cmd::tls_options::TlsOptions;

/// Arguments of `martlet bench`.
#[derive(Args, Clone)]
pub(crate) struct BenchOptions {
    /// Broker's host [default: localhost]
    #[arg(short = 'h', long)]
    host: Option<String>,
    /// Broker's port [default: 1883; with TLS 8883]
    #[arg(short = 'p', long)]
    port: Option<u16>,
    /// User name
    #[arg(short = 'u', long)]
    username: Option<String>,
    /// Password
    #[arg(short = 'P', long, alias = "pw", requires = "username")]
    password: Option<String>,
    #[command(flatten)]
    tls: TlsOptions,
    /// Resume TLS sessions, if the broker permits it
    #[arg(long)]
    tls_resume: bool,
    #[command(flatten)]
    load: Options,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

impl BenchOptions {
    /// The address, credentials and TLS settings, from the options or the environment.
    ///
    /// # Errors
    /// A line for the user.
    fn target(&self) -> Result<Target, String> {
        let environment = client_environment::of_process()?;
        let is_secure = self.tls.is_requested(&environment);
        let tls = match (is_secure, self.tls.needs_tls()) {
            (true, _) => {
                let mut config = ClientConfig::clone(&*self.tls.config(&environment)?);
                if !self.tls_resume {
                    config.resumption = Resumption::disabled();
                }
                Some(Arc::new(config))
            }
            (false, Some(option)) => {
                return Err(format!(
                    "{option}: the connections are not encrypted; give --cafile"
                ));
            }
            (false, None) => None,
        };
        let default_port = if is_secure { 8883 } else { 1883 };
        let (username, password) = match &self.username {
            Some(name) => (
                Some(name.clone()),
                self.password.clone().map(String::into_bytes),
            ),
            None => {
                let (username, password) = environment.credentials()?;
                (username, password.map(|password| password.0))
            }
        };
        Ok(Target {
            host: self
                .host
                .clone()
                .or(environment.host)
                .unwrap_or_else(|| "localhost".to_owned()),
            port: self.port.or(environment.port).unwrap_or(default_port),
            tls,
            username,
            password,
        })
    }

    /// Checks the combination of options.
    ///
    /// # Errors
    /// The options conflict; the text names them.
    fn check(&self) -> Result<(), String> {
        if self.tls_resume && !self.tls.is_requested(&ClientEnvironment::default()) {
            return Err("--tls-resume needs TLS: give --cafile".into());
        }
        self.load.check()
    }
}

/// Runs the command.
pub(crate) fn run(options: BenchOptions) -> ExitCode {
    if let Err(error) = options.check() {
        return exit::usage(&format!("Error: {error}"));
    }
    let measured = options.target().map_err(anyhow::Error::msg);
    let is_good = match measured.and_then(|target| measure(&options.load.at(target))) {
        Ok(measured) => {
            outln!("{}", measured.text);
            measured.is_good
        }
        Err(error) => {
            errln!("Error: {error:#}");
            false
        }
    };
    match (is_interrupted(), is_good) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    #[command(disable_help_flag = true)]
    struct Line {
        #[command(flatten)]
        options: BenchOptions,
    }

    #[test]
    fn resumption_needs_tls() {
        let check = |line: &str| {
            let words = ["bench"].into_iter().chain(line.split(' '));
            let line: Line = clap::Parser::parse_from(words);
            line.options.check()
        };
        assert!(check("pipes --tls-resume").is_err());
        assert_eq!(check("pipes --tls-resume --cafile ca.crt"), Ok(()));
        assert!(
            check("pipes --keep").is_err(),
            "the load's own checks are made"
        );
    }
}
