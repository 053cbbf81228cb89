//! Mosquitto's configuration file: its meaning here, line by line.
//!
//! It is converted to the values and listeners of our own file. So a node that is started with it
//! behaves like one started with the output of `martlet import mosquitto`. A line is an error, and
//! not a warning, if ignoring it would admit more clients.

mod bridge;
mod keywords;
mod lines;
mod listener;
mod reading;

use std::path::Path;

use martlet_text_file::text_without_bom;

use crate::config::error::ConfigError;
use crate::config::load::{DEFAULT_SOURCE, Effective};
use crate::config::nearest::nearest;
use crate::config::regular_file;
use bridge::Bridge;
use keywords::{KeywordScope, LONGEST, Meaning, PACKET_BYTES};
use lines::ConfigLine;
pub(crate) use lines::{Outcome, ReportLine};
use listener::Listener;
use martlet_settings::Value;
use reading::Reading;

/// Reads a file and the files that it includes into values and listeners.
///
/// # Errors
/// The file cannot be read or is invalid, or would be less secure if a line were ignored.
pub(crate) fn read(path: &Path, effective: &mut Effective) -> Result<(), ConfigError> {
    read_all(path, effective)?.1
}

/// Reads a file likewise, with a report about each line, even if some lines are errors.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read_all(
    path: &Path,
    effective: &mut Effective,
) -> Result<(Vec<ReportLine>, Result<(), ConfigError>), ConfigError> {
    let mut reading = Reading {
        effective,
        report: Vec::new(),
        listeners: Vec::new(),
        global: Listener::global(),
        per_listener: false,
        bridges: Vec::new(),
        is_in_bridge: false,
        files: Vec::new(),
        problems: Vec::new(),
        log_level: None,
    };
    // The meaning of lines about security depends on this line, wherever it is.
    let lines = reading.lines(path)?;
    reading.per_listener = lines
        .iter()
        .any(|line| line.keyword == "per_listener_settings" && line.value == "true");
    let mut has_all_listeners = true;
    for line in lines {
        // All errors of the file are reported, not only the first.
        if let Err(problem) = reading.line(&line) {
            has_all_listeners &= !["listener", "port"].contains(&&*line.keyword);
            let why = problem.to_string();
            let begins = [format!("{}: ", line.place), format!("{}: ", line.keyword)];
            let why = begins.iter().fold(&*why, |why, begin| {
                why.strip_prefix(&**begin).unwrap_or(why)
            });
            reading.report(&line, Outcome::Refused, why);
            reading.problems.push(problem);
        }
    }
    Ok(reading.finish(has_all_listeners))
}

/// Whether lines of Mosquitto's file begin with this word.
pub(crate) fn is_keyword(word: &str) -> bool {
    keywords::find(word).is_some()
}

