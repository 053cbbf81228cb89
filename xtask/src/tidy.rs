//! Automatic checks of the repository's rules.

use crate::callers;
use crate::conformance::Conformance;
use crate::cycles;
use crate::floors;
use crate::sources::SourceFile;
use crate::use_cases;

/// The layout: each crate, and the workspace crates that it may depend on, including development
/// dependencies.
const LAYOUT: &[(&str, &[&str])] = &[
    ("martlet-allocator", &[]),
    ("martlet-codec", &[]),
    ("martlet-rows", &[]),
    ("martlet-text-file", &[]),
    ("martlet-fault", &[]),
    ("martlet-settings", &[]),
    (
        "martlet-broker",
        &[
            "martlet-codec",
            "martlet-fault",
            "martlet-permission",
            "martlet-rows",
        ],
    ),
    ("martlet-permission", &["martlet-codec"]),
    ("martlet-tick", &["martlet-broker"]),
    (
        "martlet-lockout",
        &["martlet-broker", "martlet-codec", "martlet-fault"],
    ),
    ("martlet-client", &["martlet-codec"]),
    (
        "martlet-access",
        &["martlet-codec", "martlet-permission", "martlet-text-file"],
    ),
    ("martlet-certificates", &["martlet-text-file"]),
    ("martlet-database-url", &[]),
    ("martlet-rollout", &[]),
    (
        "martlet-telemetry",
        &[
            "martlet-database-url",
            "martlet-permission",
            "martlet-text-file",
        ],
    ),
    (
        "martlet-rules",
        &["martlet-codec", "martlet-permission", "martlet-text-file"],
    ),
    ("martlet-store", &["martlet-fault", "martlet-rows"]),
    (
        "martlet-persistence",
        &[
            "martlet-broker",
            "martlet-codec",
            "martlet-fault",
            "martlet-store",
            "martlet-script",
            "martlet-tick",
        ],
    ),
    (
        "martlet-reactor",
        &[
            "martlet-broker",
            "martlet-codec",
            "martlet-persistence",
            "martlet-store",
            "martlet-tick",
        ],
    ),
    (
        "martlet-integrate",
        &[
            "martlet-broker",
            "martlet-certificates",
            "martlet-client",
            "martlet-codec",
            "martlet-fault",
            "martlet-settings",
            "martlet-text-file",
        ],
    ),
    (
        "martlet-control",
        &[
            "martlet-integrate",
            "martlet-access",
            "martlet-broker",
            "martlet-certificates",
            "martlet-codec",
            "martlet-registry",
            "martlet-rollout",
            "martlet-lockout",
            "martlet-store",
            "martlet-telemetry",
            "martlet-rules",
            "martlet-text-file",
        ],
    ),
    (
        "martlet-registry",
        &[
            "martlet-access",
            "martlet-codec",
            "martlet-database-url",
            "martlet-permission",
            "martlet-rollout",
        ],
    ),
    (
        "martlet-api",
        &[
            "martlet-broker",
            "martlet-codec",
            "martlet-control",
            "martlet-registry",
            "martlet-settings",
            "martlet-text-file",
        ],
    ),
    (
        "martlet-script",
        &["martlet-broker", "martlet-codec", "martlet-tick"],
    ),
    (
        "martlet-fuzzing",
        &[
            "martlet-broker",
            "martlet-codec",
            "martlet-rules",
            "martlet-store",
            "martlet-tick",
        ],
    ),
    (
        "martlet-sim",
        &[
            "martlet-broker",
            "martlet-codec",
            "martlet-fault",
            "martlet-integrate",
            "martlet-lockout",
            "martlet-persistence",
            "martlet-store",
            "martlet-tick",
        ],
    ),
    (
        "martlet-environment",
        &["martlet-client", "martlet-text-file"],
    ),
    (
        "martlet-agent",
        &[
            "martlet-certificates",
            "martlet-client",
            "martlet-codec",
            "martlet-environment",
            "martlet-store",
            "martlet-text-file",
        ],
    ),
    ("martlet-crash", &["martlet-client", "martlet-codec"]),
    ("martlet-load", &["martlet-certificates", "martlet-codec"]),
    ("xtask", &["martlet-broker"]),
    // The program connects the parts: it starts each of these, or they are one of its commands.
    (
        "martlet",
        &[
            "martlet-access",
            "martlet-agent",
            "martlet-allocator",
            "martlet-api",
            "martlet-broker",
            "martlet-certificates",
            "martlet-client",
            "martlet-codec",
            "martlet-control",
            "martlet-crash",
            "martlet-environment",
            "martlet-integrate",
            "martlet-load",
            "martlet-persistence",
            "martlet-reactor",
            "martlet-registry",
            "martlet-settings",
            "martlet-store",
            "martlet-text-file",
        ],
    ),
];

