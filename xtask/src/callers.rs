//! Checks that the product calls each of its public functions: what only tests call is removed, or
//! belongs into the tests.

use std::collections::HashMap;

use crate::sources::SourceFile;

/// Crates and files with tools for tests, whose functions tests call.
const TOOLS: [&str; 7] = [
    "crates/fault/",
    "crates/fuzzing/",
    "crates/script/",
    "crates/sim/",
    "crates/store/src/sim_disk.rs",
    "crates/tick/",
    "bench/",
];

/// Adds the functions that nothing in the product names, one line each.
pub(crate) fn check(files: &[SourceFile], problems: &mut Vec<String>) {
    let product = files.iter().filter(|file| is_product(&file.path));
    let texts: Vec<(&str, String)> = product
        .map(|file| (&*file.path, product_text(&file.text)))
        .collect();
    let mut named: HashMap<&str, usize> = HashMap::new();
    for word in texts.iter().flat_map(|(_, text)| words(text)) {
        *named.entry(word).or_default() += 1;
    }
    let mut declared: HashMap<&str, Vec<&str>> = HashMap::new();
    for (path, text) in &texts {
        for name in functions(text) {
            declared.entry(name).or_default().push(path);
        }
    }
    let mut unused = Vec::new();
    for (name, paths) in declared {
        let is_named = named.get(name).is_some_and(|count| *count > paths.len());
        let paths = paths.into_iter().filter(|path| !is_named && !is_tool(path));
        unused.extend(paths.map(|path| format!("{path}: no code of the product calls {name}")));
    }
    unused.sort_unstable();
    problems.append(&mut unused);
}

fn is_product(path: &str) -> bool {
    let is_code = ["bench/", "crates/", "xtask/"]
        .iter()
        .any(|folder| path.starts_with(folder));
    let is_test = ["/tests/", "/examples/", "/benches/"]
        .iter()
        .any(|folder| path.contains(folder));
    let of_tests = path.ends_with("/tests.rs") || path.ends_with("_tests.rs");
    path.ends_with(".rs") && is_code && !is_test && !of_tests
}

fn is_tool(path: &str) -> bool {
    TOOLS.iter().any(|tool| path.starts_with(tool))
}

/// The code without comments and without items for tests.
fn product_text(text: &str) -> String {
    let mut code = String::new();
    // Where the item for tests is indented, while it is left out.
    let mut left_out: Option<usize> = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        match left_out {
            None if trimmed == "#[cfg(test)]" => left_out = Some(indent),
            None => {
                code.push_str(line.split("//").next().unwrap_or_default());
                code.push('\n');
            }
            Some(own) if indent == own && (trimmed == "}" || trimmed.ends_with(';')) => {
                left_out = None;
            }
            Some(_) => {}
        }
    }
    code
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
}

/// Names of the functions that are declared with `pub`.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    let public = text
        .lines()
        .filter(|line| line.trim_start().starts_with("pub"));
    public.filter_map(|line| words(line.split_once("fn ")?.1).next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_only_tests_call_are_found() {
        let file = |path: &str, text: &str| SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let files = [
            file(
                "crates/a/src/lib.rs",
                "pub fn used() {}\npub(crate) async fn lost() {}\n// lost()\n\
                 #[cfg(test)]\nmod tests {\n    fn x() { lost() }\n}\n",
            ),
            file("crates/a/tests/all.rs", "fn x() { lost() }\n"),
            file("crates/b/src/lib.rs", "fn x() { used() }\n"),
            file("crates/sim/src/lib.rs", "pub fn tool() {}\n"),
        ];
        let mut problems = Vec::new();
        check(&files, &mut problems);
        assert_eq!(
            problems,
            ["crates/a/src/lib.rs: no code of the product calls lost"]
        );
    }
}
