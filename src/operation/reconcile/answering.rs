//! Databases that answer to an erased tenant by name alone, and those that restores made of its backups.

use super::{FoundDatabase, Reconcile, ReconcileReport, Seen, Why};
use crate::{
    format::erasure_note::ErasureSays,
    operation::{drop, failure::Failure, purge::OpenItem},
    postgres::{drop_database, server_facts},
    printable::{Printable, Word},
};

impl Reconcile<'_> {
    /// Names that a tombstone answers to, and that are not the erased database itself: a new customer may have an old name.
    pub(super) fn names(&self, seen: &Seen, report: &mut ReconcileReport) {
        for (cluster, discovery) in &seen.fleet.clusters {
            // That it cannot be asked was said.
            let Ok(discovery) = discovery else { continue };
            for (tenant, database) in discovery.by_name() {
                let tag = self.keyring.tag(tenant);
                let is_refused = seen.survey.erasures.get(&tag).is_some_and(|erasures| erasures.counting().next().is_some());
                let is_named = |found: &FoundDatabase| (&found.cluster, found.database.as_str()) == (&cluster.name, database);
                let is_erased = report.found.iter().any(is_named);
                let oid = discovery.found.iter().find(|found| found.database == database).map(|found| found.oid);
                let is_open = oid.is_some() || discovery.ambiguous.iter().any(|(name, _)| name == tenant);
                let is_its = oid.is_some_and(|oid| seen.known.is_erased(&discovery.system_identifier.to_string(), oid));
                // One that is closed is as it should be in the grace, and gives nobody's rows to anybody.
                if !is_refused || is_erased || is_its || !is_open {
                    continue;
                }
                let name = Word(tenant.as_str());
                report.found.push(FoundDatabase {
                    why: Why::Name,
                    tenant: Some(tenant.as_str().to_owned()),
                    name_tag: tag.to_string(),
                    cluster: cluster.name.clone(),
                    node: format!("{} primary", cluster.name),
                    database: database.to_owned(),
                    database_oid: oid,
                    is_open,
                    closed_now: false,
                    plan: None,
                    what: format!(
                        "it has an erased tenant's name and is another database: nothing is done to it, and it is not backed up. If it is a new \
                         customer's: `tenure admit --new {name}`; if somebody loaded an old dump: drop it by hand"
                    ),
                });
            }
        }
    }

    /// Databases that records say restores made of what was erased. A purge takes those records with everything else.
    pub(super) async fn copies(&self, seen: &Seen, report: &mut ReconcileReport) -> Result<(), Failure> {
        for note in seen.survey.erasures.values().flat_map(crate::operation::erased::Erasures::lasting) {
            let ErasureSays::Erased { lockers, .. } = &note.says else { continue };
            for locker in lockers {
                let (copies, unreadable) = self.vault.made_copies(*locker).await?;
                report.open.extend(unreadable.iter().map(|error| OpenItem {
                    kind: "copy",
                    object: error.object().to_owned(),
                    what: format!("{}: which database a restore made is not known", error.what()),
                    until: None,
                }));
                for (copy, oid) in copies {
                    let Some(server) = self.servers.iter().find(|server| server.name == copy.cluster) else { continue };
                    // That it cannot be asked was said.
                    let Ok(session) = drop::open(&server.admin).await else { continue };
                    if server_facts::read(&session).await?.system_identifier != copy.system_identifier {
                        continue;
                    }
                    let oid = match oid {
                        Some(oid) => Some(oid),
                        None => server_facts::database_oid(&session, &copy.built_as).await?,
                    };
                    let Some(present) = drop_database::present(&session, &oid.into_iter().collect::<Vec<_>>()).await?.pop()
                    else {
                        continue;
                    };
                    if report.found.iter().any(|found| found.cluster == copy.cluster && found.database == present.name) {
                        continue;
                    }
                    let quoted = postgres_protocol::escape::escape_identifier(&present.name);
                    report.found.push(FoundDatabase {
                        why: Why::Copy,
                        tenant: None,
                        name_tag: note.name_tag.to_string(),
                        cluster: copy.cluster.clone(),
                        node: format!("{} primary", copy.cluster),
                        database: present.name,
                        database_oid: Some(present.oid),
                        is_open: present.allows_connections,
                        closed_now: false,
                        plan: None,
                        what: format!(
                            "a restore made it of backup {} of an erased tenant, and it holds its rows: DROP DATABASE {}, by hand",
                            copy.backup,
                            Printable(&quoted)
                        ),
                    });
                }
            }
        }
        Ok(())
    }
}
