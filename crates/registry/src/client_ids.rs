//! Which Client Identifiers the devices of a type may use.

use serde_json::json;

use crate::database::Work;
use crate::rule_sets::owner::{Owner, expect_all, expect_own};
use crate::sql::Fault;

/// Sessions of a device that may use any Client Identifier, if nothing else is set.
const SESSIONS_MAX: u32 = 10;

/// Sessions that may be permitted at most.
const SESSIONS_LIMIT: u32 = 10_000;

/// Which Client Identifiers the devices of a type may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientIds {
    /// The id of the device alone.
    #[default]
    Id,
    /// Any but the ids of other devices.
    Any {
        /// Sessions that a device may have at most.
        sessions_max: u32,
    },
}

impl ClientIds {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Any { .. } => "any",
        }
    }

    /// Sessions that a device may have at most.
    pub fn sessions_max(self) -> u32 {
        match self {
            Self::Id => 1,
            Self::Any { sessions_max } => sessions_max,
        }
    }

    /// From how it is written, with the number of sessions if one is given.
    ///
    /// # Errors
    /// The word means nothing, or the number does not go with it.
    pub fn from_words(word: &str, sessions_max: Option<u32>) -> Result<Self, String> {
        match (word, sessions_max) {
            ("id", None) => Ok(Self::Id),
            ("id", Some(_)) => {
                Err("max_sessions is of types with client_id = \"any\" alone".to_owned())
            }
            ("any", sessions) => match sessions.unwrap_or(SESSIONS_MAX) {
                sessions_max @ 1..=SESSIONS_LIMIT => Ok(Self::Any { sessions_max }),
                odd => Err(format!("max_sessions is 1 to {SESSIONS_LIMIT}, not {odd}")),
            },
            (odd, _) => Err(format!("client_id is {odd:?}, expected id or any")),
        }
    }

    pub(crate) fn of_row(word: &str, sessions_max: i64) -> Self {
        match word {
            "any" => Self::Any {
                sessions_max: u32::try_from(sessions_max).unwrap_or(SESSIONS_MAX).max(1),
            },
            _ => Self::Id,
        }
    }
}

/// Settings of a type of devices beside its rules. None: the default, or as before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeSettings {
    /// Client Identifiers that its devices may use. Connections of the time before stay.
    pub client_ids: Option<ClientIds>,
    /// Seconds without a message after which its devices are inactive; 0: never.
    pub inactive_after_secs: Option<u32>,
}

/// Sets which Client Identifiers the devices of a type may use.
pub(crate) async fn set(
    work: &mut Work<'_>,
    device_type: &str,
    client_ids: ClientIds,
) -> Result<(), Fault> {
    expect_all(work)?;
    expect_own(&mut work.all, Owner::DeviceType, device_type).await?;
    let sessions_max = match client_ids {
        ClientIds::Id => SESSIONS_MAX,
        ClientIds::Any { sessions_max } => sessions_max,
    };
    let sql = "UPDATE device_types SET client_id = $1, max_sessions = $2, \
               revision = revision + 1 WHERE name = $3";
    let query = sqlx::query(sql).bind(client_ids.word());
    let query = query.bind(i64::from(sessions_max));
    let query = query.bind(device_type.to_owned());
    query.execute(&mut *work.all).await?;
    let changed = json!({ "client_id": client_ids.word(), "max_sessions": sessions_max });
    let of = (Owner::DeviceType.kind(), device_type);
    work.audit("device_type.client_id", of, "", changed).await
}
