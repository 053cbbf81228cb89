//! Firmware for devices: files in the data directory, what the tables have of them, and serving
//! them by MQTT.
//!
//! * `files`: the directory: a file is there as a whole or not at all, also after a crash
//! * `upload`: a file comes in piece by piece
//! * `signature`: what is verified of it
//! * `request`: what a device asks for by MQTT
//! * `chunks`: pieces of files by MQTT

mod chunks;
mod error;
mod files;
mod refused;
mod request;
mod reserved;
mod signature;
mod upload;
mod why;

use std::path::PathBuf;
use std::sync::Arc;

use martlet_broker::Share;
use martlet_registry::{Actor, Device, Page, PageRequest, RegistryError, Visibility};
pub use martlet_registry::{Firmware, FirmwareFilter, NewFirmware};
use tokio::fs::File;

use crate::shared_registry::{SharedRegistry, SharedRegistryError};
use crate::shared_slots::{SharedSlot, SharedSlots};
pub use chunks::serve_chunks;
pub use error::FirmwareError;
use error::too_large;
use files::Files;
pub(crate) use files::is_file_name;
use refused::LastRefused;
use reserved::Reservations;
pub use signature::{PublicKey, WrongKey};
pub use upload::{Claims, Upload};

/// Uploads at once, at most.
const UPLOADS_MAX: usize = 32;

/// Directory of firmware in the data directory.
pub const DIRECTORY: &str = "firmware";

/// Bounds of firmware, and how it is verified.
#[derive(Clone, Debug)]
pub struct FirmwareSettings {
    /// Where files are.
    pub directory: PathBuf,
    /// Bytes of one file, at most.
    pub max_bytes: u64,
    /// Bytes of all files, at most.
    pub total_bytes: u64,
    /// How much of these one team may have.
    pub team_share: Share,
    /// Bytes per second that are served by MQTT, at most.
    pub mqtt_bytes_per_sec: u64,
    /// One of these keys must have signed a file. Empty: signatures are kept as they are given.
    pub public_keys: Vec<PublicKey>,
}

/// Firmware of a node.
#[derive(Debug)]
pub struct FirmwareStore {
    tables: Arc<SharedRegistry>,
    settings: FirmwareSettings,
    files: Files,
    uploads: SharedSlots<Visibility>,
    /// Bytes that uploads may still bring.
    reserved: Reservations,
    /// Files are put in their places and removed one after the other.
    placing: tokio::sync::Mutex<()>,
    /// Requests of devices by MQTT that were refused last.
    refused: LastRefused,
}

impl FirmwareStore {
    /// The firmware in this directory, which is made when it is needed.
    pub fn new(tables: Arc<SharedRegistry>, settings: FirmwareSettings) -> Self {
        Self {
            tables,
            files: Files::new(settings.directory.clone()),
            uploads: SharedSlots::new(UPLOADS_MAX, settings.team_share),
            settings,
            reserved: Reservations::default(),
            placing: tokio::sync::Mutex::default(),
            refused: LastRefused::default(),
        }
    }

    /// Bytes of one file, at most.
    pub fn max_bytes(&self) -> u64 {
        self.settings.max_bytes
    }

