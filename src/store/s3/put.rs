//! Storing an object: once where the server can tell, and looked for first where it cannot.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{S3Store, answer, locks};
use crate::object_lock::Lock;
use crate::store::retry::Failure;
use crate::store::{PutOutcome, StoreError, StoreErrorKind};

/// The object that create-only PUTs are tried with. It stays, so that many processes can try at once.
const PROBE: &str = "probe/create-only";

/// What became of one PUT.
pub(super) enum Put {
    /// As this version, where versions are kept.
    Done(Option<String>),
    /// The condition did not hold.
    Taken,
    /// The server knows no conditions.
    NoConditions,
}

/// What became of a create-only PUT, and the version that holds its bytes, where versions are kept.
pub(super) type Created = (PutOutcome, Option<String>);

impl S3Store {
    pub(super) async fn put_once(&self, name: &str, body: &Bytes, if_absent: bool, lock: Option<Lock>) -> Result<Put, Failure> {
        let call = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.key(name))
            .set_if_none_match(if_absent.then(|| "*".to_owned()))
            .set_server_side_encryption(self.sse.clone())
            .set_storage_class(self.storage_class.clone())
            .set_object_lock_mode(lock.map(|lock| locks::mode(lock.mode)))
            .set_object_lock_retain_until_date(lock.map(|lock| locks::date(lock.until)))
            .checksum_sha256(aws_smithy_types::base64::encode(Sha256::digest(body)))
            .body(body.clone().into());
        match self.in_time(body.len() as u64, call.send()).await? {
            Ok(done) => Ok(Put::Done(done.version_id)),
            Err(error) if if_absent && answer::status_and_code(&error).0 == 412 => Ok(Put::Taken),
            Err(error) if if_absent && answer::status_and_code(&error).0 == 501 => Ok(Put::NoConditions),
            Err(error) => Err(answer::failure(error, &self.credentials)),
        }
    }

    /// Also gives the version that holds these bytes.
    pub(super) async fn create(&self, name: &str, body: &Bytes, attempt: u32, lock: Option<Lock>) -> Result<Created, Failure> {
        if self.conditional.get().copied().unwrap_or(false) {
            return match self.put_once(name, body, true, lock).await? {
                Put::Done(version) => Ok((PutOutcome::Stored, version)),
                Put::Taken => self.compare(name, body, attempt > 1).await,
                Put::NoConditions => Err(Failure::lasting(StoreErrorKind::Refused, "the server no longer knows conditions")),
            };
        }
        // As good as it gets here: two who look at the same moment both write, and the later one wins. Both read back what stays.
        if self.head_once(name).await?.is_none() {
            self.put_once(name, body, false, lock).await?;
        }
        self.compare(name, body, true).await
    }

    /// What a taken name means for who wanted to create it, and who may have done so in a try whose answer was lost.
    async fn compare(&self, name: &str, body: &Bytes, may_be_ours: bool) -> Result<Created, Failure> {
        match self.get_once(name, None, body.len() as u64).await {
            Ok((present, version)) if present == body => Ok((PutOutcome::Stored, version)),
            Ok(_) | Err(Failure { kind: StoreErrorKind::TooLarge, .. }) => Ok((PutOutcome::Exists, None)),
            Err(Failure { kind: StoreErrorKind::NotFound, .. }) => Err(Failure::passing("the object was removed meanwhile")),
            Err(Failure { kind: StoreErrorKind::Denied, .. }) if !may_be_ours => Ok((PutOutcome::Exists, None)),
            // Nobody can say what became of it.
            Err(Failure { kind: StoreErrorKind::Denied, source, .. }) => {
                Err(Failure { kind: StoreErrorKind::Unavailable, passing: false, source })
            }
            Err(failure) => Err(failure),
        }
    }

    /// Whether a second creation of one name is refused by the server. Tried in this bucket, once per process, by the first who needs it.
    pub(super) async fn decides_create_only(&self) -> Result<bool, StoreError> {
        let tried = self.conditional.get_or_try_init(|| {
            self.attempt("put", PROBE, |_| async {
                // The object's being there, from this or an earlier process, is what the last PUT is to be refused for.
                for _ in 0..2 {
                    match self.put_once(PROBE, &Bytes::from_static(b"tenure"), true, None).await? {
                        Put::Done(_) => {}
                        Put::Taken => return Ok(true),
                        Put::NoConditions => return Ok(false),
                    }
                }
                Ok(false)
            })
        });
        tried.await.copied()
    }
}
