//! Imports users from a password file of Mosquitto, and roles from its ACL file.

use std::path::Path;

use anyhow::Context as _;
use martlet_access::hash::PasswordHash;
use martlet_access::{AclFile, PasswordFile, Plain, RuleLine, Subscribing};
use martlet_control::use_cases::{AddRuleSet, ListRuleSets, UseCaseError};
use martlet_registry::{NewUser, Owner, TypeSettings};

use super::mosquitto::MosquittoOptions;
use super::report::{Outcome, Report};
use super::users::{ImportedUser, add_user};
use crate::cmd::errors::in_commands;
use crate::cmd::tables::{self, OpenTables};
use crate::config::regular_file;

/// Imports the users of a password file, and their rules from an ACL file if there is one.
pub(super) fn import(file: &Path, options: &MosquittoOptions) -> anyhow::Result<Report> {
    let name = file.display().to_string();
    let bytes = regular_file::read_named(file).with_context(|| format!("cannot read {name}"))?;
    let passwords = PasswordFile::parse(&name, &bytes, Plain::Accepted)?;
    let acl = options.acl_file().map(read_acl).transpose()?;
    let mut users: Vec<&str> = passwords.users().collect();
    users.sort_unstable();
    let mut roles: Vec<(String, Vec<RuleLine>)> = Vec::new();
    let mut wanted = Vec::new();
    for user in users {
        let hash = passwords.hash_of(user).unwrap_or_default();
        let hash = PasswordHash::parse(&hash).map_err(anyhow::Error::msg)?;
        let role = match &acl {
            Some(acl) => role_of(acl, user, &mut roles)?,
            None => options.role().to_owned(),
        };
        let note = match hash.is_plain() {
            true => format!("role {role}; its password was plain text and is now hashed"),
            false => format!("role {role}"),
        };
        let user = NewUser {
            role: Some(role.clone()),
            ..NewUser::new(user)
        };
        wanted.push((role, ImportedUser { user, hash, note }));
    }
    let mut report = Report::new(name, options.dry_run());
    for (number, line) in acl.iter().flat_map(AclFile::anonymous_lines) {
        report.add(
            "line",
            &format!("{number} {line}"),
            Outcome::Skipped,
            "it is for clients without a user name, and roles are of users: keep it in the ACL \
             file of auth.acl_file",
        );
    }
    tables::with_or_dry_run(&options.node, options.dry_run(), async |open| {
        let usable = add_roles(open, &mut report, roles).await?;
        for (role, user) in wanted {
            if acl.is_some() && !usable.contains(&role) {
                let why = format!("its role {role} could not be added");
                report.add("user", &user.user.name, Outcome::Skipped, &why);
                continue;
            }
            add_user(open, &mut report, user).await?;
        }
        Ok(())
    })?;
    if report.has_imported() {
        report.node = tables::reload_tables(&options.node);
    }
    Ok(report)
}

fn read_acl(file: &Path) -> anyhow::Result<AclFile> {
    let name = file.display().to_string();
    let text =
        regular_file::read_named_text(file).with_context(|| format!("cannot read {name}"))?;
    Ok(AclFile::parse(&name, &text, Subscribing::default())?)
}

/// Name of the role with a user's rules. Users with the same rules share a role.
fn role_of(
    acl: &AclFile,
    user: &str,
    roles: &mut Vec<(String, Vec<RuleLine>)>,
) -> anyhow::Result<String> {
    let rules = acl.rule_lines_for(user)?;
    if let Some((name, _)) = roles.iter().find(|(_, known)| *known == rules) {
        return Ok(name.clone());
    }
    let has_own = acl.users().any(|name| name == user);
    let name = match has_own {
        true => format!("mosquitto-{user}"),
        false => "mosquitto".to_owned(),
    };
    roles.push((name.clone(), rules));
    Ok(name)
}

/// Adds roles. Returns the names of those that exist afterwards.
async fn add_roles(
    open: &mut OpenTables,
    report: &mut Report,
    roles: Vec<(String, Vec<RuleLine>)>,
) -> Result<Vec<String>, UseCaseError> {
    let owner = Owner::Role;
    let known = open.run(ListRuleSets { owner }).await?;
    let mut usable = Vec::new();
    for (name, rules) in roles {
        match known.iter().find(|known| known.name == name) {
            Some(known) if known.rules == rules => {
                report.add("role", &name, Outcome::Exists, "");
            }
            Some(_) => {
                let why = format!(
                    "there is a role {name} with other rules: remove it first (martlet role rm), or \
                     add its users with it"
                );
                report.add("role", &name, Outcome::Skipped, &why);
                continue;
            }
            None => {
                let count = counted(&rules);
                let add = AddRuleSet {
                    owner,
                    name: name.clone(),
                    rules,
                    settings: TypeSettings::default(),
                };
                match open.run(add).await {
                    Ok(()) => report.add("role", &name, Outcome::Imported, &count),
                    Err(error) if error.is_refused() => {
                        report.add("role", &name, Outcome::Skipped, &in_commands(&error));
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        usable.push(name);
    }
    Ok(usable)
}

fn counted(rules: &[RuleLine]) -> String {
    match rules.len() {
        0 => "no rules: it permits nothing".to_owned(),
        1 => "1 rule".to_owned(),
        many => format!("{many} rules"),
    }
}
