//! Signed tokens (JWT, RFC 7519) as passwords: the holder of the key sets the name of a client,
//! until when it is valid, and optionally its rules.

use std::any::Any;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Validation, decode, decode_header};
use martlet_broker::{
    Actions, Authentication, Identity, Password, Proof, Realm, Refusal, RefusalCause,
    RevokedClients, Rule, Rules, Voucher,
};
use serde::Deserialize;
use serde_json::Value;

use super::key_source::KeySource;
use super::token_keys::{TokenKey, TokenKeys};
use super::{People, known, removed_vouchers, voucher_of};
use crate::authentication::policy::of_kind;
use crate::authentication::{
    CredentialSource, Knowledge, Looking, LookupResult, Refreshing, SlotRequest, SourceKind,
};

/// Requirements of a token beside its signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSettings {
    /// `iss` has to be this, if anything.
    pub issuer: Option<String>,
    /// `aud` has to have this in it, if anything.
    pub audience: Option<String>,
    /// The claim that is the user name: `sub`.
    pub user_claim: String,
    /// The claim that has to be the Client Identifier, if any.
    pub client_claim: Option<String>,
}

/// Tokens.
#[derive(Debug)]
pub struct Tokens {
    keys: KeySource,
    settings: TokenSettings,
    people: People,
}

/// Claims that we look at; others are by name.
#[derive(Deserialize)]
struct Claims {
    exp: u64,
    acl: Option<Permissions>,
    #[serde(flatten)]
    others: HashMap<String, Value>,
}

/// Topic Filters by what may be done with them; `%c` and `%u` stand for the client's names.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Permissions {
    #[serde(rename = "pub")]
    publish: Vec<String>,
    #[serde(rename = "sub")]
    read: Vec<String>,
    all: Vec<String>,
}

/// Difference that clocks may have.
const LEEWAY_SECS: u64 = 5;

/// Filters in a token, at most.
const FILTERS_MAX: usize = 1_000;

/// Characters of a Client Identifier in a token that are shown, at most.
const NAMED_CHARS_MAX: usize = 64;

impl Tokens {
    /// Tokens signed with one of these keys. `people` has the rules for tokens without rules.
    pub fn new(keys: KeySource, settings: TokenSettings, people: People) -> Self {
        Self {
            keys,
            settings,
            people,
        }
    }

    async fn find(&self, request: &Authentication) -> LookupResult {
        let password = request.password.as_ref().map_or(&[][..], Password::bytes);
        let token = std::str::from_utf8(password).unwrap_or_default();
        // Anything else is a password.
        let Ok(header) = decode_header(token) else {
            return LookupResult::Stranger;
        };
        if header.crit.is_some() {
            // RFC 7515 section 4.1.11: what is critical and not understood makes it invalid.
            return bad_token(
                "its token is not valid: its header has `crit`, which is not supported",
            );
        }
        let is_meant = |key: &&TokenKey| {
            key.algorithm == header.alg
                && (header.kid.is_none() || key.id.is_none() || key.id == header.kid)
        };
        let no_key = format!(
            "its token is not valid: no key for a token of {:?} with this `kid`",
            header.alg
        );
        let mut refusal = Refusal::operators_only(RefusalCause::BadToken, no_key);
        let keys = match self
            .keys
            .get(|keys| keys.0.iter().any(|key| is_meant(&key)))
            .await
        {
            Ok(keys) => keys,
            Err(why) => {
                return LookupResult::Failed(Refusal::operators_only(
                    RefusalCause::TokenKeysDown,
                    why,
                ));
            }
        };
        for key in keys.0.iter().filter(is_meant) {
            match self.claims(token, key) {
                Ok(claims) => return self.identity(request, claims, self.voucher(key)),
                Err(error) => refusal = refused_for(&error),
            }
        }
        LookupResult::Wrong(refusal)
    }

    /// A key, with what is asked of its tokens, and the server that it is of.
    fn voucher(&self, key: &TokenKey) -> Voucher {
        let request = format!("{:?}", self.settings);
        let server = match &self.keys {
            KeySource::Read(_) => "",
            KeySource::Fetched(fetched) => fetched.url(),
        };
        let kind = format!("{:?} {:?}", key.algorithm, key.id);
        let parts = [
            request.as_bytes(),
            server.as_bytes(),
            kind.as_bytes(),
            &key.parts,
        ];
        voucher_of("token key", &parts)
    }

    fn vouchers_of(&self, keys: &TokenKeys) -> Vec<Voucher> {
        keys.0.iter().map(|key| self.voucher(key)).collect()
    }

    fn vouchers(&self) -> Vec<Voucher> {
        match &self.keys {
            KeySource::Read(keys) => self.vouchers_of(keys),
            KeySource::Fetched(fetched) => fetched
                .keys()
                .map_or_else(Vec::new, |keys| self.vouchers_of(&keys)),
        }
    }

    /// Clients that came by keys that the server does not have any more.
    async fn removed_from_server(&self) -> Vec<RevokedClients> {
        let KeySource::Fetched(fetched) = &self.keys else {
            return Vec::new();
        };
        let (now, replaced) = fetched.refresh().await;
        let now = now.map_or_else(Vec::new, |keys| self.vouchers_of(&keys));
        let old: Vec<Voucher> = replaced
            .iter()
            .flat_map(|keys| self.vouchers_of(keys))
            .collect();
        removed_vouchers(&old, &now)
    }

