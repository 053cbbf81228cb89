//! The file `STORE`: identifies the directory as a store; has its format version and its salt.
//! Three copies in one file, so that a flipped bit does not destroy the identity. It never
//! changes.
//!
//! Checksums are invalid under another store's salt: with the `STORE` file of another store, all
//! files look as if nothing had ever been written to them. So the file is accepted only if
//! something confirms it, or if nothing contradicts it.

use crate::checkpoint;
use crate::disk::Disk;
use crate::error::{OpenError, StoreError};
use crate::mark::{self, MarkFile};
use crate::record::{
    FileKey, GROUP_BYTES, GroupHeader, HEADER_BYTES, length_of, ops_of, read_u32, read_u64,
};
use crate::report::{Damage, Lost};
use crate::scan::{ScanItem, Window};
use crate::segment;

/// The newest version of the format that this program supports.
pub const FORMAT_VERSION: u32 = 1;

pub(crate) const NAME: &str = "STORE";
const NEW_NAME: &str = "STORE.new";
const MAGIC: &[u8; 8] = b"MARTLETS";
const COPY_BYTES: usize = 24;
const COPIES: [u64; 3] = [0, 512, 4096];
/// Upper bound of the numbers under which a file of the log is reused.
const NUMBERS_TRIED_MAX: usize = 1 << 20;
/// Bytes of the whole file.
pub(crate) const FILE_BYTES: u64 = COPIES[2] + COPY_BYTES as u64;

/// Contents of the file.
pub(crate) struct Identity {
    pub(crate) salt: u64,
    /// Copies that are invalid or differ.
    pub(crate) bad: Vec<Damage>,
}

/// The store's identity, read from its file, or created with `salt` if the directory, with these
/// files, has no store yet.
pub(crate) fn open<D: Disk>(
    disk: &D,
    salt: u64,
    names: &[(String, u64)],
) -> Result<Identity, OpenError> {
    let error = |what, error| StoreError::new(what, NAME, error);
    match disk.open(NAME) {
        Ok(file) => read(disk, &file),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(error("opening", e).into()),
        Err(_) if names.iter().any(|(name, _)| is_stored(name)) => Err(OpenError::NoIdentity),
        // It existed when the mark was written.
        Err(_) if names.iter().any(|(name, _)| name == mark::NAME) => Err(OpenError::Gone {
            mark: mark::NAME.to_owned(),
        }),
        Err(_) => {
            create(disk, salt).map_err(|e| error("creating", e))?;
            Ok(Identity {
                salt,
                bad: Vec::new(),
            })
        }
    }
}

fn is_stored(name: &str) -> bool {
    segment::number_of(name).is_some() || checkpoint::number_of(name).is_some()
}

fn read<D: Disk>(disk: &D, file: &D::File) -> Result<Identity, OpenError> {
    let (mut known, mut newer, mut unreadable) = (None, None, None);
    let mut bad = Vec::new();
    for offset in COPIES {
        let mut copy = [0; COPY_BYTES];
        let filled = disk.read_at(file, offset, &mut copy);
        let found = check(&copy).filter(|_| filled.is_ok());
        match found {
            Some((version, salt))
                if version <= FORMAT_VERSION && known.is_none_or(|known| known == salt) =>
            {
                known = Some(salt);
                continue;
            }
            Some((version, _)) if version > FORMAT_VERSION => newer = Some(version),
            _ => {}
        }
        let damage = Damage::new(NAME.to_owned(), offset, Lost::Nothing);
        bad.push(damage.with_error(filled.as_ref().err().map(ToString::to_string)));
        unreadable = unreadable.or(filled.err());
    }
    match (known, unreadable, newer) {
        (Some(salt), ..) => Ok(Identity { salt, bad }),
        (None, Some(error), _) => Err(StoreError::new("reading", NAME, error).into()),
        (None, None, Some(found)) => Err(OpenError::TooNew {
            found,
            known: FORMAT_VERSION,
        }),
        (None, None, None) => Err(OpenError::NoIdentity),
    }
}

/// Rejects a directory in which nothing was written by the store of this `STORE` file, but
/// something by another store: if opened, everything would be taken for empty.
pub(crate) fn vouch<D: Disk>(
    disk: &D,
    salt: u64,
    names: &[(String, u64)],
    mark: &MarkFile,
) -> Result<(), OpenError> {
    let named = |is_wanted: fn(&str) -> bool| {
        let mut files = names.iter();
        files.find(|(name, len)| *len > 0 && is_wanted(name))
    };
    let other = names.iter().find(|(name, len)| {
        segment::number_of(name).is_some_and(|number| is_others(disk, salt, number, *len))
    });
    let suspect = match mark.mark {
        // Records were synced under this identity; their loss is reported.
        Some(_) => other,
        None if mark.is_there => other.or_else(|| named(|name| name == mark::NAME)),
        None => other.or_else(|| named(|name| checkpoint::number_of(name).is_some())),
    };
    let Some((suspect, _)) = suspect else {
        return Ok(());
    };
    if names
        .iter()
        .any(|(name, len)| is_own(disk, salt, name, *len))
    {
        return Ok(());
    }
    if let (None, Some(error)) = (mark.mark, &mark.error) {
        // It may be readable another time.
        let error = std::io::Error::other(error.clone());
        return Err(StoreError::new("reading", mark::NAME, error).into());
    }
    Err(OpenError::Foreign {
        file: suspect.clone(),
    })
}

/// Whether a segment begins like a segment, but not under this salt: it belongs to another store,
/// or its beginning is damaged. A segment torn by a crash, or a reused one that still has its old
/// beginning, does not count.
pub(crate) fn is_others<D: Disk>(disk: &D, salt: u64, number: u64, len: u64) -> bool {
    let mut begin = [0; GROUP_BYTES + HEADER_BYTES];
    let filled = disk
        .open(&segment::name(number))
        .and_then(|file| disk.read_at(&file, 0, &mut begin));
    if !filled.is_ok_and(|filled| filled == begin.len()) {
        return false;
    }
    let (header, record) = begin.split_at(GROUP_BYTES);
    let group = GroupHeader::take(ops_of(header));
    let Some(group) = group.filter(|group| group.segment_len == len) else {
        return false;
    };
    // Both contain the record's number, if the beginning is not torn.
    let is_whole = header[8..16] == record[8..16] && length_of(record).is_some();
    let masked = read_u64(&header[8..]).unwrap_or_default();
    let is_under = |number| masked ^ FileKey::new(salt, number).mask == group.segment_first;
    is_whole && !(1..=number).rev().take(NUMBERS_TRIED_MAX).any(is_under)
}

/// Whether some record of this segment or checkpoint is valid under this salt.
fn is_own<D: Disk>(disk: &D, salt: u64, name: &str, len: u64) -> bool {
    let key = match (segment::number_of(name), checkpoint::number_of(name)) {
        (Some(number), _) => FileKey::new(salt, number),
        (_, Some((number, _))) => checkpoint::key(salt, number),
        _ => return false,
    };
    let Ok(file) = disk.open(name) else {
        return false;
    };
    let mut window = Window::<D>::new(disk, &file, key, len);
    match segment::number_of(name) {
        Some(_) => window.search(0, 1).is_some(),
        // A checkpoint without its beginning has no meaning.
        None => matches!(window.at(0, 1), ScanItem::Record(1, ..)),
    }
}

/// Writes the file again if something in it was wrong. One copy is enough, so a failure does not
/// matter.
pub(crate) fn renew<D: Disk>(disk: &D, identity: &Identity) {
    if !identity.bad.is_empty() {
        let _ = create(disk, identity.salt);
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
