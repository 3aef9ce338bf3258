//! The sessions that a restore works through: whose they are, and how they are set.

use std::collections::{BTreeSet, HashSet};

use super::{Build, made::Made};
use crate::{
    operation::{
        failure::Failure,
        restore::{failures, preflight::Preflight},
    },
    postgres::{
        Session, create_database, leftovers,
        loader::Loader,
        lock::{self, TenantLock},
        session_settings::{NO_TIME_LIMITS, READING, ROW_TEXT, statements},
        statement::Failed as _,
    },
};

impl Build<'_> {
    /// The second login; what keeps it out is a finding.
    pub(super) async fn loader(&self, admin: &Session, made: &mut Made, found: &mut Preflight) -> Option<Loader> {
        let loader = match &self.place.server.loader {
            // Found already.
            None if !found.facts.create_role || found.facts.in_recovery => return None,
            Some(target) => Loader::configured(target).await,
            None => {
                let role = leftovers::login_name(self.id);
                made.logins.push(role.clone());
                Loader::temporary(admin, admin.target(), role).await
            }
        };
        match loader {
            Ok(loader) => Some(loader),
            Err(error) => {
                let (kind, what, hint) = failures::loader(&error, found.facts.version_num);
                found.add(kind, what, hint);
                None
            }
        }
    }

    /// The login that fills tables and is a member of nobody, beside a temporary loader; a configured one fills them itself.
    pub(super) async fn filler(
        &self,
        admin: &Session,
        made: &mut Made,
        found: &mut Preflight,
        loader: Option<&Loader>,
    ) -> Option<Loader> {
        loader.filter(|loader| loader.is_temporary())?;
        let role = leftovers::filler_name(self.id);
        made.logins.push(role.clone());
        match Loader::temporary(admin, admin.target(), role).await {
            Ok(filler) => Some(filler),
            Err(error) => {
                let (kind, what, hint) = failures::loader(&error, found.facts.version_num);
                found.add(kind, what, hint);
                None
            }
        }
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

    /// Lets the loader do what the owners may.
    pub(super) async fn join(
        &self,
        admin: &Session,
        made: &mut Made,
        loader: &Loader,
        owners: &BTreeSet<String>,
    ) -> Result<(), Failure> {
        if loader.is_temporary() {
            return loader.join(admin, owners).await.map_err(self.failed());
        }
        // Noted first: who stops waiting in between must know of it.
        let (_, user) = made.member.insert((loader.role().to_owned(), self.place.server.memberships.user()));
        user.join(admin, loader.role(), owners).await.map_err(self.failed())
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
