//! Errors of single statements, with what they were about.

use tokio_postgres::error::SqlState;

/// A statement that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}", crate::printable::Printable(.object))]
pub struct StatementError {
    /// The statement, in words.
    pub what: &'static str,
    /// The object it was about.
    pub object: String,
    /// What the server or the connection said.
    #[source]
    pub source: Said,
}

/// What the server or the connection said. Shows the server's own message with its SQLSTATE, without the detail, which quotes values.
#[derive(Debug)]
pub struct Said(tokio_postgres::Error);

impl std::ops::Deref for Said {
    type Target = tokio_postgres::Error;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_db_error() {
            Some(said) => write!(f, "{} (SQLSTATE {})", crate::printable::Printable(said.message()), said.code().code()),
            None if self.0.is_closed() => {
                f.write_str("the connection ended: the server closed it, or nothing came from it any more (limits.silence); the log says which")
            }
            None => self.0.fmt(f),
        }
    }
}

impl std::error::Error for Said {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if self.0.as_db_error().is_some() { None } else { self.0.source() }
    }
}

/// Names what failed.
pub trait Failed<T> {
    /// The same result, with the statement and its object in the error.
    ///
    /// # Errors
    /// The same.
    fn failed(self, what: &'static str, object: &str) -> Result<T, StatementError>;
}

impl<T> Failed<T> for Result<T, tokio_postgres::Error> {
    fn failed(self, what: &'static str, object: &str) -> Result<T, StatementError> {
        self.map_err(|source| StatementError { what, object: object.to_owned(), source: Said(source) })
    }
}

impl StatementError {
    /// The function in which a name was not found, when that is what went wrong.
    #[must_use]
    pub fn function_without_path(&self) -> Option<String> {
        let missing = [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_FUNCTION, SqlState::UNDEFINED_OBJECT];
        let said = self.source.as_db_error().filter(|said| missing.contains(said.code()))?;
        super::context::function(said.where_()?)
    }

    /// Whether row security was in the way.
    #[must_use]
    pub fn is_row_security(&self) -> bool {
        is_row_security(&self.source)
    }
}

/// Whether a policy would have hidden rows, which `row_security = off` makes an error.
#[must_use]
pub fn is_row_security(error: &tokio_postgres::Error) -> bool {
    let denied = error.as_db_error().filter(|said| *said.code() == SqlState::INSUFFICIENT_PRIVILEGE);
    denied.is_some_and(|said| said.message().contains("row-level security"))
}
