//! Handlers of the API run use cases of `control`: they do not work on the registry themselves.

use crate::sources::SourceFile;

/// Where the handlers are.
const API: &str = "crates/api/src/";

/// Files of the API that still work on the registry. No file may be added.
const MAY: &[&str] = &["crates/api/src/idempotency.rs"];

/// What work on the registry looks like.
const WORK: &[&str] = &[
    "|registry|",
    "|registry,",
    "martlet_registry::Registry;",
    "{Registry,",
    " Registry,",
];

/// What breaks this rule, one line each.
pub(crate) fn check(files: &[SourceFile], problems: &mut Vec<String>) {
    for file in files.iter().filter(|file| file.path.starts_with(API)) {
        let lines = file.text.lines().enumerate();
        let mut working = lines.filter(|(_, line)| works_on_registry(line));
        let may = MAY.contains(&file.path.as_str());
        match (working.next(), may) {
            (Some((index, _)), false) => problems.push(format!(
                "{}:{}: handlers do not work on the registry: write a use case in \
                 crates/control/src/use_cases",
                file.path,
                index + 1
            )),
            (None, true) => problems.push(format!(
                "{} works on the registry no longer: take it out of the list in \
                 xtask/src/use_cases.rs",
                file.path
            )),
            _ => {}
        }
    }
}

fn works_on_registry(line: &str) -> bool {
    let is_comment = line.trim_start().starts_with("//");
    // Metrics have a registry too.
    let is_metrics = line.contains("prometheus_client");
    !is_comment && !is_metrics && WORK.iter().any(|work| line.contains(work))
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
        assert!(problems_of(MAY[0], text).is_empty());
    }

    #[test]
    fn a_file_that_no_longer_does_leaves_the_list() {
        assert_eq!(problems_of(MAY[0], "fn a() {}\n").len(), 1);
        assert!(problems_of("crates/api/src/a.rs", "fn a() {}\n").is_empty());
    }
}
