//! A configuration never fails open. Whatever happens to it and to the files that it names, either
//! it is rejected with an error that names the place, or no client is admitted and no action
//! permitted beyond what the remaining text requests.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, mpsc};
use std::time::Duration;

use martlet_access::hash::{Kind, PasswordHash};
use martlet_broker::{Actions, Names, RuleBook as _};
use martlet_broker::{Authenticated, Authentication, ConnectionId, ListenerPolicy, Password};
use martlet_certificates::authority::{Authority, KeyKind, Purpose};
use martlet_certificates::{ClientFiles, ServerCheck, client_config};
use martlet_codec::ProtocolVersion;
use martlet_control::authentication::{AuthenticationChain, Policy};
use proptest::prelude::*;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use super::{ConfigError, Effective, NodeConfig, Overlay, load, resolve};

/// A working configuration and its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Site {
    Passwords,
    Certificates,
    /// With separate keys; the others use those of the node.
    Listener,
    MosquittoPasswords,
    MosquittoCertificates,
}

const SITES: [Site; 5] = [
    Passwords,
    Certificates,
    Listener,
    MosquittoPasswords,
    MosquittoCertificates,
];

use Site::{Certificates, Listener, MosquittoCertificates, MosquittoPasswords, Passwords};

const ACL: &str = "\
topic read public/#
user alice
topic write up/#
topic read down/#
user bob
topic readwrite #
topic deny up/secret
pattern read own/%c
";

const CLIENT_ID: &str = "c1";
const USERS: [Option<&str>; 3] = [Some("alice"), Some("bob"), None];
const TOPICS: [&str; 7] = [
    "up/1",
    "up/secret",
    "down/1",
    "own/c1",
    "own/other",
    "public/1",
    "deep/er/topic",
];

impl Site {
    fn is_mosquitto(self) -> bool {
        matches!(self, MosquittoPasswords | MosquittoCertificates)
    }

    fn has_passwords(self) -> bool {
        matches!(self, Passwords | Listener | MosquittoPasswords)
    }

    fn main_file(self) -> &'static str {
        match self.is_mosquitto() {
            true => "mosquitto.conf",
            false => "martlet.toml",
        }
    }

    /// Names of its files; the first is the configuration itself.
    fn files(self) -> &'static [&'static str] {
        match self {
            Passwords => &["martlet.toml", "passwd", "acl"],
            Certificates => &["martlet.toml", "acl", "server.crt", "server.key", "ca.crt"],
            Listener => &[
                "martlet.toml",
                "passwd",
                "acl",
                "server.crt",
                "server.key",
                "ca.crt",
            ],
            MosquittoPasswords => &["mosquitto.conf", "passwd", "acl"],
            MosquittoCertificates => &[
                "mosquitto.conf",
                "acl",
                "server.crt",
                "server.key",
                "ca.crt",
            ],
        }
    }

    fn text(self, directory: &Path) -> String {
        let text = match self {
            Passwords => {
                "[mqtt]\nmax_qos = 1\n\n[auth]\npassword_file = \"DIR/passwd\"\n\
                 acl_file = \"DIR/acl\"\n\n[[listeners]]\nurl = \"mqtt://127.0.0.1:21201\"\n\n\
                 [[listeners]]\nurl = \"ws://0.0.0.0:21202/mqtt\"\n"
            }
            Certificates => {
                "[tls]\ncertificate = \"DIR/server.crt\"\nkey = \"DIR/server.key\"\n\
                 client_ca = \"DIR/ca.crt\"\nclient_certificates = \"required\"\n\n[auth]\n\
                 certificate_user_name = \"common-name\"\nacl_file = \"DIR/acl\"\n\n\
                 [[listeners]]\nurl = \"mqtts://127.0.0.1:21203\"\n"
            }
            Listener => {
                "[[listeners]]\nurl = \"wss://127.0.0.1:21208/mqtt\"\nname = \"own\"\n\
                 password_file = \"DIR/passwd\"\nacl_file = \"DIR/acl\"\n\
                 certificate = \"DIR/server.crt\"\nkey = \"DIR/server.key\"\n\
                 client_ca = \"DIR/ca.crt\"\nclient_certificates = \"required\"\n"
            }
            MosquittoPasswords => {
                "allow_anonymous false\npassword_file DIR/passwd\nacl_file DIR/acl\n\
                 listener 21204 127.0.0.1\nlistener 21205 0.0.0.0\nprotocol websockets\n"
            }
            MosquittoCertificates => {
                "per_listener_settings false\nallow_anonymous false\nacl_file DIR/acl\n\
                 listener 21206 127.0.0.1\ncertfile DIR/server.crt\nkeyfile DIR/server.key\n\
                 cafile DIR/ca.crt\nrequire_certificate true\nuse_identity_as_username true\n"
            }
        };
        text.replace("DIR", &directory.display().to_string())
    }
}