/// Longest line of code, in columns.
const COLUMNS_MAX: usize = 100;

/// Longest function in lines, unless it is a table.
const FUNCTION_LINES_MAX: usize = 100;

/// Longest source file in lines.
const FILE_LINES_MAX: usize = 800;

/// Directories whose source files have that limit.
const CODE: &[&str] = &["bench/", "crates/", "tests/", "xtask/"];

/// Words with which no doc comment begins: they name nothing.
const BEGINNINGS: [&str; 5] = ["It ", "Its ", "Those ", "The same", "What "];

/// Most doc comments that begin so nevertheless.
const BEGINNINGS_MAX: usize = 10;

/// Beginning of the comment of a function that is a list of similar entries, which may be longer.
const TABLE: &str = "// Table:";

/// Returns the violations of the rules, one line each.
pub fn problems(files: &[SourceFile]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files {
        if file.path.ends_with("Cargo.toml") {
            check_edges(file, &mut problems);
        }
        if file.path.ends_with(".rs") {
            check_width(file, &mut problems);
            check_functions(file, &mut problems);
        }
        check_length(file, &mut problems);
        check_words(file, &mut problems);
    }
    check_code_map(files, &mut problems);
    check_beginnings(files, &mut problems);
    cycles::check(files, &mut problems);
    floors::check(files, &mut problems);
    use_cases::check(files, &mut problems);
    callers::check(files, &mut problems);
    match Conformance::new(files) {
        Ok(conformance) => problems.extend(conformance.unknown()),
        Err(error) => problems.push(error),
    }
    problems
}

fn check_edges(file: &SourceFile, problems: &mut Vec<String>) {
    let inside = file.path.starts_with("crates/") || file.path.starts_with("xtask/");
    let name = package_name(&file.text);
    if !inside {
        return;
    }
    let Some((_, allowed)) = LAYOUT.iter().find(|(known, _)| *known == name) else {
        return problems.push(format!("{}: crate {name} is not in the layout", file.path));
    };
    for (index, line) in file.text.lines().enumerate() {
        let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let used = &line[..end.unwrap_or(line.len())];
        let is_dependency = line[used.len()..].trim_start().starts_with(['.', '=']);
        let ours = used == "martlet" || used.starts_with("martlet-");
        if ours && is_dependency && !allowed.contains(&used) {
            let place = format!("{}:{}", file.path, index + 1);
            problems.push(format!("{place}: {name} may not depend on {used}"));
        }
    }
}

fn package_name(manifest: &str) -> &str {
    let line = manifest
        .lines()
        .find_map(|line| line.strip_prefix("name = \""));
    line.and_then(|rest| rest.split('"').next()).unwrap_or("")
}

fn check_code_map(files: &[SourceFile], problems: &mut Vec<String>) {
    let Some(map) = files.iter().find(|file| file.path == "ARCHITECTURE.md") else {
        return;
    };
    for file in files {
        let folder = file.path.strip_suffix("/Cargo.toml");
        if let Some(folder) = folder.filter(|folder| folder.starts_with("crates/"))
            && !map.text.contains(folder)
            && !map
                .text
                .contains(&format!("`{}`", &folder["crates/".len()..]))
        {
            problems.push(format!("ARCHITECTURE.md does not name {folder}"));
        }
    }
}

