//! Rows of the tables for the users of teams.

use crate::ApiRole;
use crate::database::Work;
use crate::sql::Fault;

/// Makes a user a member of the team of this id. It must not be one yet.
pub(crate) async fn insert_member(
    work: &mut Work<'_>,
    team: &str,
    user: &str,
    role: ApiRole,
) -> Result<(), Fault> {
    let sql = "INSERT INTO team_members (team, user_name, role, created_ms) \
               VALUES ($1, $2, $3, $4)";
    let query = sqlx::query(sql).bind(team.to_owned()).bind(user.to_owned());
    let query = query.bind(role.word()).bind(work.now_ms);
    query.execute(&mut *work.all).await?;
    Ok(())
}
