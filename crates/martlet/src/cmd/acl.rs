//! `martlet acl`: why somebody may do something, and what is odd in an ACL file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use martlet_access::{AclFile, Explanation, Use, default_rules, explain};
use martlet_api::UseView;
use martlet_broker::{Actions, Names, Realm, RuleBook as _};
use martlet_registry::Refusal;

use crate::cmd::admin;
use crate::cmd::node_options::NodeOptions;
use crate::config::Doors;

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
    #[command(flatten)]
    node: NodeOptions,
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
    /// Look also at what clients of the running node do: lines that are wider than that
    #[arg(long)]
    traffic: bool,
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
            None => self.node.load()?.text("auth.acl_file").to_owned(),
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
    let in_tables = match user {
        Some(user) => explain_by_tables(options, user, client_id, action)?,
        None => None,
    };
    let file = match in_tables {
        Some(_) => None,
        None => options.file.read(None)?,
    };
    let found = match (in_tables, file) {
        (Some(found), _) => found,
        (None, Some(file)) => file.explain(user, client_id, action, &options.topic),
        (None, None) => {
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

/// What decides about a user or a device of the tables, if they hold that name and no ACL file was
/// named: by the rules that the node itself would look up.
fn explain_by_tables(
    options: &ExplainOptions,
    user: &str,
    client_id: &str,
    action: Actions,
) -> anyhow::Result<Option<Explanation>> {
    if options.file.acl_file.is_some() {
        return Ok(None);
    }
    let effective = options.file.node.load()?;
    let doors = Doors::new(&effective)?;
    let Some(tables) = doors.tables().filter(|tables| tables.known(user).is_some()) else {
        return Ok(None);
    };
    if let Err(Refusal::Wrong(why) | Refusal::NotNow(why)) = tables.admits(user, client_id) {
        return Ok(Some(Explanation {
            allowed: false,
            place: None,
            rule: None,
            why: format!("the client is not let in: {why}"),
        }));
    }
    let by_tables = tables.rules_of(user).cloned();
    let in_force = doors
        .policy()
        .map(|policy| policy.rules_of(Realm::COMMON, Some(user)));
    let (Some(by_tables), Some(in_force)) = (by_tables, in_force) else {
        return Ok(None);
    };
    if !Arc::ptr_eq(&by_tables, &in_force) {
        // A source that comes first knows that name too.
        return Ok(None);
    }
    let names = Names {
        client_id,
        user_name: user,
    };
    Ok(Some(explain(&in_force, names, action, &options.topic)))
}

fn lint(options: &LintOptions) -> anyhow::Result<(String, bool)> {
    let file = options.file.read(options.path.as_deref())?;
    let file = file.context("no ACL file: name one, or -c FILE with auth.acl_file in it")?;
    let mut found = file.lint();
    if options.traffic {
        let seen = traffic(&options.file.node)?;
        let uses: Vec<Use<'_>> = seen.iter().map(as_use).collect();
        found.extend(file.lint_traffic(&uses));
        found.sort_by_key(|lint| lint.line);
        if uses.is_empty() {
            eprintln!("martlet: no client of the node uses any topic by rules of its user");
        }
    }
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

/// Uses of topics that the node is asked for.
const USES_MAX: usize = 100_000;

fn traffic(node: &NodeOptions) -> anyhow::Result<Vec<UseView>> {
    let path = format!("/api/v1/traffic?limit={USES_MAX}");
    let body = admin::ask(&node.data_dir()?, "GET", &path)?;
    Ok(serde_json::from_str(&body)?)
}

fn as_use(seen: &UseView) -> Use<'_> {
    Use {
        user_name: seen.user_name.as_deref(),
        client_id: &seen.client_id,
        topic: &seen.topic,
        publishes: seen.publishes,
    }
}
