//! `martlet user`: the users of a node, in its tables, or in its password file if there is one. The
//! node reloads both by itself, and is notified at once.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use martlet_access::edit;
use martlet_access::hash::{self, Kind};
use martlet_control::text::{printable, typed, typed_names};
use martlet_control::use_cases::{AddUser, NewPassword};
use martlet_registry::{ApiRole, NewUser, USER_ROLE, User};
use serde_json::{Value, json};

use crate::cmd::admin::finish_as;
use crate::cmd::answers::done;
use crate::cmd::columns::{columns, left_out};
use crate::cmd::deleted::DeletedKept;
use crate::cmd::door::Door;
use crate::cmd::fields::{self, FieldOptions};
use crate::cmd::node_options::{NodeAndForm, NodeOptions, for_node, prints_json};
use crate::cmd::passwd::HashName;
use crate::cmd::print::{errln, out};
use crate::cmd::prompt::Strength;
use crate::cmd::query::{USERS, device_path, user_path};
use crate::cmd::user_source::{
    Change, UserSource, are_in_tables, note_of_other, password_file, users,
};
use crate::cmd::view::text;
use crate::cmd::{listing, passwd, prompt, tables};

/// Arguments of `martlet user`.
#[derive(Args, Debug)]
pub(crate) struct UserCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Add a user; the password is entered twice at a prompt, or read from a pipe
    Add(AddOptions),
    /// Delete a user and end the user's connections. A user of the tables can be restored
    Rm(RemoveOptions),
    /// Restore a deleted user of the tables, with the password
    Restore(RestoreOptions),
    /// Change the password of a user and end the user's connections
    Passwd(ChangeOptions),
    /// Change the role of a user, or disable the user
    Set(SetOptions),
    /// List the users
    #[command(alias = "list")]
    Ls(ListOptions),
}

/// Where the users are.
#[derive(Args, Debug)]
struct FileOptions {
    /// Password file [default: that of the running node, else auth.password_file of the
    /// configuration; without one, the tables of the data directory]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    node: NodeOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct UserOptions {
    /// User name
    #[arg(value_name = "USER")]
    user: String,
    #[command(flatten)]
    file: FileOptions,
}

#[derive(Args, Debug)]
struct RemoveOptions {
    #[command(flatten)]
    user: UserOptions,
    /// Remove a user of the tables permanently, whether deleted before or not; asks for
    /// confirmation at a terminal
    #[arg(long)]
    purge: bool,
    /// Do not ask for confirmation
    #[arg(long, requires = "purge")]
    yes: bool,
}

#[derive(Args, Debug)]
struct RestoreOptions {
    /// User name
    #[arg(value_name = "USER")]
    user: String,
    #[command(flatten)]
    on: NodeAndForm,
}

#[derive(Args, Debug)]
struct ListOptions {
    #[command(flatten)]
    file: FileOptions,
    /// Only users of this team, by id or name
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// Only deleted users
    #[arg(long)]
    deleted: bool,
    /// The users of the tables, also if the node has a password file
    #[arg(long, conflicts_with = "file")]
    tables: bool,
    /// List the first N
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
}

#[derive(Args, Debug)]
struct ChangeOptions {
    #[command(flatten)]
    user: UserOptions,
    /// Generate a password and print it, once
    #[arg(long)]
    generate: bool,
    /// In a password file, the algorithm of the hash [default: the strongest one that the readers
    /// of the file support: argon2id, or sha512-pbkdf2 for a generated password and in a file whose
    /// hashes are all Mosquitto's]
    #[arg(long, short = 'H', value_name = "HASH")]
    hash: Option<HashName>,
    /// Accept a password of fewer than 10 characters
    #[arg(long, conflicts_with = "generate")]
    weak: bool,
}

#[derive(Args, Debug)]
struct AddOptions {
    #[command(flatten)]
    change: ChangeOptions,
    /// Role as a client: administrator, user or one of martlet role ls [default: user]
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Role in the API and the panel: administrator, operator, viewer or none; only in the team of
    /// --team, if given [default: none; with --role administrator: administrator]
    #[arg(long, value_name = "ROLE", value_parser = api_role)]
    api_role: Option<ApiRole>,
    /// Team of the user, by id or name: the user is in its tenant, and --api-role applies to it
    /// [default: none]
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// The API role applies to all teams, even if the user belongs to one
    #[arg(long, requires = "team")]
    all_teams: bool,
}

pub(crate) fn api_role(text: &str) -> Result<ApiRole, String> {
    let known = || {
        let words: Vec<&str> = ApiRole::ALL.iter().map(|role| role.word()).collect();
        format!("expected {}", words.join(", "))
    };
    ApiRole::from_word(text).ok_or_else(known)
}

