//! `martlet role` and `martlet device type`, which is the same for devices: names with ordered
//! rules.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use martlet_access::{RuleLine, with_keyword};
use martlet_broker::Actions;
use martlet_control::text::printable;
use martlet_registry::Owner;
use serde_json::{Map, Value, json};

use crate::cmd::admin::{NodeRefusal, finish_as};
use crate::cmd::answers::{self, ListForm};
use crate::cmd::door::Door;
use crate::cmd::duration::duration;
use crate::cmd::node_options::{NodeAndForm, prints_json};
use crate::cmd::print::out;
use crate::cmd::query::encoded;
use crate::cmd::view::text;
use crate::config::regular_file;

/// Arguments of `martlet role`.
#[derive(Args, Debug)]
pub(crate) struct RoleCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Add a role or device type, with rules
    Add(RulesOptions),
    /// Remove a role or device type that is not in use
    Rm(NamedOptions),
    /// List all
    #[command(alias = "list")]
    Ls(ListForm),
    /// Show the rules of a role or device type. With --rule or --stdin, replace all of them: they
    /// apply at once, also to connected clients
    #[command(visible_alias = "show", alias = "set")]
    Rules(RulesOptions),
    /// Add a rule that permits an action. It is put first, so that it decides
    Allow(OneRule),
    /// Add a rule that forbids an action. It is put first, so that it decides
    Deny(OneRule),
    /// Remove a rule; the other rules are kept
    Remove(OneRule),
}

#[derive(Args, Debug)]
pub(crate) struct NamedOptions {
    /// Name of the role or type
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    on: NodeAndForm,
}

#[derive(Args, Debug)]
pub(crate) struct RulesOptions {
    #[command(flatten)]
    named: NamedOptions,
    /// A rule, as in an ACL file, repeatable: "topic read a/#", "topic deny a/secret", "pattern
    /// write d/%c/#" (%c is the Client Identifier, %u the user name). The first rule that matches
    /// decides; without a match the action is forbidden. read also permits subscribing
    #[arg(long = "rule", value_name = "RULE")]
    rules: Vec<String>,
    /// Read rules from standard input, a line each
    #[arg(long, conflicts_with = "rules")]
    stdin: bool,
    /// For a device type: Client Identifiers that its devices may use: "id", only their own id, or
    /// "any"
    #[arg(long, value_name = "id|any")]
    client_id: Option<String>,
    /// For a device type with --client-id any: sessions that a device may have [default: 10]
    #[arg(long, value_name = "NUMBER", requires = "client_id")]
    max_sessions: Option<u32>,
    /// For a device type, also a built-in one: time without a message after which a device is
    /// inactive: "10m", "24h"; 0: never
    #[arg(long, value_name = "TIME", value_parser = inactive_after)]
    inactive_after: Option<u32>,
}

/// Parses the seconds of `--inactive-after`.
fn inactive_after(text: &str) -> Result<u32, String> {
    if text == "0" {
        return Ok(0);
    }
    let secs = duration(text)?.as_secs();
    u32::try_from(secs).map_err(|_| format!("{text:?} is too long"))
}

#[derive(Args, Debug)]
pub(crate) struct OneRule {
    #[command(flatten)]
    named: NamedOptions,
    /// The rule, as in an ACL file: "read a/#", "write d/%c/#" (%c is the Client Identifier, %u the
    /// user name), "a/#" for both; with or without "topic" or "pattern" before it
    #[arg(value_name = "RULE")]
    rule: String,
}

/// Runs `martlet role`.
pub(crate) fn run(command: &RoleCommand) -> ExitCode {
    finish(run_for(Owner::Role, &command.action))
}

pub(crate) fn finish(outcome: anyhow::Result<String>) -> ExitCode {
    match outcome {
        Ok(text) => {
            out!("{text}");
            ExitCode::SUCCESS
        }
        refused => finish_as(prints_json(), refused),
    }
}

/// Runs the command for roles or for device types.
pub(crate) fn run_for(owner: Owner, action: &Action) -> anyhow::Result<String> {
    match action {
        Action::Add(options) => add(owner, options),
        Action::Rm(options) => remove(owner, options),
        Action::Ls(options) => list(owner, options),
        Action::Rules(options) => rules(owner, options),
        Action::Allow(options) => change(owner, options, Change::Allow),
        Action::Deny(options) => change(owner, options, Change::Deny),
        Action::Remove(options) => change(owner, options, Change::Remove),
    }
}

