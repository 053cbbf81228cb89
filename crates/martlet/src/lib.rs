//! The command line of Martlet: one module per subcommand.
//!
//! Responsible for parsing arguments, selecting the command, and the exit code. Contains no broker
//! or client logic.
#![forbid(unsafe_code)]
// These macros panic if the reader has closed its pipe; `cmd::print` has safe ones.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cmd;
mod config;
mod panics;
mod private_file;
mod serve;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use cmd::node_options::NodeOptions;

/// MQTT broker and client tools.
#[derive(Parser)]
#[command(name = "martlet", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a broker
    Serve(Box<serve::ConfigOptions>),
    /// Show or check the configuration
    Config(cmd::config_cmd::ConfigCommand),
    /// Show the state of a running node
    Status(cmd::admin::AdminOptions),
    /// Show the load of a running node, and its busiest clients, continuously
    Top(cmd::top::TopOptions),
    /// List the clients of a running node: the same as client ls
    Clients(cmd::client::ListOptions),
    /// Show the clients of a running node, and end their connections
    Client(cmd::client::ClientCommand),
    /// List and end the sessions of a running node
    Session(cmd::client::SessionCommand),
    /// List, read and delete the retained messages of a running node
    Retained(cmd::retained::RetainedCommand),
    /// List topics that a running node remembers, and print their last messages
    Topic(cmd::topic::TopicCommand),
    /// Show, follow and export values that devices have sent
    Telemetry(cmd::telemetry::TelemetryCommand),
    /// Check whether a running node is ready, and print its warnings
    ///
    /// Exit code 0: it is ready; warnings are printed. 1: it is not ready, or does not answer. 3:
    /// with --strict, it is ready, with warnings.
    Health(cmd::admin::HealthOptions),
    /// Stop a running node cleanly, and wait until it has ended
    ///
    /// Exit code 0: it has ended. 1: no node answers. 2: it still runs after --timeout.
    Stop(cmd::stop::StopOptions),
    /// Create, verify and restore a copy of all data of a node
    Backup(cmd::backup::BackupCommand),
    /// Check, repair or measure the message store of a node that is not running
    Store(cmd::store_cmd::StoreCommand),
    /// Show recent events of clients, and remedies for refusals
    Logs(cmd::logs::LogsOptions),
    /// Show and change what a running node logs
    Log(cmd::log::LogCommand),
    /// Follow the events of clients, a line each, until interrupted
    Events(cmd::events::EventsOptions),
    /// Log everything about a client, an address or a topic for some minutes
    Trace(cmd::trace::TraceOptions),
    /// Show what is wrong with a device or client, since when, and the remedy
    ///
    /// Exit code 0: the node has found no problem. 3: it has found one. 1: the node does not
    /// answer.
    Why(cmd::why::WhyOptions),
    /// Make a running node reload certificates, passwords and ACLs
    ///
    /// Exit code 0: all settings of the files are in force. 3: they were read, but some settings
    /// apply only after a restart; they are printed, and martlet status shows them. 1: the files
    /// have errors, and the old settings remain in force.
    ///
    /// Remembered results of logins (auth.remember_secs) are discarded: clients that connect
    /// afterwards are authenticated again, also by the HTTP hook.
    Reload(cmd::admin::AdminOptions),
    /// Import the configuration or data of another broker
    Import(cmd::import::ImportCommand),
    /// Change a password file (the options of mosquitto_passwd)
    Passwd(cmd::passwd::PasswdOptions),
    /// Write a secured configuration: certificates, an administrator, and the file that names them
    Init(cmd::init::InitOptions),
    /// Add, remove and list the users of a node
    User(cmd::user::UserCommand),
    /// Add, remove and list the devices of a node, and give them credentials
    Device(cmd::device::DeviceCommand),
    /// Add, list and delete firmware for devices
    Firmware(cmd::firmware::FirmwareCommand),
    /// Update the firmware of devices in waves
    Rollout(cmd::rollout::RolloutCommand),
    /// Add and remove groups of devices, and their members
    #[command(subcommand)]
    Group(cmd::group::GroupCommand),
    /// Send commands to devices and groups, and show their progress
    #[command(name = "command")]
    Commands(cmd::command::CommandCommand),
    /// Add, revoke and list API keys
    #[command(subcommand)]
    Key(cmd::key::KeyCommand),
    /// Add, delete and list teams
    #[command(subcommand)]
    Team(cmd::team::TeamCommand),
    /// Ban clients, by Client Identifier, user name or address
    #[command(subcommand)]
    Ban(cmd::ban::BanCommand),
    /// List alarms, acknowledge, shelve and clear them
    Alarm(cmd::alarm::AlarmCommand),
    /// Add, change, remove and test rules about messages
    Rule(cmd::rule::RuleCommand),
    /// List lockouts for wrong credentials, and end them
    Lockout(cmd::lockout::LockoutCommand),
    /// Show, pause, resume and test integrations, and their dead letters
    Integration(cmd::integration::IntegrationCommand),
    /// List, set and remove secrets of other systems, which integrations use
    Secret(cmd::secret::SecretCommand),
    /// Provisioning keys, with which devices register themselves
    #[command(subcommand)]
    Provision(cmd::key::ProvisionCommand),
    /// Show the audit log
    Audit(cmd::audit::AuditCommand),
    /// Roles: rights of users as MQTT clients
    Role(cmd::role::RoleCommand),
    /// Certificates for servers and devices, from your own authority
    Cert(cmd::cert::CertCommand),
    /// Explain what a client may do, and find mistakes in an ACL file
    Acl(cmd::acl::AclCommand),
    /// Publish messages (the options of mosquitto_pub)
    #[command(disable_help_flag = true, args_override_self = true)]
    Pub(Box<cmd::pub_::PubOptions>),
    /// Subscribe and print messages (the options of mosquitto_sub)
    #[command(disable_help_flag = true, args_override_self = true)]
    Sub(Box<cmd::sub::SubOptions>),
    /// Send a request and wait for its response (the options of mosquitto_rr)
    #[command(disable_help_flag = true, args_override_self = true)]
    Rr(Box<cmd::rr::RrOptions>),
    /// Store lines and metrics of a device in a queue on disk, and send them to an MQTT broker
    ///
    /// Runs until SIGTERM or SIGINT. If standard input is the only input, it also stops when
    /// standard input has ended and all messages are acknowledged. SIGUSR1 logs the state of the
    /// queue.
    Agent(Box<martlet_agent::AgentOptions>),
    /// Generate load on a broker and measure it
    #[command(disable_help_flag = true)]
    Bench(Box<cmd::bench::BenchOptions>),
    /// The commands of mqtt_manage.sh
    #[command(hide = true)]
    Manage(cmd::manage::ManageOptions),
    /// Print a completion script for a shell
    Completions(cmd::completions::CompletionsOptions),
    /// Print the version of the program
    Version(cmd::version::VersionOptions),
    /// Write the manual pages to a directory
    Man(cmd::man::ManOptions),
}

