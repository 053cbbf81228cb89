//! Checks that the methods of the shard have floors: the files that they are in do not call each
//! other in a circle. `use` lines do not show these calls, since all are methods of `Shard`.

use std::collections::{BTreeMap, BTreeSet};

use crate::cycles::cycles_of;
use crate::sources::SourceFile;

/// The folder of the shard.
const FOLDER: &str = "crates/broker/src/";

/// Returns the violations of this rule, one line each.
pub(crate) fn check(files: &[SourceFile], problems: &mut Vec<String>) {
    for circle in cycles_of(&calls(files)) {
        let names: Vec<&str> = circle.into_iter().collect();
        problems.push(format!(
            "{FOLDER}: files call each other's methods of Shard in a circle: {}. A helper belongs \
             into the lower one, what starts work into the upper one",
            names.join(" ")
        ));
    }
}

/// The files of the shard, each with those whose methods of `Shard` it calls.
fn calls(files: &[SourceFile]) -> BTreeMap<String, BTreeSet<String>> {
    let mut texts = Vec::new();
    let mut homes = BTreeMap::new();
    for file in files {
        let path = file.path.strip_prefix(FOLDER).unwrap_or_default();
        if path.ends_with(".rs") && !path.ends_with("tests.rs") && !path.contains("tests/") {
            let code = code(&file.text);
            for name in methods(&code) {
                homes.insert(name, path);
            }
            texts.push((path, code));
        }
    }
    let calls = texts.iter().map(|(path, code)| {
        let called = called(code).filter_map(|name| homes.get(name));
        let others = called.filter(|home| *home != path);
        let others = others.map(|home| (*home).to_owned());
        ((*path).to_owned(), others.collect())
    });
    calls.collect()
}

/// The text without comments and without the module with the tests.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests {").next();
    let lines = text.unwrap_or_default().lines();
    let code = lines.map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

/// The names of the methods of `Shard` in this text.
fn methods(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_shard = false;
    for line in code.lines() {
        if line.starts_with("impl") {
            is_shard = line == "impl Shard {";
        }
        // Functions inside functions are further in.
        let declared = line
            .strip_prefix("    ")
            .filter(|rest| !rest.starts_with(' '));
        let declared = declared.and_then(|rest| rest.split_once("fn "));
        if let Some((_, rest)) = declared.filter(|_| is_shard) {
            names.push(name_at(rest).to_owned());
        }
    }
    names
}

/// The names of the methods that this text calls on `self` or on `shard`.
fn called(code: &str) -> impl Iterator<Item = &str> {
    let receivers = ["self", "shard"].into_iter();
    let places = receivers.flat_map(|receiver| {
        let found = code.match_indices(receiver);
        found.map(move |(place, _)| (place, place + receiver.len()))
    });
    places.filter_map(|(begin, end)| {
        let is_whole = !code[..begin].ends_with(|c: char| c.is_alphanumeric() || "_.".contains(c));
        let rest = code[end..].trim_start().strip_prefix('.')?;
        let name = name_at(rest);
        let is_call = rest[name.len()..].starts_with(['(', ':']);
        (is_whole && is_call).then_some(name)
    })
}

/// The name with which this text begins.
fn name_at(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<SourceFile> = files
            .iter()
            .map(|(path, text)| SourceFile {
                path: format!("{FOLDER}{path}"),
                text: (*text).to_owned(),
            })
            .collect();
        let mut problems = Vec::new();
        check(&files, &mut problems);
        problems
    }

    #[test]
    fn files_that_call_each_other_are_told() {
        let low =
            "impl Shard {\n    fn low(&mut self) {\n        self\n            .top();\n    }\n}\n";
        let middle =
            "impl Shard {\n    pub(super) fn middle(&self) {\n        self.low()\n    }\n}\n";
        let top =
            "impl Shard {\n    fn top(&self) {\n        run(|shard| shard.middle());\n    }\n}\n";
        let found = problems(&[("low.rs", low), ("a/middle.rs", middle), ("top.rs", top)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("a circle: a/middle.rs low.rs top.rs. A"),
            "{found:?}"
        );
    }

    #[test]
    fn calls_down_of_own_and_of_other_types_are_no_circle() {
        let low = "impl Shard {\n    fn low(&mut self) {\n        // self.top()\n        \
                   self.queue.top();\n        self.low();\n    }\n}\n";
        let top = "impl Shard {\n    fn top(&self) {\n        self.low();\n    }\n}\n\n\
                   impl Queue {\n    fn low(&self) {}\n}\n";
        assert_eq!(problems(&[("low.rs", low), ("top.rs", top)]), [""; 0]);
    }
}
