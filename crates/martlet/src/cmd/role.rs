//! `martlet role` and `martlet device type`, which is the same for devices: names with ordered
//! rules.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use martlet_access::{IotflowBase, RuleLine};
use martlet_broker::Actions;
use martlet_control::text::printable;
use martlet_control::use_cases::{
    AddRuleSet, ChangeOneRule, ChangeRuleSet, DeleteRuleSet, FindRuleSet, ListRuleSets, RuleChange,
};
use martlet_registry::{ClientIds, Expected, Owner, RuleSet, TypeSettings};

use crate::cmd::columns::columns;
use crate::cmd::duration::duration;
use crate::cmd::errors::error_text;
use crate::cmd::node_and_form::NodeAndForm;
use crate::cmd::print::{errln, out};
use crate::cmd::{listing, tables};
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
    Ls(NodeAndForm),
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
        Err(error) => {
            errln!("martlet: {}", error_text(&error));
            ExitCode::FAILURE
        }
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

impl Change {
    fn of_rules(self) -> RuleChange {
        match self {
            // The first matching rule decides, so the new one comes first.
            Self::Allow | Self::Deny => RuleChange::First,
            Self::Remove => RuleChange::Removed,
        }
    }
}

impl OneRule {
    fn read(&self, change: Change) -> anyhow::Result<RuleLine> {
        let text = self.rule.trim_start();
        let is_whole = ["topic", "pattern"].iter().any(|keyword| {
            let rest = text.strip_prefix(keyword);
            rest.is_some_and(|rest| rest.starts_with([' ', '\t']))
        });
        let line = match is_whole {
            true => text.to_owned(),
            false => format!("topic {text}"),
        };
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
    let rule = options.read(change)?;
    let one = ChangeOneRule {
        owner,
        name: name.clone(),
        rule: rule.clone(),
        change: change.of_rules(),
    };
    let (is_changed, set) = tables::run(&on.node, one)?;
    let reload_note = match (is_changed, change) {
        (true, _) => tables::reload_tables(&on.node),
        (false, Change::Remove) => bail!(
            "the {} {name} has no rule \"{rule}\"; its rules are:\n{}",
            owner.word(),
            text(owner, &set).trim_end()
        ),
        (false, _) => "It was the first rule already.\n".to_owned(),
    };
    Ok(match on.json {
        true => format!("{}\n", json(owner, &set)),
        false => format!("{}{reload_note}", text(owner, &set)),
    })
}

impl RulesOptions {
    /// Client Identifiers required for devices of the type; `None` if the option was not given.
    fn client_ids(&self, owner: Owner) -> anyhow::Result<Option<ClientIds>> {
        let Some(word) = &self.client_id else {
            return Ok(None);
        };
        if owner != Owner::DeviceType {
            bail!("--client-id is an option of device types alone");
        }
        let read = ClientIds::from_words(word, self.max_sessions);
        read.map(Some).map_err(anyhow::Error::msg)
    }

    /// Seconds after which devices of the type count as inactive; `None` if the option was not
    /// given.
    fn inactive_after(&self, owner: Owner) -> anyhow::Result<Option<u32>> {
        if self.inactive_after.is_some() && owner != Owner::DeviceType {
            bail!("--inactive-after is an option of device types alone");
        }
        Ok(self.inactive_after)
    }