impl Reading<'_> {
    /// Reads all lines, with included files in place.
    fn lines(&mut self, path: &Path) -> Result<Vec<ConfigLine>, ConfigError> {
        if self.files.iter().any(|known| known == path) {
            let text = format!("{} includes itself", path.display());
            return Err(ConfigError::Unusable(text));
        }
        let unreadable = |error| ConfigError::Unreadable {
            path: path.to_owned(),
            error,
        };
        let text = regular_file::read_named_text(path).map_err(unreadable)?;
        self.files.push(path.to_owned());
        let mut all = Vec::new();
        for (number, line) in text_without_bom(&text).lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (keyword, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            let line = ConfigLine {
                place: format!("{} line {}", path.display(), number + 1),
                keyword: keyword.to_owned(),
                value: value.trim().to_owned(),
            };
            if keyword == "include_dir" {
                let mut included = Vec::new();
                let entries = match std::fs::read_dir(&line.value) {
                    Ok(entries) => entries,
                    Err(error) => {
                        let why = format!("cannot read {}: {error}", line.value);
                        self.problems.push(line.error(&why));
                        continue;
                    }
                };
                for entry in entries {
                    let path = entry.map_err(unreadable)?.path();
                    if path
                        .extension()
                        .is_some_and(|extension| extension == "conf")
                    {
                        included.push(path);
                    }
                }
                included.sort();
                for path in included {
                    match self.lines(&path) {
                        Ok(lines) => all.extend(lines),
                        Err(problem) => self.problems.push(problem),
                    }
                }
                self.report(&line, Outcome::Mapped, "its files are read in their order");
            } else {
                all.push(line);
            }
        }
        Ok(all)
    }

    fn line(&mut self, line: &ConfigLine) -> Result<(), ConfigError> {
        if self.is_in_bridge
            && line.keyword != "connection"
            && keywords::is_of_bridge(&line.keyword)
            && let Some(bridge) = self.bridges.last_mut()
        {
            let read = bridge.read(&line.keyword, &line.value, &line.place);
            let (outcome, note) = read.map_err(|why| line.error(&why))?;
            self.report(line, outcome, note);
            return Ok(());
        }
        let Some(meaning) = keywords::find(&line.keyword) else {
            let hint = nearest(&keywords::nearest_to(&line.keyword));
            return Err(line.error(&format!(
                "this keyword is unknown, so it may be important for security{hint}; remove the \
                 line if it is not needed"
            )));
        };
        match *meaning {
            Meaning::Refused(why) => Err(line.error(why)),
            Meaning::RefusedIfTrue(why) => match self.switch(line)? {
                true => Err(line.error(why)),
                false => {
                    self.report(line, Outcome::NotNeeded, "it is so here");
                    Ok(())
                }
            },
            Meaning::UnsupportedIfTrue(why) => match self.switch(line)? {
                true => {
                    self.report(line, Outcome::Unsupported, why);
                    Ok(())
                }
                false => {
                    self.report(line, Outcome::NotNeeded, "it is so here");
                    Ok(())
                }
            },
            Meaning::NotNeeded(why) => {
                self.report(line, Outcome::NotNeeded, why);
                Ok(())
            }
            Meaning::Unsupported(why) => {
                self.report(line, Outcome::Unsupported, why);
                Ok(())
            }
            Meaning::Bridge => {
                let bridge = Bridge::begin(&line.value, &line.place);
                self.bridges.push(bridge.map_err(|why| line.error(&why))?);
                self.is_in_bridge = true;
                self.report(line, Outcome::Mapped, "a [[bridges]] table");
                Ok(())
            }
            Meaning::Number { key, zero, factor } => {
                let number = match self.number(line)? {
                    0 => zero,
                    number => number,
                };
                let value = Value::Integer(number.saturating_mul(factor));
                self.set(line, key, value)
            }
            Meaning::Switch { key } => {
                let value = Value::Boolean(self.switch(line)?);
                self.set(line, key, value)
            }
            Meaning::Listener(scope) => self.of_listener(line, scope),
            Meaning::Special(read) => read(self, line),
        }
    }

    /// Reads a setting of the listener above, or of all listeners.
    fn of_listener(&mut self, line: &ConfigLine, scope: KeywordScope) -> Result<(), ConfigError> {
        let is_global = scope == KeywordScope::Security && !self.per_listener;
        let listener = match self.listeners.last_mut() {
            Some(listener) if !is_global => listener,
            _ => &mut self.global,
        };
        let (outcome, note) = listener.read(&line.keyword, &line.value, &line.place)?;
        self.report(line, outcome, note);
        Ok(())
    }

    /// Disables HTTP: Mosquitto opens no port for health and metrics, and another program may use
    /// it.
    fn close_http(&mut self) {
        let source = "mosquitto's default".to_owned();
        self.report.push(ReportLine {
            place: source.clone(),
            text: "no HTTP".to_owned(),
            outcome: Outcome::Mapped,
            note: "http.listen = \"off\"; health and metrics are served with http.listen = \
                   \"127.0.0.1:8080\", or --http 127.0.0.1:8080"
                .to_owned(),
        });
        self.put(key!(http.listen), Value::Text("off".to_owned()), source);
    }

    /// Without `persistence true`, Mosquitto keeps no data over a restart.
    fn keep_data(&mut self) {
        const KEY: &str = key!(store.durability);
        let held = self.effective.values().get(KEY);
        let Some(held) = held.filter(|held| held.source == DEFAULT_SOURCE) else {
            return;
        };
        self.report.push(ReportLine {
            place: "mosquitto's default".to_owned(),
            text: "no persistence".to_owned(),
            outcome: Outcome::Changed,
            note: format!(
                "{KEY} stays {}: sessions, retained and queued messages survive a restart here; {KEY} \
                 = \"memory\" keeps nothing, as Mosquitto does without persistence",
                held.value
            ),
        });
    }

    /// Without a limit of packets in the file, Mosquitto 2.1's default applies.
    fn limit_packets(&mut self) {
        const KEY: &str = key!(limits.packet_bytes);
        if self.effective.source(KEY) != DEFAULT_SOURCE {
            return;
        }
        let source = "mosquitto 2.1's default".to_owned();
        self.report.push(ReportLine {
            place: source.clone(),
            text: "no max_packet_size".to_owned(),
            outcome: Outcome::Mapped,
            note: format!(
                "{KEY} = {PACKET_BYTES}, as in Mosquitto 2.1; 2.0 has no such limit, which \
                 max_packet_size {LONGEST} is"
            ),
        });
        self.put(KEY, Value::Integer(PACKET_BYTES), source);
    }

    /// Mosquitto drops the newest message if a queue is full.
    fn keep_oldest(&mut self) {
        const KEY: &str = key!(mqtt.queue_full);
        let source = "mosquitto's default".to_owned();
        self.report.push(ReportLine {
            place: source.clone(),
            text: "full queues".to_owned(),
            outcome: Outcome::Mapped,
            note: format!(
                "{KEY} = \"drop-newest\", as in Mosquitto: a full queue keeps what it has"
            ),
        });
        self.put(KEY, Value::Text("drop-newest".to_owned()), source);
    }

    /// `has_all_listeners`: no listener is missing because of an invalid line.
    fn finish(mut self, has_all_listeners: bool) -> (Vec<ReportLine>, Result<(), ConfigError>) {
        if has_all_listeners {
            self.finish_listeners();
        }
        self.finish_bridges();
        self.close_http();
        self.limit_packets();
        self.keep_oldest();
        self.keep_data();
        if !self.per_listener {
            let put = self.global.put_security(self.effective);
            self.problems.extend(put.err());
        }
        self.effective.files.append(&mut self.files);
        for line in &self.report {
            if line.outcome == Outcome::Unsupported {
                let ReportLine {
                    place, text, note, ..
                } = line;
                let warning = format!("{place}: `{text}` is not followed: {note}");
                self.effective.warnings.push(warning);
            }
        }
        let result = match self.problems.len() {
            0 => Ok(()),
            1 => Err(self.problems.remove(0)),
            _ => {
                let all = self.problems.iter().map(ConfigError::to_string);
                Err(ConfigError::Several(all.collect()))
            }
        };
        (self.report, result)
    }

    fn finish_bridges(&mut self) {
        const KEY: &str = key!(integrations.allow_private);
        for bridge in std::mem::take(&mut self.bridges) {
            let place = bridge.place().to_owned();
            let hosts = bridge.private_hosts();
            for host in bridge.link_local_hosts() {
                self.report.push(ReportLine {
                    place: place.clone(),
                    text: format!("the address {host}"),
                    outcome: Outcome::Unsupported,
                    note: format!(
                        "it is link-local, where clouds give out credentials; put it into {KEY} \
                         to permit it"
                    ),
                });
            }
            let is_broken = bridge.is_broken();
            match bridge.table() {
                Ok(table) => self.effective.sinks.push(table),
                Err(_) if is_broken => continue,
                Err(why) => {
                    let text = format!("{place}: connection: {why}");
                    self.problems.push(ConfigError::Unusable(text));
                    continue;
                }
            }
            // An address in the file is permission to connect to it.
            for host in hosts {
                let before = &self.effective.settings().integrations.allow_private;
                let before = before.as_str().to_owned();
                if before.split(',').any(|one| one.trim() == host) {
                    continue;
                }
                let all = [before, host.clone()];
                let all: Vec<String> = all.into_iter().filter(|one| !one.is_empty()).collect();
                let note = format!("{KEY} has {host}, since a bridge connects to it");
                self.effective.notes.push(format!("{place}: {note}"));
                self.report.push(ReportLine {
                    place: place.clone(),
                    text: format!("the private address {host}"),
                    outcome: Outcome::Mapped,
                    note,
                });
                self.put(KEY, Value::Text(all.join(", ")), place.clone());
            }
        }
    }

    /// For most of these lines, Mosquitto also opens port 1883, and they apply to no listener of
    /// the file.
    fn refuse_misplaced(&mut self) {
        for (place, keyword) in self.global.misplaced(self.per_listener) {
            let why = "is before the first listener, so it applies to none; move it below its \
                       listener, or add `port 1883` if Mosquitto's listener at that port is meant";
            let text = format!("{place}: {keyword} {why}");
            self.problems.push(ConfigError::Unusable(text));
            let entry = self.report.iter_mut();
            for line in entry.filter(|line| line.place == place) {
                line.outcome = Outcome::Refused;
                line.note = format!("it {why}");
            }
        }
    }

    fn finish_listeners(&mut self) {
        if self.global.has_address() {
            let global = self.global.clone();
            self.listeners.insert(0, global);
        } else if !self.listeners.is_empty() {
            self.refuse_misplaced();
        }
        let is_local_only = self.listeners.is_empty();
        if is_local_only {
            self.listeners = Listener::local(&self.global);
        }
        for listener in &self.listeners {
            match listener.table(&self.global, self.per_listener, is_local_only) {
                Ok(table) => self.effective.listeners.push(table),
                Err(problem) => self.problems.push(problem),
            }
        }
    }
}
