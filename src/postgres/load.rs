//! Rows into a table: one `COPY … FROM STDIN`.

use std::pin::pin;

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use postgres_protocol::escape::{escape_identifier, escape_literal};
use tokio_postgres::Client;

use super::statement::{Failed, StatementError};
use crate::format::description::Table;

/// Messages to the server are at most this long: it holds each whole.
const MESSAGE_BYTES: usize = 256 * 1024;

/// Rows that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError<E: std::error::Error + 'static> {
    /// The server did not take them.
    #[error(transparent)]
    Statement(StatementError),
    /// They could not be read.
    #[error(transparent)]
    Rows(E),
}

/// The statement that loads rows of `table` into the table of schema and name `into`: itself, or the root of its partitions.
#[must_use]
pub fn statement(table: &Table, into: (&str, &str), encoding: &str) -> String {
    let columns: Vec<String> = table.columns.iter().map(|column| escape_identifier(column)).collect();
    // A table without columns takes no list of them, not even an empty one.
    let list = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
    format!(
        "COPY {}.{}{list} FROM STDIN WITH (FORMAT text, ENCODING {})",
        escape_identifier(into.0),
        escape_identifier(into.1),
        escape_literal(encoding)
    )
}

/// Runs one COPY to its end. Returns the number of rows that the server counted.
///
/// When `rows` fails, the COPY is given up and the server keeps none of them.
///
/// # Errors
/// [`LoadError`], with the table named.
pub async fn copy_in<E: std::error::Error + 'static>(
    loader: &Client,
    statement: &str,
    name: &str,
    rows: impl Stream<Item = Result<Bytes, E>>,
) -> Result<u64, LoadError<E>> {
    let sink = loader.copy_in::<_, Bytes>(statement).await.failed("COPY", name).map_err(LoadError::Statement)?;
    let mut sink = pin!(sink);
    let mut rows = pin!(rows);
    while let Some(piece) = rows.next().await {
        let mut piece = piece.map_err(LoadError::Rows)?;
        while !piece.is_empty() {
            let message = piece.split_to(piece.len().min(MESSAGE_BYTES));
            feed(&mut sink, message).await.failed("COPY", name).map_err(LoadError::Statement)?;
        }
    }
    sink.as_mut().finish().await.failed("COPY", name).map_err(LoadError::Statement)
}

async fn feed<S: Sink<Bytes> + Unpin>(sink: &mut S, message: Bytes) -> Result<(), S::Error> {
    sink.feed(message).await
}
