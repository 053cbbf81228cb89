//! Logins by team tokens.

use std::sync::Arc;

use martlet_permission::{CredentialMark, Refusal, RefusalCause};

use super::Snapshot;
use super::team_tokens::{LoginNumbers, TeamTokenLogin, TeamTokenName, Token};
use crate::Status;
use crate::secret::{Digest, TEAM_KEY_LEN, is_same};

impl Snapshot {
    fn team_token(&self, key: &str) -> Option<(Digest, &Token)> {
        if self.tokens.by_key.is_empty() || key.len() != TEAM_KEY_LEN {
            return None;
        }
        let digest = self.key.digest(key.as_bytes());
        let token = self.tokens.by_key.get(&digest)?;
        Some((digest, token))
    }

    /// The team token of a tenant that has this key, revoked or not; none: there is none.
    pub fn team_token_named(&self, tenant: u32, key: &str) -> Option<TeamTokenName<'_>> {
        let (_, token) = self.team_token(key)?;
        (token.tenant == tenant).then_some(TeamTokenName {
            id: &token.id,
            name: &token.name,
            team: &token.team_name,
            is_revoked: token.is_revoked,
        })
    }

    /// Whether this may be the key of a team token that is unknown: a team has one, and it has the
    /// length and the characters of a key.
    pub fn may_be_team_key(&self, name: &str) -> bool {
        let has = |is: fn(&u8) -> bool| name.bytes().any(|byte| is(&byte));
        !self.tokens.by_key.is_empty()
            && name.len() == TEAM_KEY_LEN
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_lowercase)
    }

    /// The tenant of the team whose token has this key; none: no token has it.
    pub fn tenant_of_team_token(&self, key: &str) -> Option<u32> {
        self.team_token(key).map(|(_, token)| token.tenant)
    }

    /// Whether a key and a secret are those of a team token, and the Client Identifier is a device
    /// of its team that is accepted; none: no token of the tenant has this key.
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
        // Clients without the secret do not learn that the token is revoked.
        if !is_same(&token.secret, &self.key.digest(secret)) {
            let detail = format!("wrong secret of the team token {name} of the team {team_name}");
            return Some(Err(Refusal::operators_only(
                RefusalCause::WrongSecret,
                detail,
            )));
        }
        Some(
            self.device_of_token(token, client_id)
                .map(|device| TeamTokenLogin {
                    device,
                    token: digest,
                    mark: CredentialMark::of_digest(&token.secret),
                }),
        )
    }

    /// Whether a client is accepted that has proved a team token of the tenant; none: no token of
    /// it has this key.
    pub(super) fn admits_token(
        &self,
        tenant: u32,
        key: &str,
        client_id: &str,
    ) -> Option<Result<(), Refusal>> {
        let (_, token) = self.team_token(key)?;
        let is_of_tenant = token.tenant == tenant;
        is_of_tenant.then(|| self.device_of_token(token, client_id).map(drop))
    }

    /// The device with this Client Identifier, if it may log in with the token.
    fn device_of_token(&self, token: &Token, client_id: &str) -> Result<Arc<str>, Refusal> {
        let Token {
            name, team_name, ..
        } = token;
        if token.is_revoked {
            let detail = format!("the team token {name} of the team {team_name} is revoked");
            return Err(Refusal::operators_only(
                RefusalCause::CredentialExpired,
                detail,
            ));
        }
        let device = self.device(token.tenant, client_id);
        if device.is_none_or(|device| device.team != token.team) {
            let detail = format!(
                "the team token {name} is for the devices of the team {team_name}: the Client \
                 Identifier must be the id of one; it is {client_id:?}"
            );
            return Err(Refusal::operators_only(
                RefusalCause::NotItsClientId,
                detail,
            ));
        }
        self.admits(token.tenant, client_id, client_id)?;
        Ok(client_id.into())
    }

    /// The team tokens of a tenant that these tables have and newer ones have not, as
    /// [`TeamTokenLogin::token`]; all of them if there are no newer ones.
    pub fn removed_team_tokens(&self, tenant: u32, newer: Option<&Self>) -> Vec<[u8; 32]> {
        let of_tenant = self.tokens.by_key.iter();
        let of_tenant = of_tenant.filter(|(_, token)| token.tenant == tenant && !token.is_revoked);
        let is_removed = |(key, _): &(&Digest, &Token)| {
            let newer = newer.and_then(|newer| newer.tokens.by_key.get(*key));
            newer.is_none_or(|token| token.is_revoked)
        };
        of_tenant.filter(is_removed).map(|(key, _)| *key).collect()
    }

    /// The marks of the tokens of a team in
    /// [`RevokedClients::Credential`](martlet_permission::RevokedClients::Credential).
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
        let team = match device {
            Some(device) => device.team,
            None => self.user(tenant, name).map_or(0, |user| user.team),
        };
        LoginNumbers {
            team: i64::from(team),
            token: token.map_or(0, |token| token.number),
            device: device.map_or(0, |device| device.number),
        }
    }
}
