//! `martlet passwd`: password files, with the options of `mosquitto_passwd`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, ValueEnum};
use martlet_access::edit::{self, Edited};
use martlet_access::hash::Kind;
use martlet_access::{PASSWORD_MIN, PasswordFile, Plain};

use crate::cmd::print::{errln, outln};
use crate::cmd::prompt::{self, Strength};
use crate::config::regular_file;

/// Options of `martlet passwd`.
#[derive(Args, Debug)]
pub(crate) struct PasswdOptions {
    /// Create the file; an existing file is not changed (mosquitto_passwd replaces it)
    #[arg(short = 'c', conflicts_with_all = ["delete", "update"])]
    create: bool,
    /// Remove the user
    #[arg(short = 'D', conflicts_with_all = ["update", "batch"])]
    delete: bool,
    /// Hash all plain-text passwords of the file
    #[arg(short = 'U', conflicts_with_all = ["batch", "user"])]
    update: bool,
    /// Read the password from the command line, where other users of this machine can see it
    #[arg(short = 'b', requires = "password")]
    batch: bool,
    /// Algorithm of the hash [default: the strongest one that the readers of the file support:
    /// sha512-pbkdf2 in a file whose hashes are all Mosquitto's, else argon2id; mosquitto_passwd:
    /// sha512-pbkdf2]
    #[arg(short = 'H', long = "hash", value_name = "HASH")]
    hash: Option<HashName>,
    /// Accept a password of fewer than 10 characters
    #[arg(long, conflicts_with_all = ["delete", "update"])]
    weak: bool,
    /// The password file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// User name
    #[arg(value_name = "USER", required_unless_present = "update")]
    user: Option<String>,
    /// With -b: the password
    #[arg(value_name = "PASSWORD", requires = "batch", hide = true)]
    password: Option<String>,
    /// Called as mosquitto_passwd
    #[arg(long, hide = true)]
    as_mosquitto: bool,
}

/// Kinds of hashes, as mosquitto names them.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum HashName {
    /// 19 MiB of memory, two passes; supported by Mosquitto 2.1 and later
    Argon2id,
    /// PBKDF2; supported by all versions of Mosquitto
    #[value(name = "sha512-pbkdf2")]
    Sha512Pbkdf2,
    /// Weak; for Mosquitto before 2.0
    Sha512,
}

impl HashName {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Argon2id => Kind::Argon2id,
            Self::Sha512Pbkdf2 => Kind::Pbkdf2Sha512,
            Self::Sha512 => Kind::Sha512,
        }
    }
}

/// Runs the command.
pub(crate) fn run(options: PasswdOptions) -> ExitCode {
    match passwd(options) {
        Ok(line) => {
            outln!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            errln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn passwd(options: PasswdOptions) -> anyhow::Result<String> {
    let file = &options.file;
    let kind = match (options.hash, options.as_mosquitto) {
        (Some(hash), _) => hash.kind(),
        (None, true) => Kind::Pbkdf2Sha512,
        (None, false) => kind_for(file, Kind::Argon2id),
    };
    if options.update {
        warn_of_short(file);
        let count = edit::hash_plain(file, kind)?;
        return Ok(format!(
            "{}: {count} passwords are hashes now",
            file.display()
        ));
    }
    let Some(user) = options.user else {
        bail!("no user is named");
    };
    if options.delete {
        edit::remove_user(file, &user)?;
        return Ok(format!("Deleted user {user} from {}", file.display()));
    }
    let replaces = options.create && options.as_mosquitto;
    if options.create && !replaces && file.exists() {
        return Err(edit::EditError::Exists(file.clone()).into());
    }
    let strength = match options.as_mosquitto {
        // Scripts written for mosquitto_passwd do not use --weak.
        true => Strength::Warned,
        false => Strength::of(options.weak),
    };
    let password = match options.password {
        Some(password) => prompt::given(password, strength)?,
        None if options.as_mosquitto => prompt::new_password_twice(&user, strength, OR_ELSE)?,
        None => prompt::new_password(&user, strength, OR_ELSE)?,
    };
    if options.create {
        edit::create(file, replaces)?;
    }
    set(file, &user, &password, kind)
}

/// Another way to give a password without a terminal.
const OR_ELSE: &str = "give it on the command line: -b FILE USER PASSWORD";

/// The best format of a hash that the readers of a password file support. Mosquitto reads Argon2id
/// only since 2.1, so a file whose hashes are all PBKDF2 or SHA-512 gets PBKDF2. `fresh` is the
/// format for a file without hashes.
pub(crate) fn kind_for(path: &Path, fresh: Kind) -> Kind {
    let text = regular_file::read_named(path).unwrap_or_default();
    let file = PasswordFile::parse(&path.display().to_string(), &text, Plain::Accepted);
    let kinds = file.map(|file| file.kinds()).unwrap_or_default();
    match kinds.as_slice() {
        [] => fresh,
        kinds if kinds.contains(&Kind::Argon2id) => Kind::Argon2id,
        _ => Kind::Pbkdf2Sha512,
    }
}

/// Warns about short passwords before they are hashed, since their length is unknown afterwards.
fn warn_of_short(path: &Path) {
    let text = regular_file::read_named(path).unwrap_or_default();
    let file = PasswordFile::parse(&path.display().to_string(), &text, Plain::Accepted);
    for line in file.iter().flat_map(PasswordFile::short) {
        errln!(
            "Warning: {} line {line}: the password has fewer than {PASSWORD_MIN} characters.",
            path.display()
        );
    }
}

/// Sets the password of a user in an existing file.
pub(crate) fn set(file: &Path, user: &str, password: &str, kind: Kind) -> anyhow::Result<String> {
    let done = match edit::set_user(file, user, password.as_bytes(), kind)? {
        Edited::Added => "Added",
        Edited::Changed => "Changed the password of",
    };
    Ok(format!("{done} user {user} in {}", file.display()))
}
