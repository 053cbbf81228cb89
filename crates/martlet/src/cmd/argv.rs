//! The command line of `martlet pub`, `sub` and `rr`, parsed like that of mosquitto's clients.
//!
//! Responsible for features that clap does not have: an option always takes the next argument
//! whatever it looks like, `-D` takes three or four, options may be in a file of defaults, and
//! errors have mosquitto's wording and exit code. The only option handled by name is `-D`; all
//! others come from the clap command.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use martlet_text_file::text_without_bom;

/// Separates the parts of one `-D` in the single argument passed to clap. No argument of a process
/// can contain it.
pub(crate) const PROPERTY_SEPARATOR: char = '\0';

/// The subcommands with mosquitto's command line.
const MOSQUITTO_COMMANDS: [&str; 3] = ["pub", "sub", "rr"];

/// Name of the link that makes the program behave like a script of IoTFlow.
pub(crate) const MANAGE_SCRIPT: &str = "mqtt_manage.sh";

/// Program names, used by links, and the commands that they select.
const PROGRAM_NAMES: &[(&str, &[&str])] = &[
    ("mosquitto_pub", &["pub"]),
    ("mosquitto_sub", &["sub"]),
    ("mosquitto_rr", &["rr"]),
    ("mosquitto_passwd", &["passwd", "--as-mosquitto"]),
    ("generate_certs.sh", &["cert", "script"]),
    ("mqtt-panel-broker", &["serve", "--as-panel-broker"]),
    (MANAGE_SCRIPT, &["manage"]),
];

/// A client of another vendor with the commands `pub` and `sub`.
const MQTT: &str = "mqtt";

/// Command and option names of [`MQTT`] that differ here.
const MQTT_WORDS: &[(&str, &str)] = &[
    ("-pw", "-P"),
    ("--password", "--pw"),
    ("--user", "--username"),
    ("--identifier", "--id"),
    ("--mqttVersion", "--protocol-version"),
    ("--keepAlive", "--keepalive"),
    ("-T", "-v"),
    ("--showTopics", "-v"),
    ("-s", "--tls-use-os-certs"),
    ("--secure", "--tls-use-os-certs"),
];

/// Adds the subcommand that the program's name selects.
///
/// # Errors
/// The text for standard error: there is no such command for this name.
pub(crate) fn by_program_name(mut args: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let name = args.first().map(PathBuf::from);
    let name = name.as_deref().and_then(|path| path.file_name()?.to_str());
    if name == Some(MQTT) {
        return of_mqtt(args);
    }
    let known = PROGRAM_NAMES.iter().find(|(known, _)| name == Some(known));
    if let Some((_, words)) = known {
        // The program that is replaced had options only: a word is a command of this program, such
        // as those that the start prints.
        let is_server = words.first() == Some(&"serve");
        let first = args.get(1).and_then(|first| first.to_str());
        let is_command = first.is_some_and(|first| !first.starts_with('-'));
        let words = if is_server && is_command { &[] } else { *words };
        // The usage text is printed for the command with these words.
        let words = words.iter().map(OsString::from);
        args.splice(..1, std::iter::once(OsString::from("martlet")).chain(words));
    }
    Ok(args)
}

/// The directory of the link by which the program was called; `None` if it has another name, or was
/// found in the search path.
pub(crate) fn link_directory(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::args_os().next()?);
    let directory = path
        .parent()
        .filter(|_| path.file_name() == Some(name.as_ref()))?;
    (!directory.as_os_str().is_empty()).then(|| directory.to_owned())
}

/// Converts the options of `mqtt pub` and `mqtt sub` to ours.
fn of_mqtt(args: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let command = match args.get(1).and_then(|word| word.to_str()) {
        Some("pub" | "publish") => "pub",
        Some("sub" | "subscribe") => "sub",
        _ => {
            return Err(
                "Error: this mqtt has only the commands pub and sub; for all others see martlet \
                 --help"
                    .to_owned(),
            );
        }
    };
    let mut all: Vec<OsString> = vec!["martlet".into(), command.into()];
    // The argument after an option may be its value, which stays unchanged.
    let mut is_value = false;
    for arg in args.into_iter().skip(2) {
        let known = MQTT_WORDS
            .iter()
            .find(|(word, _)| !is_value && arg == *word);
        is_value = !is_value
            && [
                "-m",
                "--message",
                "-t",
                "--topic",
                "-u",
                "--user",
                "-pw",
                "--password",
                "-i",
            ]
            .iter()
            .any(|option| arg == *option);
        all.push(known.map_or(arg, |(_, ours)| OsString::from(ours)));
    }
    Ok(all)
}

