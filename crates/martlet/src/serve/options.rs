//! Options of commands that read a configuration.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use martlet_text_file::text_without_bom;
use toml::de::DeTable;

use super::microservice::MicroserviceOptions;
use super::panel_broker::PanelBrokerOptions;
use crate::config::{self, Overlay, key};

/// The format of the log in values of `--set`.
pub(super) fn format_of_set<'a>(values: impl Iterator<Item = &'a str>) -> Option<String> {
    let formats = values.filter_map(|value| {
        let (key, value) = value.split_once('=')?;
        (key.trim() == key!(log.format)).then(|| value.trim().trim_matches('"').to_owned())
    });
    formats.last()
}

/// The format of the log by variables, those of `.env` too.
pub(super) fn format_of_environment() -> Option<String> {
    let variables = config::environment().ok()?.variables;
    let of = |wanted: &str| {
        let found = variables.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone())
    };
    // The second one is IoTFlow's.
    of("MARTLET_LOG__FORMAT").or_else(|| of("LOG_FORMAT"))
}

/// Options of `martlet serve`, `martlet config` and all that reads a configuration.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ConfigOptions {
    /// Configuration file (TOML)
    #[arg(long, short = 'c', value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Use a configuration file of Mosquitto; martlet import mosquitto FILE shows how each line is
    /// converted
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub(crate) mosquitto_conf: Option<PathBuf>,
    /// Directory of all data
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Durability of acknowledged messages: sync (default), interval or memory
    #[arg(long, value_name = "MODE")]
    pub(crate) durability: Option<String>,
    /// Number of shards, one thread each (default: one per core)
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<u64>,
    /// Address to listen on, repeatable: mqtt://HOST:PORT, ws://HOST:PORT/PATH (default: loopback,
    /// 1883 and WebSocket 9001)
    #[arg(long, value_name = "URL")]
    pub(crate) listen: Vec<String>,
    /// Also accept clients without credentials on listeners that other machines can reach
    #[arg(long)]
    pub(crate) allow_anonymous: bool,
    /// Address of the HTTP server with the API, health and metrics, or "off" (default:
    /// 127.0.0.1:8080)
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<String>,
    /// Format of the log on standard error: text or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    #[command(flatten)]
    pub(crate) microservice: MicroserviceOptions,
    #[command(flatten)]
    pub(crate) panel_broker: PanelBrokerOptions,
    /// Set a key of the configuration, repeatable: --set limits.in_flight=20
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

impl ConfigOptions {
    /// The options as the last layer over file and environment.
    pub(crate) fn overlay(&self) -> anyhow::Result<Overlay> {
        let mut values = self.panel_broker.assignments()?;
        values.extend(self.microservice.assignments());
        let mut http = Vec::new();
        http.extend(self.microservice.http()?);
        http.extend(self.panel_broker.http()?);
        for assignment in &self.set {
            let (key, value) = assignment
                .split_once('=')
                .with_context(|| format!("--set {assignment}: expected KEY=VALUE"))?;
            values.push((key.trim().to_owned(), value.to_owned(), "--set"));
        }
        let mut put = |key: &str, value: Option<String>, option| {
            if let Some(value) = value {
                values.push((key.to_owned(), value, option));
            }
        };
        let data_dir = self
            .data_dir
            .as_ref()
            .map(|path| path.display().to_string());
        put(key!(node.data_dir), data_dir, "--data-dir");
        put(
            key!(node.threads),
            self.threads.map(|count| count.to_string()),
            "--threads",
        );
        let anonymous = self.allow_anonymous.then(|| "true".to_owned());
        put(key!(mqtt.allow_anonymous), anonymous, "--allow-anonymous");
        put(
            key!(store.durability),
            self.durability.clone(),
            "--durability",
        );
        put(key!(http.listen), self.http.clone(), "--http");
        put(key!(log.format), self.log_format.clone(), "--log-format");
        put(key!(log.level), self.log_level.clone(), "--log-level");
        let mut listen = self.panel_broker.listeners();
        listen.extend(self.listen.iter().cloned());
        Ok(Overlay {
            file: self.config.clone(),
            mosquitto: self.mosquitto_conf.clone(),
            values,
            usual: Vec::new(),
            listen,
            http,
            environment_file: None,
        })
    }

    /// Whether the log is to be JSON, where the configuration cannot be read: as the command line
    /// says, else the environment, else the file as far as it is TOML.
    pub(super) fn asks_for_json(&self) -> bool {
        let of_set = || format_of_set(self.set.iter().map(String::as_str));
        let of_file = || {
            let text = std::fs::read(self.config.as_ref()?).ok()?;
            let text = String::from_utf8_lossy(&text);
            // Also of a file with errors.
            let (file, _) = DeTable::parse_recoverable(text_without_bom(&text));
            let log = file.get_ref().get("log")?.get_ref();
            Some(log.get("format")?.get_ref().as_str()?.to_owned())
        };
        let format = self.log_format.clone();
        let format = format.or_else(of_set).or_else(format_of_environment);
        let format = format.or_else(of_file);
        format.as_deref() == Some("json")
    }

    /// Loads the configuration with our own variables only. Variables of device programs do not
    /// matter for commands that only look for a node, except for its database.
    pub(crate) fn load_own(&self) -> anyhow::Result<config::Effective> {
        let mut environment = config::environment()?;
        environment
            .variables
            .retain(|(name, _)| name.starts_with("MARTLET_") || config::is_about_database(name));
        let mut overlay = self.overlay()?;
        overlay.environment_file = environment.file;
        Ok(config::load(&overlay, &environment.variables)?)
    }

    /// Loads the effective configuration.
    pub(crate) fn load(&self) -> anyhow::Result<config::Effective> {
        let environment = config::environment()?;
        let mut overlay = self.overlay()?;
        overlay.environment_file.clone_from(&environment.file);
        overlay.usual = self.panel_broker.usual();
        let mut effective = config::load(&overlay, &environment.variables)?;
        effective.warnings.extend(self.panel_broker.warnings());
        if let Some(file) = &environment.file {
            effective.files.push(file.path.clone());
            effective.warnings.extend(file.warnings());
        }
        effective.environment_file = environment.file;
        Ok(effective)
    }
}
