//! Names that may be meant by an unknown name: a device that was moved to a team, or a device,
//! user, rule or key with a similar name.

use martlet_registry::Snapshot;

use super::Question;
use super::facts::Namesakes;

/// Names that are looked at: there may be very many, and the caller waits.
const LOOKED_AT: usize = 20_000;

/// Similar names that are shown, at most; if more names are equally similar, none is shown.
const TOLD: usize = 3;

impl Namesakes {
    /// Finds the namesakes that the caller may know about.
    pub(super) fn of(question: &Question, tables: &Snapshot) -> Self {
        let (tenant, name) = (question.tenant.0, &*question.name);
        if question.sees_node {
            return Self {
                deleted: Vec::new(),
                elsewhere: tables.devices_elsewhere(tenant, name).take(TOLD).collect(),
                near: nearest(name, tables.names(tenant)),
                near_of_kind: Vec::new(),
                client_elsewhere: None,
                refused_elsewhere: None,
                add: None,
            };
        }
        Self {
            elsewhere: Vec::new(),
            deleted: Vec::new(),
            // In the common tenant are names of other teams.
            near: match tenant {
                0 => Vec::new(),
                tenant => nearest(name, tables.names(tenant)),
            },
            near_of_kind: Vec::new(),
            client_elsewhere: None,
            refused_elsewhere: None,
            add: None,
        }
    }

    /// All names that may be meant, in words.
    pub(super) fn suggestions(&self) -> impl Iterator<Item = &str> {
        let all = self.near.iter().chain(&self.near_of_kind);
        all.map(String::as_str)
    }

    /// Some name may be meant.
    pub(super) fn has_suggestions(&self) -> bool {
        self.suggestions().next().is_some()
    }
}

/// The nearest of these names, in order, if they are few and near enough.
pub(crate) fn nearest<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> Vec<String> {
    // In a short name one letter is much.
    let mut distance = match name.chars().count() {
        0..=2 => return Vec::new(),
        3..=5 => 1,
        _ => 2,
    };
    let mut found: Vec<String> = Vec::new();
    for other in all.take(LOOKED_AT) {
        if other.len().abs_diff(name.len()) > 2 * char::MAX.len_utf8() {
            continue;
        }
        let is_at = strsim::osa_distance(name, other);
        if is_at < distance {
            found.clear();
            distance = is_at;
        }
        if is_at == distance && found.len() <= TOLD {
            found.push(other.to_owned());
        }
    }
    if found.len() > TOLD {
        return Vec::new();
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_are_named_if_they_are_few() {
        let all = ["pump-7", "pump-71", "valve-1", "valve-2", "valve-3", "v"];
        let of = |name| nearest(name, all.into_iter());
        assert_eq!(of("pmup-7"), ["pump-7"]);
        assert_eq!(of("pump-72"), ["pump-7", "pump-71"]);
        assert_eq!(of("valve-9"), ["valve-1", "valve-2", "valve-3"]);
        assert!(of("x").is_empty() && of("boiler").is_empty());
        let fleet: Vec<String> = (0..9).map(|number| format!("sensor-{number}")).collect();
        assert!(nearest("sensor-x", fleet.iter().map(String::as_str)).is_empty());
    }
}
