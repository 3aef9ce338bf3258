//! Trying a store out, under `probe/`.

use bytes::Bytes;

use super::{PutMode, PutOutcome, Store, StoreError, StoreErrorKind};

/// Whether the store itself refuses a second creation of one name; `None` if nothing may be written. Leaves nothing behind.
pub(super) async fn create_only(store: &dyn Store) -> Result<Option<bool>, StoreError> {
    let name = format!("probe/{}", random_name());
    match store.put(&name, Bytes::from_static(b"first"), PutMode::CreateOnly).await {
        Err(StoreError { kind: StoreErrorKind::Denied, .. }) => return Ok(None),
        outcome => outcome?,
    };
    let second = store.put(&name, Bytes::from_static(b"second"), PutMode::CreateOnly).await;
    store.delete(&name).await?;
    Ok(Some(second? == PutOutcome::Exists))
}

/// A name segment that nobody else has.
pub(super) fn random_name() -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the kernel's random generator answers");
    hex::encode(random)
}
