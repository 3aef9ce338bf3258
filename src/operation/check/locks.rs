//! Object lock of the vault: on where it is asked for, and as firm as it should be.

use chrono::{DateTime, Utc};

use super::Report;
use crate::{
    object_lock::Window,
    store::{LockTrial, Store, StoreFacts},
};

pub(super) fn look_at(object: &str, facts: &StoreFacts, window: Option<Window>, report: &mut Report) {
    const TELL: &str = "Allow s3:GetBucketObjectLockConfiguration.";
    match (facts.object_lock, window) {
        (Some(true), None) => report.warning(
            object,
            "object lock is on, and `vault.lock` is \"none\": nothing is locked but by a default retention of the bucket, which would \
             also keep what expires",
            "Set `vault.lock`, or use a bucket without object lock, or without a default retention.",
        ),
        (Some(false), Some(window)) => report.error(
            object,
            format!("`vault.lock` is \"{window}\", and object lock is not on: no backup will begin"),
            "Turn it on for the bucket (most servers: only when it is made), or write lock = \"none\".",
        ),
        (None, Some(window)) => report.error(
            object,
            format!("`vault.lock` is \"{window}\", and it does not tell whether object lock is on: no backup will begin"),
            TELL,
        ),
        (None, None) => report.warning(object, "it does not tell whether object lock is on", TELL),
        (Some(true), Some(_)) | (Some(false), None) => {}
    }
    if let (Some(default), Some(_)) = (&facts.default_retention, window) {
        report.warning(
            object,
            format!(
                "the bucket locks everything that is stored in it by default, {default}: probes too, whatever `vault.lock` says"
            ),
            "Remove the default retention: tenure asks for a lock with everything that it stores.",
        );
    }
}

pub(super) async fn try_out(object: &str, store: &dyn Store, window: Window, now: DateTime<Utc>, report: &mut Report) {
    let LockTrial { shortened, removed, bypassed, refused, ten_years } = match store.try_locks(window, now).await {
        Ok(trial) => trial,
        Err(error) => return report.failure(object, &error.into()),
    };
    if shortened || removed {
        let what = if removed { "what is locked can be removed" } else { "locks can be made shorter" };
        report.error(object, format!("{what} with these credentials, as if object lock were off"), "Use another store.");
    } else if refused.is_empty() {
        report.ok(object, format!("what is stored is locked, {window}: a lock is kept, can be extended and not be made shorter"));
    }
    if bypassed {
        report.warning(
            object,
            "these credentials may bypass locks in governance mode: who takes over this host can remove what is locked",
            "Deny s3:BypassGovernanceRetention, and s3:DeleteObjectVersion, or lock in compliance mode.",
        );
    }
    if !refused.is_empty() {
        report.error(
            object,
            format!("locks until {} are refused: {}", window.fresh(now).until.format("%Y-%m-%d"), refused.join(", ")),
            "Allow s3:PutObjectRetention for one and a half times the days of `vault.lock`; a limit in the policy must not be lower.",
        );
    }
    match ten_years {
        Some(requests) if requests.is_empty() => report.ok(object, "a lock of ten years is refused"),
        Some(requests) => report.warning(
            object,
            format!(
                "a lock of ten years is not refused ({}): who takes over this host can make everything here stay, and be paid for, \
                 until then, also what must be erased",
                requests.join(", ")
            ),
            "Where the store knows the condition s3:object-lock-remaining-retention-days, deny longer locks with it: docs/policies/object-lock.json \
             has the statement.",
        ),
        None => report.warning(
            object,
            "it cannot be found out whether a lock of ten years is refused: the store takes what has a wrong digest",
            "Look at the bucket's policy: docs/policies/object-lock.json says what it should hold.",
        ),
    }
}
