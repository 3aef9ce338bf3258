//! Memberships that a configured loader has for a moment.
//!
//! Restores at the same time share that login, and a tenant's code in any of them can take on what it is a member of. So it is a member of
//! owners only while no restore loads rows by it, and for one restore at a time: an advisory lock on its name in the maintenance database
//! is held shared while rows are loaded, and alone while it is a member.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::Mutex;
use tokio_postgres::Client;

use super::{
    loader::Loader,
    roles::{self, Joined},
    statement::{Failed, StatementError},
};

/// The lock's key, of the loader's name.
const KEY: &str = "pg_catalog.hashtextextended('tenure loader ' || $1::text, 0)";

/// What a configured loader was made a member of, and is still.
#[derive(Clone, Default)]
pub struct Lent(Arc<Mutex<Vec<Joined>>>);

impl Lent {
    /// Lets it load rows: nobody makes it a member of anything until [`Lent::rows_done`] or the end of `admin`'s session, which is in the
    /// maintenance database. Waits for restores at which it is a member.
    ///
    /// # Errors
    /// What the server says.
    pub async fn rows(&self, admin: &Client, loader: &Loader) -> Result<(), StatementError> {
        lock(admin, "pg_advisory_lock_shared", loader).await
    }

    /// Rows are loaded.
    ///
    /// # Errors
    /// What the server says.
    pub async fn rows_done(&self, admin: &Client, loader: &Loader) -> Result<(), StatementError> {
        lock(admin, "pg_advisory_unlock_shared", loader).await
    }

    /// Does `work` while it is a member of `owners`. Waits for other restores that use it.
    ///
    /// # Errors
    /// What `work` says, or the server by `failed`.
    pub async fn while_member<T, E>(
        &self,
        admin: &Client,
        loader: &Loader,
        owners: &BTreeSet<String>,
        failed: impl Fn(StatementError) -> E,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut joined = self.0.lock().await;
        lock(admin, "pg_advisory_lock", loader).await.map_err(&failed)?;
        loader.join(admin, owners, &mut joined).await.map_err(&failed)?;
        let done = Box::pin(work).await?;
        *joined = roles::leave(admin, std::mem::take(&mut *joined)).await;
        lock(admin, "pg_advisory_unlock", loader).await.map_err(&failed)?;
        Ok(done)
    }

    /// What it is a member of still.
    pub async fn list(&self) -> Vec<Joined> {
        self.0.lock().await.clone()
    }

    /// Ends what is left. Returns what stays all the same.
    pub async fn take_back(&self, admin: &Client) -> Vec<Joined> {
        roles::leave(admin, std::mem::take(&mut *self.0.lock().await)).await
    }
}

async fn lock(admin: &Client, function: &str, loader: &Loader) -> Result<(), StatementError> {
    let sql = format!("SELECT pg_catalog.{function}({KEY})");
    admin.execute(&sql, &[&loader.role()]).await.failed("taking turns with other restores on", loader.role())?;
    Ok(())
}