/// `martlet agent` alone. The options of all commands take memory that a device has little of.
#[derive(Parser)]
#[command(name = "martlet")]
struct AgentCli {
    #[command(flatten)]
    options: martlet_agent::AgentOptions,
}

/// Runs the command given by the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    panics::end_the_process();
    if let Some(code) = cmd::completions::complete(Cli::command) {
        return code;
    }
    let args = match cmd::argv::by_program_name(std::env::args_os().collect()) {
        Ok(args) => args,
        Err(text) => return cmd::exit::usage(&text),
    };
    cmd::print::exit_code(run_args(args))
}

/// Runs a command of Martlet in this process.
fn run_words(words: Vec<OsString>) -> ExitCode {
    let program = OsString::from("martlet");
    run_args(std::iter::once(program).chain(words).collect())
}

fn run_args(args: Vec<OsString>) -> ExitCode {
    // For unknown arguments and for help, all commands are needed.
    if let Some(agent) = agent_alone(&args) {
        return cmd::agent::run(&agent.options);
    }
    let options = Cli::command();
    let args = match cmd::argv::normalise(args, &options) {
        Ok(args) => args,
        Err(text) => return cmd::exit::usage(&text),
    };
    let parsed = Cli::command().try_get_matches_from(&args);
    let parsed = parsed.map_err(|error| with_whole_help(error, &args));
    let parsed = parsed.and_then(|mut matches| {
        NodeOptions::note_typed(&matches);
        Cli::from_arg_matches_mut(&mut matches)
    });
    match parsed {
        Ok(cli) => {
            // The options of all commands: a running node does not need them.
            drop((options, args));
            run(cli.command)
        }
        Err(error) => match cmd::argv::describe(&error, &args, &options) {
            Some(text) => cmd::exit::usage(&text),
            None => {
                let error = cmd::argv::with_suggestion(error, &args, &options);
                serve::refuse_in_json(&args, &error).unwrap_or_else(|| error.exit())
            }
        },
    }
}

