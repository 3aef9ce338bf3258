//! The key that turns a tenant's name into its tag.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::{
    id::{NameTag, Sha256Digest},
    secret::secret_bytes,
    tenant::TenantName,
};

secret_bytes! {
    /// 256 random bits, in `keyring.json`.
    NameKey, 32
}

impl NameKey {
    /// HMAC-SHA-256(name key, tenant name).
    #[must_use]
    pub fn tag(&self, tenant: &TenantName) -> NameTag {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(tenant.as_str().as_bytes());
        NameTag(mac.finalize().into_bytes().into())
    }

    /// SHA-256 of the key: what `vault.json` holds to bind vault and keyring.
    #[must_use]
    pub fn sha256(&self) -> Sha256Digest {
        Sha256Digest::of(&self.0)
    }
}