#[derive(Args, Debug)]
struct SetOptions {
    /// User name
    #[arg(value_name = "USER")]
    user: String,
    /// Role as a client
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Role in the API and the panel: administrator, operator, viewer or none
    #[arg(long, value_name = "ROLE", value_parser = api_role)]
    api_role: Option<ApiRole>,
    /// Enable the user
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
    /// Disable the user and end the user's connections
    #[arg(long, required_unless_present_any = other_changes())]
    disable: bool,
    /// Move the user to the tenant of this team, by id or name; "" is none
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    #[command(flatten)]
    said: FieldOptions<User>,
    #[command(flatten)]
    node: NodeOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options that change a user.
fn other_changes() -> impl Iterator<Item = &'static str> {
    let own = ["role", "api_role", "enable", "team"];
    own.into_iter().chain(fields::names::<User>())
}

/// Runs the command.
pub(crate) fn run(command: &UserCommand) -> ExitCode {
    let outcome = match &command.action {
        Action::Add(options) => {
            let of_tables = OfTables {
                role: options.role.as_deref(),
                api_role: options.api_role,
                team: options.team.as_deref(),
                all_teams: options.all_teams,
            };
            change(&options.change, &of_tables, false)
        }
        Action::Passwd(options) => change(options, &OfTables::default(), true),
        Action::Rm(options) => remove(options),
        Action::Restore(options) => restore(options),
        Action::Set(options) => set(options),
        Action::Ls(options) => list(options),
    };
    match outcome {
        Ok(text) => {
            out!("{text}");
            ExitCode::SUCCESS
        }
        refused => finish_as(prints_json(), refused),
    }
}

impl FileOptions {
    /// The password file; `None` if the users are in the tables.
    fn path(&self) -> anyhow::Result<Option<PathBuf>> {
        match &self.file {
            Some(file) => Ok(Some(file.clone())),
            None => password_file(&self.node),
        }
    }

    /// Makes the running node read a changed password file. Returns the result as a line.
    fn reload(&self, path: &Path, user: &str) -> anyhow::Result<String> {
        let running = match self.file {
            Some(_) => tables::user_configuration(&self.node)?,
            None => None,
        };
        let real = fs::canonicalize(path).ok();
        let is_used = running.is_none_or(|running| {
            let files = running.password_file.into_iter();
            let mut files = files.chain(running.listener_password_files);
            files.any(|file| fs::canonicalize(file).ok() == real)
        });
        if !is_used {
            return Ok("The running node does not use this file.\n".to_owned());
        }
        let other = match password_file(&self.node) {
            Ok(Some(own)) if fs::canonicalize(&own).ok() == real => {
                note_of_other(&self.node, user, true)
            }
            // The file of a listener.
            _ => String::new(),
        };
        Ok(format!("{}{other}", tables::reload_files(&self.node)))
    }

    /// The password file in which a user is, or is added; `None` if that is the tables.
    ///
    /// # Errors
    /// Another source decides about the user.
    fn path_of(&self, user: &str, change: Change) -> anyhow::Result<Option<PathBuf>> {
        match &self.file {
            Some(file) => Ok(Some(file.clone())),
            None => UserSource::of(&self.node, user, change)?.file(user, change),
        }
    }
}

/// Settings that only users of the tables have.
#[derive(Debug, Default, PartialEq)]
struct OfTables<'a> {
    /// Role for the rights as a client.
    role: Option<&'a str>,
    /// Role for the rights at the API.
    api_role: Option<ApiRole>,
    /// Team whose tenant the user belongs to.
    team: Option<&'a str>,
    /// Whether the API role applies to all teams.
    all_teams: bool,
}