    /// The settings of a type in the options.
    fn settings(&self, owner: Owner) -> anyhow::Result<TypeSettings> {
        Ok(TypeSettings {
            client_ids: self.client_ids(owner)?,
            inactive_after_secs: self.inactive_after(owner)?,
        })
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
    let settings = options.settings(owner)?;
    let add = AddRuleSet {
        owner,
        name: name.clone(),
        rules: rules.clone(),
        settings,
    };
    tables::run(&on.node, add)?;
    let reload_note = tables::reload_tables(&on.node);
    let set = RuleSet {
        name: name.clone(),
        is_builtin: false,
        rules,
        client_ids: settings.client_ids.unwrap_or_default(),
        inactive_after_secs: settings.inactive_after_secs.unwrap_or(0),
        revision: 1,
        iotflow_base: IotflowBase::default(),
    };
    Ok(match on.json {
        true => format!("{}\n", json(owner, &set)),
        false => format!(
            "Added the {} {name}\n{}{reload_note}",
            owner.word(),
            text(owner, &set)
        ),
    })
}

fn remove(owner: Owner, options: &NamedOptions) -> anyhow::Result<String> {
    let NamedOptions { name, on } = options;
    let delete = DeleteRuleSet {
        owner,
        name: name.clone(),
    };
    tables::run(&on.node, delete)?;
    let reload_note = tables::reload_tables(&on.node);
    Ok(match on.json {
        true => format!("{}\n", serde_json::json!({ "removed": name })),
        false => format!("Deleted the {} {name}\n{reload_note}", owner.word()),
    })
}

fn list(owner: Owner, options: &NodeAndForm) -> anyhow::Result<String> {
    let all = tables::run(&options.node, ListRuleSets { owner })?;
    if options.json {
        return Ok(listing::items(all.iter().map(|set| json(owner, set))));
    }
    let row = |set: &RuleSet| {
        let rules = match set.is_builtin {
            true => "built in".to_owned(),
            false => set.rules.len().to_string(),
        };
        [set.name.clone(), rules]
    };
    let header = match owner {
        Owner::Role => "ROLE",
        Owner::DeviceType => "TYPE",
        Owner::Group => "GROUP",
    };
    Ok(columns(
        [header, "RULES"],
        all.iter().map(row),
        "There are none.",
    ))
}

fn find(owner: Owner, named: &NamedOptions) -> anyhow::Result<RuleSet> {
    let name = named.name.clone();
    tables::run(&named.on.node, FindRuleSet { owner, name })
}

fn rules(owner: Owner, options: &RulesOptions) -> anyhow::Result<String> {
    let NamedOptions { name, on } = &options.named;
    let (rules, settings) = (options.given_rules()?, options.settings(owner)?);
    let mut reload_note = String::new();
    if rules.is_some() || settings != TypeSettings::default() {
        let replaced = match rules {
            Some(_) => format!(
                "These replace all rules that it had; martlet {} allow|deny|remove changes one.\n",
                command(owner)
            ),
            None => String::new(),
        };
        let change = ChangeRuleSet {
            owner,
            name: name.clone(),
            rules,
            settings,
            expected_revision: Expected::any(),
        };
        tables::run(&on.node, change)?;
        reload_note = format!("{replaced}{}", tables::reload_tables(&on.node));
    }
    let set = find(owner, &options.named)?;
    Ok(match on.json {
        true => format!("{}\n", json(owner, &set)),
        false => format!("{}{reload_note}", text(owner, &set)),
    })
}

fn command(owner: Owner) -> &'static str {
    match owner {
        Owner::Role => "role",
        Owner::DeviceType | Owner::Group => "device type",
    }
}

fn text(owner: Owner, set: &RuleSet) -> String {
    let mut text = match set.in_force(owner) {
        None => "everything that a client may do\n".to_owned(),
        Some(rules) if rules.is_empty() => "nothing\n".to_owned(),
        Some(rules) => {
            let lines = rules.iter();
            let lines = lines.map(|rule| format!("{}\n", printable(&rule.to_string())));
            lines.collect()
        }
    };
    if let ClientIds::Any { sessions_max } = set.client_ids {
        text.push_str(&format!(
            "any Client Identifier, up to {sessions_max} sessions per device\n"
        ));
    }
    if set.inactive_after_secs > 0 {
        text.push_str(&format!(
            "inactive after {} s without a message\n",
            set.inactive_after_secs
        ));
    }
    text
}

fn json(owner: Owner, set: &RuleSet) -> serde_json::Value {
    let rules = set.in_force(owner);
    let lines = rules.iter().flatten().map(RuleLine::to_string);
    let mut json = serde_json::json!({
        "name": set.name, "built_in": set.is_builtin, "permits_all": rules.is_none(),
        "rules": lines.collect::<Vec<_>>(),
    });
    if owner == Owner::DeviceType {
        json["client_id"] = set.client_ids.word().into();
        json["max_sessions"] = set.client_ids.sessions_max().into();
        json["inactive_after_secs"] = set.inactive_after_secs.into();
    }
    json
}
