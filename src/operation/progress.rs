//! How an operation tells that it moves.

use crate::tenant::TenantName;

/// Told by operations while they run; drawn at the edge. Calls come from many tasks at once, are cheap, and never block.
pub trait Progress: Send + Sync {
    /// So many tenants are to be worked on, with about so many bytes in all. Said once, before the first; without it there is no total.
    fn planned(&self, tenants: usize, expected_bytes: u64) {
        let _ = (tenants, expected_bytes);
    }

    /// Work on a tenant begins; about this many bytes are to come (0: unknown).
    fn tenant_started(&self, tenant: &TenantName, expected_bytes: u64);

    /// So many more bytes of this tenant are done.
    fn advanced(&self, tenant: &TenantName, bytes: u64);

    /// What is being done now, in a word or two: `locking`, `copying`, `proving`.
    fn stage(&self, tenant: &TenantName, stage: &'static str);

    /// Another run has the tenant: it is looked at again later.
    fn tenant_put_off(&self, tenant: &TenantName) {
        self.tenant_finished(tenant, "busy");
    }

    /// Work on a tenant has ended, in a word: `done`, `failed`, `busy`.
    fn tenant_finished(&self, tenant: &TenantName, outcome: &str);
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn tenant_started(&self, _: &TenantName, _: u64) {}
    fn advanced(&self, _: &TenantName, _: u64) {}
    fn stage(&self, _: &TenantName, _: &'static str) {}
    fn tenant_finished(&self, _: &TenantName, _: &str) {}
}
