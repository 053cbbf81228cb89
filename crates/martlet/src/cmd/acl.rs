//! `martlet acl`: explains why a client may do something, and finds mistakes in an ACL file.

mod file_options;
mod lint;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use martlet_broker::Actions;
use martlet_control::explain::{Explained, Outcome, PermissionQuestion};
use martlet_control::text::printable;

use crate::cmd::admin;
use crate::cmd::print::{errln, out};
use crate::cmd::query::encoded;
use crate::config;
use file_options::FileOptions;

/// Arguments of `martlet acl`.
#[derive(Args, Debug)]
pub(crate) struct AclCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Show the rule that decides about an action
    ///
    /// Uses the rules of the running node: for a connected client its current rules, from all
    /// sources; for other clients the rules that would apply if they connected now. If no node
    /// runs, the configuration and its files are used. The output names the source of the rules.
    ///
    /// Exit code 0: it is permitted. 1: it is refused. 2: unknown, because the topic is invalid,
    /// the files cannot be read, or the node does not answer. 3: the client would be refused at
    /// CONNECT.
    Explain(ExplainOptions),
    /// Show rules that never apply, and rules that permit too much
    ///
    /// Exit code 0: no such rules were found. 1: some were found. 2: the file or the tables cannot
    /// be read, or with --traffic the node does not answer.
    Lint(lint::LintOptions),
}

#[derive(Args, Debug)]
struct ExplainOptions {
    /// User name, or the Client Identifier of a client that is connected; - for clients without a
    /// user name
    #[arg(value_name = "USER|CLIENT")]
    user: String,
    /// Action of the client
    #[arg(value_name = "ACTION")]
    action: ActionName,
    /// Topic Name; for subscribe a Topic Filter
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// Client Identifier, the value of %c [default: the user name]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    #[command(flatten)]
    file: FileOptions,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ActionName {
    #[value(alias = "write")]
    Publish,
    Subscribe,
    #[value(alias = "read")]
    Receive,
}

/// Runs the command.
pub(crate) fn run(command: &AclCommand) -> ExitCode {
    let outcome = match &command.action {
        Action::Explain(options) => run_explain(options),
        Action::Lint(options) => lint::run(options),
    };
    match outcome {
        Ok((text, code)) => {
            out!("{text}");
            code
        }
        Err(error) => {
            errln!("martlet: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run_explain(options: &ExplainOptions) -> anyhow::Result<(String, ExitCode)> {
    let question = PermissionQuestion {
        tenant: martlet_broker::TenantId::default(),
        user: (options.user != "-").then(|| options.user.clone()),
        client_id: options.client_id.clone(),
        action: match options.action {
            ActionName::Publish => Actions::PUBLISH,
            ActionName::Subscribe => Actions::SUBSCRIBE,
            ActionName::Receive => Actions::RECEIVE,
        },
        topic: options.topic.clone(),
    };
    question.check().map_err(anyhow::Error::msg)?;
    let found = match &options.file.acl_file {
        Some(path) => explain_by_file(options, path, &question)?,
        None => explain_by_node(options, &question)?,
    };
    let text = match options.file.json {
        true => format!("{}\n", serde_json::to_string(&found)?),
        false => explained_text(&found),
    };
    let code = match found.outcome {
        Outcome::Permitted => ExitCode::SUCCESS,
        Outcome::Refused => ExitCode::FAILURE,
        Outcome::NotLetIn => ExitCode::from(NOT_LET_IN),
    };
    Ok((text, code))
}

/// Exit code if the client would be refused at CONNECT.
const NOT_LET_IN: u8 = 3;

fn explained_text(found: &Explained) -> String {
    let word = match found.outcome {
        Outcome::Permitted => "permitted",
        Outcome::Refused => "refused",
        Outcome::NotLetIn => "not accepted",
    };
    let mut text = format!("{word}: {}\n", printable(&found.why));
    text.push_str(&format!("source: {}\n", printable(&found.asked)));
    for note in &found.notes {
        text.push_str(&format!("note: {}\n", printable(note)));
    }
    text
}

/// Explains by a file only.
fn explain_by_file(
    options: &ExplainOptions,
    path: &Path,
    question: &PermissionQuestion,
) -> anyhow::Result<Explained> {
    let file = options.file.read(None)?;
    let file = file.context("no ACL file")?;
    let user = question.user.as_deref();
    let client_id = question.client_id.as_deref().or(user).unwrap_or_default();
    let found = file.explain(user, client_id, question.action, &question.topic);
    Ok(Explained {
        outcome: match found.allowed {
            true => Outcome::Permitted,
            false => Outcome::Refused,
        },
        place: found.place,
        rule: found.rule,
        why: found.why,
        asked: format!("the file {} alone", path.display()),
        notes: vec!["whether the client can log in was not checked".to_owned()],
    })
}

/// Requests the explanation from the running node. If none runs, explains what a node would decide
/// that was started now.
fn explain_by_node(
    options: &ExplainOptions,
    question: &PermissionQuestion,
) -> anyhow::Result<Explained> {
    let effective = options.file.node.load()?;
    let data_dir = config::data_dir(&effective)?;
    if !admin::may_ask(&data_dir)? {
        let node = config::resolve(&effective)?;
        let asked = format!(
            "the configuration and its files, since no node runs at {}",
            data_dir.display()
        );
        let anonymous = node.lets_anonymous_in();
        return Ok(question.by_policy(node.policy.as_deref(), anonymous, &asked));
    }
    let mut path = format!(
        "/api/v1/acl/explain?action={}&topic={}",
        question.action.names().next().unwrap_or_default(),
        encoded(&question.topic)
    );
    let names = [("user", &question.user), ("client_id", &question.client_id)];
    for (key, name) in names {
        if let Some(name) = name {
            path.push_str(&format!("&{key}={}", encoded(name)));
        }
    }
    Ok(serde_json::from_str(&admin::ask(&data_dir, "GET", &path)?)?)
}