    /// Bytes of all files, at most.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.settings.total_bytes
    }

    /// Ends what a crash has broken off. To be called at the start, until it succeeds.
    ///
    /// # Errors
    /// The directory or the tables cannot be read.
    pub async fn recover(&self) -> Result<(), FirmwareError> {
        let _placing = self.placing.lock().await;
        if !self.files.is_there() {
            return Ok(());
        }
        let known = self
            .tables
            .read(|registry| Box::pin(registry.firmware_files()));
        let known = known.await?;
        self.files.recover(known.into_iter().collect()).await
    }

    /// A place among the uploads of the node, and of a team.
    ///
    /// # Errors
    /// All are taken.
    fn place_of(&self, visibility: &Visibility) -> Result<SharedSlot, FirmwareError> {
        self.uploads.try_take(visibility).map_err(|most| {
            let why = format!("{most} files are being uploaded: try again later");
            FirmwareError::Busy(why)
        })
    }

    /// Begins to receive a file of `length` bytes, if its sender has given the length.
    ///
    /// # Errors
    /// It is too long, or there is no room for it.
    pub async fn begin(
        &self,
        visibility: &Visibility,
        claims: Claims,
        length: Option<u64>,
    ) -> Result<Upload, FirmwareError> {
        let max = self.settings.max_bytes;
        if length.is_some_and(|length| length > max) {
            return Err(too_large(max));
        }
        claims.check()?;
        let place = self.place_of(visibility)?;
        let bytes = length.unwrap_or(max);
        let team = visibility.team().unwrap_or_default();
        let (all, of_team) = self.stored_bytes(team.to_owned()).await?;
        let reserved = self.reserved.take(team, bytes, |own, others| {
            self.check_room(team, bytes, all, of_team, own, others)
        })?;
        let mut upload = Upload::new(claims, reserved, max.min(bytes), place);
        upload.open(&self.files).await?;
        Ok(upload)
    }

    /// Checks whether there is room for this many bytes of a team, beside what is stored and what
    /// uploads have reserved.
    fn check_room(
        &self,
        team: &str,
        bytes: u64,
        stored: u64,
        own_stored: u64,
        own_reserved: u64,
        others_reserved: u64,
    ) -> Result<(), FirmwareError> {
        let all = self.settings.total_bytes;
        let own = own_stored.saturating_add(own_reserved);
        let others = stored.saturating_sub(own_stored);
        let others = others.saturating_add(others_reserved);
        let share = self.settings.team_share.beside(others, all);
        let wanted = own.saturating_add(bytes);
        let why = match () {
            () if !team.is_empty() && wanted > share => format!(
                "the team may have {share} bytes of files (limits.team_percent of what others \
                 leave of firmware.total_bytes), and {own} are stored or being uploaded: delete \
                 some first (martlet firmware rm)"
            ),
            () if wanted.saturating_add(others) > all => format!(
                "firmware.total_bytes allows {all} bytes for all files, and {} are stored or being \
                 uploaded: delete some first (martlet firmware rm)",
                own.saturating_add(others)
            ),
            () => return Ok(()),
        };
        Err(FirmwareError::NoRoom(why))
    }

    /// Bytes of all files, and of those of a team.
    async fn stored_bytes(&self, team: String) -> Result<(u64, u64), SharedRegistryError> {
        let read = self
            .tables
            .read(move |registry| Box::pin(async move { registry.firmware_bytes(&team).await }));
        read.await
    }

    /// Ends an upload: when it returns, the file and its row are synced.
    ///
    /// # Errors
    /// The file is not what was claimed, its signature is wrong, there is such a version, or it
    /// cannot be written. Then nothing of it is kept.
    pub async fn finish(&self, actor: Actor, upload: Upload) -> Result<Firmware, FirmwareError> {
        // Its bytes are reserved until the tables have them.
        let (received, new, _reserved) = upload.finish().await?;
        let new = self.verified(new)?;
        new.check()
            .map_err(|error| FirmwareError::Invalid(error.to_string()))?;
        let _placing = self.placing.lock().await;
        let digest = new.sha256.clone();
        // Beside its place until the tables have it: see `Files::recover`.
        self.files.prepare(received.path(), &digest).await?;
        received.keep();
        let added = self.tables.note(move |registry| {
            Box::pin(async move { registry.add_firmware(&actor, new).await })
        });
        match added.await {
            Ok(added) => {
                self.files.place(&digest).await?;
                Ok(added)
            }
            Err(error) => {
                // A database that cannot be reached may have it: the next start knows.
                if !error.is_fault() {
                    self.files.discard(&digest).await;
                }
                Err(error.into())
            }
        }
    }

    /// Adds firmware whose file is elsewhere.
    ///
    /// # Errors
    /// Its signature is wrong, there is such a version, or something about it cannot be.
    pub async fn refer(&self, actor: Actor, new: NewFirmware) -> Result<Firmware, FirmwareError> {
        let new = self.verified(new)?;
        let added = self.tables.note(move |registry| {
            Box::pin(async move { registry.add_firmware(&actor, new).await })
        });
        Ok(added.await?)
    }

    fn verified(&self, mut new: NewFirmware) -> Result<NewFirmware, FirmwareError> {
        new.sha256.make_ascii_lowercase();
        let keys = &self.settings.public_keys;
        new.is_verified = signature::verify(keys, &new.sha256, &new.signature)?;
        Ok(new)
    }

    /// Firmware by name, the newest version first.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub async fn list(
        &self,
        visibility: Visibility,
        filter: FirmwareFilter,
        page: PageRequest,
    ) -> Result<Page<Firmware>, SharedRegistryError> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.list_firmware(&visibility, &filter, &page).await })
        });
        read.await
    }

    /// A version of firmware.
    ///
    /// # Errors
    /// There is none, or the tables cannot be read.
    pub async fn show(
        &self,
        visibility: Visibility,
        name: String,
        version: String,
    ) -> Result<Firmware, SharedRegistryError> {
        let read = self.tables.read(move |registry| {
            Box::pin(async move { registry.firmware(&visibility, &name, &version).await })
        });
        read.await
    }

    /// A version of firmware that a device may load.
    ///
    /// # Errors
    /// There is none for devices of its type and team, or the tables cannot be read.
    pub async fn for_device(
        &self,
        device: &Device,
        name: String,
        version: String,
    ) -> Result<Firmware, SharedRegistryError> {
        let (team, of_type) = (device.team.clone(), device.device_type.clone());
        let requested = (name.clone(), version.clone());
        let read = self.tables.read(move |registry| {
            Box::pin(async move {
                let (name, version) = (&requested.0, &requested.1);
                registry.firmware_for(&team, &of_type, name, version).await
            })
        });
        let found = read.await;
        let key = (device.tenant, device.id.as_str());
        match &found {
            Ok(_) => self.refused.remove(key),
            Err(SharedRegistryError::Registry(RegistryError::NotFound(_))) => {
                self.refused.add(key.0, key.1, &name, &version);
            }
            Err(_) => {}
        }
        found
    }

    /// Deletes a version of firmware, and its file if no other version has it.
    ///
    /// # Errors
    /// There is none, a rollout needs it, or the tables cannot be changed.
    pub async fn remove(
        &self,
        actor: Actor,
        name: String,
        version: String,
    ) -> Result<Firmware, FirmwareError> {
        let _placing = self.placing.lock().await;
        let (visibility, of) = (actor.visibility.clone(), (name.clone(), version.clone()));
        let found = self.show(visibility, of.0, of.1).await?;
        let is_here = found.url.is_empty();
        if is_here {
            // A crash from here on leaves no unknown file.
            self.files.unplace(&found.sha256).await?;
        }
        let removed = self.tables.note(move |registry| {
            Box::pin(async move { registry.remove_firmware(&actor, &name, &version).await })
        });
        match removed.await {
            Ok((removed, is_needed)) => {
                match is_needed {
                    true => self.files.place(&removed.sha256).await?,
                    false if is_here => self.files.discard(&removed.sha256).await,
                    false => {}
                }
                Ok(removed)
            }
            Err(error) => {
                if is_here {
                    self.files.place(&found.sha256).await?;
                }
                Err(error.into())
            }
        }
    }

    /// Opens the file of a version.
    ///
    /// # Errors
    /// It is elsewhere, is not in the data directory of this node, or cannot be read.
    pub async fn open(&self, firmware: &Firmware) -> Result<File, FirmwareError> {
        if !firmware.url.is_empty() {
            let why = format!("the file is at {}", firmware.url);
            return Err(FirmwareError::NoFile(why));
        }
        self.files.open(&firmware.sha256, firmware.size).await
    }
}
