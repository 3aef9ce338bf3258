//! Certificates of erasures: `certificates/<plan>/`.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Vault, list_named, locker::ObjectError, records::Record};
use crate::{
    format::{certificate::Certificate, inventory::InventoryFile},
    id::{RecordId, Sha256Digest},
    object_name::{Document, ObjectName, Part, prefix},
    signature::{Namespace, SigningKey},
    signed::{self, DocumentError, Signed, Whole},
};

/// Everything that was certified of one erasure.
#[derive(Debug, Default)]
pub struct Certified {
    /// The documents that count, by their numbers; the last one says all that is known.
    pub documents: Vec<Signed<Certificate>>,
    /// Those that cannot be trusted, and what is missing among them.
    pub problems: Vec<DocumentError>,
    /// Every number that is taken, also by a signature alone.
    taken: BTreeSet<u32>,
}

impl Certified {
    /// The document that counts.
    #[must_use]
    pub fn newest(&self) -> Option<&Signed<Certificate>> {
        self.documents.last()
    }

    /// The number of the next document: the first one after the last document that nobody took. What lies far ahead, and is no document,
    /// takes that one number and no other.
    #[must_use]
    pub fn next(&self) -> u32 {
        let last = self.documents.last().map_or(0, |signed| signed.value.sequence);
        (last.saturating_add(1)..=u32::MAX).find(|number| !self.taken.contains(number)).unwrap_or(u32::MAX)
    }
}

impl Vault {
    /// The ids of all certificates, by listing.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn certificate_ids(&self) -> Result<Vec<RecordId>, DocumentError> {
        let failed = |error| signed::store_error(self.store(), &prefix::CERTIFICATES, error);
        let folders = self.store().list_folders(prefix::CERTIFICATES).await.map_err(failed)?;
        Ok(folders.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// Everything that was certified of one erasure, each document checked, and that what it names as the one before it is there.
    ///
    /// # Errors
    /// [`DocumentError::Store`] and [`DocumentError::NewerFormat`] only.
    pub async fn certified(&self, id: RecordId) -> Result<Certified, DocumentError> {
        let folder = prefix::certificate(id);
        let failed = |error| signed::store_error(self.store(), &folder, error);
        let (named, _) = list_named(self.store(), &folder).await.map_err(failed)?;
        let (mut certified, mut listed) = (Certified::default(), Vec::new());
        for (name, object) in named {
            let (document, is_signature) = match name {
                ObjectName::Document(document) => (document, false),
                ObjectName::Signature(document) => (document, true),
                _ => continue,
            };
            let Some(sequence) = file_of(&document) else { continue };
            certified.taken.insert(sequence);
            // A signature alone is a crashed write.
            if !is_signature {
                listed.push((sequence, document, object.modified));
            }
        }
        listed.sort_by_key(|(sequence, ..)| *sequence);
        // Two runs at once may both follow one document; each names what is there.
        let mut before: BTreeSet<Sha256Digest> = BTreeSet::new();
        for (_, document, stored_at) in listed {
            match self.record::<Certificate>(&document, Some(stored_at)).await {
                Ok(signed) => {
                    if signed.value.previous.is_some_and(|previous| !before.contains(&previous)) {
                        certified.problems.push(DocumentError::Contradiction {
                            object: signed::locate(self.store(), &document),
                            what: "the document before it, which it names, is not there: somebody removed or changed it"
                                .to_owned(),
                        });
                    }
                    before.insert(signed.sha256);
                    certified.documents.push(signed);
                }
                Err(error @ (DocumentError::Store { .. } | DocumentError::NewerFormat { .. })) => return Err(error),
                Err(error) => certified.problems.push(error),
            }
        }
        Ok(certified)
    }

    /// A document of a certificate as it was signed, with its signature.
    ///
    /// # Errors
    /// As [`signed::read_whole`].
    pub async fn signed_certificate(&self, certificate: &Certificate) -> Result<Whole, DocumentError> {
        signed::read_whole(self.store(), &certificate.document(), Namespace::Erasure, self.signers(), None).await
    }

    /// Writes a document of a certificate, and gives its SHA-256.
    ///
    /// # Errors
    /// As [`signed::create`].
    pub async fn put_certificate(&self, certificate: &Certificate, eraser: &SigningKey) -> Result<Sha256Digest, DocumentError> {
        signed::create(self.store(), &certificate.document(), certificate, Namespace::Erasure, eraser).await
    }

    /// Writes a file of an inventory. It is named by its content: once more is the same file.
    ///
    /// # Errors
    /// [`DocumentError::Store`]; [`DocumentError::Exists`] where other bytes have its name.
    pub async fn put_inventory(&self, id: RecordId, lines: Vec<u8>, objects: u64) -> Result<InventoryFile, DocumentError> {
        let sha256 = Sha256Digest::of(&lines);
        let name = format!("inventory-{}.jsonl", &sha256.to_string()[..32]);
        let (size, bytes) = (lines.len() as u64, Bytes::from(lines));
        let object = ObjectName::Document(Document::Certificate(id, part(&name)));
        signed::create_object(self.store(), &object, bytes.clone()).await?;
        signed::confirm(self.store(), &object, &bytes).await?;
        Ok(InventoryFile { name, sha256, objects, size })
    }

    /// Reads a file of an inventory, and checks it against what the certificate says of it.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn inventory(&self, id: RecordId, file: &InventoryFile) -> Result<Bytes, ObjectError> {
        let Some(part) = Part::new(&file.name) else {
            let object = format!("{}{}", prefix::certificate(id), file.name);
            return Err(ObjectError::Damaged { object, what: "that is no name of a file of ours".to_owned() });
        };
        self.checked(&ObjectName::Document(Document::Certificate(id, part)), file.size, file.sha256).await
    }
}

fn file_of(document: &Document) -> Option<u32> {
    match document {
        Document::Certificate(_, part) => Certificate::parse_file(part.as_str()),
        _ => None,
    }
}

fn part(name: &str) -> Part {
    Part::new(name).expect("names of certificates and inventories are parts")
}

impl Record for Certificate {
    const NAMESPACE: Namespace = Namespace::Erasure;
    fn is(document: &Document) -> bool {
        file_of(document).is_some()
    }
    fn document(&self) -> Document {
        Document::Certificate(self.id, part(&self.file()))
    }
    fn belongs(&self, vault: &Vault) -> bool {
        self.installation == vault.root().installation
    }
}