fn check_width(file: &SourceFile, problems: &mut Vec<String>) {
    for (index, line) in file.text.lines().enumerate() {
        // Strings cannot always be broken.
        if line.chars().count() > COLUMNS_MAX && !line.contains('"') {
            let place = format!("{}:{}", file.path, index + 1);
            problems.push(format!("{place}: more than {COLUMNS_MAX} columns"));
        }
    }
}

/// A file has one subject.
fn check_length(file: &SourceFile, problems: &mut Vec<String>) {
    let is_code = [".rs", ".py"].iter().any(|end| file.path.ends_with(end));
    let is_ours = CODE.iter().any(|folder| file.path.starts_with(folder));
    let lines = file.text.lines().count();
    if is_code && is_ours && lines > FILE_LINES_MAX {
        problems.push(format!(
            "{}: {lines} lines, at most {FILE_LINES_MAX} may be: split it by subject",
            file.path
        ));
    }
}

/// A function does one job. Only lists of similar entries may be long, and must be marked as such.
fn check_functions(file: &SourceFile, problems: &mut Vec<String>) {
    let lines: Vec<&str> = file.text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        if !is_function(code) || code.ends_with('}') {
            continue;
        }
        let end = format!("{indent}}}");
        let rest = lines[index..].iter();
        let length = rest.take_while(|line| **line != end && !is_declaration(line, indent));
        let length = length.count() + 1;
        let is_table = index > 0 && lines[index - 1].trim_start().starts_with(TABLE);
        if length > FUNCTION_LINES_MAX && !is_table {
            let place = format!("{}:{}", file.path, index + 1);
            problems.push(format!(
                "{place}: a function of {length} lines, at most {FUNCTION_LINES_MAX} may be: split \
                 it, or say `{TABLE} of what` above it if it is a list of like entries"
            ));
        }
    }
}

/// Whether a line begins a function.
fn is_function(code: &str) -> bool {
    let before = code.split("fn ").next().unwrap_or_default();
    let words = before.split_whitespace();
    let mut words = words.filter(|word| !word.starts_with("pub"));
    code.contains("fn ") && words.all(|word| ["const", "async", "unsafe"].contains(&word))
}

/// Whether a line ends a function without a body.
fn is_declaration(line: &str, indent: &str) -> bool {
    let of_same_depth = line
        .strip_prefix(indent)
        .is_some_and(|rest| !rest.starts_with(' '));
    of_same_depth && line.ends_with(';')
}

/// Checks that doc comments begin with what they are about.
fn check_beginnings(files: &[SourceFile], problems: &mut Vec<String>) {
    let code = files.iter().filter(|file| file.path.ends_with(".rs"));
    let places: Vec<String> = code.flat_map(beginnings).collect();
    if places.len() > BEGINNINGS_MAX {
        problems.push(format!(
            "{} doc comments begin with {}, at most {BEGINNINGS_MAX} may: {}, …",
            places.len(),
            BEGINNINGS.map(str::trim).join(", "),
            places[..10].join(", ")
        ));
    }
}

/// Places of doc comments of a file that begin with one of [`BEGINNINGS`].
fn beginnings(file: &SourceFile) -> Vec<String> {
    let doc = |line: &str| {
        let line = line.trim_start();
        let text = line.strip_prefix("///").or(line.strip_prefix("//!"))?;
        Some(text.trim_start().to_owned())
    };
    let mut places = Vec::new();
    let mut is_inside = false;
    for (index, line) in file.text.lines().enumerate() {
        let text = doc(line);
        let begins = !is_inside && text.is_some();
        is_inside = text.is_some();
        let text = text.filter(|_| begins).unwrap_or_default();
        if BEGINNINGS.iter().any(|word| text.starts_with(word)) {
            places.push(format!("{}:{}", file.path, index + 1));
        }
    }
    places
}

