//! Memberships that a configured loader has for the time of a restore.
//!
//! Restores at the same time may need the same one. Those of this process count themselves, and the last one ends what any of them
//! began; each holds a shared advisory lock in the maintenance database, by which the last one sees those of other processes.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Mutex;
use tokio_postgres::Client;

use super::{
    roles::{self, Joined, Member},
    statement::{Failed, StatementError},
};

/// What the restores of this process gave the loader of one server.
#[derive(Clone, Default)]
pub struct Memberships(Arc<Shared>);

#[derive(Default)]
struct Shared {
    users: AtomicUsize,
    joined: Mutex<Vec<Joined>>,
}

/// One restore that uses the loader.
pub struct User(Arc<Shared>);

/// The lock's key, of the loader's name.
const KEY: &str = "pg_catalog.hashtextextended('tenure loader ' || $1::text, 0)";

impl Memberships {
    /// Counts a restore in. It is counted out when the value goes away.
    #[must_use]
    pub fn user(&self) -> User {
        self.0.users.fetch_add(1, Ordering::SeqCst);
        User(self.0.clone())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::SeqCst);
    }
}

impl User {
    /// Makes the loader a member of `owners`, as far as it is none. `admin` is connected to the maintenance database and stays so until
    /// [`User::leave`], or ends before it.
    ///
    /// # Errors
    /// What the server says, with the role named.
    pub async fn join(&self, admin: &Client, loader: &str, owners: &BTreeSet<String>) -> Result<(), StatementError> {
        let mut joined = self.0.joined.lock().await;
        let lock = format!("SELECT pg_catalog.pg_advisory_lock_shared({KEY})");
        admin.execute(&lock, &[&loader]).await.failed("taking the lock on", loader)?;
        roles::join(admin, Member::Role(loader), owners.iter().filter(|owner| *owner != loader), &mut joined).await
    }

    /// Ends the memberships, unless another restore still uses the loader: then its end ends them, or they are returned, when it is another
    /// process's. Whatever could not be ended is returned, too.
    pub async fn leave(self, admin: &Client, loader: &str) -> Vec<Joined> {
        let shared = self.0.clone();
        let mut joined = shared.joined.lock().await;
        let unlock = format!("SELECT pg_catalog.pg_advisory_unlock_shared({KEY})");
        // After a failure this is another session, and the one that had the lock has ended.
        if let Err(error) = admin.execute(&unlock, &[&loader]).await {
            tracing::debug!(error = %error, "the lock on {loader:?} was gone");
        }
        drop(self);
        if shared.users.load(Ordering::SeqCst) > 0 || joined.is_empty() {
            return Vec::new();
        }
        let joined = std::mem::take(&mut *joined);
        let alone = format!("SELECT pg_catalog.pg_try_advisory_lock({KEY})");
        let alone = admin.query_one(&alone, &[&loader]).await.and_then(|row| row.try_get::<_, bool>(0));
        if !alone.unwrap_or(false) {
            return joined;
        }
        let left = roles::leave(admin, joined).await;
        let unlock = format!("SELECT pg_catalog.pg_advisory_unlock({KEY})");
        if let Err(error) = admin.execute(&unlock, &[&loader]).await {
            tracing::debug!(error = %error, "the lock on {loader:?} ends with the session");
        }
        left
    }
}