/// Test data that is created once: hashes, certificates, and a server for requests.
struct Made {
    passwords: String,
    /// `server.crt`, `server.key`, `ca.crt`.
    certificates: [Vec<u8>; 3],
    /// With a self-made certificate, and with one of another CA.
    strangers: [Arc<ClientConfig>; 2],
    /// With a certificate of the CA.
    device: Arc<ClientConfig>,
    runtime: tokio::runtime::Runtime,
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let hash = |password: &[u8]| PasswordHash::new(password, Kind::Sha512).unwrap().text();
    let passwords = format!("alice:{}\nbob:{}\n", hash(b"a"), hash(b"b"));
    let directory = Directory::new();
    let now = i64::try_from(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs(),
    )
    .unwrap();
    let authority = |name: &str| {
        let of = directory.0.join(name);
        Authority::create(&of, name, 2, KeyKind::EcP256, now, |_| ()).unwrap();
        Authority::open(&of, |_| ()).unwrap()
    };
    let issue = |authority: &Authority, name: &str, purpose: &Purpose| {
        authority
            .issue(name, name, purpose, 2, KeyKind::EcP256, now)
            .unwrap()
    };
    let (ours, other) = (authority("ours"), authority("other"));
    let server = issue(
        &ours,
        "server",
        &Purpose::Server(vec!["localhost".to_owned()]),
    );
    let client = |authority: Option<&Authority>| {
        let issued = authority.map(|authority| issue(authority, "device", &Purpose::Client));
        let files = ClientFiles {
            certificate: issued.as_ref().map(|issued| issued.certificate.clone()),
            key: issued.as_ref().map(|issued| issued.key.clone()),
            check: ServerCheck::Nothing,
            ..ClientFiles::default()
        };
        client_config(&files).unwrap()
    };
    let read = |path: &Path| fs::read(path).unwrap();
    Made {
        passwords,
        certificates: [
            read(&server.certificate),
            read(&server.key),
            read(&directory.0.join("ours/ca.crt")),
        ],
        strangers: [client(None), client(Some(&other))],
        device: client(Some(&ours)),
        runtime: tokio::runtime::Runtime::new().unwrap(),
    }
});

