//! The imports of a crate's modules, derived from their text.
//!
//! A module is a file. Its imports are the names in its `use` lines, and paths in its code that
//! begin with `crate`, `super`, `self` or a module inside it. A re-exported name counts as an
//! import from its original module; the re-export itself is no import. Tests and inline modules are
//! ignored.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::SourceFile;

/// Most steps for which a name is followed from module to module.
const STEPS_MAX: usize = 8;

/// A path from the crate's root.
type Path = Vec<String>;

/// A module.
struct Module {
    path: Path,
    /// Code of the module without `use` lines.
    code: String,
    uses: Vec<Use>,
}

/// A name that a module uses.
struct Use {
    /// Whether it is re-exported.
    is_public: bool,
    /// Name that it has in the module.
    name: String,
    /// The path that it refers to.
    path: Path,
}

/// The modules of a crate by their paths, such as `session::queue`, and the imports of each.
pub(super) fn imports_of(
    crate_name: &str,
    files: &[SourceFile],
) -> BTreeMap<String, BTreeSet<String>> {
    let folder = format!("crates/{crate_name}/src/");
    let files = files.iter().filter_map(|file| {
        let path = file.path.strip_prefix(&folder)?.strip_suffix(".rs")?;
        let path = path.strip_suffix("/mod").unwrap_or(path);
        let path: Path = path.split('/').map(str::to_owned).collect();
        let is_test = |part: &String| part == "tests" || part.ends_with("_tests");
        let is_root = path == ["lib"] || path == ["main"];
        let text = (!path.iter().any(is_test)).then(|| code_of(&file.text))?;
        Some((if is_root { Path::new() } else { path }, text))
    });
    let files: Vec<(Path, String)> = files.collect();
    let known: BTreeSet<String> = files.iter().map(|(path, _)| path.join("::")).collect();
    let modules = files.into_iter();
    let modules = modules.map(|(path, text)| (path.join("::"), read(path, &text, &known)));
    let modules: BTreeMap<String, Module> = modules.collect();
    let mut imports = BTreeMap::new();
    for (name, module) in modules.iter().filter(|(name, _)| !name.is_empty()) {
        let used = module.uses.iter();
        let used = used.filter(|one| !one.is_public || has_name(&module.code, &one.name));
        let used = used.map(|one| one.path.clone());
        let named = paths_in(&module.code);
        let named = named.filter_map(|path| from_root(&path, module, &known));
        let found = used.chain(named).map(|path| origin(path, &modules));
        let found = found.filter(|found| !found.is_empty() && found != name);
        imports.insert(name.clone(), found.collect());
    }
    imports
}

/// The module that a path leads to; empty for the crate's root.
fn origin(mut path: Path, modules: &BTreeMap<String, Module>) -> String {
    for _ in 0..STEPS_MAX {
        path.retain(|part| part != "self");
        let mut lengths = (0..=path.len()).rev();
        let length = lengths.find(|length| modules.contains_key(&path[..*length].join("::")));
        let length = length.unwrap_or_default();
        let module = path[..length].join("::");
        let passed_on = modules.get(&module).and_then(|module| {
            let name = path.get(length)?;
            let mut uses = module.uses.iter();
            uses.find(|one| one.name == *name && one.path != path[..=length])
        });
        match passed_on {
            Some(one) => {
                path = one
                    .path
                    .iter()
                    .chain(&path[length + 1..])
                    .cloned()
                    .collect()
            }
            None => return module,
        }
    }
    String::new()
}

/// Reads a file without comments and tests.
fn read(path: Path, text: &str, known: &BTreeSet<String>) -> Module {
    let mut module = Module {
        path,
        code: String::new(),
        uses: Vec::new(),
    };
    let mut trees = Vec::new();
    let mut rest = text;
    while let Some(at) = begin_of_use(rest) {
        let begin = rest[..at].rfind('\n').map_or(0, |end| end + 1);
        let is_public = rest[begin..at].contains("pub");
        let tree = rest[at + "use ".len()..]
            .split(';')
            .next()
            .unwrap_or_default();
        trees.push((is_public, tree));
        module.code.push_str(&rest[..begin]);
        rest = rest
            .get(at + "use ".len() + tree.len() + 1..)
            .unwrap_or_default();
    }
    module.code.push_str(rest);
    // Visibilities are not imports.
    module.code = module.code.replace("pub(in crate::", "pub(in ");
    for (is_public, tree) in trees {
        for (path, name) in paths_of_tree(tree) {
            if let Some(path) = from_root(&path, &module, known) {
                module.uses.push(Use {
                    is_public,
                    name,
                    path,
                });
            }
        }
    }
    module
}

/// Offset of the next `use` statement.
fn begin_of_use(text: &str) -> Option<usize> {
    let mut begins = text.match_indices("use ").map(|(at, _)| at);
    begins.find(|at| {
        let line = text[..*at].rsplit('\n').next().unwrap_or_default().trim();
        line.is_empty() || line.starts_with("pub")
    })
}

/// A path in a module, from the crate's root; `None` if it leads out of the crate, or begins with
/// an imported name.
fn from_root(path: &[String], module: &Module, known: &BTreeSet<String>) -> Option<Path> {
    let own = &module.path;
    let first = path.first()?.as_str();
    let mut base: Path = match first {
        "crate" => Path::new(),
        "self" | "super" => own.clone(),
        _ => {
            let inside = own.iter().map(String::as_str).chain([first]);
            let inside: Vec<&str> = inside.collect();
            let is_used = module.uses.iter().any(|one| one.name == first);
            (known.contains(&inside.join("::")) && !is_used).then(|| own.clone())?
        }
    };
    for part in path {
        match part.as_str() {
            "crate" | "self" => {}
            "super" => drop(base.pop()),
            part => base.push(part.to_owned()),
        }
    }
    Some(base)
}

