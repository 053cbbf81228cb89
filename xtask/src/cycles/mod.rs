//! Modules of a crate that import each other in a cycle. A crate may not have more of them than it
//! had, and not more than its number in [`MAY`] says.
//!
//! A module and one inside it that import each other are counted apart too: what both need belongs
//! into a file of its own beside the inner one.

mod imports;

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::SourceFile;
use imports::imports_of;

/// What a crate may have. The aim is 0.
struct May {
    crate_name: &'static str,
    /// Modules in cycles.
    in_cycles: usize,
    /// Pairs of a module and one inside it that import each other.
    with_child: usize,
}

/// Crates that are looked at. The first four are those that have no cycle; the others may only get
/// fewer.
const MAY: &[May] = &[
    may("broker", 0, 0),
    may("registry", 0, 0),
    may("control", 0, 0),
    may("api", 0, 0),
    may("integrate", 0, 0),
    may("martlet", 0, 0),
    may("reactor", 0, 0),
    may("codec", 0, 0),
    may("access", 0, 0),
    may("store", 0, 0),
    may("tick", 0, 0),
    may("rules", 0, 0),
    may("persistence", 0, 0),
    may("client", 0, 0),
    may("telemetry", 0, 0),
    may("certificates", 0, 0),
    may("rollout", 0, 0),
    may("agent", 0, 0),
    may("permission", 0, 0),
    may("lockout", 0, 0),
];

const fn may(crate_name: &'static str, in_cycles: usize, with_child: usize) -> May {
    May {
        crate_name,
        in_cycles,
        with_child,
    }
}

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
    for may in MAY {
        let name = may.crate_name;
        let modules = Modules::of(name, files);
        if modules.imports.is_empty() {
            continue;
        }
        let folder = format!("crates/{name}/src");
        let cycles = modules.cycles();
        let count: usize = cycles.iter().map(BTreeSet::len).sum();
        let cycles = cycles.iter().map(|cycle| {
            let names: Vec<&str> = cycle.iter().copied().collect();
            names.join(" ")
        });
        let what = "modules import each other in cycles";
        problems.extend(compare(&folder, what, (count, may.in_cycles), cycles));
        let pairs = modules.with_child();
        let what = "modules and modules inside them import each other";
        let told = pairs
            .iter()
            .map(|(outer, inner)| format!("{outer} {inner}"));
        problems.extend(compare(&folder, what, (pairs.len(), may.with_child), told));
        if name == VOCABULARY.0 {
            modules.check_vocabulary(VOCABULARY.1, &folder, problems);
        }
    }
}

/// What is to be said of a number that may only fall; none: it is as it was.
fn compare(
    folder: &str,
    what: &str,
    (count, may): (usize, usize),
    names: impl Iterator<Item = String>,
) -> Option<String> {
    if count == may {
        return None;
    }
    Some(match count > may {
        true => {
            let names: Vec<String> = names.collect();
            let names = names.join("; ");
            format!("{folder}: {count} {what}, {may} may: {names}")
        }
        false => format!(
            "{folder}: {count} {what}: set the number in xtask/src/cycles/mod.rs, which is {may}, \
             so that they do not become more again"
        ),
    })
}

/// The modules of a crate by their paths, such as `session::queue`, and what each imports.
struct Modules {
    imports: BTreeMap<String, BTreeSet<String>>,
}

impl Modules {
    fn of(name: &str, files: &[SourceFile]) -> Self {
        let imports = imports_of(name, files);
        Self { imports }
    }

    /// Modules that import one inside them which imports them, and that one.
    fn with_child(&self) -> Vec<(&str, &str)> {
        let all = self.imports.iter().flat_map(|(module, imported)| {
            let inside = imported.iter().filter(|one| is_inside(one, module));
            let mutual = inside.filter(|one| self.imports[*one].contains(module));
            mutual.map(|one| (module.as_str(), one.as_str()))
        });
        all.collect()
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
                    "{folder}: {word} may not import {import}, which is not a module of the \
                     vocabulary (xtask/src/cycles/mod.rs)"
                ));
            }
        }
    }
}

/// Whether a module is in the folder of another.
fn is_inside(module: &str, of: &str) -> bool {
    let rest = module.strip_prefix(of);
    rest.is_some_and(|rest| rest.starts_with("::"))
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
    fn a_module_and_one_inside_it_that_import_each_other_are_a_pair() {
        let modules = modules(&[
            ("a/mod.rs", "use inner::X;\nstruct Y(X, lower::Z);\n"),
            ("a/inner.rs", "use super::Y;\n"),
            // The module imports it, and it does not import the module.
            ("a/lower.rs", ""),
            // It imports the module, which does not import it.
            ("a/upper.rs", "use super::Y;\n"),
        ]);
        assert_eq!(modules.with_child(), [("a", "a::inner")]);
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
    fn numbers_may_only_fall() {
        let told = |count| {
            let names = ["a b".to_owned(), "c d".to_owned()];
            compare("crates/x/src", "are", (count, 2), names.into_iter())
        };
        let more = told(3);
        assert_eq!(
            more.as_deref(),
            Some("crates/x/src: 3 are, 2 may: a b; c d")
        );
        assert_eq!(told(2), None);
        let fewer = told(1);
        assert!(fewer.is_some_and(|told| told.contains("set the number in xtask/src/cycles")));
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
