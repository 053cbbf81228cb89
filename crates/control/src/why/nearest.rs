//! Names that are spelt nearly like another one.

/// Names that are looked at: there may be very many, and the caller waits.
const LOOKED_AT: usize = 20_000;

/// Similar names that are shown, at most; if more names are equally similar, none is shown.
const TOLD: usize = 3;

/// The nearest of these names, in order, if they are few and near enough.
pub(crate) fn nearest_names<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> Vec<String> {
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
        let of = |name| nearest_names(name, all.into_iter());
        assert_eq!(of("pmup-7"), ["pump-7"]);
        assert_eq!(of("pump-72"), ["pump-7", "pump-71"]);
        assert_eq!(of("valve-9"), ["valve-1", "valve-2", "valve-3"]);
        assert!(of("x").is_empty() && of("boiler").is_empty());
        let fleet: Vec<String> = (0..9).map(|number| format!("sensor-{number}")).collect();
        assert!(nearest_names("sensor-x", fleet.iter().map(String::as_str)).is_empty());
    }
}
