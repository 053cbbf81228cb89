//! Modules of a crate that import each other in a cycle. A crate may not have more of them than it
//! had, and not more than its number in [`MAY`] says.
//!
//! A module is a file. It imports what its `use` lines and its paths that begin with `crate` name.
//! Names that the crate's root exports stand for the modules that they come from. Tests do not
//! count, nor do modules that are written into a file.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::SourceFile;

/// Crates that are looked at, and how many of their modules are in cycles. The aim is 0.
const MAY: &[(&str, usize)] = &[("broker", 0), ("registry", 0), ("control", 0), ("api", 0)];

/// Modules of the broker that are the words of its interface, and what these are made of: they
/// import nothing else of it.
const VOCABULARY: (&str, &[&str]) = (
    "broker",
    &[
        "authentication",
        "command",
        "connect_request",
        "connected_client",
        "counters",
        "effect",
        "event",
        "event_head",
        "event_interest",
        "event_kind",
        "flags",
        "gauge",
        "guest",
        "hash",
        "id",
        "lane_name",
        "limits",
        "message",
        "part::interface",
        "part::holds",
        "part::refusal",
        "record",
        "report",
        "screening",
        "session::permit",
        "session::queue::entry",
        "share::message",
        "share::ticket",
        "shortened",
        "time",
        "work",
    ],
);

/// What breaks these rules, one line each.
pub(crate) fn check(files: &[SourceFile], problems: &mut Vec<String>) {
    for (name, may) in MAY {
        let modules = Modules::of(name, files);
        if modules.imports.is_empty() {
            continue;
        }
        let cycles = modules.cycles();
        let count: usize = cycles.iter().map(BTreeSet::len).sum();
        let folder = format!("crates/{name}/src");
        if count > *may {
            let cycles = cycles.iter().map(|cycle| {
                let names: Vec<&str> = cycle.iter().copied().collect();
                names.join(" ")
            });
            let cycles: Vec<String> = cycles.collect();
            problems.push(format!(
                "{folder}: {count} modules import each other in cycles, {may} may: {}",
                cycles.join("; ")
            ));
        } else if count < *may {
            problems.push(format!(
                "{folder}: {count} modules import each other in cycles: set the number in \
                 xtask/src/cycles.rs, which is {may}, so that they do not become more again"
            ));
        }
        if *name == VOCABULARY.0 {
            modules.check_vocabulary(VOCABULARY.1, &folder, problems);
        }
    }
}

/// The modules of a crate by their paths, such as `session::queue`, and what each imports.
struct Modules {
    imports: BTreeMap<String, BTreeSet<String>>,
}

impl Modules {
    fn of(name: &str, files: &[SourceFile]) -> Self {
        let folder = format!("crates/{name}/src/");
        let inside = files.iter().filter_map(|file| {
            let path = file.path.strip_prefix(&folder)?.strip_suffix(".rs")?;
            let path: Vec<&str> = path
                .strip_suffix("/mod")
                .unwrap_or(path)
                .split('/')
                .collect();
            let is_test = path
                .iter()
                .any(|part| *part == "tests" || part.ends_with("_tests"));
            (!is_test).then(|| (path, code_of(&file.text)))
        });
        let inside: Vec<(Vec<&str>, String)> = inside.collect();
        let is_root = |path: &[&str]| path == ["lib"] || path == ["main"];
        let known: BTreeSet<String> = inside
            .iter()
            .filter(|(path, _)| !is_root(path))
            .map(|(path, _)| path.join("::"))
            .collect();
        let root = inside.iter().find(|(path, _)| is_root(path));
        let exported = root.map(|(_, code)| exports(code)).unwrap_or_default();
        let module_of = |path: &[String]| {
            let path = match path.first().and_then(|first| exported.get(first)) {
                Some(found) if !known.contains(&path[0]) => found,
                _ => path,
            };
            let mut lengths = (1..=path.len()).rev();
            lengths.find_map(|length| known.get(&path[..length].join("::")).cloned())
        };
        let mut imports = BTreeMap::new();
        for (path, code) in inside.iter().filter(|(path, _)| !is_root(path)) {
            let own = path.join("::");
            let found = paths_in(code, path);
            let mut found: BTreeSet<String> =
                found.iter().filter_map(|path| module_of(path)).collect();
            found.remove(&own);
            imports.insert(own, found);
        }
        Self { imports }
    }

    /// The modules that reach each other by imports, in groups of two or more.
    fn cycles(&self) -> Vec<BTreeSet<&str>> {
        let all: BTreeMap<&str, BTreeSet<&str>> = self
            .imports
            .keys()
            .map(|module| (module.as_str(), self.reached(module)))
            .collect();
        let mut cycles: Vec<BTreeSet<&str>> = Vec::new();
        for (module, reached) in &all {
            if cycles.iter().any(|cycle| cycle.contains(module)) || !reached.contains(module) {
                continue;
            }
            let mutual = reached.iter().filter(|other| all[*other].contains(module));
            cycles.push(mutual.copied().collect());
        }
        cycles
    }

