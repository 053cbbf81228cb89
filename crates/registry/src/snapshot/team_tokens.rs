//! Team tokens and the numbers of teams, as they were when they were read.

use std::collections::HashMap;
use std::sync::Arc;

use martlet_permission::CredentialMark;
use sqlx::{AnyConnection, Row as _};

use crate::RegistryError;
use crate::secret::{Digest, read_digest};
use crate::sql::Fault;

/// Tokens of teams that are there, revoked ones too; and the numbers of these teams.
#[derive(Debug, Default)]
pub(super) struct TeamTokens {
    /// Tokens by the digest of the key.
    pub(super) by_key: HashMap<Digest, Token>,
    /// Numbers of teams by their id.
    team_numbers: HashMap<String, u32>,
}

#[derive(Debug)]
pub(super) struct Token {
    pub(super) id: String,
    pub(super) number: i64,
    pub(super) name: String,
    pub(super) secret: Digest,
    /// The number of the team.
    pub(super) team: u32,
    pub(super) team_name: String,
    pub(super) tenant: u32,
    pub(super) is_revoked: bool,
}

/// Approximate bytes of one: itself, its names and its place in a map.
const TOKEN_BYTES: usize = 320;

/// A team token, as operators name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TeamTokenName<'a> {
    /// Id of the token.
    pub id: &'a str,
    /// Name of the token.
    pub name: &'a str,
    /// The name of its team.
    pub team: &'a str,
    /// Whether it is not accepted until it is restored.
    pub is_revoked: bool,
}

/// A login by a team token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamTokenLogin {
    /// The device that logs in.
    pub device: Arc<str>,
    /// Identifies the token.
    pub token: [u8; 32],
    /// The mark of the token in
    /// [`RevokedClients::Credential`](martlet_permission::RevokedClients::Credential).
    pub mark: CredentialMark,
}

/// Numbers by which other programs identify the client; 0: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoginNumbers {
    /// Number of the team.
    pub team: i64,
    /// Number of the team token.
    pub token: i64,
    /// Number of the device.
    pub device: i64,
}

impl TeamTokens {
    pub(super) async fn read(on: &mut AnyConnection, place: &str) -> Result<Self, Fault> {
        let mut all = Self::default();
        let sql = "SELECT team, number FROM team_numbers WHERE team IN \
                   (SELECT id FROM teams WHERE deleted_ms = 0)";
        for row in sqlx::query(sql).fetch_all(&mut *on).await? {
            let number: i64 = row.try_get("number")?;
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            all.team_numbers.insert(row.try_get("team")?, number);
        }
        let sql = "SELECT team_tokens.*, teams.name AS team_name, teams.tenant AS tenant FROM \
                   team_tokens JOIN teams ON teams.id = team WHERE deleted_ms = 0";
        for row in sqlx::query(sql).fetch_all(&mut *on).await? {
            let (id, team): (String, String) = (row.try_get("id")?, row.try_get("team")?);
            let digest = |text: String| {
                let damaged = || RegistryError::Damaged {
                    place: place.to_owned(),
                    what: format!("the team token {id} has an invalid digest"),
                };
                read_digest(&text).ok_or_else(damaged)
            };
            let tenant: i64 = row.try_get("tenant")?;
            let secret = digest(row.try_get("secret_digest")?)?;
            let key = digest(row.try_get("key_digest")?)?;
            let token = Token {
                number: row.try_get("number")?,
                name: row.try_get("name")?,
                secret,
                team: all.number_of(&team),
                team_name: row.try_get("team_name")?,
                tenant: u32::try_from(tenant).unwrap_or(u32::MAX),
                is_revoked: row.try_get::<i64, _>("revoked_ms")? > 0,
                id,
            };
            all.by_key.insert(key, token);
        }
        Ok(all)
    }

    /// The number of a team; 0: there is none.
    pub(super) fn number_of(&self, team: &str) -> u32 {
        self.team_numbers.get(team).copied().unwrap_or(0)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.by_key.len() * TOKEN_BYTES + self.team_numbers.len() * 96
    }
}
