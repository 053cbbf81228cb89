//! Teams and their members.

use std::collections::HashMap;

use martlet_registry::{
    ApiRole, Expected, Member, NewTeam, PurgedTeam, Registry, RegistryError, Team, TeamChange,
    Visibility,
};

use crate::callers::{Caller, rights};
use crate::use_cases::error::{SelectorKind, UseCaseError};
use crate::use_cases::use_case::{UseCase, UseCaseEffect};

/// The id of the team that the caller names by id or name to select objects.
///
/// # Errors
/// There is no such team, or the caller sees only another one.
pub(crate) async fn team_id(
    registry: &mut Registry,
    caller: &Caller,
    team: &str,
) -> Result<String, UseCaseError> {
    match (
        registry.team_named(&caller.visibility(), team).await,
        caller.visibility(),
    ) {
        (Ok(found), _) => Ok(found.id),
        (Err(RegistryError::NotFound(_)), Visibility::Team(own)) => {
            Err(UseCaseError::OtherTeam(own))
        }
        (Err(error), _) => Err(UseCaseError::of_look_up(SelectorKind::Team, error)),
    }
}

/// Checks that the caller has all rights that go and come with a team: those of its devices, its
/// keys and its members.
async fn check_whole(
    registry: &mut Registry,
    caller: &Caller,
    team: &str,
) -> Result<(), UseCaseError> {
    let needed = rights::of_team(registry, caller, team).await?;
    Ok(caller.check_scopes(needed)?)
}

/// Finds the id of a team that the caller names to select objects.
#[derive(Debug)]
pub struct FindTeamId {
    /// Id or name of the team.
    pub team: String,
}

impl UseCase for FindTeamId {
    type Output = String;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<String, UseCaseError> {
        team_id(registry, caller, &self.team).await
    }
}

/// Lists the teams.
#[derive(Debug)]
pub struct ListTeams {
    /// Only deleted teams.
    pub deleted: bool,
}

impl UseCase for ListTeams {
    type Output = Vec<Team>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Vec<Team>, UseCaseError> {
        Ok(registry.teams(&caller.visibility(), self.deleted).await?)
    }
}

/// Lists the names of the teams by their ids, of deleted teams too.
#[derive(Debug)]
pub struct ListTeamNames;

impl UseCase for ListTeamNames {
    type Output = HashMap<String, String>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<HashMap<String, String>, UseCaseError> {
        let visibility = caller.visibility();
        let mut teams = registry.teams(&visibility, false).await?;
        teams.extend(registry.teams(&visibility, true).await?);
        let named = teams.into_iter().map(|team| (team.id, team.name));
        Ok(named.collect())
    }
}

/// Finds a team.
#[derive(Debug)]
pub struct FindTeam {
    /// Id or name of the team.
    pub team: String,
}

impl UseCase for FindTeam {
    type Output = Team;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<Team, UseCaseError> {
        Ok(registry
            .team_named(&caller.visibility(), &self.team)
            .await?)
    }
}

/// Adds a team.
#[derive(Debug)]
pub struct AddTeam {
    /// The team.
    pub team: NewTeam,
}

impl UseCase for AddTeam {
    type Output = Team;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<Team, UseCaseError> {
        Ok(registry.add_team(&caller.actor, self.team).await?)
    }
}

/// Changes a team.
#[derive(Debug)]
pub struct ChangeTeam {
    /// Id or name of the team.
    pub team: String,
    /// Changes of the team.
    pub change: TeamChange,
    /// The revision that it must have, if any.
    pub expected_revision: Expected,
}

impl UseCase for ChangeTeam {
    type Output = Team;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<Team, UseCaseError> {
        let Self {
            team,
            change,
            expected_revision,
        } = self;
        let changed = registry.change_team(&caller.actor, &team, change, expected_revision);
        Ok(changed.await?)
    }
}

/// Deletes a team with its devices; it can be restored.
#[derive(Debug)]
pub struct DeleteTeam {
    /// Id or name of the team.
    pub team: String,
    /// The revision that it must have, if any.
    pub expected_revision: Expected,
}

impl UseCase for DeleteTeam {
    type Output = ();
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        let Self {
            team,
            expected_revision,
        } = self;
        check_whole(registry, caller, &team).await?;
        let deleted = registry.delete_team(&caller.actor, &team, expected_revision);
        Ok(deleted.await?)
    }
}

/// Restores a deleted team, with the devices that were deleted with it.
#[derive(Debug)]
pub struct RestoreTeam {
    /// Id or name of the team.
    pub team: String,
}

impl UseCase for RestoreTeam {
    type Output = Team;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<Team, UseCaseError> {
        check_whole(registry, caller, &self.team).await?;
        Ok(registry.restore_team(&caller.actor, &self.team).await?)
    }
}

/// Removes a team for good, with all that belongs to it.
#[derive(Debug)]
pub struct PurgeTeam {
    /// Id or name of the team.
    pub team: String,
    /// Remove its devices and users too, for which the caller needs all rights.
    pub with_members: bool,
}

impl UseCase for PurgeTeam {
    type Output = PurgedTeam;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<PurgedTeam, UseCaseError> {
        let Self { team, with_members } = self;
        if with_members {
            // Users may have any role.
            caller.check_scopes(caller.scopes_of_everything())?;
        }
        check_whole(registry, caller, &team).await?;
        Ok(registry
            .purge_team(&caller.actor, &team, with_members)
            .await?)
    }
}

/// Lists the members of a team.
#[derive(Debug)]
pub struct ListMembers {
    /// Id or name of the team.
    pub team: String,
}

impl UseCase for ListMembers {
    type Output = Vec<Member>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Vec<Member>, UseCaseError> {
        Ok(registry.members(&caller.visibility(), &self.team).await?)
    }
}

/// Sets the role of a user in a team. The caller needs the rights of the role before and after.
#[derive(Debug)]
pub struct SetMember {
    /// Id or name of the team.
    pub team: String,
    /// User name.
    pub user: String,
    /// The role; none: the user leaves the team.
    pub role: Option<ApiRole>,
}

impl UseCase for SetMember {
    type Output = ();
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(self, registry: &mut Registry, caller: &Caller) -> Result<(), UseCaseError> {
        let Self { team, user, role } = self;
        let needed = rights::of_member(registry, caller, &team, &user, role).await?;
        caller.check_scopes(needed)?;
        Ok(registry
            .set_member(&caller.actor, &team, &user, role)
            .await?)
    }
}