/// A directory that is removed with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("martlet-fail-open-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn with(site: Site) -> Self {
        let directory = Self::new();
        for file in site.files() {
            let bytes = match *file {
                "passwd" => MADE.passwords.clone().into_bytes(),
                "acl" => ACL.as_bytes().to_vec(),
                "server.crt" => MADE.certificates[0].clone(),
                "server.key" => MADE.certificates[1].clone(),
                "ca.crt" => MADE.certificates[2].clone(),
                _ => site.text(&directory.0).into_bytes(),
            };
            fs::write(directory.0.join(file), bytes).unwrap();
        }
        directory
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_default()
    }

    fn load(&self, site: Site) -> Result<Effective, ConfigError> {
        let main = self.0.join(site.main_file());
        let (file, mosquitto) = match site.is_mosquitto() {
            true => (None, Some(main)),
            false => (Some(main), None),
        };
        let data_dir = (
            "node.data_dir".to_owned(),
            "unused".to_owned(),
            "--data-dir",
        );
        let overlay = Overlay {
            file,
            mosquitto,
            values: vec![data_dir],
            ..Overlay::default()
        };
        load(&overlay, &[])
    }

    fn resolve(&self, site: Site) -> Result<NodeConfig, ConfigError> {
        resolve(&self.load(site)?)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Damage to a file. Positions are taken modulo the length.
#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Delete(usize),
    Insert(usize, u8),
    Truncate(usize),
    CutLine(usize),
    DoubleLine(usize),
    SwapLines(usize),
    Empty,
    Missing,
    Directory,
    /// Makes the file unreadable for every user, even root.
    Loop,
}

impl Damage {
    fn any() -> impl Strategy<Value = Self> {
        let place = 0_usize..10_000;
        prop_oneof![
            6 => (place.clone(), 0_u8..8).prop_map(|(at, bit)| Self::Flip(at, bit)),
            3 => place.clone().prop_map(Self::Delete),
            2 => (place.clone(), prop::sample::select(&b"\n\r\0 #=\"'[]a/+:$\xff"[..]))
                .prop_map(|(at, byte)| Self::Insert(at, byte)),
            2 => place.clone().prop_map(Self::Truncate),
            4 => place.clone().prop_map(Self::CutLine),
            2 => place.clone().prop_map(Self::DoubleLine),
            1 => place.prop_map(Self::SwapLines),
            1 => Just(Self::Empty),
            1 => Just(Self::Missing),
            1 => Just(Self::Directory),
            1 => Just(Self::Loop),
        ]
    }

    fn befall(&self, path: &Path) {
        let Ok(mut bytes) = fs::read(path) else {
            return; // It has been taken away already.
        };
        let size = bytes.len().max(1);
        let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let count = lines.len().max(1);
        match *self {
            Self::Flip(at, bit) => {
                if let Some(byte) = bytes.get_mut(at % size) {
                    *byte ^= 1 << bit;
                }
            }
            Self::Delete(at) if !bytes.is_empty() => {
                bytes.remove(at % size);
            }
            Self::Insert(at, byte) => bytes.insert(at % size.min(bytes.len() + 1), byte),
            Self::Truncate(at) => bytes.truncate(at % size),
            Self::CutLine(at) if !lines.is_empty() => {
                lines.remove(at % count);
                bytes = lines.concat();
            }
            Self::DoubleLine(at) if !lines.is_empty() => {
                lines.insert(at % count, lines[at % count]);
                bytes = lines.concat();
            }
            Self::SwapLines(at) if !lines.is_empty() => {
                lines.swap(at % count, (at + 1) % count);
                bytes = lines.concat();
            }
            Self::Empty => bytes.clear(),
            Self::Missing | Self::Directory | Self::Loop => {
                fs::remove_file(path).unwrap();
                match self {
                    Self::Directory => fs::create_dir(path).unwrap(),
                    Self::Loop => std::os::unix::fs::symlink(path, path).unwrap(),
                    _ => {}
                }
                return;
            }
            _ => {}
        }
        fs::write(path, bytes).unwrap();
    }
}

/// The remaining text of a damaged configuration, parsed in the simplest way.
struct Left {
    site: Site,
    /// The keys that are set and their values: `auth.password_file`, or Mosquitto's keywords.
    said: Vec<(String, String)>,
}