fn change(
    options: &ChangeOptions,
    of_tables: &OfTables<'_>,
    is_there: bool,
) -> anyhow::Result<String> {
    let UserOptions { user, file } = &options.user;
    let change = match is_there {
        true => Change::Password,
        false => Change::Add,
    };
    // Only users of the tables have roles.
    let path = match file.file.is_none() && *of_tables != OfTables::default() {
        true => None,
        false => file.path_of(user, change)?,
    };
    let Some(path) = path else {
        return change_in_tables(options, of_tables, is_there);
    };
    // A faulty configuration is an error before anything is changed.
    file.node.data_dir()?;
    if *of_tables != OfTables::default() {
        bail!(
            "users of a password file have no roles and no team: auth.acl_file contains their \
             rights; without auth.password_file, users and roles are in the tables of the data \
             directory"
        );
    }
    let is_new = !is_there && !path.exists();
    let known = if is_new { Vec::new() } else { users(&path)? };
    match (known.contains(user), is_there) {
        (true, false) => bail!("{user} already exists: martlet user passwd {user}"),
        (false, true) => return Err(no_user(&file.node, user)),
        _ => {}
    }
    let strength = Strength::of(options.weak);
    let (password, fresh) = match options.generate {
        // A generated password cannot be guessed, so the hash format that every Mosquitto 2 reads
        // is sufficient, and logins cost the node less than with Argon2id.
        true => (
            hash::made_up_password().map_err(anyhow::Error::msg)?,
            Kind::Pbkdf2Sha512,
        ),
        false => (
            prompt::new_password(user, strength, GENERATE)?,
            Kind::Argon2id,
        ),
    };
    let kind = match options.hash {
        Some(hash) => hash.kind(),
        None => passwd::kind_for(&path, fresh),
    };
    if is_new {
        edit::create(&path, false)?;
    }
    let line = passwd::set(&path, user, &password, kind)?;
    let shown = options.generate.then_some(&*password);
    let reload_note = file.reload(&path, user)?;
    if file.json {
        let answer = serde_json::json!({
            "name": user, "file": path.display().to_string(), "password": shown,
        });
        return Ok(format!("{answer}\n"));
    }
    Ok(changed_text(&line, shown, &reload_note))
}

/// The error for the password of a user that is not there.
fn no_user(node: &NodeOptions, name: &str) -> anyhow::Error {
    let (shown, word) = (printable(name), typed_names(&[name]));
    match is_device(node, name) {
        true => anyhow::anyhow!(
            "{shown} is a device, which has a secret and no password: martlet device rotate {word} \
             gives it another one"
        ),
        false => anyhow::anyhow!("there is no user {shown}: martlet user add {word}"),
    }
}

/// Whether the tables have a device of this name.
fn is_device(node: &NodeOptions, name: &str) -> bool {
    let found = Door::of(node).and_then(|door| door.get(&device_path(name)));
    found.is_ok()
}

fn changed_text(line: &str, shown: Option<&str>, reload_note: &str) -> String {
    let line = printable(line);
    match shown {
        Some(password) => {
            format!("{line}\nIts password, shown this once: {password}\n{reload_note}")
        }
        None => format!("{line}\n{reload_note}"),
    }
}

fn change_in_tables(
    options: &ChangeOptions,
    of_tables: &OfTables<'_>,
    is_there: bool,
) -> anyhow::Result<String> {
    let UserOptions { user, file } = &options.user;
    if options.hash.is_some() {
        bail!("--hash is for password files: the tables keep Argon2id hashes");
    }
    let role = of_tables.role.unwrap_or(USER_ROLE);
    let is_of_team = of_tables.team.is_some() && !of_tables.all_teams;
    let given = of_tables.api_role.unwrap_or(match role {
        // An administrator of the broker also administers the node.
        ADMINISTRATOR => ApiRole::Administrator,
        _ => ApiRole::None,
    });
    // A user that belongs to a team has an API role in that team.
    let (api_role, team_role) = match is_of_team {
        true => (ApiRole::None, given),
        false => (given, ApiRole::None),
    };
    let password = match options.generate {
        true => hash::made_up_password().map_err(anyhow::Error::msg)?,
        false => prompt::new_password(user, Strength::of(options.weak), GENERATE)?,
    };
    let door = Door::of(&file.node)?;
    let shown = options.generate.then_some(&*password);
    let mut answer = match is_there {
        true => {
            let body = json!({ "password": password });
            let set = door.ask("PUT", &path(user, "/password"), Some(&body));
            set.map_err(|error| match is_device(&file.node, user) {
                true => no_user(&file.node, user),
                false => error,
            })?;
            door.get(&path(user, ""))?
        }
        false => {
            let body = json!({
                "name": user, "password": password, "role": role, "api_role": api_role.word(),
                "team": of_tables.team.unwrap_or_default(), "team_role": team_role.word(),
            });
            door.ask("POST", USERS, Some(&body))?
        }
    };
    let reload_note = note(&door, &file.node, user);
    let place = tables::place(&file.node)?;
    if file.json {
        answer["file"] = place.into();
        answer["password"] = shown.into();
        return Ok(format!("{answer}\n"));
    }
    let line = match is_there {
        true => format!("Changed the password of user {user}"),
        false => format!("Added user {user} with the role {role}"),
    };
    let line = match (of_tables.team, team_role) {
        (Some(team), ApiRole::Administrator | ApiRole::Operator | ApiRole::Viewer) => {
            format!("{line} in {place}, {} of the team {team}", team_role.word())
        }
        _ => format!("{line} in {place}"),
    };
    let reload_note = match (of_tables.role, is_there) {
        (None, false) => {
            let roles = for_node("martlet role ls");
            format!("This role permits all topics; --role gives another: {roles}\n{reload_note}")
        }
        _ => reload_note,
    };
    Ok(changed_text(&line, shown, &reload_note))
}

