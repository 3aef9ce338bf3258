//! The roots of a new vault and a new keyring.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use crate::{
    format::root::{KeyringRoot, VaultRoot},
    id::{InstallationId, RecordId},
    name_key::NameKey,
    object_name::{Document, ObjectName, prefix},
    operation::failure::{Failure, FailureClass},
    retention::Keep,
    signature::{Namespace, SigningKey},
    signed::{self, DocumentError, FORMAT},
    store::Store,
};

/// The stores of a new installation, opened.
pub struct Stores {
    /// Where sealed backups go.
    pub vault: Arc<dyn Store>,
    /// Where keys go.
    pub keyring: Arc<dyn Store>,
    /// Further copies of the keyring.
    pub mirrors: Vec<Arc<dyn Store>>,
}

/// A run longer than a day is a run that hangs.
const MAX_RUN_SECONDS: u64 = 86_400;
/// Twice the longest run: what a run that was just killed wrote is at most half as old.
const SETTLE_SECONDS: u64 = 2 * MAX_RUN_SECONDS;
/// How many objects of a store that is not empty are named.
const NAMED: usize = 4;

impl Stores {
    fn each(&self) -> impl Iterator<Item = (&'static str, &Arc<dyn Store>)> {
        let mirrors = self.mirrors.iter().map(|store| ("mirror", store));
        [("vault", &self.vault), ("keyring", &self.keyring)].into_iter().chain(mirrors)
    }

    /// Refuses stores that hold anything.
    pub(super) async fn refuse_used(&self) -> Result<(), Failure> {
        for (what, store) in self.each() {
            let address = store.address();
            let mut names = Vec::new();
            let mut listing = store.list("");
            while let Some(listed) = listing.try_next().await.map_err(|error| {
                Failure::new(FailureClass::Failed, "store", address, format!("cannot look into the {what} {address}"))
                    .hint("check its address, its credentials, and that the bucket is there")
                    .because(error)
            })? {
                // What an earlier look at the store left says nothing.
                if !listed.name.starts_with(prefix::PROBE) {
                    names.push(listed.name);
                }
                if names.len() > NAMED {
                    break;
                }
            }
            if names.is_empty() {
                continue;
            }
            let more = if names.len() > NAMED { ", …" } else { "" };
            names.truncate(NAMED);
            let message = format!("the {what} {address} is not empty: it holds {}{more}", names.join(", "));
            return Err(Failure::new(FailureClass::Refused, "not-empty", address, message).hint(
                "name an empty one. An init that was interrupted leaves keyring.json and signers/1, at most vault.json, and no tenure.toml \
                 anywhere: then nothing was backed up yet, and they may be moved away. To use this installation from another host, run `tenure init --join --kit recovery-kit.txt`",
            ));
        }
        Ok(())
    }

    /// Writes the roots: the keyring's first, `vault.json` last, so that there is no vault without its keyring. In the end all are read
    /// once more: another `init` into the same stores at the same moment is noticed by whoever was overwritten.
    pub(super) async fn write_roots(
        &self,
        installation: InstallationId,
        max_keep: Keep,
        signers: &str,
        operator: &SigningKey,
    ) -> Result<(), Failure> {
        let keyring = KeyringRoot { format: FORMAT, installation, name_key: NameKey::random() };
        let json = serde_json::to_vec(&keyring).map(Bytes::from).map_err(|error| {
            Failure::new(FailureClass::Failed, "internal", "keyring.json", "keyring.json cannot be encoded").because(error)
        })?;
        for store in self.mirrors.iter().chain([&self.keyring]) {
            let name = ObjectName::Document(Document::KeyringRoot);
            signed::create_object(&**store, &name, json.clone()).await.map_err(unfinished)?;
        }
        let vault = &*self.vault;
        let signers = Bytes::copy_from_slice(signers.as_bytes());
        signed::create_bytes(vault, &Document::Signers(1), signers.clone(), Namespace::Root, operator)
            .await
            .map_err(unfinished)?;
        let root = VaultRoot {
            format: FORMAT,
            store_id: RecordId::random(),
            installation,
            name_key_sha256: keyring.name_key.sha256(),
            max_run_seconds: MAX_RUN_SECONDS,
            settle_seconds: SETTLE_SECONDS,
            max_keep,
        };
        signed::create(vault, &Document::VaultRoot, &root, Namespace::Root, operator).await.map_err(unfinished)?;
        for store in self.mirrors.iter().chain([&self.keyring]) {
            signed::confirm(&**store, &ObjectName::Document(Document::KeyringRoot), &json).await.map_err(unfinished)?;
        }
        signed::confirm(vault, &ObjectName::Document(Document::Signers(1)), &signers).await.map_err(unfinished)
    }
}

fn unfinished(error: DocumentError) -> Failure {
    let object = error.object().to_owned();
    Failure::new(FailureClass::Failed, "store", &object, "the stores could not be set up")
        .hint(
            "nothing was backed up yet and the local files are removed again; \
             empty the vault and the keyring, cure the cause, and run init again",
        )
        .because(error)
}
