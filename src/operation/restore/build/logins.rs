//! The sessions that a restore works through: whose they are, and how they are set.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Build, made::Made};
use crate::{
    operation::{
        failure::Failure,
        restore::{failures, preflight::Preflight, shown},
    },
    postgres::{
        Session, create_database, leftovers,
        lent::Lent,
        loader::Loader,
        lock::{self, TenantLock},
        restore_plan::{Owners, RestorePlan},
        session_settings::{NO_TIME_LIMITS, READING, ROW_TEXT, statements},
        statement::Failed as _,
    },
};

/// The logins that make what runs code and belongs to somebody: each is a member of the owners of what it makes, and of nobody else.
pub(super) struct Builders {
    logins: BTreeMap<Owners, Loader>,
    /// One login that stands for all of them, in turns.
    configured: Option<(Loader, Lent)>,
}

impl Builders {
    /// The login for these owners, who stand in the plan that the logins were made for.
    pub(super) fn of(&self, owners: &Owners) -> &Loader {
        &self.logins[owners]
    }

    /// The owners with whom somebody acts as `owner`: he alone, if there is such a login.
    pub(super) fn acting_as(&self, owner: &str) -> Option<&Owners> {
        self.logins.keys().filter(|owners| owners.contains(owner)).min_by_key(|owners| owners.len())
    }

    /// Each login once.
    pub(super) fn all(&self) -> impl Iterator<Item = &Loader> {
        let temporary = self.logins.values().filter(|loader| loader.is_temporary());
        temporary.chain(self.configured.iter().map(|(loader, _)| loader))
    }

    /// Makes each a member of its owners, for good. A configured one is that for moments only.
    pub(super) async fn join(&self, build: &Build<'_>, admin: &Session) -> Result<(), Failure> {
        for (owners, loader) in self.logins.iter().filter(|(_, loader)| loader.is_temporary()) {
            // They end with it.
            loader.join(admin, owners, &mut Vec::new()).await.map_err(build.failed())?;
        }
        Ok(())
    }

    /// Does `work` while the login of these owners is a member of them.
    pub(super) async fn as_owners<T>(
        &self,
        build: &Build<'_>,
        admin: &Session,
        owners: &Owners,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match &self.configured {
            None => work.await,
            Some((loader, lent)) => lent.while_member(admin, loader, owners, build.failed(), work).await,
        }
    }
}

impl Build<'_> {
    /// The login that fills tables; what keeps it out is a finding. A temporary one is a member of nobody; a configured one makes
    /// everything else as well.
    pub(super) async fn filler(
        &self,
        admin: &Session,
        made: &mut Made,
        found: &mut Preflight,
    ) -> Result<Option<Loader>, Failure> {
        let loader = match &self.place.server.loader {
            // Found already.
            None if !found.facts.create_role || found.facts.in_recovery => return Ok(None),
            Some(target) => Loader::configured(admin, target).await,
            None => {
                let role = leftovers::filler_name(self.id);
                made.logins.push(role.clone());
                Loader::temporary(admin, admin.target(), role).await
            }
        };
        match loader {
            Ok(loader) if loader.is_temporary() => Ok(Some(loader)),
            Ok(loader) => {
                let mut roles = loader.member_of(admin).await.map_err(self.failed())?;
                let owners = self.owners(&HashSet::new());
                if owners.len() == 1 {
                    roles.retain(|role| !owners.contains(role));
                }
                if !roles.is_empty() {
                    let roles: Vec<String> = roles.iter().map(|role| shown(role)).collect();
                    found.notes.push(format!(
                        "the configured loader {} is always a member of {}: functions in the tenant's constraints could act as them while \
                         rows were loaded",
                        shown(loader.role()),
                        roles.join(", ")
                    ));
                }
                Ok(Some(loader))
            }
            Err(error) => {
                let (kind, what, hint) = failures::loader(&error, found.facts.version_num);
                found.add(kind, what, hint);
                Ok(None)
            }
        }
    }

    /// The logins that make what runs code: one for all owners that anything needs together.
    pub(super) async fn builders(
        &self,
        admin: &Session,
        made: &mut Made,
        filler: &Loader,
        plan: &RestorePlan,
    ) -> Result<Builders, Failure> {
        let mut logins = BTreeMap::new();
        for (number, owners) in plan.owners.keys().enumerate() {
            let role = leftovers::login_name(self.id, number);
            if filler.is_temporary() {
                made.logins.push(role.clone());
            }
            logins.insert(owners.clone(), filler.another(admin, role).await.map_err(self.failed())?);
        }
        Ok(Builders { logins, configured: (!filler.is_temporary()).then(|| (filler.clone(), made.lent.clone())) })
    }

    /// The filler has done what it is for.
    pub(super) async fn dismiss(
        &self,
        admin: &Session,
        database: &Session,
        made: &mut Made,
        filler: Loader,
    ) -> Result<(), Failure> {
        filler.leave_database(database).await.map_err(self.failed())?;
        filler.remove(admin).await.map_err(self.failed())?;
        made.logins.retain(|login| login != filler.role());
        made.joined.retain(|joined| joined.role != filler.role());
        Ok(())
    }

    /// Every owner but these.
    pub(super) fn owners(&self, but: &HashSet<String>) -> BTreeSet<String> {
        let of_entries = self.archive.toc().iter().map(|entry| &entry.owner);
        let of_tables = self.description.tables.iter().map(|table| &table.owner);
        of_entries
            .chain(of_tables)
            .chain(std::iter::once(&self.description.database.owner))
            .filter(|owner| !owner.is_empty() && !owner.starts_with("pg_") && !but.contains(*owner))
            .cloned()
            .collect()
    }

    /// The tenant's lock, when its own place is filled: no backup may read it while it is swapped.
    pub(super) async fn lock(&self) -> Result<Option<TenantLock>, Failure> {
        if !self.place.own {
            return Ok(None);
        }
        let server = self.place.server;
        let installation = self.restorer.vault.root().installation;
        let lock = TenantLock::acquire(&server.admin, &installation, &self.request.tenant, &server.roles, lock::WAIT).await;
        lock.map(Some).map_err(failures::lock)
    }

    /// An administrator's session in the new database, on the server that `admin` reached.
    pub(super) async fn session(&self, admin: &Session, name: &str) -> Result<Session, Failure> {
        let session = admin
            .target()
            .connect(name, "tenure restore (admin)")
            .await
            .map_err(|error| failures::connect(&self.request.tenant, error))?;
        let writable: &[(&str, &str)] = &[("default_transaction_read_only", "off")];
        session
            .batch_execute(&statements(&[&ROW_TEXT, &NO_TIME_LIMITS, &READING, writable]))
            .await
            .failed("setting up a session in", name)
            .map_err(self.failed())?;
        Ok(session)
    }

    pub(super) async fn loader_session(&self, loader: &Loader, name: &str) -> Result<Session, Failure> {
        let session = loader.connect(name).await.map_err(|error| failures::connect(&self.request.tenant, error))?;
        // What is not on disk at a crash belongs to a database that nobody has seen yet; the rename at the end waits for all of it.
        // The tenant's own code finds things as it did when the rows were written. Here it runs with no more rights than its own.
        let search_path = create_database::search_path(&self.description.database);
        let loading: &[(&str, &str)] =
            &[("synchronous_commit", "off"), ("default_transaction_read_only", "off"), ("search_path", &search_path)];
        session
            .batch_execute(&statements(&[&ROW_TEXT, &NO_TIME_LIMITS, loading]))
            .await
            .failed("setting up a session in", name)
            .map_err(self.failed())?;
        Ok(session)
    }
}