    fn claims(&self, token: &str, key: &TokenKey) -> Result<Claims, Error> {
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = LEEWAY_SECS;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp"]);
        if let Some(issuer) = &self.settings.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        match &self.settings.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                validation.required_spec_claims.insert("aud".to_owned());
            }
            None => validation.validate_aud = false,
        }
        let decoded = decode::<Claims>(token, &key.key, &validation);
        decoded.map(|decoded| decoded.claims)
    }

    fn identity(&self, request: &Authentication, claims: Claims, voucher: Voucher) -> LookupResult {
        let text = |claim: &str| claims.others.get(claim).and_then(Value::as_str);
        let Some(user_name) = text(&self.settings.user_claim) else {
            return bad_token(format!(
                "its token has no claim {}",
                self.settings.user_claim
            ));
        };
        if user_name.is_empty() || user_name.chars().any(char::is_control) {
            return bad_token("the name in its token is not valid");
        }
        if let Some(claim) = &self.settings.client_claim
            && let Some(why) = names_other_client(text(claim), claim, &request.client_id)
        {
            return LookupResult::Wrong(why);
        }
        let found = known(
            request,
            user_name.into(),
            self.people.rules_of(Some(user_name)),
        );
        let LookupResult::Known(identity) = found else {
            return found;
        };
        let identity = Identity {
            proof: Proof::SignedToken,
            expires_wall_ms: claims.exp.saturating_mul(1000).max(1),
            voucher,
            ..identity
        };
        match claims.acl.map(compile).transpose() {
            Ok(None) => LookupResult::Known(identity),
            Ok(Some(rules)) => LookupResult::Known(Identity {
                realm: Realm::OWN_RULES,
                rules: Arc::new(rules),
                ..identity
            }),
            Err(why) => bad_token(format!("the claim acl of its token: {why}")),
        }
    }
}

/// Refusal that says what is wrong with a token.
fn refused_for(error: &Error) -> Refusal {
    let (cause, why) = match error.kind() {
        ErrorKind::ExpiredSignature => (RefusalCause::BadToken, "it has expired".to_owned()),
        ErrorKind::ImmatureSignature => (
            RefusalCause::TokenNotYetValid,
            "it is not valid yet (nbf)".to_owned(),
        ),
        ErrorKind::InvalidSignature => (
            RefusalCause::BadToken,
            "it was signed with another key, or changed since".to_owned(),
        ),
        ErrorKind::InvalidIssuer => (
            RefusalCause::BadToken,
            "it is of another issuer (iss) than auth.jwt_issuer".to_owned(),
        ),
        ErrorKind::InvalidAudience => (
            RefusalCause::BadToken,
            "it is for another audience (aud) than auth.jwt_audience".to_owned(),
        ),
        ErrorKind::MissingRequiredClaim(claim) => {
            (RefusalCause::BadToken, format!("it has no claim {claim}"))
        }
        _ => (RefusalCause::BadToken, error.to_string()),
    };
    Refusal::operators_only(cause, format!("its token is not valid: {why}"))
}

/// Why a token whose claim names this client is not for the client that shows it; none: it is.
fn names_other_client(named: Option<&str>, claim: &str, client_id: &str) -> Option<Refusal> {
    match named {
        Some(named) if named == client_id => None,
        Some(named) => {
            let named: String = named.chars().take(NAMED_CHARS_MAX).collect();
            let detail = format!(
                "its token is for the client {named:?} (claim {claim}), and its Client Identifier \
                 is another"
            );
            Some(Refusal::operators_only(RefusalCause::TokenOfOther, detail).about(named))
        }
        None => Some(Refusal::operators_only(
            RefusalCause::BadToken,
            format!("its token has no claim {claim}, which names its client"),
        )),
    }
}

fn bad_token(detail: impl Into<Cow<'static, str>>) -> LookupResult {
    LookupResult::Wrong(Refusal::operators_only(RefusalCause::BadToken, detail))
}

fn compile(permissions: Permissions) -> Result<Rules, String> {
    let Permissions { publish, read, all } = permissions;
    let with =
        |filters: Vec<String>, actions| filters.into_iter().map(move |filter| (filter, actions));
    let rules: Vec<Rule> = with(publish, Actions::PUBLISH)
        .chain(with(read, Actions::READ))
        .chain(with(all, Actions::ALL))
        .map(|(filter, actions)| Rule {
            actions,
            allows: true,
            filter: filter.into(),
            source: "its token".into(),
        })
        .collect();
    if rules.len() > FILTERS_MAX {
        return Err(format!("more than {FILTERS_MAX} filters"));
    }
    Rules::compile(rules, Actions::NONE).map_err(|error| error.to_string())
}

impl CredentialSource for Tokens {
    fn name(&self) -> String {
        "tokens (auth.jwt_keys)".to_owned()
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Proofs
    }

    fn look<'a>(&'a self, request: &'a Authentication, _: &'a SlotRequest) -> Looking<'a> {
        Box::pin(self.find(request))
    }

    fn refresh(&self) -> Option<Refreshing<'_>> {
        Some(Box::pin(self.removed_from_server()))
    }

    fn inherit(&self, older: &[Arc<dyn CredentialSource>]) {
        if let Some(older) = of_kind::<Self>(older) {
            self.keys.inherit(&older.keys);
        }
    }

    fn no_longer_valid(&self, next: &[Arc<dyn CredentialSource>]) -> Vec<RevokedClients> {
        let next = of_kind::<Self>(next).map(Self::vouchers);
        removed_vouchers(&self.vouchers(), &next.unwrap_or_default())
    }

    /// The holder of the key may name any user.
    fn rules_of(&self, user_name: &str) -> Option<Arc<Rules>> {
        Some(self.people.rules_of(Some(user_name)))
    }

    fn knows(&self, _user_name: &str) -> Knowledge {
        Knowledge::ByProof
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
