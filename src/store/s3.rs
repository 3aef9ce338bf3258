//! A bucket as a store: Amazon S3 and what speaks like it.
//!
//! Bodies are in memory, and each PUT carries its SHA-256, which the server checks. Redirects are not followed. The SDK itself never
//! tries again; [`retry`](super::retry) does.

mod answer;
mod connect;
mod facts;
mod list;
mod lock_trial;
mod locks;
mod put;
mod versions;

use std::path::PathBuf;

use aws_sdk_s3::config::SharedCredentialsProvider;
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use aws_smithy_types::DateTime;
use bytes::{Bytes, BytesMut};
use chrono::Utc;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryFutureExt};
use tokio::sync::OnceCell;

pub use super::retry::Limits;
use super::retry::{Call, Failure, retry};
use super::{
    Listed, LockTrial, PutMode, PutOutcome, Store, StoreError, StoreErrorKind, StoreFacts, Stored, is_valid_name, is_valid_prefix,
};
use crate::object_lock::{Lock, Window};
use crate::object_name::prefix;

/// Where a bucket is and how to reach it. Holds no secret.
#[derive(Debug, Clone)]
pub struct S3Settings {
    /// Name of the bucket.
    pub bucket: String,
    /// What all names in the bucket begin with: empty, or ending in `/`.
    pub prefix: String,
    /// Default: what environment or profile say; with an endpoint `us-east-1`.
    pub region: Option<String>,
    /// Another server than Amazon's: `https://s3.example.org`.
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path instead of the host name. Default: with an endpoint.
    pub path_style: Option<bool>,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Encryption by the server, on top of ours: `AES256`, `aws:kms`.
    pub sse: Option<String>,
    /// Storage class of new objects.
    pub storage_class: Option<String>,
    /// Whose credentials.
    pub credentials: Credentials,
    /// Time limits and tries.
    pub limits: Limits,
}

/// Where credentials come from.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// The SDK's usual chain: environment, default profile, container, machine.
    Usual,
    /// This profile in `~/.aws`, whatever the environment says.
    Profile(String),
    /// A provider of the caller's.
    Given(SharedCredentialsProvider),
}

impl S3Settings {
    /// Everything at its default.
    #[must_use]
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: String::new(),
            region: None,
            endpoint: None,
            path_style: None,
            ca_file: None,
            sse: None,
            storage_class: None,
            credentials: Credentials::Usual,
            limits: Limits::default(),
        }
    }

    fn address(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix).trim_end_matches('/').to_owned()
    }
}

/// Objects in a bucket, below a prefix.
pub struct S3Store {
    address: String,
    bucket: String,
    prefix: String,
    sse: Option<ServerSideEncryption>,
    storage_class: Option<StorageClass>,
    limits: Limits,
    /// Whose credentials, for messages.
    credentials: String,
    client: aws_sdk_s3::Client,
    /// Whether the server decides create-only PUTs itself: see [`S3Store::decides_create_only`].
    conditional: OnceCell<bool>,
    /// Whether the bucket keeps versions: see [`S3Store::keeps_versions`].
    versioned: OnceCell<Option<bool>>,
}

