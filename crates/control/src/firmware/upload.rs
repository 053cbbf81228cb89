//! A file comes in piece by piece. Its digest is computed as it is written.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;
use martlet_registry::NewFirmware;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use super::error::{FirmwareError, invalid, too_large};
use super::files::{Files, failed};
use super::reserved::Reserved;
use crate::shared_slots::SharedSlot;

/// Statements of the sender of a file about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Name of the firmware.
    pub name: String,
    /// Version of the firmware.
    pub version: String,
    /// Type of the devices that it is for.
    pub device_type: String,
    /// SHA-256 that the file must have, in hexadecimal digits; none: any.
    pub sha256: Option<String>,
    /// Base64; empty: none.
    pub signature: String,
}

impl Claims {
    fn new_firmware(&self, size: u64, sha256: String) -> NewFirmware {
        NewFirmware {
            name: self.name.clone(),
            version: self.version.clone(),
            device_type: self.device_type.clone(),
            size,
            sha256,
            signature: self.signature.clone(),
            is_verified: false,
            url: String::new(),
        }
    }

    /// Refuses what cannot be, before a byte of the file is read.
    pub(super) fn check(&self) -> Result<(), FirmwareError> {
        let sha256 = self.sha256.clone().unwrap_or_else(|| "0".repeat(64));
        let checked = self.new_firmware(1, sha256).check();
        checked.map_err(|error| invalid(error.to_string()))
    }
}

/// A file that is being uploaded. It is removed when this is dropped.
#[derive(Debug)]
pub struct Upload {
    claims: Claims,
    part: Option<(UploadedFile, File)>,
    digest: Digest,
    size: u64,
    max: u64,
    reserved: Reserved,
    _place: SharedSlot,
}

struct Digest(Context);

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digest")
    }
}

/// A file of an upload, which is removed unless it is kept.
#[derive(Debug)]
pub(super) struct UploadedFile(Option<PathBuf>);

impl UploadedFile {
    pub(super) fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    /// Keeps the file, which is somewhere else now.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for UploadedFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // What stays is removed at the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Upload {
    pub(super) fn new(claims: Claims, reserved: Reserved, max: u64, place: SharedSlot) -> Self {
        Self {
            claims,
            part: None,
            digest: Digest(Context::new(&SHA256)),
            size: 0,
            max,
            reserved,
            _place: place,
        }
    }

    pub(super) async fn open(&mut self, files: &Files) -> Result<(), FirmwareError> {
        let mut name = [0; 8];
        rand::fill(&mut name).map_err(|_| invalid("this machine has no source of randomness"))?;
        let (path, file) = files.new_part(u64::from_le_bytes(name)).await?;
        self.part = Some((UploadedFile(Some(path)), file));
        Ok(())
    }

    /// Takes the next piece of the file.
    ///
    /// # Errors
    /// The file is too long, or cannot be written.
    pub async fn write(&mut self, piece: &[u8]) -> Result<(), FirmwareError> {
        self.size = self.size.saturating_add(piece.len() as u64);
        if self.size > self.max {
            return Err(too_large(self.max));
        }
        self.digest.0.update(piece);
        match &mut self.part {
            Some((_, file)) => file.write_all(piece).await.map_err(failed("written")),
            None => Err(invalid("the upload was not begun")),
        }
    }

    /// Ends and syncs the file.
    pub(super) async fn finish(
        self,
    ) -> Result<(UploadedFile, NewFirmware, Reserved), FirmwareError> {
        let Some((received, mut file)) = self.part else {
            return Err(invalid("the upload was not begun"));
        };
        let digest = self.digest.0.finish();
        let sha256: String = digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if let Some(claimed) = &self.claims.sha256
            && !claimed.eq_ignore_ascii_case(&sha256)
        {
            return Err(invalid(format!(
                "the file has the SHA-256 {sha256}, not the given {claimed}: it is another file, \
                 or was damaged during the transfer"
            )));
        }
        file.flush().await.map_err(failed("written"))?;
        file.sync_all().await.map_err(failed("written"))?;
        let new = self.claims.new_firmware(self.size, sha256);
        Ok((received, new, self.reserved))
    }
}
