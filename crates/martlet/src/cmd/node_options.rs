//! Selects the node of a command; shared by `status`, `clients`, `stop`, `backup` and `store`.
//!
//! Responsible for finding the node's data directory, in the same way as the node itself. Does not
//! determine whether the node runs.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};

use clap::{ArgMatches, Args};
use martlet_control::text::printable;

use crate::cmd::find_node;
use crate::cmd::json::Json;
use crate::cmd::print::errln;
use crate::cmd::query::team_query;
use crate::config;
use crate::serve::ConfigOptions;

/// Options that select the node on the command line of this process.
static TYPED: OnceLock<String> = OnceLock::new();

/// The command line of this process has `--json`.
static PRINTS_JSON: OnceLock<bool> = OnceLock::new();

/// Whether the command prints JSON.
pub(crate) fn prints_json() -> bool {
    PRINTS_JSON.get().is_some_and(|json| *json)
}

/// The options that select the node on the command line of this process, with a blank behind them,
/// as commands in texts of errors repeat them; empty: none.
pub(crate) fn typed_options() -> &'static str {
    TYPED.get().map_or("", String::as_str)
}

/// The text with the options that select the node in each command of the program that has none.
pub(crate) fn for_node(text: &str) -> Cow<'_, str> {
    static COMMANDS: LazyLock<Vec<String>> = LazyLock::new(crate::commands_of_nodes);
    let options = typed_options().trim_end();
    match options.is_empty() || !text.contains(PROGRAM) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(with_options(text, options, &COMMANDS)),
    }
}

/// JSON of the node with the options that select it in each command in its sentences, as
/// [`for_node`] adds them to printed text. Texts of others stay as they are.
pub(crate) fn json_for_node(json: &str) -> Cow<'_, str> {
    if for_node(json) == json {
        return Cow::Borrowed(json);
    }
    let Some(mut value) = Json::parse(json.as_bytes()) else {
        return Cow::Borrowed(json);
    };
    value.map_members(SENTENCES, &|text| for_node(text).into_owned());
    Cow::Owned(value.compact())
}

/// Members of answers of the node with sentences, or lists of sentences.
const SENTENCES: &[&str] = &[
    "detail",
    "error",
    "notes",
    "reason",
    "remedy",
    "secret_trouble",
    "sentence",
    "stopped_because",
    "warning",
    "warnings",
    "why",
];

/// The name of the program, before a command.
const PROGRAM: &str = "martlet ";

fn with_options(text: &str, options: &str, commands: &[String]) -> String {
    let goes_on = |rest: &str| rest.starts_with(|next: char| next.is_alphanumeric() || next == '-');
    let (mut shown, mut rest) = (String::with_capacity(text.len() + options.len()), text);
    while let Some((before, behind)) = rest.split_once(PROGRAM) {
        shown.push_str(before);
        shown.push_str(PROGRAM);
        rest = behind;
        let is_it = |words: &&String| {
            rest.strip_prefix(&***words)
                .is_some_and(|rest| !goes_on(rest))
        };
        let found = commands
            .iter()
            .filter(is_it)
            .max_by_key(|words| words.len());
        let Some(words) = found else { continue };
        shown.push_str(words);
        rest = &rest[words.len()..];
        let own = rest.split(PROGRAM).next().unwrap_or_default();
        let own = own.split('`').next().unwrap_or_default();
        let has_some = ["--data-dir", "--config", " -c "]
            .iter()
            .any(|one| own.contains(one));
        if !has_some && !own.starts_with(" --help") {
            shown.push(' ');
            shown.push_str(options);
        }
    }
    shown + rest
}

/// Which node.
#[derive(Args, Debug)]
pub(crate) struct NodeOptions {
    /// Data directory of the node
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file of the node
    #[arg(long, short = 'c', value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Names of other programs in the environment count, as for the node itself.
    #[arg(skip)]
    reads_other_names: bool,
}

/// Which node, and in which form.
#[derive(Args, Debug)]
pub(crate) struct NodeAndForm {
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Among whose devices, clients and topics.
#[derive(Args, Debug)]
pub(crate) struct TeamOption {
    /// Team whose objects are used, by id or name; required if the team has its own tenant
    #[arg(long, value_name = "TEAM")]
    pub(crate) team: Option<String>,
}

impl TeamOption {
    /// As a parameter for a request to the API.
    pub(crate) fn filter(&self) -> Option<(&str, &str)> {
        self.team.as_deref().map(|team| ("team", team))
    }

    /// As a whole query.
    pub(crate) fn query(&self) -> String {
        team_query(self.team.as_deref())
    }
}

impl NodeOptions {
    /// The node of a configuration file.
    pub(crate) fn of_file(config: PathBuf) -> Self {
        Self {
            data_dir: None,
            config: Some(config),
            reads_other_names: false,
        }
    }

    /// The node of a script that starts it with these options.
    pub(crate) fn of_script(data_dir: PathBuf, config: Option<PathBuf>) -> Self {
        Self {
            data_dir: Some(data_dir),
            config,
            reads_other_names: true,
        }
    }

    /// Whether an option selects the node.
    pub(crate) fn is_named(&self) -> bool {
        self.data_dir.is_some() || self.config.is_some()
    }

    /// The options that name the same node in a command to be typed, with a blank behind them;
    /// empty if none is needed.
    pub(crate) fn in_command(&self) -> String {
        let found = find_node::found().filter(|_| !self.is_named());
        let data_dir = self.data_dir.as_deref().or(found);
        let options = config::command_options(data_dir, self.config.as_deref());
        match options.is_empty() {
            true => options,
            false => options + " ",
        }
    }

