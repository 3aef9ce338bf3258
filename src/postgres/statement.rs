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
    pub source: tokio_postgres::Error,
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
        self.map_err(|source| StatementError { what, object: object.to_owned(), source })
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
