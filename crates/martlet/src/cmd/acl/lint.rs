//! `martlet acl lint`: warnings about an ACL file, roles, device types and groups, on their own and
//! compared with the traffic of the running node.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use martlet_access::{
    AclFile, Lint, Needs, RuleLine, RuleReview, USES_MIN, Use, judge_rules_by, lint_rules,
    locks_out,
};
use martlet_api::page::Items;
use martlet_api::{Status, UseView};
use martlet_control::text::printable;
use martlet_registry::{COMMON_TENANT, FILE, Owner, Snapshot};
use serde_json::Value;

use super::file_options::FileOptions;
use crate::cmd::admin;
use crate::cmd::door::Door;
use crate::cmd::listing;
use crate::cmd::node_options::NodeOptions;
use crate::cmd::print::{err, errln};
use crate::cmd::query::encoded;
use crate::cmd::view::text;
use crate::config;

#[derive(Args, Debug)]
pub(super) struct LintOptions {
    /// Check only this ACL file [default: auth.acl_file of the configuration, and the roles,
    /// types of devices and groups in the tables]
    #[arg(value_name = "FILE")]
    path: Option<PathBuf>,
    /// Compare the rules with the actions of clients of the running node: report rules that permit
    /// more than the clients use. The amount of observed traffic, and rules with too little of it,
    /// are reported on standard error
    #[arg(long)]
    traffic: bool,
    #[command(flatten)]
    file: FileOptions,
}

/// The rules to check.
struct Subject {
    file: Option<AclFile>,
    /// Roles, types and groups that are not built in.
    sets: Vec<RuleSet>,
    /// The tables that the rules belong to, to be compared with traffic.
    tables: Option<Snapshot>,
}

/// Rules of a role, type or group.
struct RuleSet {
    owner: Owner,
    name: String,
    rules: Vec<RuleLine>,
}

pub(super) fn run(options: &LintOptions) -> anyhow::Result<(String, ExitCode)> {
    let subject = Subject::read(options)?;
    let mut found = subject.lint();
    if options.traffic {
        let node = &options.file.node;
        let seen = traffic(node)?;
        let uses: Vec<Use<'_>> = seen.iter().map(as_use).collect();
        let judged = subject.judge(&uses);
        err!("{}", seen_text(&uses, since(node)?, &judged));
        found.extend(judged.into_iter().flat_map(|judged| judged.wider));
        // In the order of the file; rules of the tables come after it, together.
        let of_file = |lint: &Lint| lint.place.starts_with("line ");
        found.sort_by(|one, other| match (of_file(one), of_file(other)) {
            (true, true) => one.line.cmp(&other.line),
            (one_is, other_is) => other_is.cmp(&one_is),
        });
    }
    if found.is_empty() && !options.file.json {
        errln!("No problems found.");
    }
    let text = match options.file.json {
        true => {
            let all = found.iter().map(|lint| {
                serde_json::json!({ "place": lint.place, "line": lint.line, "why": lint.why })
            });
            listing::items(all)
        }
        false => {
            let lines = found.iter();
            lines
                .map(|lint| format!("{}\n", printable(&lint.to_string())))
                .collect()
        }
    };
    let code = match found.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    Ok((text, code))
}

impl Subject {
    fn read(options: &LintOptions) -> anyhow::Result<Self> {
        let file = options.file.read(options.path.as_deref())?;
        if options.path.is_some() || options.file.acl_file.is_some() {
            let (sets, tables) = (Vec::new(), None);
            return Ok(Self { file, sets, tables });
        }
        let node = &options.file.node;
        let sets = rule_sets(&Door::of(node)?)?;
        let mut tables = None;
        if options.traffic && !sets.is_empty() {
            let path = node.data_dir()?.join(FILE);
            let base = config::iotflow_base(&node.load()?)?;
            tables = martlet_registry::wait(Snapshot::load_with(&path, base))?;
        }
        if file.is_none() && sets.is_empty() {
            bail!(
                "no ACL file, and no role, device type or group with rules except the built-in ones: \
                 name a file, or the node with -c FILE or --data-dir DIR"
            );
        }
        Ok(Self { file, sets, tables })
    }

    fn lint(&self) -> Vec<Lint> {
        let of_file = self.file.iter().flat_map(AclFile::lint);
        let of_sets = self.sets.iter().flat_map(|set| {
            let place = |number| place(set, number);
            // The devices of a group have the rules of their types too.
            let is_alone = set.owner != Owner::Group;
            let locked = is_alone.then(|| locks_out(&set.rules, place)).flatten();
            let denies_first = set.owner == Owner::Group;
            locked
                .into_iter()
                .chain(lint_rules(&set.rules, denies_first, place))
        });
        of_file.chain(of_sets).collect()
    }