impl Left {
    fn of(site: Site, text: &str) -> Self {
        let mut said = Vec::new();
        if site.is_mosquitto() {
            for line in text
                .lines()
                .map(str::trim)
                .filter(|line| !line.starts_with('#'))
            {
                let (word, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
                said.push((word.to_owned(), value.trim().to_owned()));
            }
        } else if let Ok(table) = text.parse::<toml::Table>() {
            for (section, content) in table {
                let tables = match content {
                    toml::Value::Array(tables) => tables,
                    one => vec![one],
                };
                for table in tables {
                    for (key, value) in table.as_table().into_iter().flatten() {
                        let value = value.as_str().map_or(value.to_string(), str::to_owned);
                        said.push((format!("{section}.{key}"), value));
                    }
                }
            }
        }
        Self { site, said }
    }

    fn says(&self, key: &str) -> bool {
        self.said.iter().any(|(known, _)| known == key)
    }

    fn is(&self, key: &str, value: &str) -> bool {
        self.said
            .iter()
            .any(|(known, said)| known == key && said == value)
    }

    /// Whether the configuration intentionally admits clients without credentials.
    fn is_open(&self, is_loopback: bool) -> bool {
        if self.site.is_mosquitto() {
            let is_local = !self.says("listener") && !self.says("port");
            return self.is("allow_anonymous", "true") || is_local && is_loopback;
        }
        let keys = ["password_file", "acl_file", "certificate_user_name"];
        let is_said = |key: &&str| {
            self.says(&format!("auth.{key}")) || self.says(&format!("listeners.{key}"))
        };
        let asks_nobody = is_loopback && !keys.iter().any(is_said);
        asks_nobody || self.is("mqtt.allow_anonymous", "true")
    }

    fn wants_certificates(&self) -> bool {
        match self.site.is_mosquitto() {
            true => self.is("require_certificate", "true"),
            false => ["tls", "listeners"].iter().any(|section| {
                let key = format!("{section}.client_certificates");
                let is_chosen = self.is(&key, "off") || self.is(&key, "optional");
                let has_ca = self.says(&format!("{section}.client_ca"));
                has_ca && !is_chosen || self.is(&key, "required")
            }),
        }
    }

    fn acl_is_asked(&self) -> bool {
        let keys = ["acl_file", "auth.acl_file", "listeners.acl_file"];
        keys.iter().any(|key| self.says(key))
    }

    /// Whether it contains only addresses, so that no names are resolved.
    fn has_addresses_only(&self) -> bool {
        self.said.iter().all(|(key, value)| match &**key {
            "listeners.url" => {
                let host = value.split("://").nth(1).unwrap_or_default();
                let host = host.split(['/', ':']).next().unwrap_or_default();
                host.is_empty() || host.parse::<IpAddr>().is_ok()
            }
            "listener" => match value.split_whitespace().nth(1) {
                Some(host) => host.parse::<IpAddr>().is_ok(),
                None => true,
            },
            "bind_address" => value.parse::<IpAddr>().is_ok(),
            _ => true,
        })
    }
}

/// The most that an ACL file permits, computed in the simplest way; `None` if a line is invalid.
fn permits(text: &str, user: Option<&str>, topic: &str, read: bool) -> Option<bool> {
    let (mut section, mut allowed, mut denied) = (None, false, false);
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(char::is_whitespace)?;
        let rest = rest.trim();
        if word == "user" {
            section = Some(rest.to_owned());
            continue;
        }
        let (access, filter) = match rest.split_once(char::is_whitespace) {
            Some((access @ ("read" | "write" | "readwrite" | "deny"), filter)) => {
                (access, filter.trim())
            }
            _ => ("readwrite", rest),
        };
        let mut filter = filter.to_owned();
        match word {
            "topic" if section.as_deref() != user => continue,
            "topic" => {}
            "pattern" => {
                filter = filter.replace("%c", CLIENT_ID);
                filter = filter.replace("%u", user.unwrap_or("\0"));
            }
            _ => return None,
        }
        if matches(&filter, topic) {
            match access {
                "deny" => denied |= word == "topic",
                "read" => allowed |= read,
                "write" => allowed |= !read,
                _ => allowed = true,
            }
        }
    }
    Some(allowed && !denied)
}

fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match levels.next() {
            Some(found) if level == "+" || level == found => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Decides like the shard: by the authenticator, or by admitting all or none.
fn is_let_in(
    policy: Option<&Arc<Policy>>,
    listener: &Arc<ListenerPolicy>,
    who: Option<(&str, &str)>,
) -> bool {
    let Some(policy) = policy.filter(|_| listener.authenticate) else {
        return listener.allow_anonymous;
    };
    let chain = AuthenticationChain::new(
        Arc::clone(policy),
        MADE.runtime.handle().clone(),
        &[7; 32],
        None,
    );
    let (sender, answer) = mpsc::channel();
    let asked = Authentication {
        connection: ConnectionId {
            index: 0,
            generation: 0,
        },
        listener: Arc::clone(listener),
        realm: listener.realm,
        address: None,
        version: ProtocolVersion::V5,
        client_id: CLIENT_ID.into(),
        user_name: who.map(|(user, _)| user.into()),
        password: who.map(|(_, password)| Password::from(password.as_bytes())),
        certificate: None,
        waiter: martlet_broker::LoginWaiter::default(),
        step: None,
    };
    chain.ask(asked, move |found| {
        let _ = sender.send(matches!(found, Authenticated::Accepted { .. }));
    });
    answer.recv_timeout(Duration::from_secs(20)).unwrap()
}

/// Whether an in-memory handshake completes.
fn shakes_hands(server: Arc<ServerConfig>, client: &Arc<ClientConfig>) -> bool {
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            if server.process_new_packets().is_err() {
                return false;
            }
        }
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
    }
    !server.is_handshaking() && !client.is_handshaking()
}

/// Asserts that a node admits no client and permits no action beyond what the remaining text
/// requests.
fn assert_closed(site: Site, directory: &Directory, node: &NodeConfig) {
    let left = Left::of(site, &directory.text(site.main_file()));
    let acl = directory.text("acl");
    for listener in &node.listeners {
        let is_open = left.is_open(listener.address.is_local());
        let name = &listener.name;
        let strangers = [
            None,
            Some(("alice", "wrong")),
            Some(("alice", "")),
            Some(("eve", "a")),
        ];
        for who in strangers {
            let entered = is_let_in(node.policy.as_ref(), &listener.policy, who);
            assert!(is_open || !entered, "{name} accepts {who:?}");
        }
        if let Some(tls) = listener.tls.as_ref().filter(|_| left.wants_certificates()) {
            for client in &MADE.strangers {
                assert!(
                    !shakes_hands(tls.config(), client),
                    "{name} needs no good certificate"
                );
            }
        }
        let Some(policy) = node.policy.as_ref().filter(|_| left.acl_is_asked()) else {
            continue;
        };
        for user in USERS {
            let rules = policy.rules_of(listener.policy.realm, user);
            let names = Names {
                client_id: CLIENT_ID,
                user_name: user.unwrap_or_default(),
            };
            for topic in TOPICS {
                for (action, read) in [(Actions::PUBLISH, false), (Actions::RECEIVE, true)] {
                    let allowed = rules.topic(action, topic, names).allowed;
                    let most = permits(&acl, user, topic, read);
                    assert!(most.is_some(), "half an ACL file holds:\n{acl}");
                    assert!(
                        !allowed || most == Some(true),
                        "{user:?} may use {topic} (read: {read}) by\n{acl}"
                    );
                }
            }
        }
    }
}

/// Whether an error contains its place: the file, by its name in the configuration, or the key.
fn names_its_place(site: Site, directory: &Directory, error: &str) -> bool {
    let keys = ["auth.", "tls.", "listeners", "mqtt."];
    let directory = directory.0.file_name().unwrap_or_default();
    error.contains(&*directory.to_string_lossy())
        || error.contains("cannot read ")
        || error.contains(site.main_file())
        || error.contains("mosquitto's default: ")
        || !site.is_mosquitto() && keys.iter().any(|key| error.contains(key))
}

