//! How many bytes of rows a process holds in memory at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One byte budget. Whoever wants more than all of it takes all of it.
#[derive(Clone)]
pub struct Budget {
    left: Arc<Semaphore>,
    all: u32,
}

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: u32) -> Self {
        Self { left: Arc::new(Semaphore::new(bytes as usize)), all: bytes }
    }

    /// Waits until `bytes` may be held in memory, until the permit is dropped.
    ///
    /// Whoever holds some and waits for more may wait for ever: take all at once.
    ///
    /// # Panics
    /// Never: the semaphore is not closed.
    pub async fn take(&self, bytes: u64) -> OwnedSemaphorePermit {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.all);
        self.left.clone().acquire_many_owned(bytes).await.expect("the budget is never closed")
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[tokio::test]
    async fn no_more_than_all_of_it() {
        let budget = Budget::new(10);
        let first = budget.take(6).await;
        {
            let mut second = std::pin::pin!(budget.take(5));
            assert!(futures_util::poll!(&mut second).is_pending());
            drop(first);
            drop(second.await);
        }
        drop(budget.take(u64::MAX).await);
    }
}
