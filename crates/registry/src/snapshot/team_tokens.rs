//! Team tokens and the numbers of teams, as they were when they were read.

use std::collections::HashMap;
use std::sync::Arc;

use martlet_broker::{CredentialMark, Refusal, RefusalCause};
use sqlx::{AnyConnection, Row as _};

use super::Snapshot;
use super::read::damaged;
use crate::Status;
use crate::secret::{Digest, is_same, read_digest};
use crate::sql::Fault;
use crate::team_tokens::KEY_LEN;

/// Those that are valid, of teams that are there; and the numbers of these teams.
#[derive(Debug, Default)]
pub(super) struct TeamTokens {
    /// By the digest of the key.
    by_key: HashMap<Digest, Token>,
    /// By the id of the team.
    team_numbers: HashMap<String, u32>,
}

#[derive(Debug)]
struct Token {
    number: i64,
    name: String,
    secret: Digest,
    /// The number of the team.
    team: u32,
    team_name: String,
    tenant: u32,
}

/// Approximate bytes of one: itself, its names and its place in a map.
const TOKEN_BYTES: usize = 320;

/// A login by a team token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamTokenLogin {
    /// The device that logs in.
    pub device: Arc<str>,
    /// Tells the token from all others.
    pub token: [u8; 32],
    /// What [`Whose::Credential`](martlet_broker::Whose::Credential) knows the token by.
    pub mark: CredentialMark,
}

/// Numbers by which other programs know who has logged in; 0: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoginNumbers {
    /// Of the team.
    pub team: i64,
    /// Of the team token.
    pub token: i64,
    /// Of the device.
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
                   team_tokens JOIN teams ON teams.id = team WHERE revoked_ms = 0 AND deleted_ms = 0";
        for row in sqlx::query(sql).fetch_all(&mut *on).await? {
            let (id, team): (String, String) = (row.try_get("id")?, row.try_get("team")?);
            let digest = |text: String| {
                let of = || damaged(place, format!("the team token {id} is none"));
                read_digest(&text).ok_or_else(of)
            };
            let tenant: i64 = row.try_get("tenant")?;
            let token = Token {
                number: row.try_get("number")?,
                name: row.try_get("name")?,
                secret: digest(row.try_get("secret_digest")?)?,
                team: all.number_of(&team),
                team_name: row.try_get("team_name")?,
                tenant: u32::try_from(tenant).unwrap_or(u32::MAX),
            };
            let key = digest(row.try_get("key_digest")?)?;
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

impl Snapshot {
    fn team_token(&self, key: &str) -> Option<(Digest, &Token)> {
        if self.tokens.by_key.is_empty() || key.len() != KEY_LEN {
            return None;
        }
        let digest = self.key.digest(key.as_bytes());
        let token = self.tokens.by_key.get(&digest)?;
        Some((digest, token))
    }

    /// The tenant of the team whose token has this key; none: no token has it.
    pub fn tenant_of_team_token(&self, key: &str) -> Option<u32> {
        self.team_token(key).map(|(_, token)| token.tenant)
    }

    /// Whether a key and a secret are those of a team token, and the Client Identifier is a device
    /// of its team that is let in; none: no token of the tenant has this key.
    ///
    /// # Errors
    /// They are not, or it is not.
    pub fn check_team_token(
        &self,
        tenant: u32,
        key: &str,
        client_id: &str,
        secret: &[u8],
    ) -> Option<Result<TeamTokenLogin, Refusal>> {
        let (digest, token) = self.team_token(key)?;
        if token.tenant != tenant {
            return None;
        }
        let Token {
            name, team_name, ..
        } = token;
        if !is_same(&token.secret, &self.key.digest(secret)) {
            let detail = format!("wrong secret of the team token {name} of the team {team_name}");
            return Some(Err(Refusal::untold(RefusalCause::WrongSecret, detail)));
        }
        let of_team = |id: &str| {
            let device = self.device(tenant, id)?;
            (device.team == token.team).then(|| Arc::<str>::from(id))
        };
        let Some(device) = of_team(client_id) else {
            let detail = format!(
                "the team token {name} is for the devices of the team {team_name}: the Client \
                 Identifier must be the id of one; it is {client_id:?}"
            );
            let cause = RefusalCause::NotItsClientId;
            return Some(Err(Refusal::untold(cause, detail)));
        };
        let admitted = self.admits(tenant, &device, client_id);
        Some(admitted.map(|()| TeamTokenLogin {
            device,
            token: digest,
            mark: CredentialMark::of_digest(&token.secret),
        }))
    }

    /// The team tokens of a tenant that these tables have and newer ones have not, as
    /// [`TeamTokenLogin::token`]; all of them if there are no newer ones.
    pub fn team_tokens_gone(&self, tenant: u32, newer: Option<&Self>) -> Vec<[u8; 32]> {
        let of_tenant = self.tokens.by_key.iter();
        let of_tenant = of_tenant.filter(|(_, token)| token.tenant == tenant);
        let is_gone = |(key, _): &(&Digest, &Token)| {
            newer.is_none_or(|newer| !newer.tokens.by_key.contains_key(*key))
        };
        of_tenant.filter(is_gone).map(|(key, _)| *key).collect()
    }

    /// By what [`Whose::Credential`](martlet_broker::Whose::Credential) knows the tokens of a team.
    pub(super) fn marks_of_team(&self, team: u32) -> impl Iterator<Item = CredentialMark> {
        let tokens = self.tokens.by_key.values();
        let tokens = tokens.filter(move |token| token.team == team);
        tokens.map(|token| CredentialMark::of_digest(&token.secret))
    }

    /// The numbers of who has logged in with this user name and is this user or device now.
    pub fn login_numbers(&self, tenant: u32, user_name: &str, name: &str) -> LoginNumbers {
        let device = self.device(tenant, name);
        let device = device.filter(|device| device.status == Status::Active);
        let token = self.team_token(user_name).map(|(_, token)| token);
        LoginNumbers {
            team: device.map_or(0, |device| i64::from(device.team)),
            token: token.map_or(0, |token| token.number),
            device: device.map_or(0, |device| device.number),
        }
    }
}