/// Rewrites the arguments of a mosquitto-like subcommand so that clap parses them as mosquitto
/// does, with the defaults of its configuration file first. Other subcommands are unchanged.
///
/// # Errors
/// The text for standard error when an option lacks its argument; the exit code is 1.
pub(crate) fn normalise(args: Vec<OsString>, cli: &clap::Command) -> Result<Vec<OsString>, String> {
    let Some(command) = mosquitto_command(&args, cli) else {
        return Ok(with_two_dashes(args));
    };
    let mut result = args[..2].to_vec();
    let defaults = configuration_path(command.get_name())
        .and_then(|path| std::fs::read_to_string(path).ok())
        .map(|text| configuration_arguments(text_without_bom(&text), command))
        .unwrap_or_default();
    rewrite(&defaults, command, &mut result)?;
    rewrite(&args[2..], command, &mut result)?;
    Ok(result)
}

/// Options of `martlet serve` that some programs accept with one dash, so that existing start-up
/// lines work unchanged.
const ONE_DASH: &[&str] = &[
    "-http-addr",
    "-log-level",
    "-log-format",
    "-log-file",
    "-file-logging",
    "-tcp",
    "-ws",
    "-info",
    "-auth-url",
    "-api-token-ttl",
    "-auto-clean-interval",
    "-reverb-host",
    "-reverb-app-key",
];

fn with_two_dashes(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_none_or(|command| command != "serve") {
        return args;
    }
    for arg in args.iter_mut().skip(2) {
        let name = arg.to_str().and_then(|text| text.split('=').next());
        if name.is_some_and(|name| ONE_DASH.contains(&name)) {
            let mut two = OsString::from("-");
            two.push(&*arg);
            *arg = two;
        }
    }
    args
}

/// The text for standard error when clap rejected the arguments of a mosquitto-like subcommand.
/// `None` for other errors (help, or another subcommand).
pub(crate) fn describe(
    error: &clap::Error,
    args: &[OsString],
    cli: &clap::Command,
) -> Option<String> {
    let command = mosquitto_command(args, cli)?;
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let line = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return None,
        ErrorKind::UnknownArgument => {
            format!("Unknown option '{}'.", text(ContextKind::InvalidArg))
        }
        ErrorKind::ValueValidation => {
            let source = std::error::Error::source(error);
            source
                .map(ToString::to_string)
                .unwrap_or_else(|| error.to_string())
        }
        _ => error.kind().to_string(),
    };
    Some(with_usage(&line, command.get_name()))
}

/// An error line with mosquitto's pointer to the help.
pub(crate) fn with_usage(line: &str, command: &str) -> String {
    format!("Error: {line}\n\nUse 'martlet {command} --help' to see usage.")
}

fn mosquitto_command<'a>(args: &[OsString], cli: &'a clap::Command) -> Option<&'a clap::Command> {
    let name = args.get(1)?.to_str()?;
    MOSQUITTO_COMMANDS
        .contains(&name)
        .then(|| cli.find_subcommand(name))
        .flatten()
}

/// Path of the default options of mosquitto's clients.
fn configuration_path(command: &str) -> Option<PathBuf> {
    let directory = match std::env::var_os("XDG_CONFIG_HOME").filter(|value| !value.is_empty()) {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".config"),
    };
    Some(directory.join(format!("mosquitto_{command}")))
}

