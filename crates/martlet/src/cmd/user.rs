//! `martlet user`: the users of a node's password file. The node reads the file again by itself.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use martlet_access::edit;
use martlet_access::hash::{self, Kind};
use martlet_access::{PasswordFile, Plain};

use crate::cmd::node_options::NodeOptions;
use crate::cmd::{admin, passwd, prompt};

/// Arguments of `martlet user`.
#[derive(Args, Debug)]
pub(crate) struct UserCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Add a user; the password is asked for twice, or read from a pipe
    Add(ChangeOptions),
    /// Remove a user; connections of theirs end
    Rm(UserOptions),
    /// Give a user another password; connections of theirs end
    Passwd(ChangeOptions),
    /// List the users
    Ls(FileOptions),
}

/// Which password file.
#[derive(Args, Debug)]
struct FileOptions {
    /// Password file [default: auth.password_file of the configuration]
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
struct ChangeOptions {
    #[command(flatten)]
    user: UserOptions,
    /// Make a password up and print it, once
    #[arg(long)]
    generate: bool,
}

/// Runs the command.
pub(crate) fn run(command: &UserCommand) -> ExitCode {
    let outcome = match &command.action {
        Action::Add(options) => change(options, false),
        Action::Passwd(options) => change(options, true),
        Action::Rm(options) => remove(options),
        Action::Ls(options) => list(options),
    };
    match outcome {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("martlet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl FileOptions {
    fn path(&self) -> anyhow::Result<PathBuf> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let configured = self.node.load()?;
        match configured.text("auth.password_file") {
            "" => bail!(
                "no password file is configured: give --file FILE, or -c FILE with \
                 auth.password_file in it"
            ),
            path => Ok(PathBuf::from(path)),
        }
    }

    /// A node that runs reads the file at once, not when it next looks.
    fn told_node(&self) -> &'static str {
        let Ok(data_dir) = self.node.data_dir() else {
            return "";
        };
        let is_told =
            admin::is_running(&data_dir) && admin::ask(&data_dir, "POST", "/api/v1/reload").is_ok();
        match is_told {
            true => "The running node has read it.\n",
            false => "",
        }
    }

    fn users(&self) -> anyhow::Result<Vec<String>> {
        let path = self.path()?;
        let text =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = PasswordFile::parse(&path.display().to_string(), &text, Plain::Accepted)?;
        let mut users: Vec<String> = file.users().map(str::to_owned).collect();
        users.sort_unstable();
        Ok(users)
    }
}

fn change(options: &ChangeOptions, is_there: bool) -> anyhow::Result<String> {
    let UserOptions { user, file } = &options.user;
    let path = file.path()?;
    if !is_there && !path.exists() {
        edit::create(&path, false)?;
    }
    match (file.users()?.contains(user), is_there) {
        (true, false) => bail!("{user} is there already: martlet user passwd {user}"),
        (false, true) => bail!("there is no user {user}: martlet user add {user}"),
        _ => {}
    }
    let (password, kind) = match options.generate {
        // Nobody guesses 142 bits, so a quick hash will do, and a fleet that comes back at once
        // costs the node little.
        true => (
            hash::made_up_password().map_err(anyhow::Error::msg)?,
            Kind::Sha512,
        ),
        false => (prompt::new_password(user)?, Kind::Argon2id),
    };
    let line = passwd::set(&path, user, &password, kind)?;
    let shown = options.generate.then_some(&password);
    let told = file.told_node();
    if file.json {
        let answer = serde_json::json!({
            "user": user, "file": path.display().to_string(), "password": shown,
        });
        return Ok(format!("{answer}\n"));
    }
    Ok(match shown {
        Some(password) => {
            format!("{line}\nIts password, shown this once: {password}\n{told}")
        }
        None => format!("{line}\n{told}"),
    })
}

fn remove(options: &UserOptions) -> anyhow::Result<String> {
    let path = options.file.path()?;
    edit::remove_user(&path, &options.user)?;
    let told = options.file.told_node();
    Ok(match options.file.json {
        true => format!("{}\n", serde_json::json!({ "removed": options.user })),
        false => format!(
            "Deleted user {} from {}\n{told}",
            options.user,
            path.display()
        ),
    })
}

fn list(options: &FileOptions) -> anyhow::Result<String> {
    let users = options.users()?;
    Ok(match options.json {
        true => format!("{}\n", serde_json::json!({ "users": users })),
        false => users.iter().map(|user| format!("{user}\n")).collect(),
    })
}
