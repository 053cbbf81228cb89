//! The figures in the repository, and what may be made of new ones.
//!
//! Responsible for `figures.txt` beside this crate's manifest and for the tolerance. It counts
//! nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;

use crate::paths::Path;

/// How much more a path may cost than its figure. The same build counts the same to a few in
/// ten thousand; other processors choose other routines to copy memory and to check UTF-8.
const TOLERANCE: f64 = 0.03;

const HEAD: &str = "\
# What a message costs inside the broker: instructions and allocations. A path may cost 3 % more.
# Written by `cargo instructions --write`.
";

/// Per message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figure {
    /// Instructions.
    pub(crate) instructions: f64,
    /// Allocations.
    pub(crate) allocations: f64,
}

/// Figures by the name of the path.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<String, Figure>);

impl Figures {
    /// Reads the file; one that is not there holds none.
    ///
    /// # Errors
    /// It is not understood.
    pub(crate) fn read() -> anyhow::Result<Self> {
        match std::fs::read_to_string(file()) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).context("figures.txt"),
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(&self) -> anyhow::Result<()> {
        std::fs::write(file(), self.text()).context("figures.txt")
    }

    /// The figure of a path.
    pub(crate) fn get(&self, name: &str) -> Option<Figure> {
        self.0.get(name).copied()
    }

    /// Changes the figure of a path.
    pub(crate) fn set(&mut self, name: &str, figure: Figure) {
        self.0.insert(name.to_owned(), figure);
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let figures = lines.map(|line| {
            let mut words = line.split_whitespace();
            let mut next = || words.next().with_context(|| format!("figures.txt: {line}"));
            let name = next()?.to_owned();
            let (instructions, allocations) = (next()?.parse()?, next()?.parse()?);
            Ok((
                name,
                Figure {
                    instructions,
                    allocations,
                },
            ))
        });
        figures.collect::<anyhow::Result<_>>().map(Self)
    }

    fn text(&self) -> String {
        let lines = self.0.iter().map(|(name, figure)| {
            let Figure {
                instructions,
                allocations,
            } = figure;
            format!("{name:<14} {instructions:>10.1} {allocations:>8.3}\n")
        });
        HEAD.chars()
            .chain(lines.collect::<String>().chars())
            .collect()
    }
}

/// Returns what is wrong with a new figure.
pub(crate) fn faults(path: &Path, now: Figure, before: Option<Figure>) -> Vec<String> {
    let mut faults = Vec::new();
    let Some(before) = before else {
        return faults;
    };
    let more = now.instructions / before.instructions - 1.0;
    if more > TOLERANCE {
        faults.push(format!(
            "{:.1} % more instructions than {:.1}",
            more * 100.0,
            before.instructions
        ));
    }
    // A table that grows once in a while is no allocation per message.
    if now.allocations > before.allocations + 0.005 {
        let promise = match path.is_without_allocations {
            true => " (this path must not allocate)",
            false => "",
        };
        faults.push(format!(
            "{:.3} allocations, there were {:.3}{promise}",
            now.allocations, before.allocations
        ));
    }
    faults
}

/// Whether a new figure is so much better that the old one would let it get worse again unnoticed.
pub(crate) fn is_gain(now: Figure, before: Figure) -> bool {
    now.instructions < before.instructions * (1.0 - TOLERANCE)
}

fn file() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/figures.txt"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::PATHS;

    fn figure(instructions: f64, allocations: f64) -> Figure {
        Figure {
            instructions,
            allocations,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut figures = Figures::default();
        figures.set("qos0", figure(512.5, 0.0));
        figures.set("share", figure(2048.0, 1.25));
        let again = Figures::parse(&figures.text()).unwrap();
        assert_eq!(again.0, figures.0);
        assert!(Figures::parse("qos0 12").is_err());
    }

    #[test]
    fn more_than_the_tolerance_and_any_allocation_is_a_fault() {
        let path = &PATHS[0];
        let before = Some(figure(1000.0, 0.0));
        let count = |now| faults(path, now, before).len();
        assert_eq!(count(figure(1029.0, 0.0)), 0);
        assert_eq!(count(figure(500.0, 0.0)), 0);
        assert_eq!(count(figure(1031.0, 0.0)), 1);
        assert_eq!(count(figure(1000.0, 0.05)), 1);
    }

    #[test]
    fn every_path_has_a_figure_in_the_repository() {
        let figures = Figures::read().unwrap();
        for path in PATHS {
            assert!(figures.get(path.name).is_some(), "{}", path.name);
        }
    }
}
