//! How failed TLS handshakes are mended, by the words of their refusals.

/// What to do about a TLS connection that failed for this; none: it is no such failure.
pub(super) fn mend_of(why: &str) -> Option<&'static str> {
    let has = |text: &str| why.contains(text);
    Some(match () {
        () if has("no TLS version in common") => {
            "have the client use TLS 1.2 or later, or only 1.3 if tls.version (tls_version of the \
             listener) is \"1.3\": update its TLS library, or set the version there"
        }
        () if has("no TLS cipher suite in common") => {
            "have the client offer a cipher suite with ECDHE and AES-GCM or ChaCha20 for the kind \
             of the server's key (ECDSA or RSA): update its TLS library, or remove the list of \
             ciphers there"
        }
        () if has("no TLS key exchange group in common") => {
            "have the client offer cipher suites with ECDHE and the curve X25519 or P-256: update \
             its TLS library, or remove the list of ciphers or curves there"
        }
        () if has("no signature scheme in common with the server") => {
            "the client cannot verify a certificate with a key of that kind: update its TLS \
             library, or give the listener a certificate with a key of another kind (ECDSA or RSA)"
        }
        () if has("no signature scheme in common with the client") => {
            "the key of the client's certificate is of a kind that the server does not verify: \
             issue the certificate anew with an ECDSA P-256 or RSA key of 2048 bits or more (see \
             martlet cert client --help)"
        }
        () if has("the client's TLS lacks an extension") => {
            "the client's TLS library is too old: update it"
        }
        () if has("no application protocol (ALPN)") => {
            "have the client offer the ALPN protocol mqtt, or none"
        }
        () if has("certificate has expired") => {
            "issue the client's certificate anew (see martlet cert renew --help), and give it to \
             the client"
        }
        () if has("certificate is not valid yet") => {
            "look at the clocks of the node and of the machine that issued the certificate; if \
             both are right, wait, or issue it anew (see martlet cert renew --help)"
        }
        () if has("is revoked") => {
            "give the client a new certificate: see martlet cert client --help"
        }
        () if has("revocation list has expired") => "write a new one: see martlet cert crl --help",
        () if has("of another CA") => {
            "give the client a certificate of the listener's client_ca, or add its CA there"
        }
        () if has("certificate is not for clients") => {
            "give the client a certificate for clients (extended key usage clientAuth): see \
             martlet cert client --help"
        }
        () if has("not signed by the CA that it names") => {
            "the CA has another key now, or the certificate was changed: issue it anew by the \
             listener's client_ca (see martlet cert client --help)"
        }
        () if has("certificate is of no version of X.509") || has("certificate is not valid") => {
            "issue the client's certificate anew: see martlet cert client --help"
        }
        () if has("requires a client certificate") => {
            "give the client a certificate (see martlet cert client --help), or set \
             client_certificates = \"optional\""
        }
        () if has("does not trust the server's certificate") => {
            "give the client the CA of the server's certificate (--cafile), have it connect by a \
             name that is in the certificate, and look whether the certificate has expired \
             (martlet cert check)"
        }
        () if has("the client ended the TLS handshake") => {
            "the client's own log says why; often it connects by a name that is not in the \
             server's certificate, or does not trust its CA: martlet cert check shows both"
        }
        () if has("what came is not TLS") => {
            "the client speaks without TLS: switch it on there, or use another port"
        }
        () if has("more came than a TLS record holds") || has("what came cannot be decrypted") => {
            "what came is broken TLS: look at the client's TLS library, and at what is between \
             it and the node (a proxy, a load balancer)"
        }
        () if has("the TLS connection failed") => {
            "look at the client's TLS library and its version; openssl s_client -connect, from \
             the client's machine, shows the handshake"
        }
        () => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the words come from.
    const WORDS: &str = include_str!("../../../reactor/src/tls.rs");

    #[test]
    fn every_failure_of_tls_has_a_remedy_of_its_own() {
        let (_, words) = WORDS.split_once("fn in_words(").expect("it is there");
        let (words, _) = words.split_once("#[cfg(test)]").expect("tests are last");
        let texts = words.lines().filter_map(|line| {
            let (_, text) = line.split_once('"')?;
            let (text, _) = text.rsplit_once('"')?;
            text.contains(' ').then_some(text)
        });
        let texts: Vec<&str> = texts.collect();
        assert!(texts.len() > 20, "{texts:?}");
        for text in texts {
            assert!(mend_of(text).is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_in_common_is_told_apart() {
        let of = |why| mend_of(why).unwrap_or_default();
        assert!(of("no TLS version in common: x").contains("tls.version"));
        assert!(of("no TLS cipher suite in common").contains("cipher"));
        assert!(mend_of("wrong password, according to x").is_none());
    }
}
