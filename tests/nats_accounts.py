"""An operator, an account and users of NATS with their JWTs, as nsc makes them: Ed25519 by openssl, the rest by hand."""

import base64
import hashlib
import json
import subprocess
import time

# First bytes of the kinds of keys.
OPERATOR, ACCOUNT, USER, SEED = 14 << 3, 0, 20 << 3, 18 << 3


def openssl(*arguments, data=b""):
    done = subprocess.run(["openssl", *arguments], input=data, capture_output=True, timeout=20)
    assert done.returncode == 0, done
    return done.stdout


def crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc.to_bytes(2, "little")


def base32(data):
    return base64.b32encode(data + crc16(data)).decode().rstrip("=")


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Key:
    """A pair of keys."""

    def __init__(self, place, kind):
        self.path = str(place)
        openssl("genpkey", "-algorithm", "ed25519", "-out", self.path)
        raw = openssl("pkey", "-in", self.path, "-outform", "DER")[-32:]
        public = openssl("pkey", "-in", self.path, "-pubout", "-outform", "DER")[-32:]
        self.public = base32(bytes([kind]) + public)
        self.seed = base32(bytes([SEED | kind >> 5, (kind & 31) << 3]) + raw)

    def jwt(self, subject, name, claims):
        """A token by this key about another one."""
        body = {"iat": int(time.time()), "iss": self.public, "sub": subject.public, "name": name,
                "nats": {**claims, "version": 2}}
        body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).decode().rstrip("=")
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        text = ".".join(base64url(json.dumps(part).encode()) for part in (head, body))
        with open(self.path + ".text", "wb") as file:
            file.write(text.encode())
        signature = openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.path, "-in", self.path + ".text")
        return f"{text}.{base64url(signature)}"


class Accounts:
    """An operator with one account that has JetStream, and a user of it."""

    def __init__(self, place):
        operator, account, self.user = Key(place / "o", OPERATOR), Key(place / "a", ACCOUNT), Key(place / "u", USER)
        none = {"imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
        limits = {"subs": -1, "data": -1, "payload": -1, **none, "mem_storage": -1, "disk_storage": -1, "streams": -1,
                  "consumer": -1}
        self.operator_jwt = operator.jwt(operator, "operator", {"type": "operator"})
        self.account_jwt = operator.jwt(account, "account", {"type": "account", "limits": limits})
        system = Key(place / "s", ACCOUNT)
        self.accounts = [(account, self.account_jwt), (
            system, operator.jwt(system, "system", {"type": "account", "limits": none}))]
        self.user_jwt = account.jwt(self.user, "martlet", {
            "type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1})
        self.credentials = place / "martlet.creds"
        self.credentials.write_text(
            f"-----BEGIN NATS USER JWT-----\n{self.user_jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.user.seed}\n------END USER NKEY SEED------\n")

    def config(self):
        """Lines of a server's configuration."""
        preload = ", ".join(f"{account.public}: {jwt}" for account, jwt in self.accounts)
        return (f"operator: {self.operator_jwt}\nresolver: MEMORY\nsystem_account: {self.accounts[1][0].public}\n"
                f"resolver_preload: {{ {preload} }}\n")
