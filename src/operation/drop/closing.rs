//! Who gets into a database: nobody while it is being erased, everybody again when that is withdrawn.

use super::{DropTenant, end_on_replicas};
use crate::{
    format::plan::PlannedDatabase,
    operation::failure::{Failure, FailureClass},
    postgres::drop_database,
    tenant::TenantName,
};

impl DropTenant<'_> {
    /// Lets nobody in any more, and ends sessions, on replicas too; nothing is lost. Of a database that is gone nothing is left to close. Gives
    /// where sessions may go on, in words.
    ///
    /// # Errors
    /// The server cannot be asked, or it has another database under that number.
    pub async fn suspend(&self, tenant: &TenantName, database: &PlannedDatabase) -> Result<Vec<String>, Failure> {
        let session = self.connect(database).await?;
        let Some(doomed) = drop_database::look(&session, database.database_oid).await?.filter(|doomed| !doomed.is_invalid) else {
            return Ok(Vec::new());
        };
        self.refuse_another(tenant, &session, &doomed).await?;
        if !drop_database::allow_connections(&session, doomed.oid, &doomed.name, false).await? {
            let message = format!("the database of tenant {tenant} changed while it was looked at");
            return Err(Failure::new(FailureClass::Failed, "changed-meanwhile", tenant, message).hint("Run it again."));
        }
        drop_database::end_sessions(&session, doomed.oid).await?;
        Ok(end_on_replicas(&session, self.server(&database.cluster)?, database).await)
    }

    /// Lets everybody in again who was let in when it was planned.
    ///
    /// # Errors
    /// The server cannot be asked, or the database is gone.
    pub async fn resume(&self, database: &PlannedDatabase) -> Result<(), Failure> {
        if self.open_again(database).await? {
            return Ok(());
        }
        let message = format!("the database with OID {} on {} is gone", database.database_oid, database.cluster);
        Err(Failure::new(FailureClass::Failed, "database-gone", &database.cluster, message).hint("Somebody dropped it by hand."))
    }

    /// Whether it lets nobody in. One that is gone, or whose drop was interrupted, is not closed but over.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn is_closed(&self, database: &PlannedDatabase) -> Result<bool, Failure> {
        let session = self.connect(database).await?;
        let doomed = drop_database::look(&session, database.database_oid).await?;
        Ok(doomed.is_some_and(|doomed| !doomed.is_invalid && !doomed.allows_connections))
    }

    /// Gives whether it is there, and as it was.
    pub(super) async fn open_again(&self, database: &PlannedDatabase) -> Result<bool, Failure> {
        let session = self.connect(database).await?;
        match drop_database::look(&session, database.database_oid).await? {
            None => Ok(false),
            Some(doomed) if doomed.is_invalid => Ok(false),
            Some(doomed) if database.allowed_connections && !doomed.allows_connections => {
                Ok(drop_database::allow_connections(&session, doomed.oid, &doomed.name, true).await?)
            }
            Some(_) => Ok(true),
        }
    }
}