/// Change of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Allow,
    Deny,
    Remove,
}

impl OneRule {
    fn read(&self, change: Change) -> anyhow::Result<RuleLine> {
        let line = with_keyword(&self.rule);
        let rule = match change {
            Change::Remove => RuleLine::parse_known(&line),
            Change::Allow | Change::Deny => RuleLine::parse(&line),
        };
        let mut rule = rule.map_err(|why| {
            anyhow::anyhow!(
                "rule {:?}: {why}; expected [read|write|readwrite|deny] FILTER, such as \"read a/#\"",
                self.rule
            )
        })?;
        match change {
            Change::Allow if !rule.allows => {
                bail!("rule {:?} denies: add it with deny", self.rule)
            }
            Change::Deny if rule.allows && rule.actions != Actions::ALL => bail!(
                "rule {:?}: a deny rule denies reading and writing: omit the word before the topic",
                self.rule
            ),
            Change::Deny => rule.allows = false,
            Change::Allow | Change::Remove => {}
        }
        Ok(rule)
    }
}

fn change(owner: Owner, options: &OneRule, change: Change) -> anyhow::Result<String> {
    let NamedOptions { name, on } = &options.named;
    let rule = options.read(change)?.to_string();
    let door = Door::of(&on.node)?;
    let rules = path(owner, name, "/rules");
    if change == Change::Remove {
        let target = format!("{rules}?rule={}", encoded(&rule));
        let set = door.ask("DELETE", &target, None).map_err(|error| {
            match door.get(&path(owner, name, "")) {
                Ok(set) if NodeRefusal::is_not_found(&error) => {
                    anyhow::anyhow!("{error:#}; its rules are:\n{}", shown(&set).trim_end())
                }
                _ => error,
            }
        })?;
        return Ok(done(on, &set, &door.note()));
    }
    let set = door.ask("POST", &rules, Some(&json!({ "rule": rule })))?;
    let note = match set["changed"] == true {
        true => door.note(),
        false => "It was the first rule already.\n".to_owned(),
    };
    Ok(done(on, &set, &note))
}

impl RulesOptions {
    /// Members of a request for the settings in the options, and for these rules.
    fn members(
        &self,
        owner: Owner,
        rules: Option<&[RuleLine]>,
    ) -> anyhow::Result<Map<String, Value>> {
        if self.client_id.is_some() && owner != Owner::DeviceType {
            bail!("--client-id is an option of device types alone");
        }
        if self.inactive_after.is_some() && owner != Owner::DeviceType {
            bail!("--inactive-after is an option of device types alone");
        }
        let rules = rules.map(|rules| rules.iter().map(RuleLine::to_string).collect::<Vec<_>>());
        let all = [
            ("rules", json!(rules)),
            ("client_id", json!(self.client_id)),
            ("max_sessions", json!(self.max_sessions)),
            ("inactive_after_secs", json!(self.inactive_after)),
        ];
        let given = all.into_iter().filter(|(_, value)| !value.is_null());
        Ok(given
            .map(|(name, value)| (name.to_owned(), value))
            .collect())
    }

    /// The rules on the command line or on standard input; `None` if there are none.
    fn given_rules(&self) -> anyhow::Result<Option<Vec<RuleLine>>> {
        let lines = match self.stdin {
            false if self.rules.is_empty() => return Ok(None),
            false => self.rules.clone(),
            true => {
                let text = regular_file::read_stdin_text().context("cannot read the rules")?;
                let lines = text.lines().map(str::trim);
                let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
                lines.map(str::to_owned).collect()
            }
        };
        let rules = lines.iter().map(|line| {
            RuleLine::parse(line).map_err(|why| anyhow::anyhow!("rule {line:?}: {why}"))
        });
        rules.collect::<anyhow::Result<_>>().map(Some)
    }
}