    /// The modules that one imports, and what these import.
    fn reached<'m>(&'m self, from: &'m str) -> BTreeSet<&'m str> {
        let mut reached = BTreeSet::new();
        let mut next = vec![from];
        while let Some(module) = next.pop() {
            let imported = self.imports.get(module).into_iter().flatten();
            let imported = imported.map(String::as_str);
            next.extend(imported.filter(|one| reached.insert(*one)));
        }
        reached
    }

    fn check_vocabulary(&self, words: &[&str], folder: &str, problems: &mut Vec<String>) {
        for word in words {
            let Some(imports) = self.imports.get(*word) else {
                problems.push(format!("{folder}: there is no module {word}"));
                continue;
            };
            for import in imports.iter().filter(|one| !words.contains(&one.as_str())) {
                problems.push(format!(
                    "{folder}: {word} may not import {import}, which is no module of the \
                     vocabulary (xtask/src/cycles.rs)"
                ));
            }
        }
    }
}

/// A file without comments and without the tests at its end.
fn code_of(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    let lines = text[..end].lines();
    let code = lines.map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

/// What the root of a crate exports: the name, and the path that it stands for.
fn exports(code: &str) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for tree in statements(code, "use ") {
        for path in paths_of_tree(&tree) {
            let path: Vec<String> = match path.first().map(String::as_str) {
                Some("crate" | "self") => path[1..].to_vec(),
                _ => path,
            };
            if let Some(name) = path.last() {
                all.insert(name.clone(), path.clone());
            }
        }
    }
    all
}

/// The paths from the crate's root that a module at `own` names.
fn paths_in(code: &str, own: &[&str]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for tree in statements(code, "use ") {
        for path in paths_of_tree(&tree) {
            let mut base: Vec<String> = match path.first().map(String::as_str) {
                Some("crate") => Vec::new(),
                Some("self" | "super") => own.iter().map(|part| (*part).to_owned()).collect(),
                _ => continue,
            };
            for part in &path {
                match part.as_str() {
                    "crate" | "self" => {}
                    "super" => {
                        base.pop();
                    }
                    part => base.push(part.to_owned()),
                }
            }
            found.push(base);
        }
    }
    // Paths in the code itself.
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
        let path = rest[..end.unwrap_or(rest.len())].split("::");
        found.push(
            path.filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect(),
        );
    }
    found
}

/// Statements that begin with a word, up to their `;`. A `pub use` passes names on.
fn statements(code: &str, word: &str) -> Vec<String> {
    let begins = code.match_indices(word).filter(|(at, _)| {
        let line = code[..*at].rsplit('\n').next().unwrap_or_default().trim();
        line.is_empty() || line.starts_with("pub")
    });
    let rest = begins.map(|(at, _)| &code[at + word.len()..]);
    rest.filter_map(|rest| Some(rest.split(';').next()?.to_owned()))
        .collect()
}

/// `a::{b, c::{d, e}}` as its paths.
fn paths_of_tree(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default();
        let parts = name.split("::").map(str::trim);
        return vec![
            parts
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect(),
        ];
    };
    let rest = rest.strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut begin, mut parts) = (0_u32, 0, Vec::new());
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&rest[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&rest[begin..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts
        .flat_map(|part| paths_of_tree(&format!("{head}{}", part.trim())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(files: &[(&str, &str)]) -> Modules {
        let files: Vec<SourceFile> = files
            .iter()
            .map(|(path, text)| SourceFile {
                path: format!("crates/x/src/{path}"),
                text: (*text).to_owned(),
            })
            .collect();
        Modules::of("x", &files)
    }

    #[test]
    fn cycles_are_found_through_all_kinds_of_imports() {
        let modules = modules(&[
            (
                "lib.rs",
                "mod a;\nmod b;\npub use b::{Named, inner::Deep};\n",
            ),
            ("a.rs", "use std::fmt;\nuse crate::Named;\n"),
            ("b/mod.rs", "mod inner;\nfn f() { crate::a::g() }\n"),
            ("b/inner.rs", "use super::Named;\n// use crate::a::No;\n"),
            ("c.rs", "use crate::{a::{X, Y as Z}, Deep};\n"),
            ("a/tests.rs", "use crate::c::All;\n"),
        ]);
        let cycles = modules.cycles();
        let expected: Vec<BTreeSet<&str>> = vec![["a", "b"].into()];
        assert_eq!(cycles, expected);
        let of = |name: &str| modules.imports[name].iter().cloned().collect::<Vec<_>>();
        assert_eq!(of("b::inner"), ["b"]);
        assert_eq!(of("c"), ["a", "b::inner"]);
    }

    #[test]
    fn imports_in_tests_and_comments_do_not_count() {
        let modules = modules(&[
            (
                "a.rs",
                "#[cfg(test)]\nmod tests {\n    use crate::b::X;\n}\n",
            ),
            ("b.rs", "use crate::a::Y; // crate::b\n"),
        ]);
        assert!(modules.cycles().is_empty());
    }

    #[test]
    fn the_vocabulary_imports_nothing_else() {
        let modules = modules(&[
            ("a.rs", "use crate::b::X;\n"),
            ("b.rs", "use crate::c::X;\n"),
            ("c.rs", ""),
        ]);
        let mut problems = Vec::new();
        modules.check_vocabulary(&["a", "b"], "x", &mut problems);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("b may not import c"), "{problems:?}");
    }
}
