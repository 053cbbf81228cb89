//! Reports the effect of each variable that a node might read.

use super::names::{NAMES, NOT_MEANT};
use super::variables::Variables;
use super::{connections, ignored};
use crate::config::load::{environment_name, meaning_for_commands};
use crate::config::schema::keys;

/// Effect of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The variable is read, with this meaning.
    Read(&'static str),
    /// The variable has no effect, for this reason.
    Ignored(&'static str),
    /// The name is unknown.
    Unknown,
}

/// The meaning of a variable that a node reads.
fn meaning(name: &str) -> Option<&'static str> {
    let found = NAMES.iter().find(|(known, _)| *known == name);
    let found = found.map(|(_, what)| *what);
    found.or_else(|| connections::meaning(name))
}

impl<'a> Variables<'a> {
    /// Returns the effect of each variable that a node might read.
    pub(crate) fn report(&self) -> Vec<(&'a str, Use)> {
        let own: Vec<String> = keys()
            .iter()
            .map(|key| environment_name(&key.path))
            .collect();
        let mut all: Vec<(&str, Use)> = Vec::new();
        for (name, value) in self.all {
            let name = name.as_str();
            let is_own = own
                .iter()
                .any(|known| known == name.trim_end_matches("_FILE"))
                || own.iter().any(|known| known == name);
            let told = match meaning(name) {
                _ if is_own => Use::Read("a key of the configuration"),
                None if let Some(what) = meaning_for_commands(name) => Use::Read(what),
                Some(_) if value.trim().is_empty() => Use::Ignored("it is empty"),
                Some(what) if self.get(name).is_some() => {
                    self.why_off(name).map_or(Use::Read(what), Use::Ignored)
                }
                Some(_) => Use::Ignored(NOT_MEANT),
                None => match ignored::reason(name) {
                    Some(why) => Use::Ignored(why),
                    None if self.is_about_node(name) => Use::Unknown,
                    None => continue,
                },
            };
            all.push((name, told));
        }
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    }

    /// Variables whose name differs in a letter or two from one that a node reads, with that one.
    pub(super) fn misspelt(&self) -> Vec<(&'a str, String)> {
        let mut found = Vec::new();
        for (name, value) in self.all {
            let is_known = meaning(name).is_some() || ignored::reason(name).is_some();
            if is_known || value.trim().is_empty() || name.starts_with("MARTLET_") {
                continue;
            }
            let distance = |known: &str| strsim::damerau_levenshtein(known, name);
            // Short names are near to those of many programs.
            let near = NAMES.iter().map(|(known, _)| *known);
            let near = near.filter(|known| distance(known) <= known.len() / 8);
            if let Some(near) = near.min_by_key(|known| distance(known)) {
                found.push((name.as_str(), near.to_owned()));
            }
        }
        found
    }

    /// Whether an unknown name was probably intended for the node.
    fn is_about_node(&self, name: &str) -> bool {
        name.starts_with("MARTLET_")
            || name.starts_with("MQTT_")
            || self.file.is_some_and(|file| file.sets(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_one_that_is_read_is_found() {
        for (name, near) in [
            ("RATE_LIMIT_PER_MINUTES", Some("RATE_LIMIT_PER_MINUTE")),
            ("MQTT_BROKER_PRT", Some("MQTT_BROKER_PORT")),
            ("NATS_ULR", Some("NATS_URL")),
            ("NATS_URL", None),
            ("HOSTNAME", None),
            ("LOGNAME", None),
            ("PORTS", None),
            ("MARTLET_NATS_URL", None),
        ] {
            let all = [(name.to_owned(), "x".to_owned())];
            let found = Variables::new(&all, None).misspelt();
            let near = near.map(|near| (name, near.to_owned()));
            assert_eq!(found, near.into_iter().collect::<Vec<_>>(), "{name}");
        }
    }
}
