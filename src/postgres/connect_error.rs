//! Why a connection was not made.

use crate::printable::Printable;
use tokio_postgres::error::{DbError, SqlState};

/// A connection that was not made: where to, as whom, and why. Never shows a password.
#[derive(Debug, thiserror::Error)]
#[error("{}: database {} as {}: {cause}{}", Printable(endpoint), Printable(database), Printable(user), Others(others))]
pub struct ConnectError {
    /// `db1:5432` or `/run/postgresql:5432`.
    pub endpoint: String,
    /// The database asked for.
    pub database: Box<str>,
    /// The role asked for.
    pub user: Box<str>,
    /// What kind of trouble it is.
    pub cause: ConnectCause,
    /// What went wrong at the other hosts of the list, each as one line.
    pub others: Box<[String]>,
    /// The error beneath.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

struct Others<'a>(&'a [String]);

impl std::fmt::Display for Others<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|other| write!(f, "; before that {other}"))
    }
}

/// Kinds of trouble, as far as somebody may act on them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectCause {
    /// The name does not resolve, nothing listens there, or there is no socket.
    #[error("the server cannot be reached")]
    Unreachable,
    /// Nothing came back within the time limit.
    #[error("no answer within {seconds} s")]
    TimedOut {
        /// The limit.
        seconds: u64,
    },
    /// 28P01.
    #[error("the password is wrong, or there is no such role")]
    WrongPassword,
    /// The server wants a password and we have none.
    #[error("the server asks for a password and none is configured")]
    NoPassword,
    /// `password_command` failed, was too slow, or printed nothing.
    #[error("password_command: {0}")]
    PasswordCommand(String),
    /// `pg_hba.conf` has no line for us, or one that rejects us.
    #[error("the server's pg_hba.conf does not let us in this way")]
    NotAllowedByHba,
    /// The role is missing, may not log in, or is not who the operating system or the certificate says.
    #[error("the server refuses this role")]
    RoleRefused,
    /// TLS could not be agreed on, or the server's certificate does not satisfy `sslmode`.
    #[error("TLS: {0}")]
    Tls(String),
    /// The description asks for something of the server or of a local file that is not so.
    #[error("{0}")]
    Unsatisfied(String),
    /// 3D000.
    #[error("the database does not exist")]
    NoSuchDatabase,
    /// No CONNECT privilege.
    #[error("the role may not connect to this database")]
    DatabaseRefused,
    /// `datallowconn` is off, or an interrupted DROP left it invalid.
    #[error("the database does not accept connections")]
    DatabaseClosed,
    /// 53300.
    #[error("too many connections")]
    TooManyConnections,
    /// 57P03: starting up, in recovery, or shutting down.
    #[error("the server is starting up or shutting down")]
    NotReady,
    /// A pooler that hands each transaction to another server session, or takes no session settings.
    #[error("a connection pooler is in between, in transaction or statement mode")]
    Pooler,
    /// Any other answer of the server.
    #[error("the server refuses ({0})")]
    Refused(String),
    /// The server, or whatever answers there, breaks the protocol or hangs up.
    #[error("the connection broke off")]
    BrokenOff,
}

impl ConnectError {
    /// What to do about it, in one sentence. For the `hint:` line.
    #[must_use]
    pub fn hint(&self) -> String {
        match &self.cause {
            ConnectCause::Unreachable => "Check host and port, and that the server runs and listens there.".to_owned(),
            ConnectCause::TimedOut { .. } => {
                "Check host, port and firewall; connect_timeout= sets the limit in seconds.".to_owned()
            }
            ConnectCause::WrongPassword => {
                "Check password_command, the service file, .pgpass or PGPASSWORD, and the role's password on the server."
                    .to_owned()
            }
            ConnectCause::NoPassword => {
                "Configure password_command, or put the password into .pgpass (mode 0600) or a service file.".to_owned()
            }
            ConnectCause::PasswordCommand(_) => {
                "Run the command by hand: it must print the password as its first line.".to_owned()
            }
            ConnectCause::NotAllowedByHba => {
                format!("Add a line to pg_hba.conf for role {} from this host, or connect another way.", Printable(&self.user))
            }
            ConnectCause::RoleRefused => {
                format!("Check that role {} exists and may log in, and how pg_hba.conf proves who it is.", Printable(&self.user))
            }
            ConnectCause::Tls(_) => {
                "Check sslmode and sslrootcert (a file, or \"system\"); over the network the default is sslmode=verify-full."
                    .to_owned()
            }
            ConnectCause::Unsatisfied(_) => "Correct the connection description.".to_owned(),
            ConnectCause::NoSuchDatabase => "Check the name; it may have been dropped or renamed meanwhile.".to_owned(),
            ConnectCause::DatabaseRefused => format!(
                "GRANT CONNECT ON DATABASE \"{}\" TO \"{}\".",
                Printable(&self.database.replace('"', "\"\"")),
                Printable(&self.user.replace('"', "\"\""))
            ),
            ConnectCause::DatabaseClosed => {
                "See datallowconn and datconnlimit in pg_database; an interrupted DROP DATABASE is finished by another."
                    .to_owned()
            }
            ConnectCause::TooManyConnections => "Lower `connections` of the cluster, or raise max_connections.".to_owned(),
            ConnectCause::NotReady => "Wait until the server accepts connections.".to_owned(),
            ConnectCause::Pooler => "Connect to PostgreSQL itself, or through a pool in session mode.".to_owned(),
            ConnectCause::Refused(_) | ConnectCause::BrokenOff => "See the server's log.".to_owned(),
        }
    }
}

/// A server's own words, in one line: `FATAL 28P01: password authentication failed for user "x"`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct ServerSaid(String);

impl From<&DbError> for ServerSaid {
    fn from(error: &DbError) -> Self {
        Self(format!("{} {}: {}", error.severity(), error.code().code(), Printable(error.message())))
    }
}

/// Reads a server's refusal. Only SQLSTATE and the name of the server's routine are used: messages are translated.
pub(super) fn cause_of(error: &DbError) -> ConnectCause {
    let code = error.code();
    match error.routine() {
        Some("ClientAuthentication") if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            return ConnectCause::NotAllowedByHba;
        }
        _ => {}
    }
    if *code == SqlState::INVALID_PASSWORD {
        ConnectCause::WrongPassword
    } else if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        ConnectCause::RoleRefused
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        ConnectCause::NoSuchDatabase
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        ConnectCause::DatabaseRefused
    } else if *code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE {
        ConnectCause::DatabaseClosed
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        ConnectCause::TooManyConnections
    } else if *code == SqlState::CANNOT_CONNECT_NOW || *code == SqlState::ADMIN_SHUTDOWN {
        ConnectCause::NotReady
    } else if *code == SqlState::PROTOCOL_VIOLATION && is_pgbouncers(error.message()) {
        ConnectCause::Pooler
    } else {
        ConnectCause::Refused(format!("{}: {}", code.code(), Printable(error.message())))
    }
}

/// PgBouncer's words when it does not pass a setting on, or is asked for a transaction in statement mode. It translates none of them.
fn is_pgbouncers(message: &str) -> bool {
    message.contains("unsupported startup parameter") || message.contains("statement pooling mode")
}
