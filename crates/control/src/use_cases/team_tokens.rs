//! Team tokens: a key and a secret by which each device of a team logs in.

use martlet_registry::{AddedTeamToken, Registry, TeamToken};

use crate::callers::Caller;
use crate::use_cases::error::UseCaseError;
use crate::use_cases::use_case::{UseCase, UseCaseEffect};

/// Lists the tokens of a team, oldest first.
#[derive(Debug)]
pub struct ListTeamTokens {
    /// Id or name of the team.
    pub team: String,
}

impl UseCase for ListTeamTokens {
    type Output = Vec<TeamToken>;
    const EFFECT: UseCaseEffect = UseCaseEffect::Reads;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<Vec<TeamToken>, UseCaseError> {
        Ok(registry
            .team_tokens(&caller.visibility(), &self.team)
            .await?)
    }
}

/// Adds a token, whose key and secret are shown this once.
#[derive(Debug)]
pub struct AddTeamToken {
    /// Id or name of the team.
    pub team: String,
    /// For people.
    pub name: String,
}

impl UseCase for AddTeamToken {
    type Output = AddedTeamToken;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<AddedTeamToken, UseCaseError> {
        caller.check_adds_devices()?;
        let added = registry.add_team_token(&caller.actor, &self.team, &self.name);
        Ok(added.await?)
    }
}

/// Revokes a token; it can be restored.
#[derive(Debug)]
pub struct RevokeTeamToken {
    /// Id or name of the team.
    pub team: String,
    /// Id of the token.
    pub token: String,
}

impl UseCase for RevokeTeamToken {
    type Output = TeamToken;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<TeamToken, UseCaseError> {
        caller.check_adds_devices()?;
        let revoked = registry.revoke_team_token(&caller.actor, &self.team, &self.token);
        Ok(revoked.await?)
    }
}

/// Restores a revoked token.
#[derive(Debug)]
pub struct RestoreTeamToken {
    /// Id or name of the team.
    pub team: String,
    /// Id of the token.
    pub token: String,
}

impl UseCase for RestoreTeamToken {
    type Output = TeamToken;
    const EFFECT: UseCaseEffect = UseCaseEffect::Changes;

    async fn run(
        self,
        registry: &mut Registry,
        caller: &Caller,
    ) -> Result<TeamToken, UseCaseError> {
        caller.check_adds_devices()?;
        let restored = registry.restore_team_token(&caller.actor, &self.team, &self.token);
        Ok(restored.await?)
    }
}
