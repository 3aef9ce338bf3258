//! Databases that tenure made of a tenant's backups, and those that it put aside for one: they hold its rows, and are named.

use std::collections::BTreeMap;

use super::{Done, DropTenant, open};
use crate::{
    format::plan::{Plan, PlannedDatabase},
    operation::{failure::Failure, purge::OpenItem},
    postgres::{drop_database, server_facts},
    printable::{Printable, Word},
};

/// A database that may still be there.
struct Copy {
    cluster: String,
    system: String,
    /// `None` where a restore did not come to writing it down.
    oid: Option<u32>,
    /// The name that it was built under.
    built_as: String,
    what: String,
}

/// How an open item begins that is about a whole cluster.
const CLUSTER: &str = "cluster ";

impl DropTenant<'_> {
    /// Those that are there, where the database itself could not be dropped. A cluster that does not answer keeps nothing from being purged.
    ///
    /// # Errors
    /// The vault's.
    pub async fn copies_of(&self, plan: &Plan, database: &PlannedDatabase) -> Result<Vec<OpenItem>, Failure> {
        let mut done = Done::default();
        self.name_copies(plan, database, &mut done).await?;
        done.open.retain(|item| !item.object.starts_with(CLUSTER));
        Ok(done.open)
    }

    /// Looks for them on the clusters of the configuration. What cannot be looked for is open as well.
    pub(super) async fn name_copies(&self, plan: &Plan, dropped: &PlannedDatabase, done: &mut Done) -> Result<(), Failure> {
        let mut by_cluster: BTreeMap<String, Vec<Copy>> = BTreeMap::new();
        let mut add = |copy: Copy| by_cluster.entry(copy.cluster.clone()).or_default().push(copy);
        for locker in plan.lockers.iter().map(|planned| planned.locker) {
            let (copies, unreadable) = self.vault.made_copies(locker).await?;
            done.open.extend(unreadable.iter().map(|error| OpenItem {
                kind: "copy",
                object: error.object().to_owned(),
                what: format!("{}: which database a restore made is not known", error.what()),
                until: None,
            }));
            for (copy, oid) in copies {
                let what = format!("which a restore made of backup {}", copy.backup);
                add(Copy { cluster: copy.cluster, system: copy.system_identifier, oid, built_as: copy.built_as, what });
            }
            for source in self.vault.every_source(locker).await? {
                let (what, oid) = ("which was its database before".to_owned(), Some(source.database_oid));
                let (cluster, system) = (source.cluster, source.system_identifier);
                add(Copy { cluster, system, oid, built_as: String::new(), what });
            }
        }
        for (cluster, copies) in by_cluster {
            if self.server(&cluster).is_err() {
                // The very server may be there, under another name.
                let mut is_there = self.accept.contains(&format!("{cluster} primary"));
                for server in self.servers {
                    is_there |= self.look_for(&server.name, dropped, &copies, done).await.is_ok_and(|is_it| is_it);
                }
                if is_there {
                    continue;
                }
            }
            if let Err(failure) = self.look_for(&cluster, dropped, &copies, done).await {
                let what = format!("whether it has copies of the database cannot be asked: {}", failure.one_line());
                done.open.push(OpenItem { kind: "copy", object: format!("{CLUSTER}{}", Printable(&cluster)), what, until: None });
            }
        }
        Ok(())
    }

    /// Names those that one server has. Gives whether any of them is said to be on that very server.
    async fn look_for(
        &self,
        cluster: &str,
        dropped: &PlannedDatabase,
        copies: &[Copy],
        done: &mut Done,
    ) -> Result<bool, Failure> {
        let session = open(&self.server(cluster)?.admin).await?;
        let system = server_facts::read(&session).await?.system_identifier;
        let mut seen =
            std::collections::BTreeSet::from([dropped.database_oid].map(|oid| (dropped.system_identifier.clone(), oid)));
        let its = || copies.iter().filter(|copy| copy.system == system);
        // Where another server has that name now, the number is another database's.
        for copy in its() {
            let oid = match copy.oid {
                Some(oid) => Some(oid),
                None => server_facts::database_oid(&session, &copy.built_as).await?,
            };
            let Some(oid) = oid.filter(|oid| seen.insert((system.clone(), *oid))) else { continue };
            let Some(name) = drop_database::name_of(&session, oid).await? else { continue };
            if self.accept.contains(&name) {
                done.notes.push(format!("database {} on {cluster}, {}, stays: --accept said so", Printable(&name), copy.what));
                continue;
            }
            let quoted = postgres_protocol::escape::escape_identifier(&name);
            let what = format!(
                "{}, holds its rows: DROP DATABASE {}, or say --accept {}; then run the same command again",
                copy.what,
                Printable(&quoted),
                Word(&name)
            );
            let object = format!("database {} on {cluster}", Printable(&name));
            done.open.push(OpenItem { kind: "copy", object, what, until: None });
        }
        Ok(its().next().is_some())
    }
}
