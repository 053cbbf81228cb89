//! Reads parts of an invalid configuration file: commands that query a running node need only its
//! location.

use std::path::{Path, PathBuf};

use martlet_text_file::text_without_bom;
use toml::de::{DeTable, DeValue};

/// The data directory in a file, whatever else the file contains; `None` if there is none, or it
/// cannot be read.
pub(crate) fn data_dir_in(file: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(file).ok()?;
    data_dir_in_text(text_without_bom(&text))
}

fn named<'a, 'b>(table: &'a DeTable<'b>, name: &str) -> Option<&'a DeValue<'b>> {
    let mut all = table.iter();
    let found = all.find(|(key, _)| &**key.get_ref() == name);
    found.map(|(_, value)| value.get_ref())
}

fn data_dir_in_text(text: &str) -> Option<PathBuf> {
    let (table, _) = DeTable::parse_recoverable(text);
    let DeValue::Table(node) = named(table.get_ref(), "node")? else {
        return None;
    };
    match named(node, "data_dir")? {
        DeValue::String(text) if !text.is_empty() => Some(PathBuf::from(&**text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_directory_is_found_beside_what_is_wrong() {
        let found = Some(PathBuf::from("/a/b"));
        for text in [
            "[node]\ndata_dir = \"/a/b\"\nthreds = 7\n",
            "[node]\ndata_dir = \"/a/b\"\n[mqtt\nx = 1\n",
            "[mqtt]\nmax = \n[node]\ndata_dir = \"/a/b\"\n",
        ] {
            assert_eq!(data_dir_in_text(text), found, "{text}");
        }
        for text in [
            "",
            "node = 7",
            "[node]\ndata_dir = 7\n",
            "[mqtt]\ndata_dir = \"/a/b\"\n",
        ] {
            assert_eq!(data_dir_in_text(text), None, "{text}");
        }
    }
}
