//! Locks on versions of objects.
//!
//! Some servers lose a lock that came with the object. So each is read back, given once more where it is missing, and read again.

use aws_sdk_s3::types::{ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode};
use aws_smithy_types::DateTime;
use bytes::Bytes;
use chrono::Utc;

use super::{S3Store, answer, time};
use crate::object_lock::{Lock, Mode};
use crate::store::retry::{Call, Failure};
use crate::store::{PutOutcome, StoreError, StoreErrorKind};

pub(super) async fn create(store: &S3Store, name: &str, body: &Bytes, lock: Lock) -> Result<PutOutcome, StoreError> {
    store.decides_create_only().await?;
    let (outcome, version) = store.attempt("put and lock", name, |attempt| store.create(name, body, attempt, Some(lock))).await?;
    if outcome == PutOutcome::Stored {
        let held = extend(store, name, version.as_ref(), lock).await?;
        if !held.covers(&lock) {
            return Err(less(store, name, Some(held), lock));
        }
    }
    Ok(outcome)
}

pub(super) async fn read(store: &S3Store, name: &str, version: Option<&String>) -> Result<Option<Lock>, StoreError> {
    store.attempt("read the lock of", name, |_| read_once(store, name, version)).await
}

/// Gives the lock that is there then. It is as long as asked for; its mode is the one that it had.
pub(super) async fn extend(store: &S3Store, name: &str, version: Option<&String>, lock: Lock) -> Result<Lock, StoreError> {
    let held = read(store, name, version).await?;
    if let Some(held) = held.filter(|held| held.until >= lock.until) {
        return Ok(held);
    }
    // No server takes another mode from who may not bypass the one that is there.
    let asked = Lock { mode: held.map_or(lock.mode, |held| held.mode), ..lock };
    store.attempt("lock", name, |_| write_once(store, name, version, asked)).await?;
    match read(store, name, version).await? {
        Some(held) if held.covers(&asked) => Ok(held),
        held => Err(less(store, name, held, asked)),
    }
}

/// The store's word is less than what was asked for.
fn less(store: &S3Store, name: &str, held: Option<Lock>, asked: Lock) -> StoreError {
    let held = held.map_or_else(|| "not locked".to_owned(), |held| held.to_string());
    let source = format!("{held}, instead of {asked}");
    let call = Call { operation: "lock", address: &store.address, name };
    call.failed(Failure::lasting(StoreErrorKind::NotLocked, source))
}

async fn read_once(store: &S3Store, name: &str, version: Option<&String>) -> Result<Option<Lock>, Failure> {
    let call = store.client.get_object_retention().bucket(&store.bucket).key(store.key(name)).set_version_id(version.cloned());
    let said = match store.in_time(0, call.send()).await? {
        Ok(said) => said.retention,
        Err(error) => {
            return match answer::status_and_code(&error).1 {
                "NoSuchObjectLockConfiguration" | "ObjectLockConfigurationNotFoundError" => Ok(None),
                // Amazon's word for a bucket without object lock.
                "InvalidRequest" => Ok(None),
                _ => Err(answer::failure(error, &store.credentials)),
            };
        }
    };
    let Some(retention) = said else { return Ok(None) };
    let mode = match retention.mode() {
        Some(ObjectLockRetentionMode::Governance) => Mode::Governance,
        Some(ObjectLockRetentionMode::Compliance) => Mode::Compliance,
        _ => return Err(Failure::lasting(StoreErrorKind::Refused, "the server names no mode of a lock that is known here")),
    };
    // A part of a second is nothing to rely on.
    let whole = retention.retain_until_date().map(|until| DateTime::from_secs(until.secs()));
    Ok(Some(Lock { mode, until: time(whole)? }))
}

pub(super) async fn write_once(store: &S3Store, name: &str, version: Option<&String>, lock: Lock) -> Result<(), Failure> {
    let mode = match lock.mode {
        Mode::Governance => ObjectLockRetentionMode::Governance,
        Mode::Compliance => ObjectLockRetentionMode::Compliance,
    };
    let retention = ObjectLockRetention::builder().mode(mode).retain_until_date(date(lock.until)).build();
    let call = store.client.put_object_retention().bucket(&store.bucket).key(store.key(name));
    let call = call.set_version_id(version.cloned()).retention(retention).send();
    store.in_time(0, call).await?.map(drop).map_err(|error| answer::failure(error, &store.credentials))
}

pub(super) fn mode(mode: Mode) -> ObjectLockMode {
    match mode {
        Mode::Governance => ObjectLockMode::Governance,
        Mode::Compliance => ObjectLockMode::Compliance,
    }
}

pub(super) fn date(date: chrono::DateTime<Utc>) -> DateTime {
    DateTime::from_secs(date.timestamp())
}
