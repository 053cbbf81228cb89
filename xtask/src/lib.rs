//! Generated pages and checks of the sources.
//!
//! * `callers`: the product calls its public functions
//! * `conformance`: statement of the specification → code → tests, as `docs/conformance.md`
//! * `cycles`: modules that import each other
//! * `floors`: files of the shard that call each other in a circle
//! * `pages`: configuration, metrics and command line reference
//! * `tidy`: automatic checks of the repository's rules
//! * `use_cases`: handlers of the API run use cases, and do not access the registry directly
//! * `sources`: the files of the repository
//! * `test_run`: the tests of all crates
//! * `why_lines`: the size of `martlet why`
#![forbid(unsafe_code)]

mod callers;
mod conformance;
mod cycles;
mod floors;
mod pages;
mod sources;
mod test_run;
mod tidy;
mod use_cases;
mod why_lines;

pub use conformance::Conformance;
pub use pages::{Page, all_pages};
pub use sources::{SourceFile, root, source_files};
pub use test_run::{Form, run_tests};
pub use tidy::problems;
pub use why_lines::why_lines;
