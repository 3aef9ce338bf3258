//! An open connection.

use super::child::ChildEnvironment;
use super::connect::Route;
use super::connect_error::ConnectError;
use super::silence::{self, Silent, Traffic};
use super::target::Target;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_postgres::{AsyncMessage, Client, Connection};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a dropped session may take to say goodbye. A query may still be running; after this the socket is closed under it.
const GOODBYE: Duration = Duration::from_secs(2);

/// An open connection. Dropping it closes it, at once when idle and within two seconds otherwise.
pub struct Session {
    about: Box<About>,
    // Declared after the client: the connection's task must see the client gone, then stop waiting.
    _hang_up: DropGuard,
}

/// What a session holds; in a box, because sessions stand in enums.
struct About {
    client: Arc<Client>,
    ended: CancellationToken,
    end_reason: Arc<OnceLock<String>>,
    pinned: Target,
    route: Route,
    server_version: u32,
    database: String,
}

impl std::ops::Deref for Session {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.about.client
    }
}

impl Session {
    pub(super) fn start<S, T>(
        client: Client,
        connection: Connection<S, T>,
        pinned: Target,
        route: Route,
        database: &str,
        traffic: Traffic,
    ) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let server_version = version_number(connection.parameter("server_version").unwrap_or_default());
        let hang_up = CancellationToken::new();
        let ended = CancellationToken::new();
        let end_reason = Arc::new(OnceLock::new());
        let (hung_up, has_ended, reason) = (hang_up.clone(), ended.clone().drop_guard(), Arc::clone(&end_reason));
        let client = Arc::new(client);
        let watched = silence::watch(traffic, pinned.clone(), Arc::downgrade(&client));
        let endpoint = pinned.endpoint();
        tokio::spawn(async move {
            // Cancelled even if the task is dropped with its runtime.
            let _has_ended = has_ended;
            let mut driven = Box::pin(drive(connection));
            let end = tokio::select! {
                end = &mut driven => end,
                () = hung_up.cancelled() => tokio::time::timeout(GOODBYE, driven).await.unwrap_or(Ok(())),
                why = watched => {
                    tracing::warn!("a connection to {endpoint} on which nothing came is given up: {why}");
                    reason.set(format!("nothing came from the server any more: {why}")).ok();
                    return;
                }
            };
            let text = match end {
                Ok(()) => "closed".to_owned(),
                Err(error) => match error.as_db_error() {
                    Some(error) => format!("{}: {}", error.code().code(), crate::printable::Printable(error.message())),
                    None => with_causes(&error),
                },
            };
            reason.set(text).ok();
        });
        let about = About { client, ended, end_reason, pinned, route, server_version, database: database.to_owned() };
        Self { about: Box::new(about), _hang_up: hang_up.drop_guard() }
    }

    /// Resolves when the connection has ended, whoever ended it.
    pub async fn closed(&self) {
        self.about.ended.cancelled().await;
    }

    /// As [`Session::closed`], for a task that does not hold the session.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.about.ended.clone().cancelled_owned()
    }

    /// Why the connection ended, in the server's words where it gave any. `None` while it is open.
    #[must_use]
    pub fn end_reason(&self) -> Option<String> {
        if !self.about.ended.is_cancelled() {
            return None;
        }
        Some(self.about.end_reason.get().map_or_else(|| "closed".to_owned(), Clone::clone))
    }

    /// Waits for statements that have nothing to do but look, as long as silence is borne and `longer`.
    ///
    /// # Errors
    /// [`Silent`] when there is no answer by then. The session is of no use after that.
    pub async fn promptly<T>(&self, longer: Duration, statements: impl Future<Output = T>) -> Result<T, Silent> {
        let limit = self.about.pinned.patience().unwrap_or_default().silence + longer;
        tokio::time::timeout(limit, statements).await.map_err(|_| Silent(limit))
    }

    /// The description narrowed to the server that this session reached: further sessions that must meet the same server use it.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.about.pinned
    }

    /// The database asked for. It may have been renamed since.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.about.database
    }

    /// The server's version as `server_version_num` has it: 150020. 0 if it would not say.
    #[must_use]
    pub fn server_version(&self) -> u32 {
        self.about.server_version
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.about.route.is_encrypted()
    }

    /// The environment in which `pg_dump` and `pg_restore` reach a database of this very server.
    ///
    /// # Errors
    /// If the password cannot be found any more.
    pub async fn child_environment(&self, database: &str) -> Result<ChildEnvironment, ConnectError> {
        super::child::environment(&self.about.pinned, database).await
    }

    /// Asks the server to cancel what this session is doing. It may have finished meanwhile; nothing tells.
    ///
    /// # Errors
    /// If the server cannot be reached for it.
    pub async fn cancel(&self) -> Result<(), ConnectError> {
        super::connect::cancel(&self.about.pinned, &self.about.route, self.about.client.cancel_token(), &self.about.database)
            .await
    }

    /// As [`Session::cancel`], for a task that does not hold the session. Nothing happens until it is polled.
    pub fn cancelled(&self) -> impl Future<Output = Result<(), ConnectError>> + Send + 'static {
        let (pinned, route, token, database) =
            (self.about.pinned.clone(), self.about.route.clone(), self.about.client.cancel_token(), self.about.database.clone());
        async move { super::connect::cancel(&pinned, &route, token, &database).await }
    }
}

async fn drive<S, T>(mut connection: Connection<S, T>) -> Result<(), tokio_postgres::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notice(notice) = message? {
            tracing::debug!(
                postgres.severity = notice.severity(),
                postgres.sqlstate = notice.code().code(),
                "server: {}",
                crate::printable::Printable(notice.message())
            );
        }
    }
    Ok(())
}

/// An error and what is beneath it, on one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// `15.20 (Debian …)` is 150020; `18beta1` is 180000.
fn version_number(text: &str) -> u32 {
    let number = text.split_whitespace().next().unwrap_or_default();
    let mut parts =
        number.split('.').map(|part| part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse::<u32>());
    let major = parts.next().and_then(Result::ok).unwrap_or(0);
    let minor = parts.next().and_then(Result::ok).unwrap_or(0);
    major.saturating_mul(10_000).saturating_add(minor)
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_are_numbers() {
        for (text, number) in [("15.20 (Debian 15.20-0+deb12u1)", 150_020), ("18beta1", 180_000), ("14.23", 140_023), ("", 0)] {
            assert_eq!(super::version_number(text), number, "{text}");
        }
    }
}