#[test]
fn undamaged_each_lets_in_who_belongs_there_alone() {
    for site in SITES {
        let directory = Directory::with(site);
        let node = directory.resolve(site).unwrap();
        assert_closed(site, &directory, &node);
        for listener in &node.listeners {
            if site.has_passwords() {
                let alice = Some(("alice", "a"));
                assert!(is_let_in(node.policy.as_ref(), &listener.policy, alice));
            }
            if let Some(tls) = &listener.tls {
                assert!(shakes_hands(tls.config(), &MADE.device), "{site:?}");
            }
        }
    }
}

#[test]
fn a_line_that_protects_and_is_lost_is_told() {
    for (site, old, new, expected) in [
        (
            Certificates,
            "client_certificates = \"required\"\n",
            "",
            "client_certificates is not",
        ),
        (
            MosquittoPasswords,
            "\nacl_file ",
            "\nacl_file\n#",
            "expected a file",
        ),
        (
            MosquittoCertificates,
            "allow_anonymous",
            "require_certificate true\nallow_anonymous",
            "before the first listener",
        ),
        (
            MosquittoCertificates,
            "require_certificate true",
            "",
            "without require_certificate true",
        ),
        (
            MosquittoPasswords,
            "listener 21205 0.0.0.0\n",
            "listener 21205 0.0.0.0\nrequire_certificate true\n",
            "no client could present a certificate",
        ),
    ] {
        let directory = Directory::with(site);
        let text = directory.text(site.main_file());
        assert!(text.contains(old));
        let text = text.replacen(old, new, 1);
        fs::write(directory.0.join(site.main_file()), text).unwrap();
        let error = directory.resolve(site).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_protects_and_is_gone_when_read_again_is_found() {
    for (site, old, new, lost) in [
        (Passwords, "acl_file", "# acl_file", Some("auth.acl_file")),
        (
            Certificates,
            "\"required\"",
            "\"optional\"",
            Some("tls.client_certificates"),
        ),
        (
            Listener,
            "\"required\"",
            "\"off\"",
            Some("client_certificates of a listener"),
        ),
        (
            Listener,
            "acl_file",
            "# acl_file",
            Some("acl_file of a listener"),
        ),
        (Passwords, "max_qos = 1", "max_qos = 2", None),
        (Passwords, "/acl\"", "/another\"", None),
    ] {
        let directory = Directory::with(site);
        let before = directory.load(site).unwrap();
        let text = directory.text(site.main_file());
        assert!(text.contains(old));
        fs::write(
            directory.0.join(site.main_file()),
            text.replacen(old, new, 1),
        )
        .unwrap();
        let after = directory.load(site).unwrap();
        assert_eq!(
            after.lost_protection(&before).as_deref(),
            lost,
            "{site:?} {new}"
        );
        assert_eq!(
            before.lost_protection(&after),
            None,
            "it is stricter than that"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn damage_never_admits_more_clients(
        site in prop::sample::select(&SITES[..]),
        damages in prop::collection::vec((0_usize..8, Damage::any()), 1..4),
    ) {
        let directory = Directory::with(site);
        for (file, damage) in &damages {
            // Half of the damage affects the configuration itself.
            let files = site.files();
            let file = files[if *file < 4 { 0 } else { *file % files.len() }];
            damage.befall(&directory.0.join(file));
        }
        let left = Left::of(site, &directory.text(site.main_file()));
        prop_assume!(left.has_addresses_only());
        match directory.resolve(site) {
            Ok(node) => assert_closed(site, &directory, &node),
            Err(error) => {
                let error = error.to_string();
                prop_assert!(names_its_place(site, &directory, &error), "{}", error);
            }
        }
    }
}
