//! A primary and its standbys: who receives whose log, and how far each has replayed it.

use std::{collections::BTreeSet, net::IpAddr};

use tokio_postgres::Client;

use super::{
    Session,
    statement::{Failed, StatementError},
};

/// Settings of a session that drops or looks at replicas: a commit waits for this server's disk and for no replica, because each is asked
/// by itself, and a lock is waited for half a minute.
pub const OWN_DISK: [(&str, &str); 2] = [("synchronous_commit", "local"), ("lock_timeout", "30s")];

/// A connection by which somebody receives a server's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The process that sends.
    pub pid: i32,
    /// What the receiver calls itself, where we may see it.
    pub application: Option<String>,
    /// Its address; local ones have none.
    pub address: Option<String>,
    /// `streaming`, `backup`, …, where we may see it.
    pub state: Option<String>,
    /// The slot that it uses.
    pub slot: Option<String>,
}

impl Sender {
    /// The names by which a person may mean it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [&self.application, &self.slot].into_iter().filter_map(|name| name.as_deref())
    }
}

/// Who receives the log of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receivers {
    /// Connections. What reads a logical slot is none: it gets rows of its own database only.
    pub senders: Vec<Sender>,
    /// Physical slots that nobody uses now: somebody did, or will.
    pub idle_slots: Vec<String>,
}

/// Asks a server who receives its log.
///
/// # Errors
/// What it says.
pub async fn receivers(session: &Client) -> Result<Receivers, StatementError> {
    let (what, whom) = ("asking who receives the log of", "the server");
    let rows = session
        .query(
            "SELECT r.pid, r.application_name, pg_catalog.host(r.client_addr), r.state, s.slot_name::text
               FROM pg_catalog.pg_stat_replication r LEFT JOIN pg_catalog.pg_replication_slots s ON s.active_pid = r.pid
              WHERE s.slot_type IS DISTINCT FROM 'logical'
             UNION ALL
             SELECT NULL, NULL, NULL, NULL, s.slot_name::text FROM pg_catalog.pg_replication_slots s
              WHERE s.slot_type = 'physical' AND s.active_pid IS NULL
              ORDER BY 1, 5",
            &[],
        )
        .await
        .failed(what, whom)?;
    let mut found = Receivers::default();
    for row in rows {
        let text = |at: usize| row.try_get::<_, Option<String>>(at).failed(what, whom);
        match row.try_get::<_, Option<i32>>(0).failed(what, whom)? {
            Some(pid) => {
                let (application, address, state, slot) = (text(1)?, text(2)?, text(3)?, text(4)?);
                found.senders.push(Sender { pid, application, address, state, slot });
            }
            None => found.idle_slots.extend(text(4)?),
        }
    }
    Ok(found)
}

/// Where a server can be found: a standby names one of these as what it receives from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Names, addresses and folders of sockets, as text.
    names: BTreeSet<String>,
    /// The address on its own side of our connection.
    own: Option<String>,
    ports: BTreeSet<u16>,
}

impl Place {
    /// Of the server that a session is connected to.
    ///
    /// # Errors
    /// What it says.
    pub async fn of(session: &Session) -> Result<Self, StatementError> {
        let (what, whom) = ("asking for the addresses of", "the server");
        let row = session
            .query_one(
                "SELECT pg_catalog.current_setting('port'), pg_catalog.host(pg_catalog.inet_server_addr()),
                        (SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'unix_socket_directories')",
                &[],
            )
            .await
            .failed(what, whom)?;
        let port: String = row.try_get(0).failed(what, whom)?;
        let (own, sockets): (Option<String>, Option<String>) =
            (row.try_get(1).failed(what, whom)?, row.try_get(2).failed(what, whom)?);
        let mut place = Self { own: own.clone(), ..Self::default() };
        place.ports.extend(port.parse::<u16>());
        place.names.extend(own);
        place.names.extend(
            sockets.iter().flat_map(|folders| folders.split(',')).map(|folder| folder.trim().trim_matches('"').to_lowercase()),
        );
        for (name, port) in session.target().places() {
            place.names.insert(name.to_lowercase());
            place.ports.insert(port);
        }
        Ok(place)
    }

    /// Whether a standby at `standby` that receives from `upstream` receives from here.
    async fn is(&self, upstream: &Upstream, standby: &Self) -> bool {
        if !self.ports.contains(&upstream.port) {
            return false;
        }
        let name = upstream.host.to_lowercase();
        let is_local = |name: &str| name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if is_local(&name) {
            // The standby's own machine. Two servers on one have one address, as far as we see both.
            return self.names.iter().any(|name| is_local(name)) || self.own.is_some() && self.own == standby.own;
        }
        if self.names.contains(&name) {
            return true;
        }
        match tokio::net::lookup_host((name.as_str(), upstream.port)).await {
            Ok(mut found) => found.any(|address| self.names.contains(&address.ip().to_string())),
            Err(_) => false,
        }
    }
}

