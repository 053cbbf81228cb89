//! The file `STORE`: that this is a store, of which version, and its salt. Three copies in one
//! file, so that a flipped bit does not cost the store its name.

use crate::disk::Disk;
use crate::error::{OpenError, StoreError};
use crate::record::{read_u32, read_u64};

/// The newest version of the format that is known here.
pub const FORMAT_VERSION: u32 = 1;

pub(crate) const NAME: &str = "STORE";
const NEW_NAME: &str = "STORE.new";
const MAGIC: &[u8; 8] = b"MARTLETS";
const COPY_BYTES: usize = 24;
const COPIES: [u64; 3] = [0, 512, 4096];
/// Bytes of the whole file.
pub(crate) const FILE_BYTES: u64 = COPIES[2] + COPY_BYTES as u64;

/// The salt of the store, from its file or made with `salt` if the directory has no store yet.
pub(crate) fn open<D: Disk>(disk: &D, salt: u64, is_empty: bool) -> Result<u64, OpenError> {
    let error = |what, error| StoreError::new(what, NAME, error);
    match disk.open(NAME) {
        Ok(file) => {
            let (mut newer, mut unreadable) = (None, None);
            for offset in COPIES {
                let mut copy = [0; COPY_BYTES];
                if let Err(error) = disk.read_at(&file, offset, &mut copy) {
                    unreadable = Some(error);
                    continue;
                }
                match check(&copy) {
                    Some((version, salt)) if version <= FORMAT_VERSION => return Ok(salt),
                    Some((version, _)) => newer = Some(version),
                    None => {}
                }
            }
            if let Some(unreadable) = unreadable {
                return Err(error("reading", unreadable).into());
            }
            Err(
                newer.map_or(OpenError::NoIdentity, |found| OpenError::TooNew {
                    found,
                    known: FORMAT_VERSION,
                }),
            )
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && is_empty => {
            create(disk, salt).map_err(|e| error("creating", e))?;
            Ok(salt)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(OpenError::NoIdentity),
        Err(e) => Err(error("opening", e).into()),
    }
}

fn check(copy: &[u8]) -> Option<(u32, u64)> {
    let (body, crc) = copy.split_at_checked(COPY_BYTES - 4)?;
    let checks = body.starts_with(MAGIC) && crc == crc32c::crc32c(body).to_le_bytes();
    let version = read_u32(body.get(8..)?)?;
    checks.then_some((version, read_u64(body.get(12..)?)?))
}

fn create<D: Disk>(disk: &D, salt: u64) -> std::io::Result<()> {
    let mut copy = Vec::with_capacity(COPY_BYTES);
    copy.extend_from_slice(MAGIC);
    copy.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    copy.extend_from_slice(&salt.to_le_bytes());
    copy.extend_from_slice(&crc32c::crc32c(&copy).to_le_bytes());
    let file = disk.create(NEW_NAME, 0)?;
    for offset in COPIES {
        disk.write_at(&file, offset, &copy)?;
    }
    disk.sync(&file)?;
    disk.rename(NEW_NAME, NAME)?;
    disk.sync_dir()
}
