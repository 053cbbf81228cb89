//! The page that lists, for each normative statement of the specification, the code that implements
//! it and the tests that cover it.
//!
//! The statements are listed in `docs/statements`. Code and tests contain the identifiers of
//! statements that they implement or test. Only files are listed, without lines, so that the page
//! changes rarely.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::sources::SourceFile;

/// A normative statement.
#[derive(Debug)]
struct Statement {
    id: String,
    side: Side,
    /// The requirement in our words.
    text: String,
    /// The equivalent statement of MQTT 5.0.
    same_as: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Server,
    Client,
    Both,
}

#[derive(Debug, Default)]
struct Places {
    code: BTreeSet<String>,
    tests: BTreeSet<String>,
}

/// All statements and the places that contain them.
#[derive(Debug)]
pub struct Conformance {
    v5: Vec<Statement>,
    v311: Vec<Statement>,
    places: BTreeMap<String, Places>,
}

impl Conformance {
    /// Reads the lists and searches the statements in all other files.
    ///
    /// # Errors
    /// A line of a list is invalid. The text describes it.
    pub fn new(files: &[SourceFile]) -> Result<Self, String> {
        let list = |path: &str| {
            let file = files.iter().find(|file| file.path == path);
            file.map_or(Err(format!("{path} is missing")), parse_list)
        };
        let mut conformance = Self {
            v5: list("docs/statements/mqtt-5.0.txt")?,
            v311: list("docs/statements/mqtt-3.1.1.txt")?,
            places: BTreeMap::new(),
        };
        for file in files {
            conformance.find_in(file);
        }
        Ok(conformance)
    }

    /// Statements that occur in files but in no list: most likely a typing error.
    pub fn unknown(&self) -> Vec<String> {
        let known: BTreeSet<&str> = self.all().map(|statement| statement.id.as_str()).collect();
        let unknown = self
            .places
            .iter()
            .filter(|(id, _)| !known.contains(id.as_str()));
        unknown
            .map(|(id, places)| {
                let places: Vec<_> = places.code.iter().chain(&places.tests).cloned().collect();
                format!("{id} is in no list: {}", places.join(", "))
            })
            .collect()
    }

    /// Statements that apply to servers and occur in no test, with their text.
    pub fn untested(&self) -> Vec<String> {
        let binding = self
            .all()
            .filter(|statement| statement.side != Side::Client);
        binding
            .filter(|statement| self.of(statement, |places| &places.tests).is_empty())
            .map(|statement| format!("{} {}", statement.id, self.text(statement)))
            .collect()
    }

    /// The page.
    pub fn page(&self) -> String {
        let mut page = String::from(HEAD);
        for (title, statements) in [("MQTT 5.0", &self.v5), ("MQTT 3.1.1", &self.v311)] {
            self.section(&mut page, title, statements, |side| side != Side::Client);
        }
        page.push_str(CLIENT_HEAD);
        for (title, statements) in [("MQTT 5.0", &self.v5), ("MQTT 3.1.1", &self.v311)] {
            self.section(
                &mut page,
                &format!("{title}, of clients"),
                statements,
                |side| side == Side::Client,
            );
        }
        page.push_str("\n## Counts\n\n");
        page.push_str("| Statements | All | With code | With a test | With neither |\n");
        page.push_str("|---|---|---|---|---|\n");
        for (title, statements) in [("MQTT 5.0", &self.v5), ("MQTT 3.1.1", &self.v311)] {
            self.count(&mut page, title, "servers", statements, |side| {
                side != Side::Client
            });
            self.count(&mut page, title, "clients", statements, |side| {
                side == Side::Client
            });
        }
        page
    }

    fn all(&self) -> impl Iterator<Item = &Statement> {
        self.v5.iter().chain(&self.v311)
    }

    fn text<'a>(&'a self, statement: &'a Statement) -> &'a str {
        let Some(same) = &statement.same_as else {
            return &statement.text;
        };
        let same = self.v5.iter().find(|found| found.id == *same);
        same.map_or("", |found| &found.text)
    }

