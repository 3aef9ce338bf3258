//! What can be looked at once more: stores and servers.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;

use super::{Check, VerifyCertificate, does_not, holds, not_tested};
use crate::{
    format::{
        certificate::{Certificate, CopyState, Database, GIVEN_UP, MadeCopy, Stage},
        erasure_note::ErasureNote,
    },
    id::KeyId,
    keyring::destroy,
    object_name::{Document, prefix},
    operation::{drop, erased},
    postgres::Target,
    printable::Printable,
    signature::Namespace,
    signed::{self, DocumentError},
};

impl VerifyCertificate<'_> {
    pub(super) async fn tombstone(&self, certificate: &Certificate, checks: &mut Vec<Check>) {
        let document = Document::Tombstone(certificate.name_tag, certificate.id);
        // Before it is written a request is certified.
        let must_be_there = certificate.stage != Stage::Requested || certificate.backups.inventory.is_some();
        for store in std::iter::once(self.vault.store()).chain(self.keyring.stores().map(|store| &**store)) {
            let object = signed::locate(store, &document);
            let read = signed::read::<ErasureNote>(store, &document, Namespace::Erasure, self.vault.signers(), None).await;
            checks.push(match read {
                Ok(note) if note.value.id == certificate.id && note.value.name_tag == certificate.name_tag => {
                    holds("tombstone", object)
                }
                Ok(_) => does_not("tombstone", object, "it is another one's".to_owned()),
                Err(error @ DocumentError::Store { .. }) => not_tested("tombstone", object, error.what()),
                Err(DocumentError::Missing { .. }) if !must_be_there => {
                    not_tested("tombstone", object, "it is not there, and need not be yet".to_owned())
                }
                Err(error) => does_not("tombstone", object, error.what()),
            });
        }
        if certificate.stage == Stage::Closed {
            return;
        }
        // Withdrawn since.
        if let Ok(erasures) = erased::read_both(self.vault, self.keyring, certificate.name_tag).await
            && erasures.is_withdrawn(certificate.id)
        {
            let what = "the erasure was withdrawn, and the certificate's last document is not there".to_owned();
            checks.push(does_not("tombstone", format!("tombstone {}", certificate.id), what));
        }
    }

    /// Without it the tombstone counts, and every command refuses a tenant that lives.
    pub(super) async fn withdrawal(&self, certificate: &Certificate, checks: &mut Vec<Check>) {
        for store in std::iter::once(self.vault.store()).chain(self.keyring.stores().map(|store| &**store)) {
            let object =
                format!("{}, of tombstone {}", signed::locate(store, &prefix::erased(certificate.name_tag)), certificate.id);
            checks.push(match erased::read_in(self.vault, [store], certificate.name_tag).await {
                Ok(erasures) if erasures.is_withdrawn(certificate.id) => holds("withdrawal", object),
                Ok(_) => {
                    let what = "it is not there: `tenure reconcile` puts it back from another store, and `tenure erase --undo` writes it again";
                    does_not("withdrawal", object, what.to_owned())
                }
                Err(error) => not_tested("withdrawal", object, error.what()),
            });
        }
    }

    pub(super) async fn keys(&self, certificate: &Certificate, checks: &mut Vec<Check>) {
        let keys: BTreeSet<KeyId> = certificate.keys.keys.iter().copied().collect();
        for copy in &certificate.keys.copies {
            let object = format!("keys in {}", copy.store);
            if copy.destroyed_at.is_none() {
                let what = "they were not destroyed there when this was written".to_owned();
                checks.push(match certificate.stage {
                    Stage::KeysDestroyed | Stage::Closed => does_not("keys", object, what),
                    _ => not_tested("keys", object, what),
                });
                continue;
            }
            let Some(store) = self.keyring.stores().find(|store| store.address() == copy.store) else {
                checks.push(not_tested("keys", object, "the configuration does not have that store".to_owned()));
                continue;
            };
            checks.push(match destroy::copies(&**store, certificate.name_tag, &keys).await {
                Ok(copies) => match copies.iter().flatten().next() {
                    None => holds("keys", object),
                    Some(there) => does_not("keys", object, format!("{} is there", there.name)),
                },
                Err(error) => not_tested("keys", object, error.to_string()),
            });
        }
        if certificate.keys.copies.iter().all(|copy| copy.destroyed_at.is_none()) {
            return;
        }
        // A store that was added since, as a copy of one that had them.
        let is_named = |address: &str| certificate.keys.copies.iter().any(|copy| copy.store == address);
        for store in self.keyring.stores().filter(|store| !is_named(store.address())) {
            let object = format!("keys in {}", store.address());
            match destroy::copies(&**store, certificate.name_tag, &keys).await {
                Ok(copies) => checks.extend(copies.iter().flatten().next().map(|there| {
                    does_not("keys", object, format!("{} is there, and the certificate does not name that store", there.name))
                })),
                Err(error) => checks.push(not_tested("keys", object, error.to_string())),
            }
        }
    }

    pub(super) async fn backups(&self, certificate: &Certificate, checks: &mut Vec<Check>) {
        for locker in &certificate.backups.lockers {
            let (all, gone) = (prefix::locker(*locker), prefix::in_locker(*locker, "gone"));
            let object = signed::locate(self.vault.store(), &all);
            let Some(left) = certificate.backups.left else {
                checks.push(not_tested("backups", object, "they were not removed when this was written".to_owned()));
                continue;
            };
            let mut listing = self.vault.store().list(&all);
            let (mut there, mut first) = (0, None);
            let listed = loop {
                match listing.try_next().await {
                    Ok(Some(listed)) if listed.name.starts_with(&gone) => {}
                    Ok(Some(listed)) => {
                        there += 1;
                        first.get_or_insert(listed.name);
                    }
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            checks.push(match (listed, first) {
                (Err(error), _) => not_tested("backups", object, error.to_string()),
                (Ok(()), Some(first)) if there > left.objects => {
                    does_not("backups", object, format!("{there} objects are there, {first} among them"))
                }
                (Ok(()), Some(_)) if certificate.stage == Stage::Closed => {
                    does_not("backups", object, format!("{there} objects are there"))
                }
                _ => holds("backups", object),
            });
        }
    }

    /// Whether the primary and every replica of a database's cluster do without it.
    pub(super) async fn live(&self, certificate: &Certificate, database: &Database, checks: &mut Vec<Check>) {
        let cluster = &database.cluster;
        let Some(server) = self.servers.iter().find(|server| server.name == *cluster) else {
            let what = "the configuration does not have that cluster".to_owned();
            checks.push(not_tested("live", format!("cluster {}", Printable(cluster)), what));
            return;
        };
        let nodes = std::iter::once((format!("{cluster} primary"), &server.admin));
        let replicas = server.replicas.iter().enumerate().map(|(nth, target)| (format!("{cluster} replica {}", nth + 1), target));
        let nodes: Vec<_> = nodes.chain(replicas).collect();
        for of in certificate.live.nodes.iter().filter(|of| of.node.starts_with(&format!("{cluster} replica "))) {
            let what = match nodes.iter().any(|(node, _)| *node == of.node) {
                _ if of.state == GIVEN_UP => "an operator said that it is not asked any more",
                true => continue,
                false => "the configuration does not have it",
            };
            checks.push(not_tested("live", of.node.clone(), what.to_owned()));
        }
        for (node, target) in nodes {
            let was_gone = certificate.live.nodes.iter().any(|of| of.node == node && of.state == "gone");
            if !was_gone && !certificate.reached.iter().any(|reached| reached.stage == Stage::LiveErased) {
                let what = "nobody said that it was gone there".to_owned();
                checks.push(not_tested("live", node, what));
                continue;
            }
            checks.push(match has(target, &database.system_identifier, database.database_oid).await {
                Ok(None) => holds("live", node),
                Ok(Some(what)) => does_not("live", node, what),
                Err(why) => not_tested("live", node, why),
            });
        }
        self.live_elsewhere(database, checks).await;
    }

    /// Servers of other clusters that come from the same one: a copy of it that was given another name.
    async fn live_elsewhere(&self, database: &Database, checks: &mut Vec<Check>) {
        for server in self.servers.iter().filter(|server| server.name != database.cluster) {
            for (nth, target) in std::iter::once(&server.admin).chain(&server.replicas).enumerate() {
                let node = if nth == 0 { format!("{} primary", server.name) } else { format!("{} replica {nth}", server.name) };
                // Another server has nothing to do with it, and what cannot be asked is no part of what was certified.
                if let Ok(Some(what)) = has(target, &database.system_identifier, database.database_oid).await {
                    checks.push(does_not("live", node, what));
                }
            }
        }
    }

    /// Whether what was gone is still gone. What an operator let pass is his.
    pub(super) async fn copy(&self, copy: &MadeCopy) -> Check {
        let oid = copy.database_oid.map_or("unknown".to_owned(), |oid| oid.to_string());
        let object = format!("{} on {} with OID {oid}", copy.what(), Printable(&copy.cluster));
        let server = self.servers.iter().find(|server| server.name == copy.cluster);
        match (copy.state, copy.database_oid, server) {
            (CopyState::Gone, Some(oid), Some(server)) => match has(&server.admin, &copy.system_identifier, oid).await {
                Ok(None) => holds("copy", object),
                Ok(Some(what)) => does_not("copy", object, what),
                Err(why) => not_tested("copy", object, why),
            },
            (CopyState::Stays, ..) => not_tested("copy", object, "an operator said that it stays".to_owned()),
            _ => not_tested("copy", object, "nobody said that it was gone".to_owned()),
        }
    }
}

/// What a server has of a database; or why it cannot be asked.
async fn has(target: &Target, system_identifier: &str, oid: u32) -> Result<Option<String>, String> {
    match drop::database_name(target, system_identifier, oid).await.map_err(|failure| failure.one_line())? {
        Some(name) => Ok(name.map(|_| format!("a database with OID {oid} is there"))),
        None => Err("it is another server now: its system identifier is not that of the database's".to_owned()),
    }
}
