//! Remedies for failed TLS handshakes and connections.

use martlet_broker::TlsFault;

/// Remedy for a TLS connection that failed for this.
// Table: of remedies.
pub(super) fn remedy_of(fault: TlsFault) -> &'static str {
    match fault {
        TlsFault::NoVersion => {
            "have the client use TLS 1.2 or later, or only 1.3 if tls.version (tls_version of the \
             listener) is \"1.3\": update its TLS library, or set the version there"
        }
        TlsFault::NoCipherSuite => {
            "have the client offer a cipher suite with ECDHE and AES-GCM or ChaCha20 for the kind \
             of the server's key (ECDSA or RSA): update its TLS library, or remove the list of \
             ciphers there"
        }
        TlsFault::OnlyRsa => {
            "give the listener a certificate with an RSA key (martlet cert server --rsa=2048), or \
             have the client offer a cipher suite with ECDHE-ECDSA: update its TLS library"
        }
        TlsFault::OnlyEcdsa => {
            "give the listener a certificate with an ECDSA key (martlet cert server), or have the \
             client offer a cipher suite with ECDHE-RSA"
        }
        TlsFault::NoKeyExchange => {
            "have the client offer cipher suites with ECDHE and the curve X25519 or P-256: update \
             its TLS library, or remove the list of ciphers or curves there"
        }
        TlsFault::NoSignatureOfServer => {
            "the client cannot verify a certificate with a key of that kind: update its TLS \
             library, or give the listener a certificate with a key of another kind (ECDSA or RSA)"
        }
        TlsFault::NoSignatureOfClient => {
            "the key of the client's certificate is of a kind that the server does not verify: \
             issue a new certificate with an ECDSA P-256 or RSA key of 2048 bits or more (see \
             martlet cert client --help)"
        }
        TlsFault::NoExtension => "the client's TLS library is too old: update it",
        TlsFault::NoApplicationProtocol => "have the client offer the ALPN protocol mqtt, or none",
        TlsFault::CertificateExpired => {
            "renew the client's certificate (see martlet cert renew --help), and give it to the \
             client"
        }
        TlsFault::CertificateNotYetValid => {
            "check the clocks of the node and of the machine that issued the certificate; if both \
             are right, wait, or renew it (see martlet cert renew --help)"
        }
        TlsFault::CertificateRevoked => {
            "give the client a new certificate: see martlet cert client --help"
        }
        TlsFault::RevocationListExpired => "write a new one: see martlet cert crl --help",
        TlsFault::CertificateOfCa => {
            "issue a certificate for the client by the listener's client_ca (see martlet cert \
             client --help); a CA's own certificate is not for clients"
        }
        TlsFault::CertificateForeign => {
            "give the client a certificate of the listener's client_ca, or add its CA there"
        }
        TlsFault::CertificateNotForClients => {
            "give the client a certificate for clients (extended key usage clientAuth): see \
             martlet cert client --help"
        }
        TlsFault::CertificateNotSigned => {
            "the CA has another key now, or the certificate was changed: issue a new one with the \
             listener's client_ca (see martlet cert client --help)"
        }
        TlsFault::CertificateVersion => {
            "issue a new certificate for the client (see martlet cert client --help), or set \
             tls.x509_version1 = true (x509_version1 of the listener) to accept certificates of \
             X.509 version 1"
        }
        TlsFault::CertificateInvalid => {
            "issue a new certificate for the client: see martlet cert client --help"
        }
        TlsFault::CertificateMissing => {
            "give the client a certificate (see martlet cert client --help), or set \
             client_certificates = \"optional\""
        }
        TlsFault::ServerNotTrusted => {
            "give the client the CA of the server's certificate (--cafile), have it connect by a \
             name that is in the certificate, and check whether the certificate has expired: \
             martlet cert check HOST:PORT --cafile CA shows all three"
        }
        TlsFault::ServerExpired => {
            "give the listener a new certificate if its own has expired (martlet cert check \
             HOST:PORT shows until when it is valid), else set the clock of the client"
        }
        TlsFault::EndedByClient => {
            "the client's own log shows why; often it connects by a name that is not in the \
             server's certificate, or does not trust its CA: martlet cert check HOST:PORT shows \
             both"
        }
        TlsFault::LeftHandshake | TlsFault::LeftAfterHandshake => {
            "look at the client's own log; often it does not accept the server's certificate: \
             check that the name that it connects to is in the certificate, and that it has the CA \
             (martlet cert check HOST:PORT --cafile CA shows both). A probe of a load balancer or \
             monitor does the same, and needs nothing"
        }
        TlsFault::NotTls => {
            "have the client connect with TLS, or to the port of a listener for its protocol \
             (martlet status lists them)"
        }
        TlsFault::PlainMqtt => {
            "turn on TLS in the client (a URL with mqtts://, --cafile), or have it connect to the \
             port of a listener without TLS (martlet status lists them)"
        }
        TlsFault::RecordTooLong | TlsFault::EmptyRecords | TlsFault::Undecryptable => {
            "the received data is not valid TLS: check the client's TLS library, and what is \
             between it and the node (a proxy, a load balancer)"
        }
        TlsFault::Failed => {
            "look at the client's TLS library and its version; openssl s_client -connect, from \
             the client's machine, shows the handshake"
        }
    }
}
