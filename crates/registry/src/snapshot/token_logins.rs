//! Logins by team tokens.

use std::sync::Arc;

use martlet_broker::{CredentialMark, Refusal, RefusalCause};

use super::Snapshot;
use super::team_tokens::{LoginNumbers, TeamTokenLogin, Token};
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