    fn judge(&self, uses: &[Use<'_>]) -> Vec<RuleReview> {
        let needs = Needs::of(uses, |found| {
            let known = self.tables.as_ref().zip(found.user_name);
            let by_tables =
                known.and_then(|(tables, user)| tables.rules_of(COMMON_TENANT, user).cloned());
            by_tables.or_else(|| {
                let file = self.file.as_ref()?;
                Some(file.rules_for(found.user_name))
            })
        });
        let of_file = self.file.iter().map(|file| file.judge_by(&needs));
        let of_sets = self
            .sets
            .iter()
            .map(|set| judge_rules_by(&needs, &set.rules, |number| place(set, number)));
        of_file.chain(of_sets).collect()
    }
}

/// Roles, types and groups with rules, except the built-in ones.
fn rule_sets(door: &Door<'_>) -> anyhow::Result<Vec<RuleSet>> {
    let mut sets = Vec::new();
    for (owner, path) in [
        (Owner::Role, "/api/v1/roles"),
        (Owner::DeviceType, "/api/v1/device-types"),
    ] {
        let all = door.all(path, &[])?;
        for set in all.iter().filter(|set| set["built_in"] == false) {
            let name = text(set, "name");
            sets.push(RuleSet {
                owner,
                name,
                rules: rules_of(set)?,
            });
        }
    }
    let groups = door.all("/api/v1/groups", &[])?;
    for group in &groups {
        let id = text(group, "id");
        let rules = rules_of(&door.get(&format!("/api/v1/groups/{}/rules", encoded(&id)))?)?;
        if rules.is_empty() {
            continue;
        }
        // A group of another team may have the name too.
        let named = groups.iter().filter(|other| other["name"] == group["name"]);
        let name = match named.count() {
            1 => text(group, "name"),
            _ => format!("{} ({id})", text(group, "name")),
        };
        let owner = Owner::Group;
        sets.push(RuleSet { owner, name, rules });
    }
    Ok(sets)
}

/// The rules in an answer of the API.
fn rules_of(object: &Value) -> anyhow::Result<Vec<RuleLine>> {
    let lines = object["rules"].as_array().into_iter().flatten();
    let rules = lines.filter_map(Value::as_str).map(RuleLine::parse_known);
    rules.collect::<Result<_, _>>().map_err(anyhow::Error::msg)
}

/// The place of a rule in the form used in decisions.
fn place(set: &RuleSet, number: usize) -> String {
    format!("{} {} rule {number}", set.owner.word(), set.name)
}

/// Describes the amount of observed traffic, and which rules it is insufficient for.
fn seen_text(uses: &[Use<'_>], since: Timestamp, judged: &[RuleReview]) -> String {
    let counted = |mut names: Vec<&str>| {
        names.sort_unstable();
        names.dedup();
        names.len()
    };
    let clients = counted(uses.iter().map(|found| found.client_id).collect());
    let topics = counted(uses.iter().map(|found| found.topic).collect());
    let mut text = format!(
        "martlet: observed on the node, which was started {}: {} uses of {topics} topics by \
         {clients} clients that have a session (per topic: its last publisher and its receivers)\n",
        since
            .to_zoned(TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S"),
        uses.len(),
    );
    let mut add = |what: &str, places: Vec<&String>| {
        if !places.is_empty() {
            let places: Vec<String> = places.into_iter().map(|place| printable(place)).collect();
            text.push_str(&format!("martlet: {what}: {}\n", places.join(", ")));
        }
    };
    let seldom = judged.iter().flat_map(|judged| &judged.seldom).collect();
    let unused = judged.iter().flat_map(|judged| &judged.unused).collect();
    add(
        &format!("used fewer than {USES_MIN} times, too little to judge"),
        seldom,
    );
    add("not used so far, too little to judge", unused);
    text
}

/// When the node was started.
fn since(node: &NodeOptions) -> anyhow::Result<Timestamp> {
    let status = admin::ask(&node.data_dir()?, "GET", "/api/v1/status")?;
    let status: Status = serde_json::from_str(&status)?;
    let secs = i64::try_from(status.uptime_secs).unwrap_or(i64::MAX);
    let now = Timestamp::now().as_second();
    Ok(Timestamp::from_second(now.saturating_sub(secs))?)
}

/// Most uses of topics requested from the node.
const USES_MAX: usize = 100_000;

fn traffic(node: &NodeOptions) -> anyhow::Result<Vec<UseView>> {
    let path = format!("/api/v1/traffic?limit={USES_MAX}");
    let body = admin::ask(&node.data_dir()?, "GET", &path)?;
    let uses: Items<UseView> = serde_json::from_str(&body)?;
    Ok(uses.items)
}

fn as_use(seen: &UseView) -> Use<'_> {
    Use {
        user_name: seen.user_name.as_deref(),
        client_id: &seen.client_id,
        topic: &seen.topic,
        publishes: seen.publishes,
    }
}