/// The options of a configuration file, one per line: the option, a space, and the rest as its
/// value. A line beginning with `#` is a comment.
fn configuration_arguments(text: &str, command: &clap::Command) -> Vec<OsString> {
    let mut result = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let (option, value) = line.split_once(' ').unwrap_or((line, ""));
        result.push(option.into());
        if is_property(option.as_ref()) {
            result.extend(value.splitn(4, ' ').map(OsString::from));
        } else if !value.is_empty() || value_option(option.as_ref(), command).is_some() {
            result.push(value.into());
        }
    }
    result
}

/// Joins each option and its argument into one `--long=value`, so that no value is parsed as an
/// option.
fn rewrite(
    args: &[OsString],
    command: &clap::Command,
    result: &mut Vec<OsString>,
) -> Result<(), String> {
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if is_property(arg) {
            result.push(join_property(&mut rest, command.get_name())?);
        } else if let Some(option) = value_option(arg, command) {
            let value = rest
                .next()
                .ok_or_else(|| missing_value(arg, option, command))?;
            let mut joined =
                OsString::from(format!("--{}=", option.get_long().unwrap_or_default()));
            joined.push(value);
            result.push(joined);
        } else {
            result.push(arg.clone());
        }
    }
    Ok(())
}

fn is_property(arg: &OsStr) -> bool {
    arg == "-D" || arg == "--property"
}

fn join_property<'a>(
    rest: &mut impl Iterator<Item = &'a OsString>,
    command: &str,
) -> Result<OsString, String> {
    let few = || {
        let line = "--property argument given but not enough arguments specified.";
        with_usage(line, command)
    };
    let packet = rest.next().ok_or_else(few)?;
    let name = rest.next().ok_or_else(few)?;
    let value_count = if name == "user-property" { 2 } else { 1 };
    let mut joined = OsString::from("--property=");
    joined.push(packet);
    for index in 0..=value_count {
        joined.push(PROPERTY_SEPARATOR.to_string());
        joined.push(if index == 0 {
            name
        } else {
            rest.next().ok_or_else(few)?
        });
    }
    Ok(joined)
}

/// The option with exactly this name, if it takes a value.
fn value_option<'a>(arg: &OsStr, command: &'a clap::Command) -> Option<&'a clap::Arg> {
    let arg = arg.to_str()?;
    command.get_arguments().find(|option| {
        let named = match arg.strip_prefix("--") {
            Some(long) => {
                let alias = option.get_all_aliases().unwrap_or_default();
                option.get_long() == Some(long) || alias.contains(&long)
            }
            None => arg.strip_prefix('-').is_some_and(|short| {
                let mut letters = short.chars();
                letters.next() == option.get_short()
                    && option.get_short().is_some()
                    && letters.next().is_none()
            }),
        };
        named && option.get_action().takes_values()
    })
}

fn missing_value(arg: &OsStr, option: &clap::Arg, command: &clap::Command) -> String {
    let arg = arg.to_string_lossy();
    let what = option.get_value_names().and_then(|names| names.first());
    let what = what
        .map(|name| name.replace('-', " "))
        .unwrap_or_else(|| "value".into());
    let line = format!("{arg} argument given but no {what} specified.");
    with_usage(&line, command.get_name())
}

/// Other words for subcommands, from common usage and from other programs.
const OTHER_WORDS: &[(&[&str], &[&str])] = &[
    (
        &[
            "delete", "del", "remove", "revoke", "drop", "destroy", "erase",
        ],
        &["rm", "remove", "revoke"],
    ),
    (
        &["disable", "enable", "change", "edit", "update", "modify"],
        &["set", "rules"],
    ),
    (&["new", "create", "make"], &["add", "create"]),
    (&["list", "all"], &["ls", "list"]),
    (&["get", "info", "inspect", "describe"], &["show", "get"]),
    (&["undelete", "recover", "undo"], &["restore"]),
    (&["renew", "reset"], &["rotate", "passwd", "renew"]),
    (&["permit", "grant"], &["allow"]),
    (&["forbid", "refuse"], &["deny"]),
];

