//! Failures of vault and keyring, in words that say what is safe and what to type.

use super::{Failure, FailureClass};
use crate::{
    backup_id::BackupId,
    id::KeyId,
    printable::Printable,
    seal::SealError,
    signature::SignatureError,
    signed::DocumentError,
    store::{StoreError, StoreErrorKind},
    tenant::TenantName,
    vault::locker::ObjectError,
};

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let object = format!("{}/{}", error.address, error.name);
        let (kind, hint) = match error.kind {
            StoreErrorKind::NotFound => ("object-missing", "Run `tenure verify` to see what else is missing."),
            StoreErrorKind::NoSuchStore => {
                ("no-such-store", "Check the url in the configuration, and that the disk is mounted or the bucket exists.")
            }
            StoreErrorKind::Denied if error.operation == "lock" || error.operation == "put and lock" => (
                "store-denied",
                "Allow these credentials s3:PutObjectRetention on the vault, for one and a half times the days of `vault.lock`. \
                 No backup was made: one that may be deleted before its time is not what was promised.",
            ),
            StoreErrorKind::Denied if error.operation == "read the lock of" => (
                "store-denied",
                "Allow these credentials s3:GetObjectRetention on the vault. No backup was made: a lock that nobody can read proves nothing.",
            ),
            StoreErrorKind::Denied => {
                ("store-denied", "Check the credentials and the role's profile; `tenure check` shows what this role may do.")
            }
            StoreErrorKind::NoLocks => (
                "no-object-lock",
                "`vault.lock` asks for object lock, and nothing was written without it. Turn it on for the bucket (most servers: only \
                 when it is made), allow s3:GetBucketObjectLockConfiguration, or write lock = \"none\".",
            ),
            StoreErrorKind::NotLocked => (
                "not-locked",
                "No backup was made. The store took the request and does not keep to it: `tenure check` tries its locks out.",
            ),
            StoreErrorKind::VersionsUnknown => (
                "versions-unknown",
                "Nothing was removed: in a bucket that keeps versions it would only be hidden. Allow these credentials \
                 s3:GetBucketVersioning and s3:ListBucketVersions.",
            ),
            StoreErrorKind::Full => {
                ("store-full", "Make room, then run the same command again; nothing that is listed was harmed.")
            }
            StoreErrorKind::Redirected => {
                ("store-redirects", "Check `region` and `endpoint` in the configuration; redirects are never followed.")
            }
            StoreErrorKind::Unavailable => {
                ("store-unavailable", "Nothing half done is ever listed. Run the same command again when the store answers.")
            }
            StoreErrorKind::ClockSkewed => (
                "clock-skewed",
                "Set this host's clock (`timedatectl`), then run the same command again: backups are dated, and expire, by it.",
            ),
            StoreErrorKind::Foreign => {
                ("foreign-object", "Something that tenure did not write lies in the store. Look at it, and move it away.")
            }
            StoreErrorKind::TooLarge | StoreErrorKind::BadName | StoreErrorKind::Refused => {
                ("store-refused", "Run `tenure check` to see what this store allows.")
            }
        };
        let class = if error.kind == StoreErrorKind::NotFound || error.kind == StoreErrorKind::Foreign {
            FailureClass::Integrity
        } else {
            FailureClass::Failed
        };
        let failure = Self::new(class, kind, object, format!("cannot {error}")).hint(hint);
        match error.source {
            Some(source) => failure.because(source),
            None => failure,
        }
    }
}

