//! libpq's connection descriptions: `key=value` words and URIs, a service file behind them, `PG*` variables behind that.
//!
//! <https://www.postgresql.org/docs/current/libpq-connect.html> is the reference. A setting that we cannot honour is refused by name;
//! nothing is weakened in silence.

mod keyword;
mod uri;
mod words;

use super::service;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What libpq would find in its surroundings. Filled at the edge, so that nothing below reads the environment.
#[derive(Clone, Default)]
pub struct LibpqEnvironment {
    /// The home directory, for `~/.pgpass`, `~/.pg_service.conf` and `~/.postgresql/`.
    pub home: Option<PathBuf>,
    /// The operating system's name for the user, libpq's default for `user`.
    pub user: String,
    /// The variables whose names start with `PG`.
    pub variables: BTreeMap<String, String>,
}

impl LibpqEnvironment {
    /// Keeps the `PG*` variables out of all of them.
    pub fn new(home: Option<PathBuf>, user: String, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let variables = variables.into_iter().filter(|(name, _)| name.starts_with("PG")).collect();
        Self { home, user, variables }
    }

    /// A variable that is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// A description that is wrong, or asks for what we cannot do. Never shows a value that may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnInfoError {
    /// The words do not follow libpq's grammar.
    #[error("not a connection description: {what}, at character {position}")]
    Syntax {
        /// What is wrong.
        what: &'static str,
        /// Where, counted from 1.
        position: usize,
    },
    /// A word that libpq does not know either.
    #[error("{} is not a connection parameter{}", shown(name), origin(*position))]
    UnknownKeyword {
        /// The word; empty where it might be part of a password.
        name: String,
        /// Where in the description it starts, counted from 1, if it stands there.
        position: Option<usize>,
    },
    /// libpq knows it, we do not.
    #[error("{keyword} is not supported: {why}")]
    Unsupported {
        /// The parameter.
        keyword: &'static str,
        /// Why, and what to do instead.
        why: &'static str,
    },
    /// A value outside of what the parameter takes.
    #[error("{keyword}{} is not {expected}", bad(value))]
    BadValue {
        /// The parameter.
        keyword: &'static str,
        /// Its value; empty where it might be a password that slipped there.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
    /// Two settings that exclude each other.
    #[error("{0}")]
    Contradiction(String),
    /// `service=` names nothing.
    #[error("service {name:?} is in none of {}", list(searched))]
    NoSuchService {
        /// The service.
        name: String,
        /// The files that were searched.
        searched: Vec<PathBuf>,
    },
    /// The service file is wrong.
    #[error("{}, line {line}: {what}", path.display())]
    ServiceFile {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1; 0 for the whole file.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

fn bad(value: &str) -> String {
    if value.is_empty() { String::new() } else { format!(": {value:?}") }
}

fn shown(name: &str) -> String {
    if name.is_empty() { "a word".to_owned() } else { format!("{name:?}") }
}

fn origin(position: Option<usize>) -> String {
    position.map_or_else(String::new, |position| format!(", at character {position}"))
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The settings of one description, by libpq's keyword. Everything in it is known and supported.
#[derive(Clone, Default)]
pub(super) struct Settings(BTreeMap<&'static str, String>);

impl Settings {
    /// Parses a description, then fills what it leaves open from the service and from the `PG*` variables.
    pub fn resolve(description: &str, environment: &LibpqEnvironment) -> Result<Self, ConnInfoError> {
        let mut settings = Self::parse(description)?;
        if let Some(name) = settings.get("service").or_else(|| environment.variable("PGSERVICE")).map(str::to_owned) {
            let file = settings.get("servicefile").map(PathBuf::from);
            for (keyword, value) in service::read(&name, file, environment)? {
                settings.0.entry(keyword).or_insert(value);
            }
        }
        for keyword in keyword::ALL {
            if let Some(value) = keyword.variable.and_then(|variable| environment.variable(variable)) {
                settings.0.entry(keyword.name).or_insert_with(|| value.to_owned());
            }
        }
        for (name, value) in &settings.0 {
            keyword::check(name, value)?;
        }
        Ok(settings)
    }

    fn parse(description: &str) -> Result<Self, ConnInfoError> {
        let rest = description.strip_prefix("postgresql://").or_else(|| description.strip_prefix("postgres://"));
        match rest {
            Some(rest) => uri::parse(rest, description.len() - rest.len()),
            None => words::parse(description),
        }
    }

    /// A value that is set and not empty.
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn set(&mut self, keyword: &'static str, value: String) {
        self.0.insert(keyword, value);
    }
}

/// The keyword that `name` spells, for the parsers.
pub(super) fn known(name: &str) -> Option<&'static str> {
    keyword::ALL.iter().find(|keyword| keyword.name == name).map(|keyword| keyword.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(super) fn settings(description: &str) -> Vec<(&'static str, String)> {
        Settings::parse(description).unwrap().0.into_iter().collect()
    }

    fn environment(variables: &[(&str, &str)]) -> LibpqEnvironment {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        LibpqEnvironment::new(None, "me".to_owned(), variables)
    }

    proptest! {
        #[test]
        fn any_value_survives_quoting(value in "\\PC*", spaces in " {0,3}") {
            let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
            let parsed = settings(&format!("{spaces}password{spaces}={spaces}'{quoted}'{spaces}user=u"));
            prop_assert_eq!(parsed, [("password", value), ("user", "u".to_owned())]);
        }

        #[test]
        fn any_value_survives_percent_encoding(user in "\\PC+", password in "\\PC+", database in "\\PC+") {
            let encode = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
            let parsed = settings(&format!("postgresql://{}:{}@h:1/{}", encode(&user), encode(&password), encode(&database)));
            let expected = [("dbname", database), ("host", "h".to_owned()), ("password", password), ("port", "1".to_owned()), ("user", user)];
            prop_assert_eq!(parsed, expected);
        }

        #[test]
        fn nothing_makes_the_parser_panic_or_tell_a_password(text in ".*", secret in "[a-z]{12}") {
            for description in [text.clone(), format!("postgresql://{text}"), format!("password={secret} {text}"), format!("postgres://u:{secret}@{text}")] {
                if let Err(error) = Settings::resolve(&description, &environment(&[("PGSYSCONFDIR", "/nonexistent")])) {
                    prop_assert!(!error.to_string().contains(&secret), "{}", error);
                }
            }
        }
    }

    #[test]
    fn variables_stand_behind_the_description() {
        let environment = environment(&[("PGHOST", "elsewhere"), ("PGPORT", "6000"), ("PGUSER", ""), ("HOME", "/x")]);
        let settings = Settings::resolve("host=here", &environment).unwrap();
        assert_eq!(settings.get("host"), Some("here"));
        assert_eq!(settings.get("port"), Some("6000"));
        assert_eq!(settings.get("user"), None);
    }

    #[test]
    fn what_we_cannot_do_is_refused_by_name() {
        for (description, keyword) in [
            ("gssencmode=require", "gssencmode"),
            ("krbsrvname=pg", "krbsrvname"),
            ("require_auth=gss", "require_auth"),
            ("replication=database", "replication"),
            ("client_encoding=LATIN1", "client_encoding"),
            ("sslkeylogfile=/tmp/k", "sslkeylogfile"),
            ("ssl_max_protocol_version=TLSv1.1", "ssl_max_protocol_version"),
        ] {
            let error = Settings::resolve(description, &environment(&[])).err().unwrap();
            assert!(matches!(error, ConnInfoError::Unsupported { keyword: k, .. } if k == keyword), "{description}: {error}");
        }
        let error = Settings::resolve("", &environment(&[("PGGSSENCMODE", "require")])).err().unwrap();
        assert!(error.to_string().starts_with("gssencmode is not supported: "), "{error}");
        assert!(Settings::resolve("gssencmode=prefer replication=off client_encoding=utf8", &environment(&[])).is_ok());
    }

    #[test]
    fn a_wrong_word_is_shown_only_where_no_password_can_be_in_it() {
        let error = Settings::parse("hots=x").err().unwrap();
        assert_eq!(error.to_string(), "\"hots\" is not a connection parameter, at character 1");
        for description in ["password=cor rect=horse", "password=correct horse", "postgresql://u:s3c@h/d?horse=1"] {
            let error = Settings::parse(description).err().unwrap();
            assert!(!error.to_string().contains("horse") && !error.to_string().contains("rect"), "{error}");
        }
    }
}
