//! Databases that answer to an erased tenant by name alone, and those that restores made of its backups.

use super::{FoundDatabase, Reconcile, ReconcileReport, Seen, Why};
use crate::{
    format::{certificate::CopyState, erasure_note::ErasureNote},
    operation::{drop, failure::Failure, purge::OpenItem},
    postgres::{Session, drop_database, server_facts},
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

    /// Databases that restores made of what was erased: by their records, which a purge takes with everything else, and by the certificate,
    /// which stays.
    pub(super) async fn copies(&self, seen: &Seen, report: &mut ReconcileReport) -> Result<(), Failure> {
        for note in seen.survey.erasures.values().flat_map(crate::operation::erased::Erasures::lasting) {
            // A restore may have made the very database that was, or will be, erased.
            let is_another = |system: &str, oid: u32| !note.names(system, oid);
            for locker in note.lockers() {
                let (copies, unreadable) = self.vault.made_copies(*locker).await?;
                report.open.extend(unreadable.iter().map(|error| OpenItem {
                    kind: "copy",
                    object: error.object().to_owned(),
                    what: format!("{}: which database a restore made is not known", error.what()),
                    until: None,
                }));
                for (copy, oid) in copies {
                    let Some(session) = self.at(&copy.cluster, &copy.system_identifier).await? else { continue };
                    let oid = match oid {
                        Some(oid) => Some(oid),
                        None => server_facts::database_oid(&session, &copy.built_as).await?,
                    };
                    let Some(oid) = oid.filter(|oid| is_another(&copy.system_identifier, *oid)) else { continue };
                    let what = format!("a restore made it of backup {} of an erased tenant, and it holds its rows:", copy.backup);
                    copy_on(&session, (note, &copy.cluster, oid), &what, report).await?;
                }
            }
            // That a certificate is damaged `certificate list` and `audit` say.
            let certified = self.vault.certified(note.id).await?;
            let copies = certified.newest().map(|newest| newest.value.copies.as_slice()).unwrap_or_default();
            for copy in copies.iter().filter(|copy| copy.state != CopyState::Stays) {
                let Some(oid) = copy.database_oid.filter(|oid| is_another(&copy.system_identifier, *oid)) else { continue };
                let Some(session) = self.at(&copy.cluster, &copy.system_identifier).await? else { continue };
                let what = format!(
                    "it has the number of a {}, who is erased: look whose rows it holds, and if they are his:",
                    copy.what()
                );
                copy_on(&session, (note, &copy.cluster, oid), &what, report).await?;
            }
        }
        Ok(())
    }

    /// A session on the primary of a cluster, where it is that very server. That it cannot be asked was said.
    async fn at(&self, cluster: &str, system_identifier: &str) -> Result<Option<Session>, Failure> {
        let Some(server) = self.servers.iter().find(|server| server.name == cluster) else { return Ok(None) };
        let Ok(session) = drop::open(&server.admin).await else { return Ok(None) };
        let is_it = server_facts::read(&session).await?.system_identifier == system_identifier;
        Ok(is_it.then_some(session))
    }
}

/// Names a copy where the server has it, and nothing named it yet.
async fn copy_on(
    session: &Session,
    (note, cluster, oid): (&ErasureNote, &str, u32),
    what: &str,
    report: &mut ReconcileReport,
) -> Result<(), Failure> {
    let Some(present) = drop_database::present(session, &[oid]).await?.pop() else { return Ok(()) };
    if report.found.iter().any(|found| found.cluster == cluster && found.database == present.name) {
        return Ok(());
    }
    let quoted = postgres_protocol::escape::escape_identifier(&present.name);
    report.found.push(FoundDatabase {
        why: Why::Copy,
        tenant: None,
        name_tag: note.name_tag.to_string(),
        cluster: cluster.to_owned(),
        node: format!("{cluster} primary"),
        database: present.name,
        database_oid: Some(present.oid),
        is_open: present.allows_connections,
        closed_now: false,
        plan: None,
        what: format!("{what} DROP DATABASE {}, by hand", Printable(&quoted)),
    });
    Ok(())
}
