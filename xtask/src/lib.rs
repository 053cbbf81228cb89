//! What is generated from the sources, and what is checked about them.
//!
//! * `conformance`: statement of the specification → code → tests, as `docs/conformance.md`
//! * `cycles`: modules that import each other
//! * `pages`: configuration, metrics and command line reference
//! * `tidy`: rules about the repository that a program can judge
//! * `use_cases`: handlers of the API run use cases, and do not work on the registry
//! * `sources`: the files of the repository
//! * `test_run`: the tests of all crates
#![forbid(unsafe_code)]

mod conformance;
mod cycles;
mod pages;
mod sources;
mod test_run;
mod tidy;
mod use_cases;

pub use conformance::Conformance;
pub use pages::{Page, all_pages};
pub use sources::{SourceFile, root, source_files};
pub use test_run::run_tests;
pub use tidy::problems;
