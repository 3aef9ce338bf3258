//! In what a mirror differs from the keyring.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;

use super::{
    dead::{Refusals, STILL_THERE},
    key_of, tag_of,
};
use crate::{id::NameTag, keyring::Keyring, object_name::prefix, operation::failure::Failure, signed, store::Store};

/// A key record or its signature is far smaller.
const MAX_RECORD: u64 = 1 << 20;

/// In what a mirror is not the keyring's copy, but for the secret halves, which are looked at one by one, and what is named already; and
/// records beyond it of tenants that the keyring knows, which a run left that did not end.
pub(super) async fn differences(
    keys: &Keyring,
    mirror: &dyn Store,
    refusals: &Refusals<'_>,
    passed_over: &(dyn Fn(&str) -> bool + Sync),
) -> Result<(Vec<(String, String)>, Vec<String>), Failure> {
    let (mut differences, mut more) = (Vec::new(), Vec::new());
    let keyring = keys.store();
    // What a repair leaves alone, it must not be said to put back.
    let refused = async |name: &str, has: &dyn Store| -> Result<bool, Failure> {
        let (Some(tag), Some(key_id)) = (tag_of(name), key_of(name)) else { return Ok(false) };
        let locker = match keys.whole_record(has, tag, key_id, None).await {
            Ok((_, record)) => Some(record.locker),
            Err(error) if error.is_integrity() => None,
            Err(error) => return Err(error.into()),
        };
        refusals.cover(tag, key_id, locker).await
    };
    let names = async |store: &dyn Store| -> Result<BTreeSet<String>, Failure> {
        let names: Vec<String> = store.list(prefix::TENANTS).map_ok(|listed| listed.name).try_collect().await?;
        Ok(names.into_iter().filter(|name| !passed_over(name)).collect())
    };
    let (here, there) = (names(keyring).await?, names(mirror).await?);
    for name in here.difference(&there) {
        if refused(name, keyring).await? {
            differences.push((signed::locate(keyring, name), STILL_THERE.to_owned()));
            continue;
        }
        differences
            .push((signed::locate(mirror, name), "missing: `tenure keys repair` puts it back from the keyring".to_owned()));
    }
    let known: BTreeSet<NameTag> = here.iter().filter_map(|name| tag_of(name)).collect();
    for name in there.difference(&here) {
        if refused(name, mirror).await? {
            differences.push((signed::locate(mirror, name), STILL_THERE.to_owned()));
        } else if tag_of(name).is_some_and(|tag| known.contains(&tag)) {
            more.push(signed::locate(mirror, name));
        } else {
            differences.push((
                signed::locate(keyring, name),
                format!("missing: {} has it, and `tenure keys repair` puts it back", mirror.address()),
            ));
        }
    }
    for name in here.intersection(&there) {
        if keyring.get(name, MAX_RECORD).await? != mirror.get(name, MAX_RECORD).await? {
            differences.push((signed::locate(mirror, name), "not the same as in the keyring".to_owned()));
        }
    }
    Ok((differences, more))
}
