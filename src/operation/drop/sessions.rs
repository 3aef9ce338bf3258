//! Sessions in a database that lets nobody in any more: those on its replicas go on by themselves.

use futures_util::future::join_all;

use super::{Server, nodes::promptly, open};
use crate::{
    format::plan::PlannedDatabase,
    operation::failure::Failure,
    postgres::{Session, Target, drop_database, replication},
    printable::Printable,
};

/// Between two looks at how far a replica is.
const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_millis(100);

/// Ends the sessions on every configured replica of a database that was closed on its primary, as soon as the replica knows that. Gives, in
/// words, where that cannot be said.
pub(in crate::operation) async fn end_on_replicas(primary: &Session, server: &Server, database: &PlannedDatabase) -> Vec<String> {
    if server.replicas.is_empty() {
        return Vec::new();
    }
    let lsn = match replication::flushed(primary).await {
        Ok(lsn) => lsn,
        Err(error) => {
            return vec![format!("sessions on replicas of {} may go on: {}", server.name, Failure::from(error).one_line())];
        }
    };
    let asking = server.replicas.iter().enumerate().map(async |(number, target)| {
        let why = end(target, &lsn, server, database).await.err()?;
        let name = format!("{} replica {} ({})", server.name, number + 1, Printable(&target.endpoint()));
        Some(format!("sessions on {name} may go on: {why}"))
    });
    join_all(asking).await.into_iter().flatten().collect()
}

/// Gives why not.
async fn end(target: &Target, lsn: &str, server: &Server, database: &PlannedDatabase) -> Result<(), String> {
    let said = |failure: Failure| failure.one_line();
    let oid = database.database_oid;
    let session = open(target).await.map_err(said)?;
    let until = tokio::time::Instant::now() + server.replica_wait;
    let standby = loop {
        let standby = promptly(&session, replication::standby(&session, lsn, oid)).await.map_err(said)?;
        let is_another = standby.system_identifier != database.system_identifier || !standby.in_recovery;
        if is_another || standby.has_replayed || standby.is_paused || tokio::time::Instant::now() >= until {
            break standby;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    };
    if standby.system_identifier != database.system_identifier {
        return Err("it has another system identifier, and is no copy of the primary".to_owned());
    }
    if !standby.in_recovery {
        return Err("it takes writes: it was promoted, and nothing that is closed on the primary is closed there".to_owned());
    }
    let is_left = drop_database::end_sessions(&session, oid).await;
    let left = promptly(&session, drop_database::sessions(&session, oid)).await.map_err(said)?;
    match (is_left, left, standby.has_replayed) {
        (Err(error), 1.., _) => Err(format!("{} (GRANT pg_signal_backend)", Failure::from(error).one_line())),
        (_, 1.., _) => Err(format!("{left} did not end")),
        (_, 0, false) => Err("it has not replayed yet that the database is closed, and may let new ones in".to_owned()),
        (_, 0, true) => Ok(()),
    }
}
