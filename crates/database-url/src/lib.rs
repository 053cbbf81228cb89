//! The URL of a database of PostgreSQL, whose password is never shown.
#![forbid(unsafe_code)]

mod keywords;

use std::fmt;

/// The URL of a database, with a password in it that nobody is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

/// A URL of another kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPostgres;

impl DatabaseUrl {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full`, or the same in the form
    /// `host=HOST port=PORT user=USER password=PASSWORD dbname=DATABASE sslmode=verify-full`.
    ///
    /// # Errors
    /// It is the URL of another kind of database.
    pub fn parse(text: &str) -> Result<Self, NotPostgres> {
        let mut schemes = ["postgres://", "postgresql://"].iter();
        match schemes.any(|scheme| text.starts_with(scheme)) {
            true => Ok(Self(text.to_owned())),
            false => keywords::url(text).map(Self).ok_or(NotPostgres),
        }
    }

    /// The whole URL, for the connection.
    pub fn whole(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("postgres", ""));
        // A password may stand among the parameters too.
        let place = rest.split(['?', '#']).next().unwrap_or_default();
        match place.rsplit_once('@') {
            Some((who, host)) => {
                let user = who.split(':').next().unwrap_or_default();
                write!(f, "{scheme}://{user}@{host}")
            }
            // One of the two was part of a password.
            None if rest.contains('@') => write!(f, "{scheme}://***"),
            None => write!(f, "{scheme}://{place}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (given, shown) in [
            ("postgres://u:secret@h:5432/d?a=b", "postgres://u@h:5432/d"),
            (
                "postgresql://h/d?user=u&password=secret",
                "postgresql://h/d",
            ),
            ("postgres://u:se?cret@h/d", "postgres://***"),
            ("postgres://u:se@cret@h/d", "postgres://u@h/d"),
            ("postgres://u:se/cret@h/d", "postgres://u@h/d"),
        ] {
            let url = DatabaseUrl::parse(given).expect("it is one");
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("cret"), "{given}");
        }
        assert!(DatabaseUrl::parse("mysql://u:secret@h/d").is_err());
    }

    #[test]
    fn keywords_are_a_url_too() {
        for (given, url, shown) in [
            (
                "host=db user=u password=p dbname=d port=5433 sslmode=disable TimeZone=UTC",
                "postgres://u:p@db:5433/d?sslmode=disable",
                "postgres://u@db:5433/d",
            ),
            (
                " dbname = 'my d' password='it\\'s @/?' user=u\n",
                "postgres://u:it%27s%20%40%2F%3F@localhost/my%20d",
                "postgres://u@localhost/my%20d",
            ),
            (
                "host=/run/postgresql dbname=d",
                "postgres://localhost/d?host=%2Frun%2Fpostgresql",
                "postgres://localhost/d",
            ),
            (
                "host=::1 dbname=d",
                "postgres://[::1]/d",
                "postgres://[::1]/d",
            ),
            (
                "hostaddr=192.0.2.7 host=db dbname=d",
                "postgres://192.0.2.7/d",
                "postgres://192.0.2.7/d",
            ),
        ] {
            let parsed = DatabaseUrl::parse(given).expect(given);
            assert_eq!((parsed.whole(), &*parsed.to_string()), (url, shown));
        }
        for other in [
            "",
            "a=b.db",
            "data.db",
            "host",
            "host=a b",
            "dbname='a",
            "sqlite:a=b",
        ] {
            assert_eq!(DatabaseUrl::parse(other), Err(NotPostgres), "{other}");
        }
    }
}