    /// The places of a statement or of its equivalent.
    fn of<'a>(
        &'a self,
        statement: &'a Statement,
        which: impl Fn(&'a Places) -> &'a BTreeSet<String>,
    ) -> BTreeSet<&'a str> {
        let ids = [Some(&statement.id), statement.same_as.as_ref()];
        let places = ids
            .into_iter()
            .flatten()
            .filter_map(|id| self.places.get(id));
        places.flat_map(which).map(String::as_str).collect()
    }

    fn section(
        &self,
        page: &mut String,
        title: &str,
        statements: &[Statement],
        wanted: impl Fn(Side) -> bool,
    ) {
        let _ = write!(
            page,
            "\n## {title}\n\n| Statement | What it asks | Code | Tests |\n|---|---|---|---|\n"
        );
        for statement in statements.iter().filter(|found| wanted(found.side)) {
            let code = self.of(statement, |places| &places.code);
            let tests = self.of(statement, |places| &places.tests);
            if statement.side == Side::Client && code.is_empty() && tests.is_empty() {
                continue;
            }
            let id = &statement.id;
            let same = statement.same_as.as_ref();
            let same = same.map(|same| format!(" (as {same})")).unwrap_or_default();
            let text = self.text(statement);
            let (code, tests) = (cell(&code), cell(&tests));
            let _ = writeln!(page, "| {id} | {text}{same} | {code} | {tests} |");
        }
    }

    fn count(
        &self,
        page: &mut String,
        title: &str,
        whom: &str,
        statements: &[Statement],
        wanted: impl Fn(Side) -> bool,
    ) {
        let (mut all, mut with_code, mut with_test, mut with_neither) = (0, 0, 0, 0);
        for statement in statements.iter().filter(|found| wanted(found.side)) {
            let code = !self.of(statement, |places| &places.code).is_empty();
            let test = !self.of(statement, |places| &places.tests).is_empty();
            all += 1;
            with_code += usize::from(code);
            with_test += usize::from(test);
            with_neither += usize::from(!code && !test);
        }
        let _ = writeln!(
            page,
            "| {title}, binding {whom} | {all} | {with_code} | {with_test} | {with_neither} |"
        );
    }

    fn find_in(&mut self, file: &SourceFile) {
        let Some(kind) = Kind::of(&file.path) else {
            return;
        };
        let mut in_tests = kind == Kind::Test;
        let mut lines = file.text.lines().peekable();
        while let Some(line) = lines.next() {
            // The tests of a file are at its end.
            let next = lines.peek().map_or("", |next| next.trim_start());
            if line.trim() == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{') {
                in_tests = true;
            }
            for id in statements_in(line) {
                let places = self.places.entry(id).or_default();
                let name = short_name(&file.path);
                match in_tests {
                    true => places.tests.insert(name),
                    false => places.code.insert(name),
                };
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Code,
    Test,
}

impl Kind {
    /// How statements in a file count: as code or as test. `None` if they do not count.
    fn of(path: &str) -> Option<Self> {
        let rust = path.ends_with(".rs");
        if path.starts_with("tests/") {
            return Some(Self::Test);
        }
        let inner = path.strip_prefix("crates/")?;
        let (name, inner) = inner.split_once('/')?;
        match name {
            // Requirements for clients are not covered by this page.
            "client" => None,
            "fuzzing" if rust => Some(Self::Test),
            "script" => inner.ends_with(".mqtt").then_some(Self::Test),
            "codec" if inner.starts_with("tests/packets/") => {
                inner.ends_with(".txt").then_some(Self::Test)
            }
            _ if !rust => None,
            _ if inner.starts_with("tests/") => Some(Self::Test),
            _ if inner.ends_with("tests.rs") => Some(Self::Test),
            _ => Some(Self::Code),
        }
    }
}

/// `crates/broker/src/lobby.rs` becomes `broker/lobby.rs`; a script becomes `script:connect/name`.
fn short_name(path: &str) -> String {
    if let Some(script) = path.strip_prefix("crates/script/scripts/") {
        return format!("script:{}", script.trim_end_matches(".mqtt"));
    }
    let path = path.strip_prefix("crates/").unwrap_or(path);
    path.replacen("/src/", "/", 1)
}

fn cell(names: &BTreeSet<&str>) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(" ")
}

/// The statements in a line, with or without brackets.
fn statements_in(line: &str) -> Vec<String> {
    let starts = line.match_indices("MQTT-").map(|(start, _)| start);
    starts
        .filter_map(|start| statement_at(&line[start..]))
        .collect()
}

/// `MQTT-3.1.2-22` or `MQTT-3.1.1/3.1.2-22` at the beginning of a text.
fn statement_at(text: &str) -> Option<String> {
    let rest = text.strip_prefix("MQTT-")?;
    let (prefix, rest) = match rest.strip_prefix("3.1.1/") {
        Some(rest) => ("MQTT-3.1.1/", rest),
        None => ("MQTT-", rest),
    };
    let section_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (section, rest) = rest.split_at(section_end);
    let rest = rest.strip_prefix('-')?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let number = &rest[..digits];
    let complete = section.split('.').count() == 3 && !number.is_empty();
    complete.then(|| format!("{prefix}{section}-{number}"))
}

fn parse_list(file: &SourceFile) -> Result<Vec<Statement>, String> {
    let lines = file.text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(index, line)| {
            let place = format!("{}:{}", file.path, index + 1);
            let mut columns = line.splitn(3, '|').map(str::trim);
            let (Some(id), Some(side), Some(text)) =
                (columns.next(), columns.next(), columns.next())
            else {
                return Err(format!("{place}: three columns are wanted"));
            };
            let side = match side {
                "server" => Side::Server,
                "client" => Side::Client,
                "both" => Side::Both,
                _ => return Err(format!("{place}: server, client or both, not {side}")),
            };
            if statement_at(id).as_deref() != Some(id) {
                return Err(format!("{place}: not a statement: {id}"));
            }
            let same_as = text.strip_prefix("= ").map(str::to_owned);
            let (id, text) = (id.to_owned(), text.to_owned());
            Ok(Statement {
                id,
                side,
                text,
                same_as,
            })
        })
        .collect()
}

