//! What the writer's credentials allow: a canary that should be made, and then neither replaced nor removed.

use bytes::Bytes;

use crate::store::{PutMode, Store, StoreError, StoreErrorKind};

/// Always the same, so that where it cannot be removed there is one and not one per check.
const NAME: &str = "probe/00000000000000000000000ca0a41e5a";

/// The name of a secret half that nobody has: 128 bits of zero.
const NOBODYS_KEY: &str = "k/00000000000000000000000000000000.1.age";

/// What the credentials may do.
pub(super) struct Powers {
    /// Replace an object.
    pub replace: bool,
    /// Remove one.
    pub remove: bool,
}

/// Makes the canary, then tries to replace and to remove it.
///
/// # Errors
/// If it cannot even be made, or the store does not answer.
pub(super) async fn powers(store: &dyn Store) -> Result<Powers, StoreError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the kernel's random generator answers");
    let body = |word: &str| Bytes::from(format!("{word} {}\n", hex::encode(random)));
    store.put(NAME, body("canary"), PutMode::CreateOnly).await?;
    let replace = is_allowed(store.put(NAME, body("replaced"), PutMode::Replace).await.map(drop))?;
    let remove = is_allowed(store.delete(NAME).await)?;
    Ok(Powers { replace, remove })
}

/// Whether the credentials may read secret halves: who may is told that there is none of this name, who may not is not.
///
/// # Errors
/// If the store does not answer.
pub(super) async fn reads_secret_halves(store: &dyn Store) -> Result<bool, StoreError> {
    match store.get(NOBODYS_KEY, 0).await {
        Err(error) if error.kind == StoreErrorKind::Denied => Ok(false),
        Err(error) if error.kind != StoreErrorKind::NotFound && error.kind != StoreErrorKind::TooLarge => Err(error),
        _ => Ok(true),
    }
}

fn is_allowed(tried: Result<(), StoreError>) -> Result<bool, StoreError> {
    match tried {
        Ok(()) => Ok(true),
        Err(error) if error.kind == StoreErrorKind::Denied => Ok(false),
        Err(error) => Err(error),
    }
}
