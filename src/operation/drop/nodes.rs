//! Every server that may still have the database: the configured replicas, and whoever else receives the log.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;

use super::{Done, DropTenant, Intent, open};
use crate::{
    format::plan::{NodeFound, PlannedDatabase},
    operation::{
        failure::Failure,
        purge::{OpenItem, PurgedNode},
    },
    postgres::{
        Session, Target,
        replication::{self, Place, Receivers, Sender, Standby, Upstream},
    },
    printable::Printable,
};

/// Between two looks at how far a replica is.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// A server that answered.
struct Asked {
    name: String,
    place: Place,
    receivers: Receivers,
    upstream: Option<Upstream>,
    slot: Option<String>,
}

/// What became of the database on a replica.
struct Verdict {
    state: &'static str,
    replayed: Option<String>,
    /// What is left to do; `None` when nothing is.
    open: Option<String>,
    asked: Option<Asked>,
}

impl DropTenant<'_> {
    /// Waits for each configured replica, and looks for those that are not configured.
    pub(super) async fn ask_replicas(
        &self,
        primary: &Session,
        database: &PlannedDatabase,
        lsn: &str,
        done: &mut Done,
    ) -> Result<(), Failure> {
        let server = self.server(&database.cluster)?;
        let asking = server.replicas.iter().enumerate().map(async |(number, target)| {
            let name = format!("{} replica {}", database.cluster, number + 1);
            (name.clone(), target.endpoint(), self.ask(name, target, database, lsn, server.replica_wait).await)
        });
        let verdicts = join_all(asking).await;
        let mut servers = vec![Asked {
            name: format!("{} primary", database.cluster),
            place: Place::of(primary).await?,
            receivers: replication::receivers(primary).await?,
            upstream: None,
            slot: None,
        }];
        let mut unasked = Vec::new();
        for (node, endpoint, verdict) in verdicts {
            done.nodes.push(PurgedNode {
                node: node.clone(),
                state: verdict.state.to_owned(),
                replay_lsn: verdict.replayed.clone(),
            });
            match (verdict.open, verdict.replayed) {
                (Some(what), _) => {
                    let object = format!("{node} ({})", Printable(&endpoint));
                    done.open.push(OpenItem { kind: verdict.state, object, what, until: None });
                }
                (None, replayed) => done.found.push(NodeFound {
                    node: node.clone(),
                    database_oid: database.database_oid,
                    lsn: replayed.unwrap_or_default(),
                    at: (self.clock)(),
                }),
            }
            match verdict.asked {
                Some(asked) => servers.push(asked),
                None => unasked.push(node),
            }
        }
        self.unknown(&servers, &unasked, done).await;
        Ok(())
    }

    /// Who receives the primary's log now, for whoever only looks.
    pub(super) async fn look_at_receivers(&self, intent: &Intent, done: &mut Done) -> Result<(), Failure> {
        let database = intent.database()?;
        let session = self.connect(database).await?;
        if !replication::may_see(&session).await? {
            return Ok(());
        }
        let receivers = replication::receivers(&session).await?;
        let replicas = self.server(&database.cluster)?.replicas.len();
        done.notes.push(format!(
            "replicas to be asked: {replicas}; connections that receive the primary's log now: {}; slots that nobody uses now: {}",
            receivers.senders.len(),
            receivers.idle_slots.len()
        ));
        Ok(())
    }

    async fn ask(&self, name: String, target: &Target, database: &PlannedDatabase, lsn: &str, wait: Duration) -> Verdict {
        let unreachable = |failure: Failure| Verdict {
            state: "unreachable",
            replayed: None,
            open: Some(format!(
                "it cannot be asked: {}; start it, or remove it from `replicas` and its slot from the server if it is gone for good, and run \
                 the same command again",
                failure.one_line()
            )),
            asked: None,
        };
        let session = match open(target).await {
            Ok(session) => session,
            Err(failure) => return unreachable(failure),
        };
        let asked = async {
            let until = tokio::time::Instant::now() + wait;
            let standby = loop {
                let standby = promptly(&session, replication::standby(&session, lsn, database.database_oid)).await?;
                let is_another = standby.system_identifier != database.system_identifier || !standby.in_recovery;
                let is_through = standby.has_replayed && !standby.has_database;
                // One that is paused gets no further by waiting.
                if is_another || is_through || standby.is_paused || tokio::time::Instant::now() >= until {
                    break standby;
                }
                tokio::time::sleep(BETWEEN_LOOKS).await;
            };
            let asked = Asked {
                name,
                place: promptly(&session, Place::of(&session)).await?,
                receivers: promptly(&session, replication::receivers(&session)).await?,
                upstream: promptly(&session, replication::upstream(&session)).await?,
                slot: standby.slot.clone(),
            };
            let may_see = promptly(&session, replication::may_see(&session)).await?;
            Ok::<_, Failure>((standby, asked, may_see))
        };
        match asked.await {
            Err(failure) => unreachable(failure),
            Ok((standby, asked, may_see)) => verdict(standby, asked, may_see, session.target(), database, lsn, wait),
        }
    }

    /// Receivers of the log that no configured replica accounts for. They are counted: each configured standby names what it receives from,
    /// and whoever is more than that on a server is unknown.
    async fn unknown(&self, servers: &[Asked], unasked: &[String], done: &mut Done) {
        let mut accounted: Vec<Vec<&Upstream>> = servers.iter().map(|_| Vec::new()).collect();
        for (nth, standby) in servers.iter().enumerate() {
            let Some(upstream) = &standby.upstream else { continue };
            let mut is_found = false;
            for (of, server) in servers.iter().enumerate().filter(|(of, _)| *of != nth) {
                if upstream.is(&server.place, &server.receivers, &standby.place).await {
                    accounted[of].push(upstream);
                    is_found = true;
                    break;
                }
            }
            if !is_found {
                let what = format!(
                    "it receives the log from {}:{}, which is none of the configured servers: list that one under `replicas`",
                    Printable(&upstream.host),
                    upstream.port
                );
                done.open.push(OpenItem { kind: "unknown", object: standby.name.clone(), what, until: None });
            }
        }
        let maybe = match unasked {
            [] => String::new(),
            some => format!("; it may be {}, which could not be asked", some.join(" or ")),
        };
        let known_slots: BTreeSet<&String> = servers.iter().filter_map(|standby| standby.slot.as_ref()).collect();
        for (server, accounted) in servers.iter().zip(accounted) {
            let is_accepted = |name: &str| self.accept.iter().any(|accepted| accepted == name);
            let mut by_count = accounted.len();
            let mut left: Vec<&Sender> = Vec::new();
            for sender in &server.receivers.senders {
                if sender.slot.is_some() && accounted.iter().any(|upstream| upstream.slot == sender.slot) {
                    by_count -= 1;
                } else if let Some(name) = sender.names().find(|name| is_accepted(name)) {
                    done.notes.push(format!(
                        "{} receives the log of {}, and keeps no database by what was said with --accept",
                        Printable(name),
                        server.name
                    ));
                } else {
                    left.push(sender);
                }
            }
            let unknown = left.len().saturating_sub(by_count);
            let one_of = if unknown > 0 && unknown < left.len() {
                format!("{unknown} of these {} is unknown: ", left.len())
            } else {
                String::new()
            };
            if unknown > 0 {
                for sender in left {
                    let what = format!(
                        "{one_of}{} receives the log, and no configured replica accounts for it{maybe}: on a server that tenure does not know the \
                         database may live on. List it under `replicas`, end it, or say --accept NAME if it keeps no database; then run the same \
                         command again",
                        describe(sender)
                    );
                    done.open.push(OpenItem { kind: "unknown", object: server.name.clone(), what, until: None });
                }
            }
            for slot in &server.receivers.idle_slots {
                if known_slots.contains(slot) {
                    continue;
                }
                if is_accepted(slot) {
                    done.notes.push(format!(
                        "slot {} of {} belongs to nobody that keeps a database, by what was said with --accept",
                        Printable(slot),
                        server.name
                    ));
                    continue;
                }
                let what = format!(
                    "slot {} waits for a receiver that is away, and no configured replica accounts for it{maybe}: on that server the database may \
                     live on. List it under `replicas`, drop the slot if it is gone for good (SELECT pg_drop_replication_slot('{0}')), or say \
                     --accept {0} if it keeps no database; then run the same command again",
                    Printable(slot)
                );
                done.open.push(OpenItem { kind: "unknown", object: server.name.clone(), what, until: None });
            }
        }
    }
}

