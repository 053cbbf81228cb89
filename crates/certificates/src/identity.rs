//! The subject of a certificate.

use std::fmt;

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate, X509Name};

/// The field of a client's certificate that contains the user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFrom {
    /// Common Name of the subject, the first.
    CommonName,
    /// The first DNS name among the subject's alternative names.
    SanDns,
    /// The first URI among the subject's alternative names.
    SanUri,
    /// The first e-mail address among the subject's alternative names.
    SanEmail,
    /// The whole subject in the form of RFC 2253, like Mosquitto's `use_subject_as_username`.
    Subject,
}

/// Why a certificate contains no user name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityError(String);

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for IdentityError {}

/// Longest name in bytes, as in a CONNECT.
const NAME_BYTES_MAX: usize = 65_535;

/// When a certificate (DER) expires, in seconds since the Unix epoch; `None` if it cannot be read.
pub fn ends_secs(certificate: &[u8]) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
}

/// The user name in a certificate (DER).
///
/// # Errors
/// The certificate has no such field, or its value is not a valid name: a name with `+`, `#` or `/`
/// would match several topic levels in rules.
pub fn user_name(certificate: &[u8], from: NameFrom) -> Result<String, IdentityError> {
    let error = |why: &str| IdentityError(why.to_owned());
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| error("it cannot be read"))?;
    let subject = certificate.subject();
    let name = match from {
        NameFrom::CommonName => {
            let mut names = subject.iter_common_name();
            let name = names.next().ok_or_else(|| error("it has no Common Name"))?;
            let name = name
                .as_str()
                .map_err(|_| error("its Common Name is not text"))?;
            name.to_owned()
        }
        NameFrom::Subject => return subject_name(subject),
        NameFrom::SanDns | NameFrom::SanUri | NameFrom::SanEmail => {
            let names = certificate.subject_alternative_name();
            let names = names.map_err(|_| error("its alternative names cannot be read"))?;
            let mut names = names
                .iter()
                .flat_map(|extension| &extension.value.general_names);
            let found = names.find_map(|name| match (name, from) {
                (GeneralName::DNSName(name), NameFrom::SanDns)
                | (GeneralName::URI(name), NameFrom::SanUri)
                | (GeneralName::RFC822Name(name), NameFrom::SanEmail) => Some(*name),
                _ => None,
            });
            let found = found.ok_or_else(|| error("it has no alternative name of that kind"))?;
            found.to_owned()
        }
    };
    // A URI contains slashes; as a user name it matches no pattern.
    let wild: &[char] = match from {
        NameFrom::SanUri => &['+', '#'],
        _ => &['+', '#', '/'],
    };
    checked(name, wild)
}

fn checked(name: String, wild: &[char]) -> Result<String, IdentityError> {
    let why = if name.is_empty() {
        "its name is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "its name is too long"
    } else if name.chars().any(char::is_control) {
        "its name has control characters"
    } else if name.contains(wild) {
        "its name has +, # or / in it, which would mean more than one name in rules"
    } else {
        return Ok(name);
    };
    Err(IdentityError(why.to_owned()))
}

/// RFC 2253: the last part first, like OpenSSL's output with `-nameopt RFC2253`.
fn subject_name(subject: &X509Name<'_>) -> Result<String, IdentityError> {
    let mut parts = Vec::new();
    for part in subject.iter() {
        let mut both = Vec::new();
        for attribute in part.iter() {
            let oid = attribute.attr_type().to_id_string();
            let key = SHORT_NAMES.iter().find(|(known, _)| *known == oid);
            let value = attribute
                .as_str()
                .map_err(|_| IdentityError(format!("{oid} of its subject is not text")))?;
            let key = key.map_or(&*oid, |(_, name)| name);
            both.push(format!("{key}={}", escaped(value)));
        }
        parts.push(both.join("+"));
    }
    parts.reverse();
    checked(parts.join(","), &[])
}

/// Attributes with short names; others are written as object identifiers.
const SHORT_NAMES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.4", "SN"),
    ("2.5.4.42", "GN"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, letter) in value.chars().enumerate() {
        let is_edge = (at == 0 && matches!(letter, ' ' | '#')) || (at == last && letter == ' ');
        if is_edge || matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

    use super::*;

    fn certificate(names: &[(DnType, &str)], alternatives: &[SanType]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, name) in names {
            let value = DnValue::Utf8String((*name).to_owned());
            params.distinguished_name.push(kind.clone(), value);
        }
        params.subject_alt_names = alternatives.to_vec();
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn each_field_may_be_the_name() {
        let names = [
            (DnType::CountryName, "SE"),
            (DnType::OrganizationName, "Ex, Inc"),
            (DnType::CommonName, "device-1"),
        ];
        let alternatives = [
            SanType::DnsName("d1.example".try_into().unwrap()),
            SanType::URI("urn:dev:1".try_into().unwrap()),
            SanType::Rfc822Name("d1@example".try_into().unwrap()),
        ];
        let der = certificate(&names, &alternatives);
        for (from, name) in [
            (NameFrom::CommonName, "device-1"),
            (NameFrom::SanDns, "d1.example"),
            (NameFrom::SanUri, "urn:dev:1"),
            (NameFrom::SanEmail, "d1@example"),
            (NameFrom::Subject, "CN=device-1,O=Ex\\, Inc,C=SE"),
        ] {
            assert_eq!(user_name(&der, from).as_deref(), Ok(name), "{from:?}");
        }
    }

    #[test]
    fn a_name_that_would_mean_more_than_one_is_none() {
        for name in ["", "a/b", "#", "a+", "a\u{0}b", "a\nb"] {
            let der = certificate(&[(DnType::CommonName, name)], &[]);
            assert!(user_name(&der, NameFrom::CommonName).is_err(), "{name:?}");
        }
        let der = certificate(&[], &[]);
        assert!(user_name(&der, NameFrom::SanDns).is_err());
        assert!(user_name(&der, NameFrom::Subject).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_certificate(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(user_name(&bytes, NameFrom::Subject).is_err());
        }
    }
}
