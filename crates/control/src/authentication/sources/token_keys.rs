//! Keys that tokens may be signed with.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet, KeyAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey};
use martlet_text_file::without_bom;
use serde_json::Value;

use super::without_values;

/// Shortest shared secret: as many bytes as its hash.
const SECRET_BYTES_MIN: usize = 32;

/// Keys that tokens may be signed with, each for one algorithm.
pub struct TokenKeys(pub(super) Vec<TokenKey>);

pub(super) struct TokenKey {
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    /// The members that make it this key.
    pub(super) parts: Vec<u8>,
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl TokenKeys {
    /// Reads a file: a set of keys (JWKS), a public key in PEM, or else a shared secret.
    /// `algorithm` applies to PEM and secret, and to keys of a set without one.
    ///
    /// # Errors
    /// What was expected.
    pub fn read(bytes: &[u8], algorithm: Option<Algorithm>) -> Result<Self, String> {
        let bytes = without_bom(bytes);
        let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
        if text.starts_with('{') {
            return Self::of_set(text, algorithm);
        }
        let algorithm = algorithm.ok_or("auth.jwt_algorithm must name the algorithm of the key")?;
        let is_pem = text.starts_with("-----BEGIN");
        if is_pem && text.contains("PRIVATE KEY-----") {
            return Err(
                "this is a private key, with which tokens are signed; they are checked with the \
                 public one: openssl pkey -in PRIVATE -pubout -out PUBLIC"
                    .to_owned(),
            );
        }
        let key = match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 if is_pem => {
                // Else a public key, which everybody may have, would be the secret.
                return Err("the file is a key in PEM, but HS… needs a secret".to_owned());
            }
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                let secret = bytes.strip_suffix(b"\n").unwrap_or(bytes);
                if secret.len() < SECRET_BYTES_MIN {
                    return Err(format!(
                        "the secret has {} bytes, at least 32 are needed",
                        secret.len()
                    ));
                }
                Ok(DecodingKey::from_secret(secret))
            }
            Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(bytes),
            Algorithm::EdDSA => DecodingKey::from_ed_pem(bytes),
            _ => DecodingKey::from_rsa_pem(bytes),
        };
        let key =
            key.map_err(|error| format!("no public key in PEM for {algorithm:?}: {error}"))?;
        Ok(Self(vec![TokenKey {
            id: None,
            algorithm,
            key,
            parts: bytes.to_vec(),
        }]))
    }

    /// Reads the answer of a server. Where it has no keys any more, no token is good.
    pub(super) fn of_server(body: &[u8], otherwise: Option<Algorithm>) -> Result<Self, String> {
        let set = serde_json::from_slice::<Value>(without_bom(body)).ok();
        let keys = set.as_ref().and_then(|set| set.get("keys")?.as_array());
        match keys.is_some_and(Vec::is_empty) {
            true => Ok(Self(Vec::new())),
            false => Self::read(body, otherwise),
        }
    }

    fn of_set(text: &str, otherwise: Option<Algorithm>) -> Result<Self, String> {
        let set: JwkSet = serde_json::from_str(text)
            .map_err(|error| format!("not a set of keys (JWKS): {}", without_values(&error)))?;
        let mut keys = Vec::new();
        for (number, jwk) in set.keys.iter().enumerate() {
            let error = |why: String| format!("key {}: {why}", number + 1);
            let algorithm = match (jwk.common.key_algorithm, otherwise) {
                (Some(named), _) => signature(named).ok_or_else(|| {
                    error(format!("{named} is for no signature that is known here"))
                })?,
                // RFC 7517 section 4.4: it is optional.
                (None, Some(algorithm)) if is_for(&jwk.algorithm, algorithm) => algorithm,
                (None, Some(algorithm)) => {
                    let why = format!("`alg` is missing, and it is not a key for {algorithm:?}");
                    return Err(error(why));
                }
                (None, None) => {
                    let why = "`alg` is missing, and auth.jwt_algorithm is not set";
                    return Err(error(why.to_owned()));
                }
            };
            let key = DecodingKey::from_jwk(jwk).map_err(|why| error(why.to_string()))?;
            let id = jwk.common.key_id.clone();
            let parts = serde_json::to_vec(&jwk.algorithm);
            keys.push(TokenKey {
                id,
                algorithm,
                key,
                parts: parts.map_err(|why| error(why.to_string()))?,
            });
        }
        match keys.is_empty() {
            true => Err("the set has no keys".to_owned()),
            false => Ok(Self(keys)),
        }
    }
}

/// A key of this kind can be one for the algorithm.
fn is_for(key: &AlgorithmParameters, algorithm: Algorithm) -> bool {
    use Algorithm::{
        ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512,
    };
    match key {
        AlgorithmParameters::OctetKey(_) => matches!(algorithm, HS256 | HS384 | HS512),
        AlgorithmParameters::RSA(_) => {
            matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512)
        }
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => algorithm == ES256,
            EllipticCurve::P384 => algorithm == ES384,
            _ => false,
        },
        AlgorithmParameters::OctetKeyPair(_) => algorithm == EdDSA,
        _ => false,
    }
}

fn signature(algorithm: KeyAlgorithm) -> Option<Algorithm> {
    Some(match algorithm {
        KeyAlgorithm::HS256 => Algorithm::HS256,
        KeyAlgorithm::HS384 => Algorithm::HS384,
        KeyAlgorithm::HS512 => Algorithm::HS512,
        KeyAlgorithm::ES256 => Algorithm::ES256,
        KeyAlgorithm::ES384 => Algorithm::ES384,
        KeyAlgorithm::RS256 => Algorithm::RS256,
        KeyAlgorithm::RS384 => Algorithm::RS384,
        KeyAlgorithm::RS512 => Algorithm::RS512,
        KeyAlgorithm::PS256 => Algorithm::PS256,
        KeyAlgorithm::PS384 => Algorithm::PS384,
        KeyAlgorithm::PS512 => Algorithm::PS512,
        KeyAlgorithm::EdDSA => Algorithm::EdDSA,
        _ => return None,
    })
}
