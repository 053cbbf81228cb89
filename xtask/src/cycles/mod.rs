//! Checks that the modules of a crate do not import each other in a cycle.
//!
//! Code that two modules need belongs into a separate file, and so does code that a module and its
//! submodule need.

mod imports;

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::SourceFile;
use imports::imports_of;

/// Crates that still have cycles and are skipped.
const EXCEPT: &[&str] = &["sim"];

/// Modules of the broker that define the types of its interface, and the modules that these need.
/// They import no other module of the broker.
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
        "flags",
        "gauge",
        "hash",
        "id",
        "limits",
        "message",
        "part::interface",
        "part::holds",
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

/// Returns the violations of these rules, one line each.
pub(crate) fn check(files: &[SourceFile], problems: &mut Vec<String>) {
    for name in crates(files) {
        let modules = Modules::of(name, files);
        let folder = format!("crates/{name}/src");
        for cycle in modules.cycles() {
            let names: Vec<&str> = cycle.into_iter().collect();
            problems.push(format!(
                "{folder}: modules import each other in a cycle: {}",
                names.join(" ")
            ));
        }
        if name == VOCABULARY.0 {
            modules.check_vocabulary(VOCABULARY.1, &folder, problems);
        }
    }
}

/// The names of the checked crates.
fn crates(files: &[SourceFile]) -> BTreeSet<&str> {
    let named = files.iter().filter_map(|file| {
        let (name, path) = file.path.strip_prefix("crates/")?.split_once('/')?;
        (path.starts_with("src/") && !EXCEPT.contains(&name)).then_some(name)
    });
    named.collect()
}

/// The modules of a crate by their paths, such as `session::queue`, and the imports of each.
struct Modules {
    imports: BTreeMap<String, BTreeSet<String>>,
}

impl Modules {
    fn of(name: &str, files: &[SourceFile]) -> Self {
        let imports = imports_of(name, files);
        Self { imports }
    }

    fn cycles(&self) -> Vec<BTreeSet<&str>> {
        cycles_of(&self.imports)
    }

    fn check_vocabulary(&self, words: &[&str], folder: &str, problems: &mut Vec<String>) {
        for word in words {
            let Some(imports) = self.imports.get(*word) else {
                problems.push(format!("{folder}: there is no module {word}"));
                continue;
            };
            for import in imports.iter().filter(|one| !words.contains(&one.as_str())) {
                problems.push(format!(
                    "{folder}: {word} may not import {import}, which is not a module of the \
                     vocabulary (xtask/src/cycles/mod.rs)"
                ));
            }
        }
    }
}

/// Groups of two or more names that reach each other. Each name comes with those that it leads to.
pub(crate) fn cycles_of(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<&str>> {
    let all: BTreeMap<&str, BTreeSet<&str>> = graph
        .keys()
        .map(|name| (name.as_str(), reached(graph, name)))
        .collect();
    let mut cycles: Vec<BTreeSet<&str>> = Vec::new();
    for (name, reached) in &all {
        if cycles.iter().any(|cycle| cycle.contains(name)) || !reached.contains(name) {
            continue;
        }
        let mutual = reached.iter().filter(|other| all[*other].contains(name));
        cycles.push(mutual.copied().collect());
    }
    cycles
}

/// The names that a name leads to, directly or indirectly.
fn reached<'m>(graph: &'m BTreeMap<String, BTreeSet<String>>, from: &'m str) -> BTreeSet<&'m str> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(name) = next.pop() {
        let there = graph.get(name).into_iter().flatten().map(String::as_str);
        next.extend(there.filter(|one| graph.contains_key(*one) && reached.insert(*one)));
    }
    reached
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
    fn modules_that_reach_each_other_are_in_a_cycle() {
        let modules = modules(&[
            ("lib.rs", "mod a;\nmod b;\npub use b::Named;\n"),
            ("a.rs", "use crate::Named;\n"),
            (
                "b/mod.rs",
                "mod inner;\nstruct Named;\nfn f() { crate::c::g() }\n",
            ),
            ("c.rs", "use crate::a::X;\n"),
            ("d.rs", "use crate::{a::X, c::Y};\n"),
        ]);
        let expected: Vec<BTreeSet<&str>> = vec![["a", "b", "c"].into()];
        assert_eq!(modules.cycles(), expected);
    }

    #[test]
    fn a_module_and_one_inside_it_that_import_each_other_are_a_cycle() {
        let modules = modules(&[
            ("a/mod.rs", "use inner::X;\nstruct Y(X, lower::Z);\n"),
            ("a/inner.rs", "use super::Y;\n"),
            // The module imports it, but it does not import the module.
            ("a/lower.rs", ""),
            // It imports the module, but the module does not import it.
            ("a/upper.rs", "use super::Y;\n"),
        ]);
        let expected: Vec<BTreeSet<&str>> = vec![["a", "a::inner"].into()];
        assert_eq!(modules.cycles(), expected);
    }

    #[test]
    fn a_cycle_may_lead_through_a_module_inside_another() {
        let modules = modules(&[
            ("a/mod.rs", "struct Y(inner::X);\n"),
            ("a/inner.rs", "use crate::b::Z;\n"),
            ("b.rs", "use crate::a::Y;\n"),
        ]);
        let expected: Vec<BTreeSet<&str>> = vec![["a", "a::inner", "b"].into()];
        assert_eq!(modules.cycles(), expected);
    }

    #[test]
    fn cycles_are_told_of_each_crate_but_those_that_are_left_out() {
        let file = |path: &str, text: &str| SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let mut files = Vec::new();
        for name in ["x", "sim"] {
            files.push(file(
                &format!("crates/{name}/src/a.rs"),
                "use crate::b::X;\n",
            ));
            files.push(file(
                &format!("crates/{name}/src/b.rs"),
                "use crate::a::Y;\n",
            ));
        }
        let mut problems = Vec::new();
        check(&files, &mut problems);
        let told = "crates/x/src: modules import each other in a cycle: a b";
        assert_eq!(problems, [told]);
    }

    #[test]
    fn the_vocabulary_imports_nothing_else() {
        let modules = modules(&[
            ("a.rs", "use crate::b::X;\n"),
            ("b.rs", "use crate::c::Y;\n"),
            ("c.rs", ""),
        ]);
        let mut problems = Vec::new();
        modules.check_vocabulary(&["a", "b"], "x", &mut problems);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("b may not import c"), "{problems:?}");
    }
}
