//! Trying locks out: whether they hold, and whether one of ten years is refused.
//!
//! What must not succeed is asked in a way that cannot: a PUT whose digest is wrong, and a lock for an object that is not there. Whether
//! it is allowed is decided before that is noticed. So nothing is ever locked for longer than some minutes.

use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use super::{S3Store, answer, locks};
use crate::object_lock::{Lock, Mode, Window};
use crate::store::retry::Failure;
use crate::store::{Listed, LockTrial, PutOutcome, Store, StoreError, StoreErrorKind, probe};

/// Always the same, so that there is one and not one per check.
const NAME: &str = "probe/000000000000000000000000000010cd";

/// MD5 of "hello", which is not what is sent.
const WRONG_DIGEST: &str = "XUFAKrxLKna5cZ2REBfFkg==";

/// For how long the object is locked.
const MINUTES: i64 = 10;

pub(super) async fn run(store: &S3Store, window: Window, now: DateTime<Utc>) -> Result<LockTrial, StoreError> {
    let mut trial = LockTrial::default();
    let object = locked(store, window.mode, now).await?;
    try_to_shorten(store, &object, window.mode, now, &mut trial).await?;
    trial.removed = is_allowed(store.attempt("delete", NAME, |_| remove(store, &object, false)).await)?;
    if !trial.removed && window.mode == Mode::Governance {
        trial.bypassed = is_allowed(store.attempt("delete", NAME, |_| remove(store, &object, true)).await)?;
    }
    // A store that takes a wrong digest would lock what is only to be asked.
    let name = format!("probe/{}", probe::random_name());
    if lets(put(store, &name, None).await)? != Some(true) {
        if store.head(&name).await?.is_some() {
            store.delete(&name).await?;
        }
        return Ok(trial);
    }
    for (request, allowed) in requests(store, &name, window.fresh(now)).await? {
        if !allowed {
            trial.refused.push(request);
        }
    }
    let mut ten_years = Vec::new();
    for mode in [Mode::Governance, Mode::Compliance] {
        let lock = Lock::new(mode, now + TimeDelta::days(3652));
        let asked = requests(store, &name, lock).await?;
        ten_years.extend(asked.into_iter().filter_map(|(request, allowed)| allowed.then_some(request)));
    }
    trial.ten_years = Some(ten_years);
    Ok(trial)
}

/// An object that is locked, and whose lock was extended.
async fn locked(store: &S3Store, mode: Mode, now: DateTime<Utc>) -> Result<Listed, StoreError> {
    let lock = |minutes| Lock::new(mode, now + TimeDelta::minutes(minutes));
    let mut name = NAME.to_owned();
    // Somebody may have written over it.
    if locks::create(store, &name, &Bytes::from_static(b"tenure\n"), lock(MINUTES)).await? == PutOutcome::Exists {
        name = format!("probe/{}", probe::random_name());
        locks::create(store, &name, &Bytes::from_static(b"tenure\n"), lock(MINUTES)).await?;
    }
    let object = store.head(&name).await?;
    let object = object.ok_or_else(|| StoreError::at_once("head", &store.address, &name, StoreErrorKind::NotFound))?;
    store.extend_lock(&object, lock(MINUTES + 1)).await?;
    Ok(object)
}

async fn try_to_shorten(
    store: &S3Store,
    object: &Listed,
    mode: Mode,
    now: DateTime<Utc>,
    trial: &mut LockTrial,
) -> Result<(), StoreError> {
    let lock = Lock::new(mode, now + TimeDelta::minutes(MINUTES - 1));
    let version = object.version.as_ref();
    is_allowed(store.attempt("lock", &object.name, |_| locks::write_once(store, &object.name, version, lock)).await)?;
    let held = store.lock_of(object).await?;
    trial.shortened = held.is_none_or(|held| held.until <= lock.until);
    Ok(())
}

async fn remove(store: &S3Store, object: &Listed, bypass: bool) -> Result<(), Failure> {
    let call = store.client.delete_object().bucket(&store.bucket).key(store.key(&object.name));
    let call = call.set_version_id(object.version.clone()).set_bypass_governance_retention(bypass.then_some(true)).send();
    store.in_time(0, call).await?.map(drop).map_err(|error| answer::failure(error, &store.credentials))
}

fn is_allowed(tried: Result<(), StoreError>) -> Result<bool, StoreError> {
    match tried {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind, StoreErrorKind::Denied | StoreErrorKind::Refused) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Both ways to lock an object, and whether each would be allowed.
async fn requests(store: &S3Store, name: &str, lock: Lock) -> Result<[(String, bool); 2], StoreError> {
    let put = lets(put(store, name, Some(lock)).await)?.unwrap_or(false);
    let extend = lets(store.attempt("lock", name, |_| locks::write_once(store, name, None, lock)).await)?.unwrap_or(false);
    Ok([("PutObject", put), ("PutObjectRetention", extend)]
        .map(|(request, allowed)| (format!("{request} in {} mode", lock.mode), allowed)))
}

/// A PUT that is never done.
async fn put(store: &S3Store, name: &str, lock: Option<Lock>) -> Result<(), StoreError> {
    let under_lock = |call: PutObjectFluentBuilder| match lock {
        Some(lock) => call.object_lock_mode(locks::mode(lock.mode)).object_lock_retain_until_date(locks::date(lock.until)),
        None => call,
    };
    let once = |_| async {
        let call = store.client.put_object().bucket(&store.bucket).key(store.key(name));
        let call = under_lock(call).content_md5(WRONG_DIGEST).body(Bytes::from_static(b"tenure").into()).send();
        match store.in_time(0, call).await? {
            Ok(_) => Ok(()),
            // What was asked for is allowed, and not done.
            Err(error) if answer::status_and_code(&error).1 == "BadDigest" => Err(StoreErrorKind::NotFound.into()),
            Err(error) => Err(answer::failure(error, &store.credentials)),
        }
    };
    store.attempt("put and lock", name, once).await
}

/// Whether a request that cannot succeed was let through to where it fails; `None` where it succeeded.
fn lets(asked: Result<(), StoreError>) -> Result<Option<bool>, StoreError> {
    match asked {
        Ok(()) => Ok(None),
        Err(error) => match error.kind {
            StoreErrorKind::NotFound => Ok(Some(true)),
            StoreErrorKind::Denied | StoreErrorKind::Refused => Ok(Some(false)),
            _ => Err(error),
        },
    }
}
