//! The size of what explains itself: lines of `why`, of its causes and remedies, and of the journal
//! with its words, without tests.

use crate::SourceFile;

/// Tells whether a path is that of a file which is counted.
type IsCounted = fn(&str) -> bool;

/// Subjects that are counted, and how the paths of their files are known.
const COUNTED: [(&str, IsCounted); 5] = [
    ("crates/control/src/why", |path| {
        path.starts_with("crates/control/src/why/")
    }),
    ("why of parts of the node", |path| {
        path.starts_with("crates/control/src/")
            && (path.contains("/why/") || path.ends_with("/why.rs"))
    }),
    ("causes and remedies", |path| {
        let of = ["cause", "remedy"].map(|name| format!("crates/control/src/{name}"));
        of.iter()
            .any(|of| path.strip_prefix(of).is_some_and(is_of_module))
    }),
    ("causes of refusals", |path| {
        path == "crates/permission/src/refusal.rs"
    }),
    ("journal", |path| {
        path.strip_prefix("crates/control/src/journal")
            .is_some_and(is_of_module)
    }),
];

fn is_of_module(rest: &str) -> bool {
    rest == ".rs" || rest.starts_with('/')
}

/// Returns what is counted with its number of lines. A file counts once.
pub fn why_lines(files: &[SourceFile]) -> Vec<(&'static str, usize)> {
    let mut lines = COUNTED.map(|(what, _)| (what, 0));
    for file in files {
        let path = &*file.path;
        let is_test = path.contains("/tests/") || path.ends_with("/tests.rs");
        let kind = COUNTED.iter().position(|(_, is_it)| is_it(path));
        if let Some(kind) = kind.filter(|_| path.ends_with(".rs") && !is_test) {
            lines[kind].1 += without_tests(&file.text);
        }
    }
    lines.to_vec()
}

/// Lines before the module with the tests.
fn without_tests(text: &str) -> usize {
    let code = text.split("\n#[cfg(test)]\nmod tests {").next();
    code.map_or(0, |code| code.lines().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_not_counted() {
        let file = |path: &str, text: &str| SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let files = [
            file(
                "crates/control/src/why/judge.rs",
                "a\nb\n\n#[cfg(test)]\nmod tests {\n}\n",
            ),
            file("crates/control/src/why/tests/mod.rs", "a\n"),
            file("crates/control/src/remedy.rs", "a\n"),
            file("crates/control/src/remedying.rs", "a\n"),
        ];
        let counts = why_lines(&files).into_iter().map(|(_, count)| count);
        assert_eq!(counts.collect::<Vec<_>>(), [2, 0, 1, 0, 0]);
    }
}
