//! Buckets that keep versions: what somebody hid or wrote over is still there, and is told from what was written first.
//!
//! Every object of ours is written once. So the first version under a name is the object, and whatever came later is somebody's doing:
//! but for the same bytes once more, which a try leaves whose answer was lost.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::types::BucketVersioningStatus;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};

use super::{S3Store, answer, time};
use crate::store::retry::{Call, Failure};
use crate::store::{Listed, StoreError, StoreErrorKind, Stored, Tampering, is_valid_name, is_valid_prefix};

/// So many versions of one object are read at most. Somebody who may write could make any number.
const READ: usize = 16;

/// So often a name is emptied before somebody else is taken to be writing to it.
const ROUNDS: usize = 10;

/// All that lies under one key.
#[derive(Default)]
struct Group {
    /// Newest first.
    versions: Vec<Version>,
    /// Ids of delete markers.
    markers: Vec<String>,
    /// The newest of all is a delete marker.
    hidden: bool,
}

struct Version {
    id: String,
    size: i64,
    etag: Option<String>,
    modified: Option<aws_smithy_types::DateTime>,
}

impl Group {
    /// The object as it was first written; `None` where only delete markers are left.
    fn listed(&self, name: &str) -> Option<Result<Listed, Failure>> {
        let first = self.versions.last()?;
        let differs = |other: &Version| other.size != first.size || other.etag.is_none() || other.etag != first.etag;
        let tampering = if self.hidden {
            Some(Tampering::Hidden)
        } else {
            self.versions.iter().rev().skip(1).any(differs).then_some(Tampering::Overwritten)
        };
        let size = u64::try_from(first.size).unwrap_or(0);
        let version = Some(first.id.clone());
        Some(time(first.modified).map(|modified| Listed { name: name.to_owned(), size, modified, tampering, version }))
    }
}

/// Which page comes next.
enum Next {
    First,
    After(String, Option<String>),
    None,
}

impl S3Store {
    /// Whether the bucket keeps versions, or did; false where it would not tell.
    pub(super) async fn keeps_versions(&self) -> Result<bool, StoreError> {
        Ok(self.versioning().await? == Some(true))
    }

    /// Refuses to delete where that might leave a delete marker and everything else, and nobody could tell.
    pub(super) async fn require_known_versions(&self, name: &str) -> Result<(), StoreError> {
        match self.versioning().await? {
            Some(_) => Ok(()),
            None => Err(StoreError::at_once("delete", &self.address, name, StoreErrorKind::VersionsUnknown)),
        }
    }

    /// Whether the bucket keeps versions, or did: asked once. Where that may not be asked, listing versions tells as much if it is allowed.
    /// Where neither is (`None`), nobody can see what was hidden or written over: that is said.
    pub(super) async fn versioning(&self) -> Result<Option<bool>, StoreError> {
        let asked = self.versioned.get_or_try_init(|| {
            self.attempt("read versioning of", "", |_| async {
                let call = self.client.get_bucket_versioning().bucket(&self.bucket).send();
                match self.in_time(0, call).await? {
                    Ok(said) => {
                        Ok(Some(matches!(said.status, Some(BucketVersioningStatus::Enabled | BucketVersioningStatus::Suspended))))
                    }
                    Err(error) => match answer::failure(error, &self.credentials) {
                        Failure { kind: StoreErrorKind::Denied, .. } => self.may_list_versions().await,
                        // A server that knows no versions.
                        Failure { kind: StoreErrorKind::Refused, .. } => Ok(Some(false)),
                        failure => Err(failure),
                    },
                }
            })
        });
        asked.await.copied()
    }

