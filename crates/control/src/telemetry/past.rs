//! Values of the past, such as those of another system: they keep their times, no rule sees them,
//! and their device does not count as active.

use martlet_telemetry::{Storage, StorageError};

use super::devices::{DeviceNumber, TelemetryDevice};
use super::rejected::{reason_of, words_of};
use super::store::points_of;
use super::{Decoded, Decoder, StoreError, StoredNow, Telemetry, TelemetrySettings};

impl Telemetry {
    /// Stores the values of a payload of the past, which [`Decoder::of_past`] has decoded. It came
    /// at that time (µs since the Unix epoch). When it returns, they are synced.
    ///
    /// # Errors
    /// A value cannot be stored, or the storage does not take them: nothing is stored then.
    pub async fn store_past(
        &self,
        device: &TelemetryDevice,
        mut decoded: Decoded,
        received: i64,
    ) -> Result<StoredNow, StoreError> {
        let values = decoded.readings.len();
        let ignored = std::mem::take(&mut decoded.ignored);
        let points = points_of(decoded, device.in_storage(), 0, str::to_owned);
        self.write_whole(points.collect()).await?;
        Ok(StoredNow {
            values,
            retimed: 0,
            received,
            ignored,
        })
    }
}

/// The telemetry of a node that does not run.
#[derive(Debug)]
pub struct TelemetryAtRest {
    storage: Storage,
    decoder: Decoder,
}

impl TelemetryAtRest {
    /// Opens the storage of a node.
    ///
    /// # Errors
    /// It cannot be opened, or another process has it open.
    pub async fn open(settings: TelemetrySettings) -> Result<Self, StorageError> {
        let storage = Storage::open(settings.location, settings.storage).await?;
        let decoder = settings.decoder.of_past();
        Ok(Self { storage, decoder })
    }

    /// Stores a payload with values of the past, and returns their number. When it returns, they
    /// are synced. A value without a time of its own is invalid.
    ///
    /// # Errors
    /// The payload is invalid, a value cannot be stored, or the storage does not take it: nothing
    /// of it is stored then.
    pub async fn store(&self, device: DeviceNumber, payload: &[u8]) -> Result<usize, StoreError> {
        let decoded = self.decoder.decode_whole(payload, 0)?;
        let values = decoded.readings.len();
        let points: Vec<_> = points_of(decoded, device, 0, str::to_owned).collect();
        let keys: Vec<_> = points.iter().map(|point| point.key.clone()).collect();
        let written = self.storage.write_whole(points).await?;
        let refused = written.refused.into_iter().next();
        match refused.and_then(|one| Some((keys.get(one.index)?, one))) {
            Some((key, one)) => Err(StoreError::Refused {
                index: one.index,
                place: self.decoder.place_of(payload, 0, one.index),
                reason: reason_of(one.refusal),
                key: key.clone(),
                why: words_of(one.refusal),
            }),
            None => Ok(values),
        }
    }

    /// Closes the storage.
    ///
    /// # Errors
    /// It cannot be closed.
    pub async fn close(self) -> Result<(), StorageError> {
        self.storage.close().await
    }
}
