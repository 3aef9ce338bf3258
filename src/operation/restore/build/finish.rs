//! The end of a restore: properties, name, source record.

use tokio::time::Instant;

use super::{Build, Built, made::Made, millis};
use crate::{
    backup_id::BackupId,
    format::record::{Source, SourceReason},
    id::{Locker, RecordId},
    operation::{
        erased,
        failure::{Failure, FailureClass},
        restore::{Report, failures, salvage::Salvage, shown},
    },
    postgres::{
        Session, create_database, leftovers,
        loader::Loader,
        lock::TenantLock,
        place, roles,
        server_facts::{self, ServerFacts},
    },
    printable::Word,
    signed::{DocumentError, FORMAT},
};

impl Build<'_> {
    /// Properties, name, source record. Not stopped by a signal.
    #[allow(clippy::too_many_arguments, reason = "each is used once, and none belongs together")]
    pub(super) async fn finish(
        &self,
        admin: &Session,
        made: &mut Made,
        built: Built,
        lock: Option<TenantLock>,
        locker: Locker,
        backup: BackupId,
        started: Instant,
    ) -> Result<Report, Failure> {
        self.stage("renaming");
        let tenant = &self.request.tenant;
        let database = &self.place.database;
        let Built { builders, facts, mut notes, weakened, .. } = built;
        let salvage = self.salvage.map(|salvage| Salvage { weakened, ..salvage.clone() });
        let guests = facts.guests(builders.all().map(Loader::role));
        create_database::apply_properties(admin, &built.name, &self.description.database, &guests)
            .await
            .map_err(self.failed())?;
        if let Some(lock) = &lock {
            lock.still_held().await.map_err(failures::lock)?;
        }
        // Its erasure may have begun since: then nobody gets its rows any more.
        erased::refuse(self.restorer.vault, self.restorer.keyring, &self.request.tenant).await?;
        let fresh;
        let (admin, replaced_as) = match self.put_in_place(admin, &built.name).await {
            Ok(replaced_as) => (admin, replaced_as),
            Err(failure) => {
                let (session, aside) = self.look_again(made, built.oid, failure).await?;
                fresh = session;
                (&fresh, aside)
            }
        };
        made.in_place = true;
        made.logins.clear();
        for loader in builders.all() {
            if let Err(error) = loader.remove(admin).await {
                notes.push(format!(
                    "role {} could not be dropped ({}): drop it",
                    loader.role(),
                    failures::statement(tenant, error).message
                ));
            }
            made.joined.retain(|joined| joined.role != loader.role());
        }
        let mut stay = roles::leave(admin, std::mem::take(&mut made.joined)).await;
        stay.extend(made.lent.take_back(admin).await);
        for joined in stay {
            notes.push(format!(
                "a membership in role {} that the restore needed stays: end it by `{}`",
                shown(&joined.role),
                shown(&joined.undo)
            ));
        }
        if self.place.own {
            notes.extend(self.record_source(locker, &facts, built.oid, replaced_as.as_deref()).await?);
        }
        Ok(Report {
            tenant: tenant.clone(),
            backup,
            taken_at: self.now,
            cluster: self.place.server.name.clone(),
            database: database.clone(),
            schema: None,
            tables: self.description.tables.len() as u64,
            rows: built.rows,
            bytes: built.bytes,
            proven: salvage.as_ref().is_none_or(Salvage::is_whole),
            salvage,
            replaced_as,
            created_roles: Vec::new(),
            notes,
            duration_ms: millis(started),
            proof_ms: built.proof_ms,
        })
    }

    /// Gives the finished database its name. Gives what the live one is called now, if there was one.
    async fn put_in_place(&self, admin: &Session, built: &str) -> Result<Option<String>, Failure> {
        let database = &self.place.database;
        let live = server_facts::database_oid(admin, database).await.map_err(self.failed())?;
        if live.is_some() && self.request.replace {
            let aside = place::name_aside(database, self.now);
            place::swap(admin, built, database, &aside).await.map_err(self.failed())?;
            return Ok(Some(aside));
        }
        place::rename(admin, built, database).await.map_err(self.failed())?;
        Ok(None)
    }

    /// The connection may have ended in the middle: with the name given and the answer lost, or with the live database closed. Another
    /// session finds out, and opens the database that was live. Gives itself and what that is called now, if the name is given.
    ///
    /// # Errors
    /// `failure`, with what could not be found out.
    async fn look_again(&self, made: &mut Made, built: u32, mut failure: Failure) -> Result<(Session, Option<String>), Failure> {
        let (database, target) = (&self.place.database, &self.place.server.admin);
        let looked = async {
            let admin = target.connect(target.maintenance_database(), &leftovers::session_name(self.id)).await?;
            if let Some(backend) = made.backend.take() {
                place::end_session(&admin, backend).await?;
            }
            let is_built = server_facts::database_oid(&admin, database).await? == Some(built);
            let aside = place::name_aside(database, self.now);
            let old = if is_built { &aside } else { database };
            let is_aside = self.request.replace && place::open(&admin, old).await? && is_built;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((is_built, admin, is_aside.then_some(aside)))
        };
        match looked.await {
            Ok((true, admin, aside)) => Ok((admin, aside)),
            Ok((false, ..)) => Err(failure),
            Err(error) => {
                let tenant = &self.request.tenant;
                tracing::warn!(tenant.name = %tenant, error, "cannot see what became of database {}", shown(database));
                failure.hint.push_str(&format!(
                    " It could not be seen whether database {0} has its name already{1}.",
                    shown(database),
                    if self.request.replace { " and is open: `ALTER DATABASE … ALLOW_CONNECTIONS true` opens it" } else { "" }
                ));
                Err(failure)
            }
        }
    }

    /// The tenant lives here now: the next backup reads from here without asking. Gives what to know when it lived on another server.
    async fn record_source(
        &self,
        locker: Locker,
        facts: &ServerFacts,
        oid: u32,
        aside: Option<&str>,
    ) -> Result<Option<String>, Failure> {
        let vault = self.restorer.vault;
        let write = async {
            let sources = vault.sources(locker).await?;
            let source = Source {
                format: FORMAT,
                installation: vault.root().installation,
                locker,
                id: RecordId::random(),
                sequence: sources.next_sequence(),
                cluster: self.place.server.name.clone(),
                system_identifier: facts.system_identifier.clone(),
                database_oid: oid,
                reason: SourceReason::Restored,
                passes_over: sources.passed_over(),
                created_at: self.now,
            };
            vault.put_source(&source, self.restorer.signer).await?;
            Ok(sources.current.filter(|before| before.system_identifier != facts.system_identifier))
        };
        let moved = write.await.map_err(|error: DocumentError| {
            let tenant = &self.request.tenant;
            let message = format!(
                "tenant {tenant} is restored, proven and in its place, but the vault would not record that it lives there now"
            );
            let aside = aside.map(|name| format!(" The database that was live is kept as {}.", shown(name))).unwrap_or_default();
            Failure::new(FailureClass::Failed, "source-not-recorded", tenant, message)
                .hint(format!("Run `tenure admit --source {}` before the next backup.{aside}", Word(tenant.as_str())))
                .because(error)
        })?;
        Ok(moved.map(|before| {
            let tenant = &self.request.tenant;
            format!(
                "tenant {tenant} lived on server {} before ({}); it is backed up from here now. If that database still lives, only one of \
                 the two may be the tenant: drop the other or list it under `ignore`, and run `tenure admit --source {}` if it is that one",
                before.system_identifier,
                before.cluster,
                Word(tenant.as_str())
            )
        }))
    }
}