/// The use case that adds an administrator of the broker and the node.
pub(crate) fn administrator(name: &str, password: &str) -> AddUser {
    AddUser {
        user: NewUser {
            role: Some(ADMINISTRATOR.to_owned()),
            api_role: ApiRole::Administrator,
            ..NewUser::new(name)
        },
        password: NewPassword::given(password.to_owned()),
    }
}

/// Note on generating a password.
const GENERATE: &str = "use --generate, which makes one and prints it";

/// Name of the administrator role.
const ADMINISTRATOR: &str = "administrator";

/// Number of enabled administrators.
pub(crate) fn administrators(node: &NodeOptions) -> anyhow::Result<usize> {
    let users = Door::of(node)?.all(USERS, &[])?;
    let are = |user: &&Value| user["enabled"] == true && user["role"] == ADMINISTRATOR;
    Ok(users.iter().filter(are).count())
}

/// Warns if no administrator is left although there were `before` of them.
pub(crate) fn warn_of_none(node: &NodeOptions, before: usize) -> anyhow::Result<()> {
    if before > 0 && administrators(node)? == 0 {
        let add = for_node("martlet user add NAME");
        errln!("martlet: warning: no administrator is left enabled: {add} --role {ADMINISTRATOR}");
    }
    Ok(())
}

fn set(options: &SetOptions) -> anyhow::Result<String> {
    let SetOptions { user, node, .. } = options;
    let enabled = match (options.enable, options.disable) {
        (false, false) => None,
        (enable, _) => Some(enable),
    };
    expect_in_tables(node, user, false)?;
    let before = administrators(node)?;
    let mut change = json!({
        "role": options.role, "api_role": options.api_role.map(ApiRole::word),
        "enabled": enabled, "team": options.team,
    });
    options.said.add_to(&mut change);
    let door = Door::of(node)?;
    let changed = door.ask("PATCH", &path(user, ""), Some(&change))?;
    warn_of_none(node, before)?;
    Ok(match options.json {
        true => format!("{changed}\n"),
        false => format!(
            "Changed user {}\n{}",
            printable(user),
            note(&door, node, user)
        ),
    })
}

/// The path of a user, or of what belongs to it.
fn path(user: &str, rest: &str) -> String {
    user_path(user) + rest
}

/// Lines about when a change is in force, with the source that decides about the user if that is
/// another.
fn note(door: &Door<'_>, node: &NodeOptions, user: &str) -> String {
    format!("{}{}", door.note(), note_of_other(node, user, false))
}

/// Rejects what only users of the tables have, for a user of another source.
fn expect_in_tables(node: &NodeOptions, user: &str, deleted: bool) -> anyhow::Result<()> {
    let filter = deleted.then_some(("deleted", "true"));
    let known = Door::of(node)?.all(USERS, filter.as_slice())?;
    if known.iter().any(|known| known["name"] == user) {
        return Ok(());
    }
    let shown = printable(user);
    match UserSource::of(node, user, Change::Remove) {
        Ok(UserSource::File(path))
            if users(&path).is_ok_and(|all| all.iter().any(|one| one == user)) =>
        {
            let path = path.display().to_string();
            bail!(
                "{shown} is in the password file {path}, whose users have no role, and cannot be \
                 disabled or restored: auth.acl_file contains the rights of users, and martlet \
                 user rm --file={} {} removes this one",
                typed(&path),
                typed_names(&[user])
            )
        }
        Ok(UserSource::Credentials(place)) => bail!(
            "{shown} is a user of {place}, whose users have no role, and cannot be disabled or \
             restored: change them there, and restart the node"
        ),
        _ => Ok(()),
    }
}

fn remove(options: &RemoveOptions) -> anyhow::Result<String> {
    let UserOptions { user, file } = &options.user;
    let path = match options.purge && file.file.is_none() {
        // The tables may have a deleted user of the name, which is in the file too.
        true => None,
        // Another user of the name may be left in the tables, and is not needed.
        false => match UserSource::of(&file.node, user, Change::Remove) {
            Ok(UserSource::Credentials(_)) if are_in_tables(&file.node, user)? => None,
            _ => file.path_of(user, Change::Remove)?,
        },
    };
    let Some(path) = path else {
        return remove_from_tables(options);
    };
    edit::remove_user(&path, user)?;
    let reload_note = file.reload(&path, user)?;
    Ok(match file.json {
        true => format!("{}\n", serde_json::json!({ "removed": user })),
        false => format!(
            "Deleted user {} from {}\n{reload_note}",
            printable(user),
            path.display()
        ),
    })
}

