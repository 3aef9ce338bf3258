//! Trying a store out, under `probe/`.

use bytes::Bytes;

use super::{PutMode, PutOutcome, Store, StoreError};

/// Whether the store itself refuses a second creation of one name. Leaves nothing behind.
pub(super) async fn create_only(store: &dyn Store) -> Result<bool, StoreError> {
    let name = format!("probe/{}", random_name());
    store.put(&name, Bytes::from_static(b"first"), PutMode::CreateOnly).await?;
    let second = store.put(&name, Bytes::from_static(b"second"), PutMode::CreateOnly).await;
    store.delete(&name).await?;
    Ok(second? == PutOutcome::Exists)
}

/// A name segment that nobody else has.
pub(super) fn random_name() -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the kernel's random generator answers");
    hex::encode(random)
}
