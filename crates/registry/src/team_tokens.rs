//! Team tokens: a key and a secret by which each device of a team logs in, as user name and
//! password. Both are shown once, and kept as digests.

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::database::Work;
use crate::names::check_new_name;
use crate::secret::{self, DigestKey, Secret, TEAM_KEY_LEN};
use crate::sql::{Fault, clean};
use crate::teams::find_named;
use crate::{Actor, Conflict, NotFound, Registry, RegistryError, Visibility};

/// Letters and digits of a secret.
const SECRET_LEN: usize = 32;

/// Tokens of a team at most, revoked ones among them.
const TOKENS_MAX: i64 = 1_000;

/// A team token, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamToken {
    /// Id of the token.
    pub id: String,
    /// Number of the token, which no other token gets.
    pub number: i64,
    /// The id of its team.
    pub team: String,
    /// For people.
    pub name: String,
    /// Milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When it was revoked; 0: it is not revoked.
    pub revoked_ms: i64,
}

/// A token that was added, with what devices log in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedTeamToken {
    /// The token.
    pub token: TeamToken,
    /// The user name.
    pub key: Secret,
    /// The password.
    pub secret: Secret,
}

impl Registry {
    /// Adds a token of a team, which is named by its id or name, as in the calls below. Its key and
    /// its secret are shown this once.
    ///
    /// # Errors
    /// There is no such team, or it has too many tokens.
    pub async fn add_team_token(
        &mut self,
        actor: &Actor,
        team: &str,
        name: &str,
    ) -> Result<AddedTeamToken, RegistryError> {
        let digests = self.digest_key().await?;
        let mut work = self.begin(actor).await?;
        let done = insert(&mut work, &digests, team, name).await;
        work.end(done).await
    }

    /// The tokens of a team, oldest first.
    ///
    /// # Errors
    /// There is no such team.
    pub async fn team_tokens(
        &mut self,
        visibility: &Visibility,
        team: &str,
    ) -> Result<Vec<TeamToken>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let team = find_named(&mut *on, visibility, team, false).await?.id;
            let sql = "SELECT * FROM team_tokens WHERE team = $1 ORDER BY number";
            let rows = sqlx::query(sql).bind(team).fetch_all(on).await?;
            rows.iter().map(read_token).collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Revokes a token, named by its id: no device logs in with it until it is restored.
    ///
    /// # Errors
    /// The team has no such token that is valid.
    pub async fn revoke_team_token(
        &mut self,
        actor: &Actor,
        team: &str,
        id: &str,
    ) -> Result<TeamToken, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = set_revoked(&mut work, team, id, true).await;
        work.end(done).await
    }

    /// Restores a revoked token: devices log in with the same key and secret again.
    ///
    /// # Errors
    /// The team has no such token that is revoked.
    pub async fn restore_team_token(
        &mut self,
        actor: &Actor,
        team: &str,
        id: &str,
    ) -> Result<TeamToken, RegistryError> {
        let mut work = self.begin(actor).await?;
        let done = set_revoked(&mut work, team, id, false).await;
        work.end(done).await
    }
}

fn read_token(row: &AnyRow) -> Result<TeamToken, Fault> {
    Ok(TeamToken {
        id: row.try_get("id")?,
        number: row.try_get("number")?,
        team: row.try_get("team")?,
        name: row.try_get("name")?,
        created_ms: row.try_get("created_ms")?,
        revoked_ms: row.try_get("revoked_ms")?,
    })
}

async fn insert(
    work: &mut Work<'_>,
    digests: &DigestKey,
    team: &str,
    name: &str,
) -> Result<AddedTeamToken, Fault> {
    check_new_name("team token", name)?;
    let team = find_named(&mut work.all, &work.actor.visibility, team, false).await?;
    let sql = "SELECT COUNT(*) FROM team_tokens WHERE team = $1";
    let known = sqlx::query_scalar::<_, i64>(sql).bind(team.id.clone());
    if known.fetch_one(&mut *work.all).await? >= TOKENS_MAX {
        return Err(Conflict::TeamTokens(TOKENS_MAX).into());
    }
    let (key, secret) = (
        Secret::of_length(TEAM_KEY_LEN)?,
        Secret::of_length(SECRET_LEN)?,
    );
    let sql = "UPDATE counters SET last = last + 1 WHERE name = 'team_token' RETURNING last";
    let token = TeamToken {
        id: secret::new_id()?,
        number: sqlx::query_scalar(sql).fetch_one(&mut *work.all).await?,
        team: team.id,
        name: name.to_owned(),
        created_ms: work.now_ms,
        revoked_ms: 0,
    };
    let digest = |secret: &Secret| secret::digest_text(&digests.digest(secret.text().as_bytes()));
    let sql = "INSERT INTO team_tokens (id, number, team, name, key_digest, secret_digest, \
               created_ms, revoked_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, 0)";
    let query = sqlx::query(sql).bind(token.id.clone()).bind(token.number);
    let query = query.bind(token.team.clone()).bind(token.name.clone());
    let query = query.bind(digest(&key)).bind(digest(&secret));
    query.bind(work.now_ms).execute(&mut *work.all).await?;
    let changed = json!({ "name": token.name });
    work.audit(
        "team_token.add",
        ("team_token", &token.id),
        &token.team,
        changed,
    )
    .await?;
    Ok(AddedTeamToken { token, key, secret })
}

async fn find(on: &mut AnyConnection, team: &str, id: &str) -> Result<Option<TeamToken>, Fault> {
    let sql = "SELECT * FROM team_tokens WHERE id = $1 AND team = $2";
    let query = sqlx::query(sql).bind(clean(id)).bind(team.to_owned());
    let row = query.fetch_optional(on).await?;
    row.as_ref().map(read_token).transpose()
}

async fn set_revoked(
    work: &mut Work<'_>,
    team: &str,
    id: &str,
    is_revoked: bool,
) -> Result<TeamToken, Fault> {
    let team = find_named(&mut work.all, &work.actor.visibility, team, false).await?;
    let found = find(&mut work.all, &team.id, id).await?;
    let found = found.filter(|token| (token.revoked_ms > 0) != is_revoked);
    let Some(mut token) = found else {
        let missing = match is_revoked {
            true => NotFound::ValidTeamToken,
            false => NotFound::RevokedTeamToken,
        };
        return Err(missing(team.name, id.to_owned()).into());
    };
    token.revoked_ms = if is_revoked { work.now_ms } else { 0 };
    let query = sqlx::query("UPDATE team_tokens SET revoked_ms = $1 WHERE id = $2");
    let query = query.bind(token.revoked_ms).bind(token.id.clone());
    query.execute(&mut *work.all).await?;
    let action = match is_revoked {
        true => "team_token.revoke",
        false => "team_token.restore",
    };
    let changed = json!({ "name": token.name });
    work.audit(action, ("team_token", id), &token.team, changed)
        .await?;
    Ok(token)
}