fn remove_from_tables(options: &RemoveOptions) -> anyhow::Result<String> {
    let UserOptions { user, file } = &options.user;
    let shown = printable(user);
    if options.purge && !options.yes {
        prompt::expect_agreed(&format!("Remove the user {shown} permanently?"))?;
    }
    let before = administrators(&file.node)?;
    let door = Door::of(&file.node)?;
    match options.purge {
        true => door.ask("POST", &path(user, "/purge"), None)?,
        false => door.ask("DELETE", &path(user, ""), None)?,
    };
    warn_of_none(&file.node, before)?;
    let reload_note = note(&door, &file.node, user);
    let place = tables::place(&file.node)?;
    let view = serde_json::json!({ "removed": user, "can_be_restored": !options.purge });
    Ok(match (file.json, options.purge) {
        (true, _) => format!("{view}\n"),
        (false, true) => format!("Removed user {shown} from {place} permanently\n{reload_note}"),
        (false, false) => format!(
            "Deleted user {shown} from {place}\n{reload_note}{}",
            DeletedKept::of(&file.node)?.note(&file.node, "user", user, "")
        ),
    })
}

fn restore(options: &RestoreOptions) -> anyhow::Result<String> {
    let RestoreOptions { user, on } = options;
    expect_in_tables(&on.node, user, true)?;
    let door = Door::of(&on.node)?;
    let restored = door.ask("POST", &path(user, "/restore"), None)?;
    let line = format!("Restored user {user}");
    Ok(done(on, &restored, &line, &note(&door, &on.node, user)))
}

fn list(options: &ListOptions) -> anyhow::Result<String> {
    let ListOptions {
        file,
        team,
        deleted,
        tables,
        limit,
    } = options;
    let limit = limit.map_or(usize::MAX, NonZeroUsize::get);
    let is_of_tables = *tables || file.file.is_none() && (team.is_some() || *deleted);
    if let Some(path) = file.path()?.filter(|_| !is_of_tables) {
        if team.is_some() || *deleted {
            bail!(
                "users of the password file {} have no team, and deleted users are not kept",
                path.display()
            );
        }
        let mut users = users(&path)?;
        users.truncate(limit);
        if file.file.is_none()
            && let others = Door::of(&file.node)?.all(USERS, &[])?.len()
            && others > 0
        {
            errln!(
                "martlet: {others} more in the tables: {} lists them",
                for_node("martlet user ls --tables")
            );
        }
        return Ok(match file.json {
            true => listing::items(users.iter().map(|user| serde_json::json!({ "name": user }))),
            false => {
                let rows = users.iter().map(|user| [user.to_string()]);
                columns(["USER"], rows, "There are no users.")
            }
        });
    }
    let of_team = team.as_deref().map(|team| ("team", team));
    let deleted = deleted.then_some(("deleted", "true"));
    let filters: Vec<_> = of_team.into_iter().chain(deleted).collect();
    let door = Door::of(&file.node)?;
    let (users, total) = door.items(USERS, &filters, limit)?;
    if file.json && options.limit.is_some() {
        return listing::first_of(&users, total);
    }
    if file.json {
        return Ok(listing::items(users));
    }
    let row = |user: &Value| {
        // The user's API roles by team.
        let teams = user["teams"].as_array().into_iter().flatten();
        let teams = teams.filter(|of| of["role"] != ApiRole::None.word());
        let teams = teams.map(|of| format!("{}:{}", door.team_of(of), text(of, "role")));
        let state = match (user["deleted_at"].is_null(), user["enabled"] == true) {
            (false, _) => "deleted",
            (true, true) => "enabled",
            (true, false) => "disabled",
        };
        let [name, role, api_role] = ["name", "role", "api_role"].map(|member| text(user, member));
        let teams = teams.collect::<Vec<_>>().join(" ");
        [
            name,
            role,
            api_role,
            door.team_of(user),
            state.to_owned(),
            teams,
        ]
    };
    let headers = [
        "USER",
        "ROLE",
        "API-ROLE",
        "TEAM",
        "STATE",
        "ROLES-IN-TEAMS",
    ];
    let text = columns(headers, users.iter().map(row), "There are no users.");
    Ok(text + &left_out(users.len(), total))
}