    /// Notes the options that select the node on the command line of this process.
    pub(crate) fn note_typed(matches: &ArgMatches) {
        let mut of_command = matches;
        while let Some((_, matches)) = of_command.subcommand() {
            of_command = matches;
        }
        let json = of_command.try_get_one::<bool>("json");
        let _ = PRINTS_JSON.set(json.is_ok_and(|json| json == Some(&true)));
        let path = |name: &str| {
            of_command
                .try_get_one::<PathBuf>(name)
                .ok()
                .flatten()
                .cloned()
        };
        let node = Self {
            data_dir: path("data_dir"),
            config: path("config"),
            reads_other_names: false,
        };
        node.note();
    }

    /// Notes that commands in texts select this node, unless another one is noted.
    pub(crate) fn note(&self) {
        let options = self.in_command();
        if !options.is_empty() {
            let _ = TYPED.set(options);
        }
    }

    /// The node's configuration.
    pub(crate) fn load(&self) -> anyhow::Result<config::Effective> {
        self.load_with(self.options()?)
    }

    fn load_with(&self, options: ConfigOptions) -> anyhow::Result<config::Effective> {
        match self.reads_other_names {
            true => options.load(),
            false => options.load_own(),
        }
    }

    /// Options as typed. If they name no node, the running one that is found.
    fn options(&self) -> anyhow::Result<ConfigOptions> {
        let mut options = self.typed();
        if !self.is_named() {
            options.data_dir = find_node::data_dir()?.map(Path::to_owned);
            // Commands in texts select this node.
            self.note();
        }
        Ok(options)
    }

    fn typed(&self) -> ConfigOptions {
        ConfigOptions {
            config: self.config.clone(),
            data_dir: self.data_dir.clone(),
            ..ConfigOptions::default()
        }
    }

    /// The configuration with which the node would start: variables of other programs count.
    pub(crate) fn load_as_node(&self) -> anyhow::Result<config::Effective> {
        let as_node = self.options().and_then(|options| options.load());
        as_node.or_else(|_| self.load())
    }

    /// The data directory, for requests to a running node. If the configuration file has become
    /// invalid, prints the error to standard error and continues if the directory is known.
    ///
    /// # Errors
    /// The error of the configuration, if the directory is unknown.
    pub(crate) fn data_dir_anyway(&self) -> anyhow::Result<PathBuf> {
        let error = match self.data_dir() {
            Ok(data_dir) => return Ok(data_dir),
            Err(error) => error,
        };
        let Some(file) = &self.config else {
            return Err(error);
        };
        let name = config::environment_name(config::key!(node.data_dir));
        let in_environment = || std::env::var_os(name).map(PathBuf::from);
        let known = self.data_dir.clone().or_else(in_environment);
        match known.or_else(|| config::data_dir_in(file)) {
            Some(data_dir) => {
                let why = printable(&format!("{error:#}"));
                errln!("martlet: the configuration is invalid, a node would not start: {why}");
                Ok(data_dir)
            }
            None => Err(anyhow::anyhow!(
                "{error:#}; it names no data directory: use --data-dir DIR"
            )),
        }
    }

    /// The data directory of a node that does not run: no running one is searched.
    pub(crate) fn data_dir_at_rest(&self) -> anyhow::Result<PathBuf> {
        Ok(config::data_dir(&self.load_with(self.typed())?)?)
    }

    /// The data directory of the node.
    pub(crate) fn data_dir(&self) -> anyhow::Result<PathBuf> {
        Ok(config::data_dir(&self.load()?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{Json, SENTENCES, with_options};

    #[test]
    fn commands_in_texts_name_the_node_once() {
        let commands = crate::commands_of_nodes();
        let node = "--data-dir=/d";
        for (text, expected) in [
            (
                "no user x: martlet user add x",
                "no user x: martlet user add --data-dir=/d x",
            ),
            (
                "(martlet user add NAME --role r), martlet device type rules x; `martlet logs`.",
                "(martlet user add --data-dir=/d NAME --role r), martlet device type rules \
                 --data-dir=/d x; `martlet logs --data-dir=/d`.",
            ),
            (
                "martlet user ls --data-dir=/e lists them, martlet health shows why",
                "martlet user ls --data-dir=/e lists them, martlet health --data-dir=/d shows why",
            ),
            ("see martlet user add --help", "see martlet user add --help"),
            (
                "martlet cert server h, or martlet pub -t x",
                "martlet cert server h, or martlet pub -t x",
            ),
            ("no martlet users at all", "no martlet users at all"),
        ] {
            assert_eq!(with_options(text, node, &commands), expected);
        }
        let json =
            r#"{"sentence":"SAID","warnings":["SAID"],"topic":"SAID","also":[{"why":"SAID"}]}"#;
        let json = json.replace("SAID", "martlet logs");
        let mut value = Json::parse(json.as_bytes()).expect("JSON");
        value.map_members(SENTENCES, &|text| with_options(text, node, &commands));
        let said = "martlet logs --data-dir=/d";
        let expected = format!(
            r#"{{"sentence":"{said}","warnings":["{said}"],"topic":"martlet logs","also":[{{"why":"{said}"}}]}}"#
        );
        assert_eq!(value.compact(), expected);
    }
}
