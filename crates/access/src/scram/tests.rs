use proptest::prelude::*;

use super::*;

/// A verifier with few iterations, because tests create many.
fn verifier(password: &str) -> Verifier {
    Verifier::with_salt(password.as_bytes(), b"salt", NonZeroU32::MIN)
}

fn begin(user_name: &str, password: &str, known: Verifier) -> (Client, Exchange, String) {
    let client = Client::new(user_name, password.as_bytes(), "clients");
    let first = ClientFirst::parse(client.first().as_bytes()).expect("a first message");
    assert_eq!(first.user_name(), user_name);
    let (exchange, answer) = Exchange::begin(&first, known, "servers");
    (client, exchange, answer)
}

#[test]
fn the_example_of_rfc_7677_is_kept_to_by_both_sides() {
    let client = Client::new("user", b"pencil", "rOprNGfwEbeRWgbNEkqO");
    assert_eq!(client.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let iterations = NonZeroU32::new(4096).unwrap();
    let known = Verifier::with_salt(b"pencil", &salt, iterations);
    let first = ClientFirst::parse(client.first().as_bytes()).unwrap();
    let (exchange, answer) = Exchange::begin(&first, known, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
    assert_eq!(
        answer,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let (last, signature) = client.finish(answer.as_bytes()).unwrap();
    assert_eq!(
        last,
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    let shown = exchange.finish(last.as_bytes()).unwrap();
    assert_eq!(shown, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    signature.check(shown.as_bytes()).unwrap();
}

#[test]
fn a_verifier_of_postgresql_is_read_and_written_as_it_stands() {
    let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    let read = Verifier::parse(text).unwrap();
    assert_eq!(read.text(), text);
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let made = Verifier::with_salt(b"pencil", &salt, NonZeroU32::new(4096).unwrap());
    assert!(made == read);
    for wrong in [
        "",
        "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA",
        &text.replace("4096", "0"),
        &text.replace("4096", "4000000000"),
        &text.replace("256", "1"),
        &format!("{text}$"),
        &text.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
    ] {
        assert!(Verifier::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_wrong_password_is_refused_and_a_server_that_does_not_know_it_too() {
    let (client, exchange, answer) = begin("alice", "wrong", verifier("right"));
    let (last, _) = client.finish(answer.as_bytes()).unwrap();
    assert_eq!(
        exchange.finish(last.as_bytes()),
        Err("the password is wrong")
    );
    let (client, exchange, answer) = begin("alice", "right", verifier("right"));
    let (last, _) = client.finish(answer.as_bytes()).unwrap();
    let shown = exchange.finish(last.as_bytes()).unwrap();
    // A message of another exchange, with another nonce.
    let other = Client::new("alice", b"right", "others");
    let answer = answer.replace("clients", "others");
    let (_, signature) = other.finish(answer.as_bytes()).unwrap();
    assert!(signature.check(shown.as_bytes()).is_err());
    assert!(signature.check(b"e=other-error").is_err());
}

#[test]
fn who_is_not_known_gets_the_same_salt_each_time_and_never_in() {
    let key = [7; 32];
    let (one, again) = (
        Verifier::made_up(&key, "nobody"),
        Verifier::made_up(&key, "nobody"),
    );
    assert!(one == again && one != Verifier::made_up(&key, "other"));
    assert!(one != Verifier::made_up(&[8; 32], "nobody"));
    assert_eq!(one.salt.len(), Verifier::new(b"x").unwrap().salt.len());
    let (client, exchange, answer) = begin("nobody", "", one);
    let (last, _) = client.finish(answer.as_bytes()).unwrap();
    assert!(exchange.finish(last.as_bytes()).is_err());
}

#[test]
fn channel_binding_extensions_and_other_identities_are_refused() {
    let refused = [
        "p=tls-exporter,,n=alice,r=abc",
        "n,a=bob,n=alice,r=abc",
        "n,,m=x,n=alice,r=abc",
        "n,,n=alice,r=abc,m=x",
        "n,,n=alice,r=abc,x=later,m=x",
        "n,,n=,r=abc",
        "n,,n=al=ice,r=abc",
        "n,,n=alice",
        "n,,n=alice,r=",
        "n,,r=abc,n=alice",
        "x,,n=alice,r=abc",
        "n=alice,r=abc",
    ];
    for message in refused {
        assert!(ClientFirst::parse(message.as_bytes()).is_err(), "{message}");
    }
    for message in [
        "y,,n=alice,r=abc",
        "n,a=alice,n=alice,r=abc",
        "n,,n=alice,r=abc,x=later",
    ] {
        let read = ClientFirst::parse(message.as_bytes());
        assert_eq!(read.map(|first| first.user_name), Ok("alice".to_owned()));
    }
    assert!(ClientFirst::parse(&[b'n'; MESSAGE_BYTES_MAX + 1]).is_err());
    assert!(ClientFirst::parse(b"n,,n=\xff,r=a").is_err());
}

/// The proof covers the whole message, so a client with the right password creates these itself.
#[test]
fn an_extension_that_must_be_understood_is_refused_in_the_last_message() {
    for (extension, is_accepted) in [("", true), (",x=later", true), (",m=x", false)] {
        let (client, exchange, answer) = begin("alice", "right", verifier("right"));
        let last = with_extension(&client, &answer, extension);
        let done = exchange.finish(last.as_bytes());
        assert_eq!(done.is_ok(), is_accepted, "{extension}: {done:?}");
    }
}

/// The last message of the client, with an extension before the proof.
fn with_extension(client: &Client, server_first: &str, extension: &str) -> String {
    let mut parts = server_first.split(',');
    let nonce = parts.next().unwrap();
    let salt = salt_of(parts.next().unwrap().strip_prefix("s=").unwrap()).unwrap();
    let iterations = iterations_of(parts.next().unwrap().strip_prefix("i=").unwrap()).unwrap();
    let without_proof = format!("c={},{nonce}{extension}", STANDARD.encode("n,,"));
    let all = format!("{},{server_first},{without_proof}", client.bare);
    let salted = salted_password(&client.password, &salt, iterations);
    let client_key = mac(&salted, b"Client Key");
    let proof = xor(&client_key, &mac(&hash(&client_key), all.as_bytes()));
    format!("{without_proof},p={}", STANDARD.encode(proof))
}

#[test]
fn no_verifier_is_of_an_empty_password() {
    assert!(Verifier::new(b"").is_err());
    // A soft hyphen, which SASLprep removes.
    assert!(Verifier::new("\u{ad}".as_bytes()).is_err());
}

#[test]
fn who_changes_its_mind_of_channel_binding_is_refused() {
    // A client with channel binding that was deceived into assuming that the server has none.
    let first = ClientFirst::parse(b"y,,n=alice,r=clients").unwrap();
    let (exchange, answer) = Exchange::begin(&first, verifier("right"), "servers");
    let client = Client::new("alice", b"right", "clients");
    let (last, _) = client.finish(answer.as_bytes()).unwrap();
    assert!(exchange.finish(last.as_bytes()).is_err());
}

#[test]
fn a_server_that_asks_too_much_of_a_client_is_not_answered() {
    let client = Client::new("alice", b"right", "abc");
    for message in [
        "r=abcdef,s=AAAA,i=4000000000",
        "r=abcdef,s=AAAA,i=0",
        "r=abc,s=AAAA,i=1",
        "r=other,s=AAAA,i=1",
        "r=abcdef,s=,i=1",
        "m=x,r=abcdef,s=AAAA,i=1",
        "r=abcdef,s=AAAA,i=1,m=x",
    ] {
        assert!(client.finish(message.as_bytes()).is_err(), "{message}");
    }
}

proptest! {
    /// Invalid data in any step is an error, and never authenticates.
    #[test]
    fn garbage_never_lets_in(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        text in "[nypcrvi=, a-z0-9+/]{0,60}",
    ) {
        let (client, exchange, _) = begin("alice", "right", verifier("right"));
        for message in [&bytes[..], text.as_bytes()] {
            let _ = ClientFirst::parse(message);
            let _ = Verifier::parse(&String::from_utf8_lossy(message));
            prop_assert!(exchange.finish(message).is_err());
            prop_assert!(client.finish(message).is_err());
        }
    }

    /// A correct answer with one changed bit does not authenticate either.
    #[test]
    fn a_changed_proof_never_lets_in(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let (client, exchange, answer) = begin("alice", "right", verifier("right"));
        let (last, signature) = client.finish(answer.as_bytes()).expect("an answer");
        let shown = exchange.finish(last.as_bytes()).expect("the password is right");
        prop_assert!(signature.check(shown.as_bytes()).is_ok());
        let mut changed = last.into_bytes();
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        prop_assert!(exchange.finish(&changed).is_err());
    }

    /// Any name that can be normalized authenticates this way, with any password.
    #[test]
    fn names_and_passwords_may_be_anything(name in "\\PC{1,40}", password in any::<Vec<u8>>()) {
        let known = Verifier::with_salt(&password, b"salt", NonZeroU32::MIN);
        let known = Verifier::parse(&known.text()).expect("its own text");
        let client = Client::new(&name, &password, "clients");
        let first = ClientFirst::parse(client.first().as_bytes());
        let Ok(prepared) = prepared_name(&name) else {
            prop_assert!(first.is_err());
            return Ok(());
        };
        let first = first.expect("a first message");
        prop_assert_eq!(first.user_name(), &*prepared);
        let (exchange, answer) = Exchange::begin(&first, known, "servers");
        let (last, signature) = client.finish(answer.as_bytes()).expect("an answer");
        let shown = exchange.finish(last.as_bytes()).expect("it is the password");
        prop_assert!(signature.check(shown.as_bytes()).is_ok());
    }
}

#[test]
fn names_are_prepared_as_rfc_4013_has_it() {
    for (name, prepared) in [
        ("I\u{ad}X", Some("IX")),
        ("user", Some("user")),
        ("USER", Some("USER")),
        ("\u{aa}", Some("a")),
        ("\u{2168}", Some("IX")),
        ("e\u{301}t\u{e9}", Some("\u{e9}t\u{e9}")),
        ("\u{7}", None),
        ("\u{627}\u{31}", None),
        ("\u{ad}", None),
    ] {
        assert_eq!(prepared_name(name).ok().as_deref(), prepared, "{name:?}");
        let message = format!("n,,n={name},r=nonce");
        let read = ClientFirst::parse(message.as_bytes());
        assert_eq!(read.ok().as_ref().map(ClientFirst::user_name), prepared);
    }
    let why = ClientFirst::parse("n,,n=\u{7},r=nonce".as_bytes()).unwrap_err();
    assert!(why.contains("SASLprep"), "{why}");
}

#[test]
fn a_password_is_the_same_in_each_of_its_forms_and_another_is_not() {
    let proves = |kept: &str, said: &str| {
        let iterations = NonZeroU32::new(10).unwrap();
        let verifier = Verifier::with_salt(kept.as_bytes(), b"salt", iterations);
        let client = Client::new("user", said.as_bytes(), "client");
        let first = ClientFirst::parse(client.first().as_bytes()).unwrap();
        let (exchange, answer) = Exchange::begin(&first, verifier, "server");
        let (last, _) = client.finish(answer.as_bytes()).unwrap();
        exchange.finish(last.as_bytes()).is_ok()
    };
    assert!(proves("e\u{301}te\u{301}", "\u{e9}t\u{e9}"));
    assert!(proves("a\u{a0}b", "a b"));
    assert!(!proves("\u{e9}t\u{e9}", "ete"));
    // Text that cannot be normalized is used unchanged.
    assert!(proves("bell\u{7}", "bell\u{7}") && !proves("bell\u{7}", "bell"));
}