/// Renders help again, with groups and examples. Other commands do not have to prepare these.
fn with_whole_help(error: clap::Error, args: &[OsString]) -> clap::Error {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let again = cmd::help::add_to(Cli::command()).try_get_matches_from(args);
            again.err().unwrap_or(error)
        }
        _ => error,
    }
}

fn agent_alone(args: &[OsString]) -> Option<AgentCli> {
    match args {
        [_, command, rest @ ..] if command == "agent" => {
            let program = OsString::from("martlet");
            AgentCli::try_parse_from(std::iter::once(&program).chain(rest)).ok()
        }
        _ => None,
    }
}

/// Words of all commands that select a node, such as `user add`.
fn commands_of_nodes() -> Vec<String> {
    fn add_below(command: &clap::Command, words: &str, all: &mut Vec<String>) {
        for below in command.get_subcommands() {
            let words = format!("{words} {}", below.get_name());
            let has_node = below.get_arguments().any(|arg| arg.get_id() == "data_dir");
            add_below(below, &words, all);
            all.extend(has_node.then(|| words.trim_start().to_owned()));
        }
    }
    let mut all = Vec::new();
    add_below(&Cli::command(), "", &mut all);
    all
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve(options) => serve::run(&options),
        Command::Config(command) => cmd::config_cmd::run(&command),
        Command::Status(options) => cmd::admin::status(&options),
        Command::Top(options) => cmd::top::run(&options),
        Command::Clients(options) => cmd::client::run_list(&options),
        Command::Client(command) => cmd::client::run(&command),
        Command::Session(command) => cmd::client::run_session(&command),
        Command::Retained(command) => cmd::retained::run(&command),
        Command::Topic(command) => cmd::topic::run(&command),
        Command::Telemetry(command) => cmd::telemetry::run(&command),
        Command::Health(options) => cmd::admin::health(&options),
        Command::Stop(options) => cmd::stop::run(&options),
        Command::Backup(command) => cmd::backup::run(&command),
        Command::Store(command) => cmd::store_cmd::run(&command),
        Command::Logs(options) => cmd::logs::run(&options),
        Command::Log(command) => cmd::log::run(&command),
        Command::Events(options) => cmd::events::run(&options),
        Command::Trace(options) => cmd::trace::run(&options),
        Command::Why(options) => cmd::why::run(&options),
        Command::Reload(options) => cmd::admin::reload(&options),
        Command::Import(command) => cmd::import::run(&command),
        Command::Passwd(options) => cmd::passwd::run(options),
        Command::Init(options) => cmd::init::run(&options),
        Command::User(command) => cmd::user::run(&command),
        Command::Device(command) => cmd::device::run(&command),
        Command::Firmware(command) => cmd::firmware::run(&command),
        Command::Rollout(command) => cmd::rollout::run(&command),
        Command::Group(command) => cmd::group::run(&command),
        Command::Commands(command) => cmd::command::run(&command),
        Command::Key(command) => cmd::key::key(&command),
        Command::Team(command) => cmd::team::team(&command),
        Command::Ban(command) => cmd::ban::ban(&command),
        Command::Alarm(command) => cmd::alarm::run(&command),
        Command::Rule(command) => cmd::rule::run(&command),
        Command::Lockout(command) => cmd::lockout::run(&command),
        Command::Integration(command) => cmd::integration::run(&command),
        Command::Secret(command) => cmd::secret::run(&command),
        Command::Provision(command) => cmd::key::provision(&command),
        Command::Audit(options) => cmd::audit::audit(&options),
        Command::Role(command) => cmd::role::run(&command),
        Command::Cert(command) => cmd::cert::run(&command),
        Command::Acl(command) => cmd::acl::run(&command),
        Command::Pub(options) => cmd::pub_::run(*options),
        Command::Sub(options) => cmd::sub::run(*options),
        Command::Rr(options) => cmd::rr::run(*options),
        Command::Agent(options) => cmd::agent::run(&options),
        Command::Bench(options) => cmd::bench::run(*options),
        Command::Manage(options) => cmd::manage::run(&options),
        Command::Completions(options) => cmd::completions::run(&options),
        Command::Version(options) => cmd::version::run(&options),
        Command::Man(options) => cmd::man::run(&options, cmd::help::add_to(Cli::command())),
    }
}