fn add(owner: Owner, options: &RulesOptions) -> anyhow::Result<String> {
    let NamedOptions { name, on } = &options.named;
    let Some(rules) = options.given_rules()? else {
        bail!(
            "give the rules: --rule 'topic read a/#' --rule 'pattern write d/%c/#', or --stdin; \
             everything else is denied"
        );
    };
    let mut body = options.members(owner, Some(&rules))?;
    body.insert("name".to_owned(), name.clone().into());
    let door = Door::of(&on.node)?;
    let set = door.ask("POST", collection(owner), Some(&body.into()))?;
    Ok(match on.json {
        true => format!("{set}\n"),
        false => format!(
            "Added the {} {name}\n{}{}",
            owner.word(),
            shown(&set),
            door.note()
        ),
    })
}

fn remove(owner: Owner, options: &NamedOptions) -> anyhow::Result<String> {
    let NamedOptions { name, on } = options;
    let door = Door::of(&on.node)?;
    door.ask("DELETE", &path(owner, name, ""), None)?;
    let line = format!("Deleted the {} {name}", owner.word());
    Ok(answers::done(
        on,
        &json!({ "removed": name }),
        &line,
        &door.note(),
    ))
}

fn list(owner: Owner, form: &ListForm) -> anyhow::Result<String> {
    let all = form.read(&Door::of(&form.on.node)?, collection(owner), &[])?;
    let row = |set: &Value| {
        let rules = match set["built_in"] == true {
            true => "built in".to_owned(),
            false => set["rules"].as_array().map_or(0, Vec::len).to_string(),
        };
        [text(set, "name"), rules]
    };
    let header = match owner {
        Owner::Role => "ROLE",
        Owner::DeviceType => "TYPE",
        Owner::Group => "GROUP",
    };
    form.show(all, [header, "RULES"], row, "There are none.")
}

/// The path of all roles or types in the API.
fn collection(owner: Owner) -> &'static str {
    match owner {
        Owner::Role => "/api/v1/roles",
        Owner::DeviceType | Owner::Group => "/api/v1/device-types",
    }
}

/// The path of one of them, or of what belongs to it.
fn path(owner: Owner, name: &str, rest: &str) -> String {
    format!("{}/{}{rest}", collection(owner), encoded(name))
}

/// The rules as JSON, or as lines with a note behind them.
fn done(on: &NodeAndForm, set: &Value, note: &str) -> String {
    match on.json {
        true => format!("{set}\n"),
        false => format!("{}{note}", shown(set)),
    }
}

fn rules(owner: Owner, options: &RulesOptions) -> anyhow::Result<String> {
    let NamedOptions { name, on } = &options.named;
    let rules = options.given_rules()?;
    let body = options.members(owner, rules.as_deref())?;
    let (door, target) = (Door::of(&on.node)?, path(owner, name, ""));
    if body.is_empty() {
        return Ok(done(on, &door.get(&target)?, ""));
    }
    let replaced = match rules {
        Some(_) => format!(
            "These replace all rules that it had; martlet {} allow|deny|remove changes one.\n",
            command(owner)
        ),
        None => String::new(),
    };
    let method = if owner == Owner::Role { "PUT" } else { "PATCH" };
    let set = door.ask(method, &target, Some(&body.into()))?;
    Ok(done(on, &set, &format!("{replaced}{}", door.note())))
}

fn command(owner: Owner) -> &'static str {
    match owner {
        Owner::Role => "role",
        Owner::DeviceType | Owner::Group => "device type",
    }
}

/// The rules of a role or type, a line each, and the settings of a type.
fn shown(set: &Value) -> String {
    let rules = set["rules"].as_array().into_iter().flatten();
    let rules = rules.filter_map(Value::as_str);
    let lines: String = rules.map(|rule| format!("{}\n", printable(rule))).collect();
    let mut shown = match (set["permits_all"] == true, lines.is_empty()) {
        (true, _) => "everything that a client may do\n".to_owned(),
        (false, true) => "nothing\n".to_owned(),
        (false, false) => lines,
    };
    if set["client_id"] == "any" {
        shown.push_str(&format!(
            "any Client Identifier, up to {} sessions per device\n",
            set["max_sessions"]
        ));
    }
    if set["inactive_after_secs"]
        .as_u64()
        .is_some_and(|secs| secs > 0)
    {
        shown.push_str(&format!(
            "inactive after {} s without a message\n",
            set["inactive_after_secs"]
        ));
    }
    shown
}