impl S3Store {
    /// Finds credentials and region. The bucket itself is not looked at yet.
    ///
    /// # Errors
    /// [`StoreErrorKind::Denied`] without credentials, naming the profile; [`StoreErrorKind::Refused`] without a region, or if the
    /// certificates cannot be read.
    pub async fn connect(settings: S3Settings) -> Result<Self, StoreError> {
        let address = settings.address();
        let open = Call { operation: "open", address: &address, name: "" };
        // Credentials may come from a program, or from a server that hangs.
        let limit = settings.limits.answer;
        let client = tokio::time::timeout(limit, connect::client(&settings)).await;
        let client = client.unwrap_or_else(|_| Err(Failure::passing(format!("no credentials within {limit:?}"))));
        let client = client.map_err(|failure| open.failed(failure))?;
        Ok(Self {
            address,
            credentials: connect::whose(&settings),
            bucket: settings.bucket,
            prefix: settings.prefix,
            sse: settings.sse.as_deref().map(ServerSideEncryption::from),
            storage_class: settings.storage_class.as_deref().map(StorageClass::from),
            limits: settings.limits,
            client,
            conditional: OnceCell::new(),
            versioned: OnceCell::new(),
        })
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn require(&self, valid: bool, operation: &'static str, name: &str) -> Result<(), StoreError> {
        if valid { Ok(()) } else { Err(StoreError::at_once(operation, &self.address, name, StoreErrorKind::BadName)) }
    }

    /// One call with all its tries.
    async fn attempt<T, F>(&self, operation: &'static str, name: &str, once: impl FnMut(u32) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        retry(&self.limits, Call { operation, address: &self.address, name }, once).await
    }

    /// One try, or part of one, that carries `bytes`.
    async fn in_time<T>(&self, bytes: u64, call: impl Future<Output = T>) -> Result<T, Failure> {
        let limit = self.limits.for_body(bytes);
        tokio::time::timeout(limit, call).await.map_err(|_| Failure::passing(format!("no answer within {limit:?}")))
    }

    /// The bytes, and which version they are where versions are kept.
    async fn get_once(&self, name: &str, version: Option<&String>, limit: u64) -> Result<(Bytes, Option<String>), Failure> {
        let call = self.client.get_object().bucket(&self.bucket).key(self.key(name)).set_version_id(version.cloned());
        let answer = self.in_time(0, call.send()).await?.map_err(|error| answer::failure(error, &self.credentials))?;
        let length = u64::try_from(answer.content_length.unwrap_or(0)).unwrap_or(0);
        if length > limit {
            return Err(StoreErrorKind::TooLarge.into());
        }
        let (mut body, version) = (answer.body, answer.version_id);
        let mut bytes = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
        self.in_time(length, async {
            while let Some(part) = body.try_next().await.map_err(Failure::passing)? {
                bytes.extend_from_slice(&part);
                // A server that names no length, or a false one.
                if bytes.len() as u64 > limit {
                    return Err(Failure::from(StoreErrorKind::TooLarge));
                }
            }
            Ok(())
        })
        .await??;
        Ok((bytes.freeze(), version))
    }

    /// One version; without one, what is there, or a delete marker where versions are kept.
    async fn delete_once(&self, name: &str, version: Option<&String>) -> Result<(), Failure> {
        let call = self.client.delete_object().bucket(&self.bucket).key(self.key(name)).set_version_id(version.cloned());
        match self.in_time(0, call.send()).await?.map_err(|error| answer::failure(error, &self.credentials)) {
            Err(Failure { kind: StoreErrorKind::NotFound, .. }) => Ok(()),
            answer => answer.map(drop),
        }
    }

    async fn head_once(&self, name: &str) -> Result<Option<Listed>, Failure> {
        let call = self.client.head_object().bucket(&self.bucket).key(self.key(name));
        match self.in_time(0, call.send()).await? {
            Ok(head) => {
                let size = u64::try_from(head.content_length.unwrap_or(0)).unwrap_or(0);
                Ok(Some(Listed {
                    name: name.to_owned(),
                    size,
                    modified: time(head.last_modified)?,
                    tampering: None,
                    version: None,
                }))
            }
            Err(error) if answer::status_and_code(&error).0 == 404 => {
                self.require_bucket().await?;
                Ok(None)
            }
            Err(error) => Err(answer::failure(error, &self.credentials)),
        }
    }

    /// An answer to HEAD has no body, so a missing bucket looks like a missing object.
    async fn require_bucket(&self) -> Result<(), Failure> {
        let call = self.client.head_bucket().bucket(&self.bucket);
        match self.in_time(0, call.send()).await? {
            Ok(_) => Ok(()),
            Err(error) => match answer::failure(error, &self.credentials) {
                // Who may not ask learns at least that there is one.
                Failure { kind: StoreErrorKind::Denied, .. } => Ok(()),
                Failure { kind: StoreErrorKind::NotFound, source, .. } => {
                    Err(Failure { kind: StoreErrorKind::NoSuchStore, passing: false, source })
                }
                failure => Err(failure),
            },
        }
    }
}

#[async_trait::async_trait]
impl Store for S3Store {
    fn address(&self) -> &str {
        &self.address
    }

