//! Writes each case of the packet table as a seed for the fuzz targets `codec_decode` and
//! `codec_roundtrip`, into the given corpus folder (usually `fuzz/corpus`). The first byte of a
//! seed selects the version, as the targets expect.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Error, Result};
use std::path::PathBuf;

use martlet_codec::ProtocolVersion;

fn main() -> Result<()> {
    let corpus = std::env::args_os()
        .nth(1)
        .ok_or_else(|| Error::other("name the corpus folder"))?;
    let folders =
        ["codec_decode", "codec_roundtrip"].map(|target| PathBuf::from(&corpus).join(target));
    for folder in &folders {
        std::fs::create_dir_all(folder)?;
    }
    for case in support::table() {
        let mut seed = vec![match case.version {
            ProtocolVersion::V31 => 0,
            ProtocolVersion::V311 => 1,
            ProtocolVersion::V5 => 2,
        }];
        seed.extend_from_slice(&case.bytes);
        for folder in &folders {
            std::fs::write(folder.join(&case.name), &seed)?;
        }
    }
    Ok(())
}