pub(super) async fn promptly<T>(
    session: &Session,
    asked: impl Future<Output = Result<T, crate::postgres::statement::StatementError>>,
) -> Result<T, Failure> {
    match session.promptly(Duration::ZERO, asked).await {
        Ok(answer) => Ok(answer?),
        Err(silent) => {
            let endpoint = session.target().endpoint();
            Err(Failure::new(
                crate::operation::failure::FailureClass::Failed,
                "server-silent",
                &endpoint,
                format!("{endpoint} does not answer"),
            )
            .because(silent))
        }
    }
}

fn verdict(
    standby: Standby,
    asked: Asked,
    may_see: bool,
    target: &Target,
    database: &PlannedDatabase,
    lsn: &str,
    wait: Duration,
) -> Verdict {
    let replayed = standby.replayed.clone();
    let at = standby.replayed.as_deref().unwrap_or("nowhere");
    let again = "run the same command again";
    let there = if standby.has_database { "the database is there" } else { "the database is not there" };
    let (state, open) = if standby.system_identifier != database.system_identifier {
        (
            "another-server",
            Some(format!("it is no copy of the primary: it has another system identifier; correct `replicas`, and {again}")),
        )
    } else if !standby.in_recovery {
        let what = format!(
            "it takes writes, so that no drop comes to it any more, and {there}; drop the database there as well, remove the server from \
             `replicas`, and {again}"
        );
        ("not-a-standby", Some(what))
    } else if standby.has_replayed && !standby.has_database {
        ("absent", None)
    } else if standby.has_replayed {
        ("still-there", Some(format!("it has replayed the drop, up to {at}, and {there} all the same; look at it, and {again}")))
    } else if standby.is_paused {
        let what = format!(
            "its replay is paused at {at}, before {lsn}: {there}, and whoever asks it gets the rows; SELECT pg_wal_replay_resume() there, and {again}"
        );
        ("paused", Some(what))
    } else {
        let delay = match standby.delay.as_str() {
            "0" | "0ms" => String::new(),
            delay => format!(" (it is behind on purpose: recovery_min_apply_delay is {delay})"),
        };
        let what = format!(
            "it has replayed up to {at} after {} s, and not to {lsn}{delay}: {there}; {again} when it has, or raise `replica_wait`",
            wait.as_secs_f32()
        );
        ("lagging", Some(what))
    };
    if open.is_none() && !may_see {
        let role = Printable(&postgres_protocol::escape::escape_identifier(target.user())).to_string();
        let what = format!(
            "role {role} may not see whom it receives from and who receives from it: GRANT pg_read_all_stats TO {role}; and {again}"
        );
        return Verdict { state: "not-to-be-seen", replayed, open: Some(what), asked: Some(asked) };
    }
    let is_node = standby.system_identifier == database.system_identifier && standby.in_recovery;
    Verdict { state, replayed, open, asked: is_node.then_some(asked) }
}

fn describe(sender: &Sender) -> String {
    let name = sender.application.as_deref().filter(|name| !name.is_empty()).unwrap_or("a receiver without a name");
    let from = sender.address.as_deref().unwrap_or("a local or hidden address");
    let slot = sender.slot.as_ref().map(|slot| format!(" by slot {}", Printable(slot))).unwrap_or_default();
    let state = match sender.state.as_deref() {
        Some("backup") => ", which takes a base backup,",
        _ => "",
    };
    format!("{} from {}{slot} (process {}){state}", Printable(name), Printable(from), sender.pid)
}