/// Paths of at least two names.
fn paths_in(code: &str) -> impl Iterator<Item = Path> {
    let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let found = code.split(move |c| !is_of_path(c));
    let found = found.map(|found| found.trim_matches(':'));
    let found = found.filter(|found| found.contains("::"));
    found.map(|found| found.split("::").map(str::to_owned).collect())
}

/// Whether code uses a name. Methods, later parts of paths and declared modules do not count.
fn has_name(code: &str, name: &str) -> bool {
    let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let is_whole = !after.starts_with(is_of_name) && !before.ends_with(is_of_name);
        let is_other = ["mod ", ".", ":"];
        is_whole && !is_other.iter().any(|other| before.ends_with(other))
    })
}

/// A file without comments and tests.
fn code_of(text: &str) -> String {
    const OF_TESTS: &str = "#[cfg(test)]\nmod ";
    let mut code = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(OF_TESTS) {
        code.push_str(&rest[..at]);
        let name = rest[at + OF_TESTS.len()..].split([';', '{']).next();
        let end = at + OF_TESTS.len() + name.unwrap_or_default().len();
        // Inline tests are at the end of a file.
        rest = rest[end..].strip_prefix(';').unwrap_or_default();
    }
    code.push_str(rest);
    let lines = code.lines();
    let code = lines.map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

/// The paths of `a::{b, c::{d, e as f}}`, each with its local name.
fn paths_of_tree(tree: &str) -> Vec<(Path, String)> {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        let (path, alias) = match tree.split_once(" as ") {
            Some((path, alias)) => (path, Some(alias.trim().to_owned())),
            None => (tree, None),
        };
        let parts = path.split("::").map(str::trim);
        let parts = parts.filter(|part| !part.is_empty()).map(str::to_owned);
        let path: Path = parts.collect();
        let mut named = path.iter().rev().filter(|part| *part != "self");
        let name = alias.or_else(|| named.next().cloned());
        return vec![(path, name.unwrap_or_default())];
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
    let paths = parts.flat_map(|part| paths_of_tree(&format!("{head}{}", part.trim())));
    paths.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(files: &[(&str, &str)]) -> BTreeMap<String, BTreeSet<String>> {
        let files = files.iter().map(|(path, text)| SourceFile {
            path: format!("crates/x/src/{path}"),
            text: (*text).to_owned(),
        });
        imports_of("x", &files.collect::<Vec<_>>())
    }

    fn of<'m>(imports: &'m BTreeMap<String, BTreeSet<String>>, module: &str) -> Vec<&'m str> {
        imports[module].iter().map(String::as_str).collect()
    }

    #[test]
    fn names_stand_for_the_module_that_they_come_from() {
        let found = imports(&[
            (
                "lib.rs",
                "mod a;\nmod b;\npub use b::{Named, inner::Deep};\n",
            ),
            ("a.rs", "use std::fmt;\nuse crate::Named;\n"),
            (
                "b/mod.rs",
                "mod inner;\npub use inner::Passed;\nstruct Named;\n",
            ),
            ("b/inner.rs", "// use super::No;\n"),
            (
                "c.rs",
                "use crate::{a::{X, Y as Z}, Deep};\nuse crate::b::Passed;\n",
            ),
        ]);
        assert_eq!(of(&found, "a"), ["b"]);
        assert_eq!(of(&found, "c"), ["a", "b::inner"]);
        // It only re-exports a name.
        assert_eq!(of(&found, "b"), [""; 0]);
    }

    #[test]
    fn paths_in_code_are_imports() {
        let found = imports(&[
            ("a.rs", "fn f() { crate::b::g() }\n"),
            (
                "b/mod.rs",
                "mod inner;\nfn f() -> inner::Own { inner::g() }\n",
            ),
            ("b/inner.rs", "const X: u8 = super::Y;\n"),
            ("c.rs", "use crate::d::inner;\nfn f() { inner::g() }\n"),
            (
                "d/inner.rs",
                "pub(in crate::d) fn f() { other::inner::g() }\n",
            ),
        ]);
        assert_eq!(of(&found, "a"), ["b"]);
        assert_eq!(of(&found, "b"), ["b::inner"]);
        assert_eq!(of(&found, "b::inner"), ["b"]);
        assert_eq!(of(&found, "c"), ["d::inner"]);
        assert_eq!(of(&found, "d::inner"), [""; 0]);
    }

    #[test]
    fn names_that_are_passed_on_and_used_are_imports() {
        let found = imports(&[
            (
                "a/mod.rs",
                "mod named;\npub use b::Used;\npub use c::Unused;\npub use named::named;\n\
                 struct A(Used);\nfn f() { other::Unused.named() }\n",
            ),
            ("a/b.rs", ""),
            ("a/c.rs", ""),
            ("a/named.rs", ""),
        ]);
        assert_eq!(of(&found, "a"), ["a::b"]);
    }

    #[test]
    fn imports_in_tests_do_not_count() {
        let found = imports(&[
            (
                "a.rs",
                "#[cfg(test)]\nmod tests;\nuse crate::c::Y;\n#[cfg(test)]\nmod more {\n    use crate::b::X;\n}\n",
            ),
            ("a/tests.rs", "use crate::b::X;\n"),
            ("b.rs", "use crate::a::Z; // crate::c\n"),
            ("c.rs", ""),
        ]);
        assert_eq!(of(&found, "a"), ["c"]);
        assert_eq!(of(&found, "b"), ["a"]);
        assert!(!found.contains_key("a::tests"));
    }
}
