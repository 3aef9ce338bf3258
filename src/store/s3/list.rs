//! Listing, page by page.

use std::collections::BTreeSet;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};

use super::{S3Store, answer, time};
use crate::store::retry::{Call, Failure};
use crate::store::{Listed, StoreError, StoreErrorKind, is_valid_name, is_valid_prefix};

/// Which page comes next.
enum Next {
    First,
    After(String),
    None,
}

pub(super) fn objects<'a>(store: &'a S3Store, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
    pages(store, prefix, None)
        .map(move |page| {
            let listed: Vec<_> = page?.contents().iter().filter_map(|object| listed(store, prefix, object)).collect();
            Ok(stream::iter(listed))
        })
        .try_flatten()
        .boxed()
}

pub(super) async fn folders(store: &S3Store, prefix: &str) -> Result<Vec<String>, StoreError> {
    let mut names = BTreeSet::new();
    let mut pages = std::pin::pin!(pages(store, prefix, Some("/")));
    while let Some(page) = pages.try_next().await? {
        for folder in page.common_prefixes() {
            let name = folder.prefix().and_then(|key| key.strip_prefix(&store.key(prefix))?.strip_suffix('/'));
            // What bears a name that no object of ours has is none.
            names.extend(name.filter(|name| is_valid_name(name)).map(str::to_owned));
        }
    }
    Ok(names.into_iter().collect())
}

fn listed(store: &S3Store, prefix: &str, object: &aws_sdk_s3::types::Object) -> Option<Result<Listed, StoreError>> {
    let name = object.key().and_then(|key| key.strip_prefix(&store.prefix)).filter(|name| is_valid_name(name))?;
    let size = u64::try_from(object.size().unwrap_or(0)).unwrap_or(0);
    Some(match time(object.last_modified().copied()) {
        Ok(modified) => Ok(Listed { name: name.to_owned(), size, modified, tampering: None, version: None }),
        Err(failure) => Err(Call { operation: "list", address: &store.address, name: prefix }.failed(failure)),
    })
}

fn pages<'a>(
    store: &'a S3Store,
    prefix: &'a str,
    delimiter: Option<&'static str>,
) -> impl futures_util::Stream<Item = Result<ListObjectsV2Output, StoreError>> + 'a {
    stream::try_unfold(Next::First, move |next| async move {
        store.require(is_valid_prefix(prefix), "list", prefix)?;
        let after = match next {
            Next::None => return Ok(None),
            Next::First => None,
            Next::After(token) => Some(token),
        };
        let after = &after;
        let page = store.attempt("list", prefix, |_| page(store, prefix, delimiter, after.as_deref())).await?;
        let next = match page.next_continuation_token() {
            Some(token) if page.is_truncated() == Some(true) => Next::After(token.to_owned()),
            _ => Next::None,
        };
        Ok(Some((page, next)))
    })
}

async fn page(
    store: &S3Store,
    prefix: &str,
    delimiter: Option<&str>,
    after: Option<&str>,
) -> Result<ListObjectsV2Output, Failure> {
    let call = store
        .client
        .list_objects_v2()
        .bucket(&store.bucket)
        .prefix(store.key(prefix))
        .set_delimiter(delimiter.map(str::to_owned))
        .set_continuation_token(after.map(str::to_owned));
    let page = store.in_time(0, call.send()).await?.map_err(|error| answer::failure(error, &store.credentials))?;
    // Half a listing must never pass for a whole one.
    match (page.is_truncated(), page.next_continuation_token()) {
        (Some(true), None) => {
            Err(Failure::lasting(StoreErrorKind::Refused, "the server says that there is more, but not how to get it"))
        }
        (Some(true), token) if token == after => {
            Err(Failure::lasting(StoreErrorKind::Refused, "the server sends the same page of a listing again"))
        }
        _ => Ok(page),
    }
}
