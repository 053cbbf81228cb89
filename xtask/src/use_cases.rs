//! Checks that the API and the commands run use cases of `control` and do not access the registry
//! directly.

use crate::sources::SourceFile;

/// A directory whose files run use cases.
struct Area {
    /// Path of the area.
    path: &'static str,
    /// Files of the area that access the registry directly. No file may be added.
    may: &'static [&'static str],
    /// Text that indicates direct access to the registry.
    work: &'static [&'static str],
    /// The code there that runs use cases, for messages.
    who: &'static str,
}

const PLACES: &[Area] = &[
    Area {
        path: "crates/api/src/",
        may: &["crates/api/src/idempotency.rs"],
        work: &[
            "|registry|",
            "|registry,",
            "martlet_registry::Registry;",
            "{Registry,",
            " Registry,",
        ],
        who: "handlers",
    },
    Area {
        path: "crates/martlet/src/cmd/",
        may: &["crates/martlet/src/cmd/tables.rs"],
        work: &["Registry"],
        who: "commands",
    },
];

/// Returns the violations of this rule, one line each.
pub(crate) fn check(files: &[SourceFile], problems: &mut Vec<String>) {
    for place in PLACES {
        for file in files
            .iter()
            .filter(|file| file.path.starts_with(place.path))
        {
            check_file(place, file, problems);
        }
    }
}

fn check_file(place: &Area, file: &SourceFile, problems: &mut Vec<String>) {
    let lines = file.text.lines().enumerate();
    let mut working = lines.filter(|(_, line)| place.is_work(line));
    let may = place.may.contains(&file.path.as_str());
    match (working.next(), may) {
        (Some((index, _)), false) => problems.push(format!(
            "{}:{}: {} do not work on the registry: write a use case in \
             crates/control/src/use_cases",
            file.path,
            index + 1,
            place.who
        )),
        (None, true) => problems.push(format!(
            "{} works on the registry no longer: take it out of the list in \
             xtask/src/use_cases.rs",
            file.path
        )),
        _ => {}
    }
}

impl Area {
    /// Whether a line accesses the registry directly.
    fn is_work(&self, line: &str) -> bool {
        let is_comment = line.trim_start().starts_with("//");
        // Metrics have a type named registry too.
        let is_metrics = line.contains("prometheus_client");
        !is_comment && !is_metrics && self.work.iter().any(|work| has_word(line, work))
    }
}

/// Whether a line contains this text, but not as a part of a longer name.
fn has_word(line: &str, text: &str) -> bool {
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(text).any(|(start, _)| {
        let (before, after) = (&line[..start], &line[start + text.len()..]);
        let begins = !text.starts_with(is_name) || !before.ends_with(is_name);
        let ends = !text.ends_with(is_name) || !after.starts_with(is_name);
        begins && ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(path: &str, text: &str) -> Vec<String> {
        let file = SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let mut problems = Vec::new();
        check(&[file], &mut problems);
        problems
    }

    #[test]
    fn a_handler_that_works_on_the_registry_is_found() {
        let text = "fn a() {\n    tables.read(move |registry| work(registry))\n}\n";
        let found = problems_of("crates/api/src/a.rs", text);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("crates/api/src/a.rs:2: "), "{found:?}");
        assert!(problems_of("crates/control/src/a.rs", text).is_empty());
        assert!(problems_of(PLACES[0].may[0], text).is_empty());
    }

    #[test]
    fn a_command_that_names_the_registry_is_found() {
        let text = "fn a(registry: &mut Registry) {}\n";
        let found = problems_of("crates/martlet/src/cmd/a.rs", text);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("commands"), "{found:?}");
        let error = "fn a() -> Result<(), RegistryError> {}\n";
        assert!(problems_of("crates/martlet/src/cmd/a.rs", error).is_empty());
        assert!(problems_of("crates/martlet/src/serve/a.rs", text).is_empty());
        assert!(problems_of(PLACES[1].may[0], text).is_empty());
    }

    #[test]
    fn a_file_that_no_longer_does_leaves_the_list() {
        for place in PLACES {
            assert_eq!(problems_of(place.may[0], "fn a() {}\n").len(), 1);
        }
        assert!(problems_of("crates/api/src/a.rs", "fn a() {}\n").is_empty());
    }
}