/// What a standby receives from, by its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Name, address or folder of a socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The slot that it uses.
    pub slot: Option<String>,
}

impl Upstream {
    /// Whether it is this server: by its address, or because the standby uses a slot there that nobody else can use.
    pub async fn is(&self, place: &Place, receivers: &Receivers, standby: &Place) -> bool {
        let by_slot = |slot: &String| receivers.senders.iter().any(|sender| sender.slot.as_ref() == Some(slot));
        place.ports.contains(&self.port) && (self.slot.as_ref().is_some_and(by_slot) || place.is(self, standby).await)
    }
}

/// A standby, when it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standby {
    /// System identifier, as text.
    pub system_identifier: String,
    /// Whether it is a standby at all.
    pub in_recovery: bool,
    /// How far it has replayed.
    pub replayed: Option<String>,
    /// Whether that is as far as was asked for.
    pub has_replayed: bool,
    /// Whether somebody paused it.
    pub is_paused: bool,
    /// Whether the database is there.
    pub has_database: bool,
    /// By how much it is behind on purpose; 0 ms for one that is not.
    pub delay: String,
    /// The slot that it is configured to use.
    pub slot: Option<String>,
}

/// Asks a standby whether it has replayed the log up to `lsn`, and whether the database is there.
///
/// # Errors
/// What it says.
pub async fn standby(session: &Client, lsn: &str, oid: u32) -> Result<Standby, StatementError> {
    let (what, whom) = ("asking how far it is:", "a replica");
    let row = session
        .query_one(
            "SELECT (SELECT s.system_identifier::text FROM pg_catalog.pg_control_system() s), r.standby,
                    pg_catalog.pg_last_wal_replay_lsn()::text,
                    r.standby AND COALESCE(pg_catalog.pg_last_wal_replay_lsn() >= $1::text::pg_catalog.pg_lsn, false),
                    CASE WHEN r.standby THEN pg_catalog.pg_is_wal_replay_paused() ELSE false END,
                    EXISTS (SELECT FROM pg_catalog.pg_database d WHERE d.oid = $2),
                    pg_catalog.current_setting('recovery_min_apply_delay'), NULLIF(pg_catalog.current_setting('primary_slot_name'), '')
               FROM (SELECT pg_catalog.pg_is_in_recovery()) AS r(standby)",
            &[&lsn, &oid],
        )
        .await
        .failed(what, whom)?;
    Ok(Standby {
        system_identifier: row.try_get(0).failed(what, whom)?,
        in_recovery: row.try_get(1).failed(what, whom)?,
        replayed: row.try_get(2).failed(what, whom)?,
        has_replayed: row.try_get(3).failed(what, whom)?,
        is_paused: row.try_get(4).failed(what, whom)?,
        has_database: row.try_get(5).failed(what, whom)?,
        delay: row.try_get(6).failed(what, whom)?,
        slot: row.try_get(7).failed(what, whom)?,
    })
}

/// What a standby receives from now; `None` when it does not, or when we may not see it.
///
/// # Errors
/// What it says.
pub async fn upstream(session: &Client) -> Result<Option<Upstream>, StatementError> {
    let (what, whom) = ("asking what it receives from:", "a replica");
    let sql = "SELECT w.sender_host, w.sender_port, w.slot_name FROM pg_catalog.pg_stat_wal_receiver w";
    let Some(row) = session.query_opt(sql, &[]).await.failed(what, whom)? else { return Ok(None) };
    let (host, port): (Option<String>, Option<i32>) = (row.try_get(0).failed(what, whom)?, row.try_get(1).failed(what, whom)?);
    let slot: Option<String> = row.try_get(2).failed(what, whom)?;
    let port = port.and_then(|port| u16::try_from(port).ok());
    Ok(host.zip(port).map(|(host, port)| Upstream { host, port, slot: slot.filter(|slot| !slot.is_empty()) }))
}

/// Whether the connected role sees who receives the log, and from whom.
///
/// # Errors
/// What the server says.
pub async fn may_see(session: &Client) -> Result<bool, StatementError> {
    let (what, whom) = ("asking for the rights on", "the server");
    let row = session.query_one("SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')", &[]).await.failed(what, whom)?;
    row.try_get(0).failed(what, whom)
}

/// How far the log is flushed, with everything in it that was committed before.
///
/// # Errors
/// What the server says.
pub async fn flushed(primary: &Client) -> Result<String, StatementError> {
    let (what, whom) = ("asking for the position in the log of", "the primary");
    // A record of our own, flushed by its commit: what is flushed ends with a whole record then, which every replica can get to. The
    // insert position may lie behind the header of a page on which there is no record yet, where none ever gets.
    primary.batch_execute("SELECT pg_catalog.pg_logical_emit_message(true, 'tenure', '')").await.failed(what, whom)?;
    let row = primary.query_one("SELECT pg_catalog.pg_current_wal_flush_lsn()::text", &[]).await.failed(what, whom)?;
    row.try_get(0).failed(what, whom)
}
