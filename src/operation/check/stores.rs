//! Each store by itself: there, writable, set up as it should be, its clock.

use chrono::{DateTime, Utc};

use super::{
    Report, Request, StoreToCheck,
    canary::{self, Powers},
    locks,
};
use crate::store::{Location, Store, StoreFacts, Versioning};

/// A clock that is further off than this is told.
const CLOCK_TOLERANCE_SECONDS: i64 = 300;

/// Less free space than this share, or than this many bytes, is told.
const FREE_PERCENT: u64 = 10;
const FREE_BYTES: u64 = 1 << 30;

pub(super) async fn check(request: &Request) -> Report {
    let mut report = Report::default();
    one("vault", &request.vault, request.now, &mut report).await;
    one("keyring", &request.keyring, request.now, &mut report).await;
    for (number, mirror) in request.mirrors.iter().enumerate() {
        one(&format!("mirror {}", number + 1), mirror, request.now, &mut report).await;
    }
    report
}

async fn one(name: &str, store: &StoreToCheck, now: DateTime<Utc>, report: &mut Report) {
    let object = format!("{name} {}", store.url);
    let opened = match &store.store {
        Ok(opened) => opened,
        Err(failure) => return report.failure(&object, failure),
    };
    let keys = name != "vault";
    let window = opened.window();
    let facts = match opened.facts().await {
        Ok(facts) => facts,
        Err(error) => return report.failure(&object, &error.into()),
    };
    look_at(&object, &facts, keys, report);
    if !keys {
        locks::look_at(&object, &facts, window, report);
    }
    if let Some(window) = window.filter(|_| facts.object_lock == Some(true)) {
        locks::try_out(&object, &**opened, window, now, report).await;
    }
    let kept = facts.versioning == Some(Versioning::On);
    try_out(&object, &**opened, &store.location, keys, kept, report).await;
    if let Location::Directory(path) = &store.location {
        space(&object, path, report);
    }
}

fn look_at(object: &str, facts: &StoreFacts, keys: bool, report: &mut Report) {
    let untold = |report: &mut Report, what: &str, action: &str| {
        report.warning(object, format!("it does not tell {what}"), format!("Allow {action}, so that `check` can look."));
    };
    match facts.object_lock {
        Some(true) if keys => report.error(
            object,
            "object lock is on: keys in it could not be destroyed, and a purge would never be finished",
            "Use a bucket without object lock for keys.",
        ),
        None if keys => untold(report, "whether object lock is on", "s3:GetBucketObjectLockConfiguration"),
        _ => {}
    }
    match facts.versioning {
        Some(Versioning::Off) => {}
        Some(Versioning::On | Versioning::Suspended) if keys => report.warning(
            object,
            "old versions are kept: a destroyed key can be brought back until every version of it is gone",
            "Where the store can refuse to write over an object (If-None-Match in a policy), use a bucket without versioning for keys. \
             Where it cannot, versions are what keeps them: give the eraser s3:DeleteObjectVersion.",
        ),
        Some(Versioning::On) => report.ok(object, "old versions are kept"),
        Some(Versioning::Suspended) => report.warning(
            object,
            "versioning is suspended: old versions may still be there, and new ones are not kept",
            "Turn it on, or use a new bucket without it.",
        ),
        None => report.warning(
            object,
            "it does not tell whether old versions are kept: unless they may be listed, nobody sees what is hidden or written over in it",
            "Allow every role s3:GetBucketVersioning, and s3:ListBucketVersions where versions are kept.",
        ),
    }
    match &facts.expiring_rules {
        Some(rules) => {
            for rule in rules {
                report.error(
                    object,
                    format!("the bucket's lifecycle {rule}: it removes what backups need"),
                    "Remove the rule: tenure expires backups itself, and unchanged chunks live on in newer ones.",
                );
            }
        }
        None => untold(report, "its lifecycle rules", "s3:GetLifecycleConfiguration"),
    }
    if facts.create_only == Some(false) {
        report.warning(
            object,
            "the store does not refuse to create an object twice: whoever may write here may replace what is there, and of two hosts \
             that write one name at the same moment tenure can only find out afterwards, by reading back; keys and backups have \
             random names and never meet",
            "Use a store that honours If-None-Match; until then keep versions of the bucket, and run `init` and `init --join` one at a time.",
        );
    }
    if let Some(ahead) = facts.clock_ahead_seconds {
        if ahead < -CLOCK_TOLERANCE_SECONDS {
            report.error(
                object,
                format!("this host's clock is {} seconds ahead of the store's", -ahead),
                "Set this host's clock: with a clock that is ahead, backups would expire too early.",
            );
        } else if ahead > CLOCK_TOLERANCE_SECONDS {
            report.warning(
                object,
                format!("this host's clock is {ahead} seconds behind the store's"),
                "Set this host's clock: run NTP.",
            );
        }
    }
}

async fn try_out(object: &str, store: &dyn Store, place: &Location, keys: bool, kept: bool, report: &mut Report) {
    let Powers { replace, remove } = match canary::powers(store).await {
        Ok(powers) => powers,
        Err(error) => return report.failure(object, &error.into()),
    };
    if keys && matches!(place, Location::S3(_)) {
        match canary::reads_secret_halves(store).await {
            Ok(false) => report.ok(object, "the writer's credentials may not read k/"),
            Ok(true) => report.warning(
                object,
                "the writer's credentials may read k/: who takes over this host gets every wrapped key, and then needs only a recovery identity",
                "Give the writer s3:GetObject on keyring.json, t/, erased/ and probe/ only: see docs/policies/keyring.json.",
            ),
            Err(error) => return report.failure(object, &error.into()),
        }
    }
    let may = match (replace, remove) {
        (true, false) if kept => {
            report
                .ok(object, "writable; what is written over stays as an earlier version, which these credentials cannot remove");
            return;
        }
        (false, false) => {
            report.ok(object, "writable; what is written can be neither replaced nor removed with these credentials");
            return;
        }
        (true, true) => "replace and remove",
        (true, false) => "replace",
        (false, true) => "remove",
    };
    let what = if keys { "keys" } else { "backups" };
    let give = if keys {
        "Give the writer s3:PutObject with the condition that If-None-Match is set, s3:ListBucket, s3:GetObject on everything but k/, and no s3:DeleteObject."
    } else {
        "Give the writer s3:PutObject with the condition that If-None-Match is set, s3:GetObject and s3:ListBucket, and no s3:DeleteObject."
    };
    match place {
        Location::Directory(_) => report.warning(
            object,
            format!(
                "writable; a directory cannot keep the one who writes {what} from {}",
                if may == "replace" { "replacing them" } else { "replacing and removing them" }
            ),
            "Fine for a trial and for one machine. Otherwise use buckets, with credentials that may create and not delete.",
        ),
        Location::S3(_) => report.warning(
            object,
            format!("the writer's credentials may {may} {what}: who takes over this host can destroy them"),
            give,
        ),
    }
}

fn space(object: &str, path: &std::path::Path, report: &mut Report) {
    let Ok(disk) = rustix::fs::statvfs(path) else { return };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let total = disk.f_blocks.saturating_mul(disk.f_frsize);
    if free < FREE_BYTES || free.saturating_mul(100) < total.saturating_mul(FREE_PERCENT) {
        report.warning(
            object,
            format!("{} MB are free on its disk", free / 1_000_000),
            "Make room: a backup that meets a full disk fails.",
        );
    }
}