#[cfg(test)]
mod tests {
    use martlet_control::remedy::form::COMMAND_FORMS;

    use super::*;

    #[test]
    fn commands_of_remedies_are_those_of_the_program() {
        for form in COMMAND_FORMS {
            let words = form
                .command
                .split(' ')
                .map(|word| match word.split_once('=') {
                    _ if word == "{team}" => "--team=north".to_owned(),
                    Some((option @ ("--from" | "--to"), _)) => {
                        format!("{option}=2026-01-31T12:00:00Z")
                    }
                    Some((option @ ("--set" | "--parameters"), _)) => format!("{option}={{}}"),
                    Some((option @ "--api-role", _)) => format!("{option}=viewer"),
                    Some((option @ "--max-sessions", _)) => format!("{option}=2"),
                    Some((option, value)) if value.starts_with('{') => format!("{option}=x"),
                    _ if word.starts_with('{') => "file/x".to_owned(),
                    _ => word.to_owned(),
                });
            let line = std::iter::once("martlet".to_owned()).chain(words);
            let parsed = Cli::try_parse_from(line);
            assert!(
                parsed.is_ok(),
                "{}: {}",
                form.command,
                parsed
                    .err()
                    .map_or_else(String::new, |error| error.to_string())
            );
        }
    }

    #[test]
    fn every_command_is_in_one_group() {
        let names = |grouped: &[&str]| {
            let mut names: Vec<_> = grouped.iter().map(|name| (*name).to_owned()).collect();
            names.sort_unstable();
            names
        };
        let cli = Cli::command();
        let visible = cli.get_subcommands().filter(|below| !below.is_hide_set());
        let visible: Vec<_> = visible.map(clap::Command::get_name).collect();
        let grouped: Vec<_> = cmd::help::GROUPS
            .iter()
            .flat_map(|(_, names)| *names)
            .copied()
            .collect();
        assert_eq!(names(&grouped), names(&visible));
    }

    /// Visible commands with their words, and the end of their help.
    fn ends_of_help() -> Vec<(String, String)> {
        fn add_below(command: &clap::Command, words: &str, all: &mut Vec<(String, String)>) {
            let end = command.get_after_help().map(ToString::to_string);
            all.push((words.to_owned(), end.unwrap_or_default()));
            let visible = |below: &&clap::Command| !below.is_hide_set();
            for below in command.get_subcommands().filter(visible) {
                let words = format!("{words} {}", below.get_name());
                add_below(below, words.trim_start(), all);
            }
        }
        let mut all = Vec::new();
        add_below(&cmd::help::add_to(Cli::command()), "", &mut all);
        all
    }

    #[test]
    fn the_help_of_every_command_ends_with_its_examples_and_a_page() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let ends = ends_of_help();
        for (words, end) in &ends {
            let start = format!("  martlet {words}");
            let examples = end
                .lines()
                .filter(|line| line.starts_with(start.trim_end()));
            assert!((2..=3).contains(&examples.count()), "{words}: {end}");
            let page = end
                .lines()
                .find_map(|line| line.strip_prefix("Documentation: "));
            assert!(
                page.is_some_and(|page| root.join(page).is_file()),
                "{words}: {end}"
            );
        }
        for entry in cmd::examples::all() {
            let is_command = ends.iter().any(|(words, _)| words == entry.command);
            assert!(is_command, "there is no command {}", entry.command);
        }
    }

    #[test]
    fn examples_are_command_lines_of_the_program() {
        let cli = Cli::command();
        for entry in cmd::examples::all() {
            for line in entry.lines {
                assert!(line.len() <= 96, "clap would break this line: {line}");
                let words = shlex::split(line).expect(line).into_iter();
                // What the shell does with input and output.
                let words = words.take_while(|word| !["<", ">", "|"].contains(&&**word));
                let args = cmd::argv::normalise(words.map(OsString::from).collect(), &cli);
                let parsed = args.map(Cli::try_parse_from);
                if let Some(error) = parsed.expect(line).err() {
                    panic!("{line}: {error}");
                }
            }
        }
    }
}