fn check_words(file: &SourceFile, problems: &mut Vec<String>) {
    // This file contains the words itself.
    if file.path == "xtask/src/tidy.rs" || file.path.contains("node_modules") {
        return;
    }
    let code = [".rs", ".py", ".ts", ".js", ".sh"];
    let code = code.iter().any(|extension| file.path.ends_with(extension));
    for (index, line) in file.text.lines().enumerate() {
        let banned = banned_in(line, code);
        for word in banned {
            let place = format!("{}:{}", file.path, index + 1);
            problems.push(format!("{place}: {word}"));
        }
    }
}

fn banned_in(line: &str, code: bool) -> Vec<&'static str> {
    let words: &[&str] = match code {
        true => &["TODO", "FIXME", "dbg!", "todo!("],
        false => &[],
    };
    let paths: &[&str] = &["/root/", "/home/"];
    let words = words.iter().chain(paths);
    words.copied().filter(|word| line.contains(word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(path: &str, text: &str) -> Vec<String> {
        let file = SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let mut problems = problems(&[file]);
        // These cases contain no lists of statements.
        problems.pop();
        problems
    }

    #[test]
    fn an_edge_against_the_layout_is_found() {
        let manifest = "[package]\nname = \"martlet-codec\"\n[dependencies]\nmartlet-broker.workspace = true\n";
        assert_eq!(
            problems_of("crates/codec/Cargo.toml", manifest),
            ["crates/codec/Cargo.toml:4: martlet-codec may not depend on martlet-broker"]
        );
    }

    #[test]
    fn the_program_has_its_place_in_the_layout_too() {
        let manifest =
            "[package]\nname = \"martlet\"\n[dependencies]\nmartlet-sim.workspace = true\n";
        assert_eq!(
            problems_of("crates/martlet/Cargo.toml", manifest),
            ["crates/martlet/Cargo.toml:4: martlet may not depend on martlet-sim"]
        );
    }

    #[test]
    fn banned_words_and_long_lines_are_found() {
        let long = "x".repeat(101);
        let text = format!("// {}\n{long}\n", "TODO");
        assert_eq!(problems_of("crates/rows/src/a.rs", &text).len(), 2);
        assert_eq!(problems_of("docs/a.md", &text).len(), 0);
    }

    #[test]
    fn doc_comments_that_name_nothing_are_found() {
        let text = "/// Its name.\n/// It is long.\na\n    //! Name.\n    /// What it is.\nb\n/// Those.\n";
        let file = SourceFile {
            path: "a.rs".to_owned(),
            text: text.to_owned(),
        };
        assert_eq!(beginnings(&file), ["a.rs:1"]);
        let text = format!(
            "{}fn f() {{}}\n",
            "/// What it is.\nfn f() {}\n".repeat(101)
        );
        let problems = problems_of("crates/codec/src/a.rs", &text);
        let is_told = |problem: &String| problem.starts_with("101 doc comments begin");
        assert!(problems.iter().any(is_told), "{problems:?}");
    }

    #[test]
    fn long_files_are_found() {
        let text = "x\n".repeat(801);
        for path in ["crates/rows/src/a.rs", "tests/clients/test_a.py"] {
            let found = problems_of(path, &text);
            let expected = format!("{path}: 801 lines, at most 800 may be: split it by subject");
            assert_eq!(found, [expected]);
            assert_eq!(problems_of(path, &text[2..]).len(), 0);
        }
        assert_eq!(problems_of("docs/a.md", &text).len(), 0);
    }

    #[test]
    fn long_functions_are_found_unless_they_are_tables() {
        let body = "    work();\n".repeat(100);
        let long = format!("fn short() {{}}\n\nfn long(\n    a: u8,\n) {{\n{body}}}\n");
        let found = problems_of("crates/rows/src/a.rs", &long);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("crates/rows/src/a.rs:3: a function of 104 lines"));
        let table = format!(
            "// Table: what is worked.\n{}",
            &long["fn short() {}\n\n".len()..]
        );
        assert_eq!(problems_of("crates/rows/src/a.rs", &table).len(), 0);
    }
}