const HEAD: &str = "\
# Conformance

Find the code and the tests of a statement:

```sh
grep MQTT-3.3.1-5 docs/conformance.md
```

Each normative statement of MQTT 5.0 and 3.1.1 that binds a server, the code that keeps it, and
the tests that prove it. Made by `cargo xtask docs` from the statements named in comments, errors,
packet tables and packet scripts; the statements are in our own words (`docs/statements`), the
numbers are those of the standards. A statement of 3.1.1 that asks what one of 5.0 asks is kept
where that one is.

`broker/lobby.rs` stands for `crates/broker/src/lobby.rs`, `script:connect/name` for
`crates/script/scripts/connect/name.mqtt`. Some statements need no code of their own, since no path
leads to a violation; a test shows it all the same.

Section 1.5.4 leaves a choice for control characters, such as TAB, in topics: a PUBLISH or SUBSCRIBE
with one ends the connection, in MQTT 5.0 with DISCONNECT 0x90, whatever its QoS.
`mqtt.refuse_control_characters` = false accepts them.
";

const CLIENT_HEAD: &str = "
The following statements bind clients. Those are listed that the broker checks.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_found_with_and_without_brackets() {
        let line = r#"[MQTT-3.1.2-22], "MQTT-4.7.3-1" [MQTT-3.1.1/3.1.3-8] MQTT-5 MQTT-3.12 x"#;
        let found = ["MQTT-3.1.2-22", "MQTT-4.7.3-1", "MQTT-3.1.1/3.1.3-8"];
        assert_eq!(statements_in(line), found);
    }

    #[test]
    fn what_stands_behind_cfg_test_counts_as_a_test() {
        let file = |path: &str, text: &str| SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let files = [
            file(
                "docs/statements/mqtt-5.0.txt",
                "MQTT-1.0.0-1 | server | one\nMQTT-1.0.0-2 | both | two\n",
            ),
            file(
                "docs/statements/mqtt-3.1.1.txt",
                "MQTT-3.1.1/9.0.0-1 | server | = MQTT-1.0.0-1\n",
            ),
            file(
                "crates/broker/src/a.rs",
                "// MQTT-1.0.0-2\n#[cfg(test)]\nmod tests {\n// MQTT-1.0.0-1\n}\n",
            ),
        ];
        let conformance = Conformance::new(&files).expect("both lists");
        assert_eq!(conformance.untested(), ["MQTT-1.0.0-2 two"]);
        assert!(conformance.unknown().is_empty());
    }
}