    async fn may_list_versions(&self) -> Result<Option<bool>, Failure> {
        let call = self.client.list_object_versions().bucket(&self.bucket).prefix(&self.prefix).max_keys(1).send();
        match self.in_time(0, call).await?.map_err(|error| answer::failure(error, &self.credentials)) {
            Ok(_) => Ok(Some(true)),
            Err(Failure { kind: StoreErrorKind::Denied | StoreErrorKind::Refused, .. }) => {
                let address = &self.address;
                tracing::warn!(
                    store.address = address,
                    "{address} does not tell whether it keeps old versions: what somebody hid or wrote over would not be noticed; \
                     allow s3:GetBucketVersioning and s3:ListBucketVersions"
                );
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// The object of this name, and what was done to it.
    pub(super) async fn head_version(&self, name: &str) -> Result<Option<Listed>, StoreError> {
        let group = self.group(name).await?;
        let listed = group.and_then(|group| group.listed(name)).transpose();
        listed.map_err(|failure| self.call("head", name).failed(failure))
    }

    /// The first versions of an object, oldest first.
    pub(super) async fn read_versions(&self, name: &str, limit: u64) -> Result<Vec<Stored>, StoreError> {
        let mut read = Vec::new();
        for version in self.group(name).await?.unwrap_or_default().versions.iter().rev().take(READ) {
            let modified = time(version.modified).map_err(|failure| self.call("get", name).failed(failure))?;
            let bytes = self.attempt("get", name, |_| self.get_once(name, Some(&version.id), limit)).await;
            match bytes {
                Ok((bytes, _)) => read.push(Stored { bytes, modified }),
                // Too long to be what is looked for, or gone meanwhile.
                Err(StoreError { kind: StoreErrorKind::TooLarge | StoreErrorKind::NotFound, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    /// Removes an object with all its versions and delete markers.
    pub(super) async fn delete_versions(&self, name: &str) -> Result<(), StoreError> {
        for _ in 0..ROUNDS {
            let Some(group) = self.group(name).await? else { return Ok(()) };
            let ids = group.versions.iter().map(|version| &version.id).chain(&group.markers);
            for id in ids {
                self.attempt("delete", name, |_| self.delete_once(name, Some(id))).await?;
            }
        }
        let failure = Failure::lasting(StoreErrorKind::Refused, "versions of it are still there after they were removed");
        Err(self.call("delete", name).failed(failure))
    }

    async fn group(&self, name: &str) -> Result<Option<Group>, StoreError> {
        let mut groups = std::pin::pin!(groups(self, name));
        // In the order of keys the name itself comes before all that it begins.
        let first = groups.try_next().await?;
        Ok(first.filter(|(key, _)| *key == self.key(name)).map(|(_, group)| group))
    }

    fn call<'a>(&'a self, operation: &'static str, name: &'a str) -> Call<'a> {
        Call { operation, address: &self.address, name }
    }
}

/// Every object below `prefix`.
pub(super) fn objects<'a>(store: &'a S3Store, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
    if !is_valid_prefix(prefix) {
        return stream::iter([Err(StoreError::at_once("list", &store.address, prefix, StoreErrorKind::BadName))]).boxed();
    }
    groups(store, prefix)
        .try_filter_map(move |(key, group)| async move {
            let Some(name) = key.strip_prefix(&store.prefix).filter(|name| is_valid_name(name)) else { return Ok(None) };
            group.listed(name).transpose().map_err(|failure| store.call("list", prefix).failed(failure))
        })
        .boxed()
}

/// The folders below `prefix` in which any version is left, or a delete marker.
pub(super) async fn folders(store: &S3Store, prefix: &str) -> Result<Vec<String>, StoreError> {
    let mut names = BTreeSet::new();
    let mut next = Next::First;
    loop {
        let page = page(store, prefix, Some("/"), &next).await?;
        for folder in page.common_prefixes() {
            let name = folder.prefix().and_then(|key| key.strip_prefix(&store.key(prefix))?.strip_suffix('/'));
            names.extend(name.filter(|name| is_valid_name(name)).map(str::to_owned));
        }
        next = after(&page);
        if matches!(next, Next::None) {
            break;
        }
    }
    // Where nothing but delete markers is left, nothing is left.
    let mut folders = Vec::new();
    for name in names {
        let below = format!("{prefix}{name}/");
        if objects(store, &below).try_next().await?.is_some() {
            folders.push(name);
        }
    }
    Ok(folders)
}

/// All that lies under each key that begins with `prefix`, in the order of keys.
fn groups<'a>(store: &'a S3Store, prefix: &'a str) -> impl futures_util::Stream<Item = Result<(String, Group), StoreError>> + 'a {
    // The last key of a page may go on in the next.
    let begin = (Next::First, BTreeMap::<String, Group>::new());
    stream::try_unfold(begin, move |(next, mut open)| async move {
        if matches!(next, Next::None) {
            return Ok(None);
        }
        let page = page(store, prefix, None, &next).await?;
        let next = after(&page);
        for version in page.versions() {
            let (Some(key), Some(id)) = (version.key(), version.version_id()) else { continue };
            open.entry(key.to_owned()).or_default().versions.push(Version {
                id: id.to_owned(),
                size: version.size().unwrap_or(0),
                etag: version.e_tag().map(str::to_owned),
                modified: version.last_modified().copied(),
            });
        }
        for marker in page.delete_markers() {
            let (Some(key), Some(id)) = (marker.key(), marker.version_id()) else { continue };
            let group = open.entry(key.to_owned()).or_default();
            group.markers.push(id.to_owned());
            group.hidden |= marker.is_latest() == Some(true);
        }
        let complete = match (&next, open.last_key_value()) {
            (Next::After(..), Some((last, _))) => {
                let last = last.clone();
                let rest = open.split_off(&last);
                std::mem::replace(&mut open, rest)
            }
            _ => std::mem::take(&mut open),
        };
        Ok(Some((stream::iter(complete.into_iter().map(Ok)), (next, open))))
    })
    .try_flatten()
}

fn after(page: &ListObjectVersionsOutput) -> Next {
    match page.next_key_marker() {
        Some(key) if page.is_truncated() == Some(true) => {
            Next::After(key.to_owned(), page.next_version_id_marker().map(str::to_owned))
        }
        _ => Next::None,
    }
}

async fn page(
    store: &S3Store,
    prefix: &str,
    delimiter: Option<&str>,
    next: &Next,
) -> Result<ListObjectVersionsOutput, StoreError> {
    let (key, version) = match next {
        Next::After(key, version) => (Some(key.clone()), version.clone()),
        Next::First | Next::None => (None, None),
    };
    let (key, version) = (&key, &version);
    let page = store.attempt("list versions of", prefix, |_| async move {
        let call = store
            .client
            .list_object_versions()
            .bucket(&store.bucket)
            .prefix(store.key(prefix))
            .set_delimiter(delimiter.map(str::to_owned))
            .set_key_marker(key.clone())
            .set_version_id_marker(version.clone());
        let page = store.in_time(0, call.send()).await?.map_err(|error| answer::failure(error, &store.credentials))?;
        // Half a listing must never pass for a whole one.
        match (page.is_truncated(), page.next_key_marker()) {
            (Some(true), None) => {
                Err(Failure::lasting(StoreErrorKind::Refused, "the server says that there is more, but not how to get it"))
            }
            (Some(true), marker) if marker == key.as_deref() && page.next_version_id_marker() == version.as_deref() => {
                Err(Failure::lasting(StoreErrorKind::Refused, "the server sends the same page of a listing again"))
            }
            _ => Ok(page),
        }
    });
    page.await
}
