//! Patterns that map names of databases to names of tenants.

use std::str::FromStr;

/// `tenant_{tenant}`: literal text with one placeholder. It must match the whole name, and the placeholder at least one byte of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    before: String,
    after: String,
}

/// A pattern that says too little or too much.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern {pattern:?} needs {{tenant}} exactly once, as in \"tenant_{{tenant}}\"")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
}

const PLACEHOLDER: &str = "{tenant}";

impl FromStr for Pattern {
    type Err = PatternError;
    fn from_str(pattern: &str) -> Result<Self, Self::Err> {
        let wrong = || PatternError { pattern: pattern.to_owned() };
        let (before, after) = pattern.split_once(PLACEHOLDER).ok_or_else(wrong)?;
        if after.contains(PLACEHOLDER) {
            return Err(wrong());
        }
        Ok(Self { before: before.to_owned(), after: after.to_owned() })
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{PLACEHOLDER}{}", self.before, self.after)
    }
}

impl Pattern {
    /// The tenant's part of `name`, when all of it matches.
    #[must_use]
    pub fn tenant<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(&self.before)?.strip_suffix(self.after.as_str()).filter(|tenant| !tenant.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn literal_and_anchored() {
        let pattern: Pattern = "t.{tenant}_db".parse().unwrap();
        assert_eq!(pattern.to_string(), "t.{tenant}_db");
        assert_eq!(pattern.tenant("t.acme_db"), Some("acme"));
        assert_eq!(pattern.tenant("t._db_db"), Some("_db"));
        assert_eq!(pattern.tenant("t.a\nb_db"), Some("a\nb"));
        for other in ["t._db", "t.db", "tXacme_db", "t.acme_db2", "xt.acme_db", "T.acme_db", ""] {
            assert_eq!(pattern.tenant(other), None, "{other}");
        }
        let all: Pattern = "{tenant}".parse().unwrap();
        assert_eq!(all.tenant("postgres"), Some("postgres"));
        assert_eq!(all.tenant(""), None);
    }

    #[test]
    fn exactly_one_placeholder() {
        for wrong in ["", "tenant_", "{tenant}{tenant}", "{Tenant}", "{tenant"] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }
}