impl From<DocumentError> for Failure {
    fn from(error: DocumentError) -> Self {
        let error = match error {
            DocumentError::Store { source, .. } => return Self::from(*source),
            error => error,
        };
        let object = error.object().to_owned();
        let message = error.to_string();
        let (class, kind, hint) = match &error {
            DocumentError::Missing { .. } if object.ends_with("vault.json") => (
                FailureClass::Integrity,
                "no-vault",
                "Check [vault] url. If this is the right place, its root is gone: put it back from a copy before anything else. \
                 For a new installation run `tenure init`.",
            ),
            DocumentError::Missing { .. } if object.ends_with("keyring.json") => (
                FailureClass::Integrity,
                "no-keyring",
                "Check [keyring] url. Nothing was changed. If the keyring is lost, `tenure keys repair` puts it back from a mirror; without \
                 one put it back from a copy: without it no backup can be opened, and no new key will be made in its place.",
            ),
            DocumentError::Missing { .. } if object.ends_with(".age") => (
                FailureClass::Integrity,
                "damaged-secret-half",
                "`tenure keys repair` puts it back from a mirror of the keyring; `tenure keys check` says which stores have it whole.",
            ),
            DocumentError::Contradiction { .. } if object.ends_with(".age") => (
                FailureClass::Integrity,
                "damaged-secret-half",
                "It was written once and never changes. Move it away, and `tenure keys repair` puts it back from a mirror of \
                 the keyring; `tenure keys check` says which stores have it whole.",
            ),
            error if error.is_integrity() && object.contains("/t/") && object.contains("/s/") => (
                FailureClass::Integrity,
                "untrusted-source",
                "Nothing was read. Put the object back from a copy of the vault. If there is none: `tenure admit --source TENANT` \
                 records the live database and passes the object over for good; `tenure restore` works with --cluster NAME.",
            ),
            error if error.is_integrity() && object.contains("/copies/") => (
                FailureClass::Integrity,
                "untrusted-copy",
                "It names a database that a restore made. Nothing was changed. Put it back from a copy of the vault. If there is none: drop the \
                 databases that restores made of this tenant, or list them under `ignore`; then remove the object and its .sig.",
            ),
            error if error.is_integrity() && object.contains("/plans/") => (
                FailureClass::Integrity,
                "untrusted-plan",
                "Nothing was begun by it: whose it is, and what it would destroy, is not known, and until that is settled no tenant is purged.",
            ),
            DocumentError::NewerFormat { .. } => (
                FailureClass::Failed,
                "newer-format",
                "Use the version of tenure that wrote it, or a newer one. Nothing was changed.",
            ),
            DocumentError::Exists { .. } => (
                FailureClass::Failed,
                "object-exists",
                "Somebody else wrote it at the same moment. Nothing was replaced; run the same command again.",
            ),
            DocumentError::Sign { .. } => (FailureClass::Failed, "cannot-sign", "Check the role's key under [signing]."),
            DocumentError::Contradiction { .. } if object.ends_with("keyring.json") => (
                FailureClass::Integrity,
                "foreign-keyring",
                "Vault and keyring must come from one `tenure init`. Check both urls; nothing was changed.",
            ),
            _ if object.contains("/signers/") => (
                FailureClass::Integrity,
                "untrusted-signers",
                "Nothing is believed until that is settled. If it was put there by mistake, remove it and its .sig; where nothing may be \
                 removed, an operator signs and stores the right list under the next number, which then counts.",
            ),
            DocumentError::Store { .. }
            | DocumentError::Missing { .. }
            | DocumentError::Unsigned { .. }
            | DocumentError::Signature { .. }
            | DocumentError::Malformed { .. }
            | DocumentError::Contradiction { .. } => (
                FailureClass::Integrity,
                "untrusted-object",
                "It was changed, moved or signed by somebody who may not. Nothing in it was used. \
                 `tenure verify --all` shows what else is hurt.",
            ),
        };
        let hint = if kind == "untrusted-plan" { format!("{hint} {}", settle_plan(&object)) } else { hint.to_owned() };
        let failure = Self::new(class, kind, object, message).hint(hint);
        match error {
            DocumentError::Signature { source, .. } | DocumentError::Sign { source, .. } => failure.because(source),
            DocumentError::Malformed { source, .. } => failure.because(source),
            _ => failure,
        }
    }
}

/// What to do about a plan, or a step of one, that is not to be trusted, by its address and name.
pub(in crate::operation) fn settle_plan(object: &str) -> String {
    match object.strip_suffix("plan.json") {
        Some(folder) => format!(
            "Find out who put it there. A plan that is not of this installation: move the folder {folder} away. One of ours that was changed: \
             put plan.json and plan.json.sig back from a copy of the vault, or move the folder away as well, because the purge notes are enough \
             to finish. Then run `tenure purge` again."
        ),
        None => format!(
            "Find out who put it there. Put it and its .sig back from a copy of the vault, or move both away: {object}. Then run `tenure purge` \
             again: what is done stays done."
        ),
    }
}

impl From<ObjectError> for Failure {
    fn from(error: ObjectError) -> Self {
        let message = error.to_string();
        match error {
            ObjectError::Store { source, .. } => Self::from(*source),
            ObjectError::Page(error) => error.into(),
            ObjectError::Missing { object } | ObjectError::Damaged { object, .. } => {
                Self::new(FailureClass::Integrity, "damaged-object", object, message)
                    .hint("`tenure verify` names every backup that is hurt; older and newer ones may be whole.")
            }
        }
    }
}

impl Failure {
    /// A tenant that the keyring does not know.
    #[must_use]
    pub fn unknown_tenant(tenant: &TenantName) -> Self {
        let name = Printable(tenant.as_str()).to_string();
        let message = format!("no tenant {name} is known");
        Self::new(FailureClass::Failed, "unknown-tenant", name, message)
            .hint("`tenure tenants` lists them all. A tenant is known from its first backup on.")
    }

    /// A backup whose key the keyring does not have.
    #[must_use]
    pub fn key_missing(tenant: &TenantName, backup: BackupId, key_id: KeyId) -> Self {
        let message = format!("backup {backup} of tenant {tenant} is sealed with key {key_id}, which the keyring does not have");
        Self::new(FailureClass::Integrity, "key-missing", key_id, message)
            .hint("`tenure keys repair` puts its record back from a mirror of the keyring; `tenure keys check` shows what else is missing.")
    }

    /// A signing key that does not count in the vault: what it signs, no reader would believe.
    #[must_use]
    pub fn key_not_allowed(role: &str, error: SignatureError) -> Self {
        let message = format!("the signing key of the {role} does not count in this vault");
        Self::new(FailureClass::Failed, "key-not-allowed", format!("signing.{role}"), message)
            .hint("Nothing was done. An operator adds it to the vault's signers, as `tenure init --join` prints for a new host.")
            .because(error)
    }

    /// A recovery identity that does not open a tenant's key.
    #[must_use]
    pub fn wrong_identity(tenant: &TenantName, error: SealError) -> Self {
        let message = format!("the identity does not open the key of tenant {tenant}");
        Self::new(FailureClass::Failed, "wrong-identity", tenant, message)
            .hint("Use the identity of this installation's recovery kit (recovery-kit.txt), or another one that [keyring] recipients names.")
            .because(error)
    }
}