/// Adds the intended command to the error of an unknown subcommand. Similar spelling is not used,
/// since a similar word may be the opposite, such as `restore` and `revoke`.
pub(crate) fn with_suggestion(
    mut error: clap::Error,
    args: &[OsString],
    cli: &clap::Command,
) -> clap::Error {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let word = word.to_lowercase();
    let mut entry = OTHER_WORDS.iter();
    let Some((_, meant)) = entry.find(|(words, _)| words.contains(&&*word)) else {
        return error;
    };
    let mut command = cli;
    for arg in args.iter().skip(1).filter_map(|arg| arg.to_str()) {
        match command.find_subcommand(arg) {
            Some(next) => command = next,
            None => break,
        }
    }
    let mut meant = meant.iter();
    let known = meant.find(|name| command.find_subcommand(name).is_some());
    error.remove(ContextKind::SuggestedSubcommand);
    if let Some(known) = known {
        let suggested = ContextValue::Strings(vec![(*known).to_owned()]);
        error.insert(ContextKind::SuggestedSubcommand, suggested);
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction, Command};

    use super::*;

    fn cli() -> Command {
        let property = Arg::new("property")
            .short('D')
            .long("property")
            .action(ArgAction::Append);
        let message = Arg::new("message")
            .short('m')
            .long("message")
            .value_name("message");
        let debug = Arg::new("debug").short('d').action(ArgAction::SetTrue);
        let sub = Command::new("pub").args([property, message, debug]);
        Command::new("martlet")
            .subcommand(sub)
            .subcommand(Command::new("serve"))
    }

    #[test]
    fn serve_takes_some_options_with_one_dash() {
        let normalised = |args: &[&str]| {
            let args = args.iter().map(OsString::from).collect();
            let all = normalise(args, &cli()).unwrap().into_iter();
            all.map(|arg| arg.into_string().unwrap())
                .collect::<Vec<_>>()
        };
        let args = [
            "martlet",
            "serve",
            "-reverb-host",
            "h:8080",
            "-reverb-app-key=k",
        ];
        let got = normalised(&args);
        assert_eq!(got[2..], ["--reverb-host", "h:8080", "--reverb-app-key=k"]);
        let others = ["martlet", "config", "-reverb-host"];
        assert_eq!(normalised(&others), others);
    }

    fn rewritten(args: &[&str]) -> Result<Vec<String>, String> {
        let args: Vec<_> = args.iter().map(OsString::from).collect();
        let cli = cli();
        let mut result = Vec::new();
        rewrite(&args, cli.find_subcommand("pub").unwrap(), &mut result)?;
        Ok(result
            .into_iter()
            .map(|arg| arg.into_string().unwrap())
            .collect())
    }

    #[test]
    fn a_value_that_looks_like_an_option_stays_a_value() {
        assert_eq!(
            rewritten(&["-m", "-d", "-d"]).unwrap(),
            ["--message=-d", "-d"]
        );
        assert_eq!(rewritten(&["--message", ""]).unwrap(), ["--message="]);
    }

    #[test]
    fn a_property_takes_three_arguments_and_a_user_property_four() {
        let got = rewritten(&["-D", "publish", "content-type", "-d", "-d"]).unwrap();
        assert_eq!(got, ["--property=publish\0content-type\0-d", "-d"]);
        let got = rewritten(&["-D", "connect", "user-property", "k", "v", "-d"]).unwrap();
        assert_eq!(got, ["--property=connect\0user-property\0k\0v", "-d"]);
        let error = rewritten(&["-D", "connect", "user-property", "k"]).unwrap_err();
        assert!(error.contains("not enough arguments specified"));
    }

    #[test]
    fn a_missing_value_is_named_as_mosquitto_does() {
        let error = rewritten(&["-m"]).unwrap_err();
        assert!(
            error.starts_with("Error: -m argument given but no message specified."),
            "{error}"
        );
    }

    #[test]
    fn configuration_lines_give_an_option_and_the_rest_as_its_value() {
        let cli = cli();
        let command = cli.find_subcommand("pub").unwrap();
        let text = "# comment\n-m hello world\n-d\n-D connect user-property k v\n";
        let args = configuration_arguments(text, command);
        assert_eq!(
            args,
            [
                "-m",
                "hello world",
                "-d",
                "-D",
                "connect",
                "user-property",
                "k",
                "v"
            ]
        );
    }
}