    async fn put(&self, name: &str, body: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        self.require(is_valid_name(name), "put", name)?;
        let body = &body;
        match mode {
            PutMode::Replace => {
                self.attempt("put", name, |_| self.put_once(name, body, false, None)).await?;
                Ok(PutOutcome::Stored)
            }
            PutMode::CreateOnly => {
                self.decides_create_only().await?;
                let (outcome, _) = self.attempt("put", name, |attempt| self.create(name, body, attempt, None)).await?;
                Ok(outcome)
            }
        }
    }

    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        self.require(is_valid_name(name), "get", name)?;
        let (bytes, _) = self.attempt("get", name, |_| self.get_once(name, None, limit)).await?;
        Ok(bytes)
    }

    async fn versions(&self, name: &str, limit: u64) -> Result<Vec<Stored>, StoreError> {
        self.require(is_valid_name(name), "get", name)?;
        if self.keeps_versions().await? { self.read_versions(name, limit).await } else { Ok(Vec::new()) }
    }

    async fn head(&self, name: &str) -> Result<Option<Listed>, StoreError> {
        self.require(is_valid_name(name), "head", name)?;
        if self.keeps_versions().await? {
            return self.head_version(name).await;
        }
        self.attempt("head", name, |_| self.head_once(name)).await
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
        let objects = async move {
            Ok(if self.keeps_versions().await? { versions::objects(self, prefix) } else { list::objects(self, prefix) })
        };
        objects.try_flatten_stream().boxed()
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.require(is_valid_prefix(prefix), "list", prefix)?;
        if self.keeps_versions().await? { versions::folders(self, prefix).await } else { list::folders(self, prefix).await }
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.require(is_valid_name(name), "delete", name)?;
        if self.keeps_versions().await? {
            return self.delete_versions(name).await;
        }
        // What stores are tried out with matters to nobody.
        if !name.starts_with(prefix::PROBE) {
            self.require_known_versions(name).await?;
        }
        self.attempt("delete", name, |_| self.delete_once(name, None)).await
    }

    async fn deletes_for_good(&self) -> Result<bool, StoreError> {
        Ok(self.versioning().await?.is_some())
    }

    async fn clock_ahead_seconds(&self) -> Result<Option<i64>, StoreError> {
        self.attempt("list", "", |_| facts::clock_ahead(self)).await
    }

    async fn facts(&self) -> Result<StoreFacts, StoreError> {
        facts::facts(self).await
    }

    async fn can_lock(&self) -> Result<Option<bool>, StoreError> {
        Ok(facts::object_lock(self).await?.map(|lock| lock.is_some()))
    }

    async fn create_locked(&self, name: &str, body: Bytes, lock: Lock) -> Result<PutOutcome, StoreError> {
        self.require(is_valid_name(name), "put and lock", name)?;
        locks::create(self, name, &body, lock).await
    }

    async fn lock_of(&self, object: &Listed) -> Result<Option<Lock>, StoreError> {
        locks::read(self, &object.name, object.version.as_ref()).await
    }

    async fn extend_lock(&self, object: &Listed, lock: Lock) -> Result<Lock, StoreError> {
        locks::extend(self, &object.name, object.version.as_ref(), lock).await
    }

    async fn try_locks(&self, window: Window, now: chrono::DateTime<Utc>) -> Result<LockTrial, StoreError> {
        lock_trial::run(self, window, now).await
    }
}

/// A time in the server's answer. An object without one must not pass for an old one.
fn time(time: Option<DateTime>) -> Result<chrono::DateTime<Utc>, Failure> {
    let time = time.and_then(|time| chrono::DateTime::from_timestamp(time.secs(), time.subsec_nanos()));
    time.ok_or_else(|| Failure::lasting(StoreErrorKind::Refused, "the server says no time for an object"))
}
