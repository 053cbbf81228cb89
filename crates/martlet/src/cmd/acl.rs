//! `martlet acl`: why somebody may do something, and what is odd in an ACL file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use martlet_access::{AclFile, Explanation, default_rules, explain};
use martlet_broker::{Actions, Names};

use crate::serve::ConfigOptions;

/// Arguments of `martlet acl`.
#[derive(Args, Debug)]
pub(crate) struct AclCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Name the rule that decides about an action
    ///
    /// Exit code 0: it is permitted. 1: it is refused. 2: the files cannot be read.
    Explain(ExplainOptions),
    /// Name lines that never decide anything, and those that permit too much
    ///
    /// Exit code 0: there are none. 1: there are some. 2: the file cannot be read.
    Lint(LintOptions),
}

/// Which ACL file.
#[derive(Args, Debug)]
struct FileOptions {
    /// ACL file [default: auth.acl_file of the configuration]
    #[arg(long, value_name = "FILE")]
    acl_file: Option<PathBuf>,
    /// Configuration file of the node
    #[arg(long, short = 'c', value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct ExplainOptions {
    /// User name; - for clients without one
    #[arg(value_name = "USER")]
    user: String,
    /// What the client does
    #[arg(value_name = "ACTION")]
    action: ActionName,
    /// Topic Name; a Topic Filter where it subscribes
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// Client Identifier, what %c stands for [default: the user name]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    #[command(flatten)]
    file: FileOptions,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ActionName {
    Publish,
    Subscribe,
    Receive,
}

#[derive(Args, Debug)]
struct LintOptions {
    /// ACL file [default: auth.acl_file of the configuration]
    #[arg(value_name = "FILE")]
    path: Option<PathBuf>,
    #[command(flatten)]
    file: FileOptions,
}

/// Runs the command.
pub(crate) fn run(command: &AclCommand) -> ExitCode {
    let outcome = match &command.action {
        Action::Explain(options) => run_explain(options),
        Action::Lint(options) => lint(options),
    };
    match outcome {
        Ok((text, is_well)) => {
            print!("{text}");
            match is_well {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("martlet: {error:#}");
            ExitCode::from(2)
        }
    }
}

impl FileOptions {
    /// The file that was named, else the configured one, if there is any.
    fn read(&self, named: Option<&Path>) -> anyhow::Result<Option<AclFile>> {
        let path = match named.or(self.acl_file.as_deref()) {
            Some(path) => path.display().to_string(),
            None => {
                let options = ConfigOptions {
                    config: self.config.clone(),
                    ..ConfigOptions::default()
                };
                options.load()?.text("auth.acl_file").to_owned()
            }
        };
        if path.is_empty() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Ok(Some(AclFile::parse(&path, &text)?))
    }
}

fn run_explain(options: &ExplainOptions) -> anyhow::Result<(String, bool)> {
    let user = (options.user != "-").then_some(&*options.user);
    let client_id = options.client_id.as_deref();
    let client_id = client_id.or(user).unwrap_or_default();
    let action = match options.action {
        ActionName::Publish => Actions::PUBLISH,
        ActionName::Subscribe => Actions::SUBSCRIBE,
        ActionName::Receive => Actions::RECEIVE,
    };
    let found = match options.file.read(None)? {
        Some(file) => file.explain(user, client_id, action, &options.topic),
        None => {
            let names = Names {
                client_id,
                user_name: user.unwrap_or_default(),
            };
            explain(&default_rules(), names, action, &options.topic)
        }
    };
    let Explanation {
        allowed,
        place,
        rule,
        why,
    } = &found;
    let text = match options.file.json {
        true => serde_json::json!({
            "permitted": allowed, "place": place, "rule": rule, "why": why,
        })
        .to_string(),
        false => found.to_string(),
    };
    Ok((format!("{text}\n"), found.allowed))
}

fn lint(options: &LintOptions) -> anyhow::Result<(String, bool)> {
    let file = options.file.read(options.path.as_deref())?;
    let file = file.context("no ACL file: name one, or -c FILE with auth.acl_file in it")?;
    let found = file.lint();
    let text = match options.file.json {
        true => {
            let all = found.iter();
            let all = all.map(|lint| serde_json::json!({ "line": lint.line, "why": lint.why }));
            format!("{}\n", serde_json::Value::Array(all.collect()))
        }
        false => found.iter().map(|lint| format!("{lint}\n")).collect(),
    };
    Ok((text, found.is_empty()))
}
