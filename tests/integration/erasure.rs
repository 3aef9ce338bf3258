//! Who was erased is refused, and nothing that cannot be understood gives anybody back.

use std::sync::Arc;

use tenure::{
    format::erasure_note::{ErasedDatabase, ErasureNote, ErasureSays},
    id::{KeyId, NameTag, RecordId},
    object_name::Document,
    operation::erased::{self, Erasures},
    signature::{Namespace, SigningKey},
    signed,
    store::{Store, directory::DirectoryStore},
    tenant::TenantName,
};

use crate::harness::locker::{Lockers, at};

struct Graveyard {
    lockers: Lockers,
    tenant: TenantName,
    tag: NameTag,
    key: KeyId,
}

impl Graveyard {
    async fn new() -> Self {
        let mut lockers = Lockers::new().await;
        lockers.ranges = 1;
        let acme = lockers.tenant("acme", at("2026-05-01")).await;
        Self { tenant: acme.record.tenant.clone(), tag: acme.record.name_tag, key: acme.record.key_id, lockers }
    }

    fn note(&self, says: ErasureSays) -> ErasureNote {
        ErasureNote {
            format: 1,
            installation: self.lockers.installation(),
            id: RecordId::random(),
            name_tag: self.tag,
            says,
            created_at: at("2026-06-01"),
        }
    }

    fn tombstone(&self, grace_until: &str) -> ErasureNote {
        self.note(ErasureSays::Erased {
            lockers: Vec::new(),
            keys: vec![self.key],
            databases: vec![ErasedDatabase { system_identifier: "7".to_owned(), database_oid: 42 }],
            grace_until: at(grace_until),
        })
    }

    async fn put(&self, note: &ErasureNote) {
        erased::put(&self.lockers.vault, &self.lockers.keyring, note, &self.lockers.key("eraser")).await.unwrap();
    }

    async fn read(&self) -> Erasures {
        erased::read_both(&self.lockers.vault, &self.lockers.keyring, self.tag).await.unwrap()
    }

    async fn refused(&self) -> Option<(u8, &'static str, String)> {
        let refused = erased::refuse(&self.lockers.vault, &self.lockers.keyring, &self.tenant).await;
        refused.err().map(|failure| (failure.class.code(), failure.kind, format!("{} {}", failure.message, failure.hint)))
    }

    fn path(&self, store: &str, id: RecordId) -> std::path::PathBuf {
        self.lockers.folder().join(store).join(Document::Tombstone(self.tag, id).to_string())
    }
}

#[tokio::test]
async fn a_tombstone_in_either_store_refuses_until_it_is_withdrawn_or_the_name_admitted() {
    let yard = Graveyard::new().await;
    assert_eq!(yard.refused().await, None);
    let pending = yard.tombstone("2026-06-08");
    yard.put(&pending).await;
    // The same note again is the same note.
    yard.put(&pending).await;
    for store in ["vault", "keyring"] {
        let (path, aside) = (yard.path(store, pending.id), yard.lockers.folder().join("aside"));
        std::fs::rename(&path, &aside).unwrap();
        let (code, kind, text) = yard.refused().await.unwrap();
        assert_eq!((code, kind), (4, "tenant-erased"), "{text}");
        assert!(text.contains("before 2026-06-08T") && text.contains("`tenure erase acme --undo`"), "{text}");
        std::fs::rename(&aside, &path).unwrap();
    }
    assert!(yard.read().await.refuses_key(yard.key));

    yard.put(&yard.note(ErasureSays::Withdrawn { tombstone: pending.id })).await;
    assert_eq!(yard.refused().await, None);
    let erasures = yard.read().await;
    assert!(!erasures.refuses_key(yard.key) && erasures.databases().next().is_none(), "what was withdrawn erased nothing");

    let last = yard.tombstone("2026-06-01");
    yard.put(&last).await;
    let (code, _, text) = yard.refused().await.unwrap();
    assert!(
        code == 4 && text.contains("was erased, as planned at 2026-06-01T") && text.contains("`tenure admit --new acme`"),
        "{text}"
    );

    yard.put(&yard.note(ErasureSays::Admitted { tombstones: vec![pending.id, last.id] })).await;
    assert_eq!(yard.refused().await, None);
    let erasures = yard.read().await;
    assert!(erasures.refuses_key(yard.key), "the name is free, what was erased is not");
    assert_eq!(erasures.databases().map(|database| database.database_oid).collect::<Vec<_>>(), [42]);
    assert!(!erasures.refuses_key(KeyId::random()));
}

/// The key of an eraser may have changed since: what it says is the same.
#[tokio::test]
async fn a_note_that_another_eraser_signed_is_the_same_note() {
    let mut yard = Graveyard::new().await;
    let lockers = &yard.lockers;
    let other = SigningKey::generate("eraser");
    let line = format!("eraser@two namespaces=\"tenure-erasure\" {}\n", other.public_openssh().unwrap());
    let list = std::fs::read_to_string(lockers.folder().join("allowed_signers")).unwrap() + &line;
    let signers = Document::Signers(2);
    signed::create_bytes(lockers.vault.store(), &signers, list.into(), Namespace::Root, &lockers.key("operator")).await.unwrap();
    let open = async |name: &str| {
        let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(&lockers.folder().join(name)).await.unwrap());
        store
    };
    let (vault, keyring) = lockers.through(open("vault").await, open("keyring").await, vec![open("mirror").await]).await;
    yard.lockers = lockers.with(vault, keyring);

    let note = yard.tombstone("2026-06-01");
    yard.put(&note).await;
    let again = async || erased::put(&yard.lockers.vault, &yard.lockers.keyring, &note, &other).await;
    let lie = |store: &str| {
        let path = yard.path(store, note.id);
        (std::fs::read(&path).ok(), std::fs::read(path.with_extension("json.sig")).unwrap())
    };
    let before = lie("vault");
    assert!(again().await.unwrap().is_empty());
    // Killed after the signature: it is of these very bytes, and stays.
    for store in ["vault", "keyring", "mirror"] {
        std::fs::remove_file(yard.path(store, note.id)).unwrap();
    }
    assert!(again().await.unwrap().is_empty());
    for store in ["vault", "keyring", "mirror"] {
        assert!(lie(store) == before, "{store}");
    }
    assert_eq!(yard.read().await.counting().count(), 1);
    // Anything else there is not: in a mirror it is left open, in the vault it stops.
    let spoil = |store: &str| {
        std::fs::remove_file(yard.path(store, note.id)).unwrap();
        std::fs::write(yard.path(store, note.id).with_extension("json.sig"), b"nothing").unwrap();
    };
    spoil("mirror");
    assert_eq!(again().await.unwrap().iter().map(|item| item.kind).collect::<Vec<_>>(), ["tombstone"]);
    spoil("vault");
    again().await.unwrap_err();
}

#[tokio::test]
async fn what_cannot_be_trusted_there_counts_as_a_tombstone() {
    let yard = Graveyard::new().await;
    let note = yard.tombstone("2026-06-01");
    yard.put(&note).await;
    let (vault, keyring) = (yard.path("vault", note.id), yard.path("keyring", note.id));
    let whole = std::fs::read(&vault).unwrap();
    // Spoilt in both, or reduced to a signature in both.
    for spoil in [true, false] {
        for path in [&vault, &keyring] {
            if spoil { std::fs::write(path, b"{}").unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
        let (code, kind, text) = yard.refused().await.unwrap();
        assert_eq!((code, kind), (4, "tenant-erased"), "{text}");
        assert!(text.contains("cannot be trusted"), "{text}");
        assert_eq!(yard.read().await.doubtful().count(), 2);
        // Whole in one of the two it is known again.
        std::fs::write(&keyring, &whole).unwrap();
        assert!(yard.read().await.doubtful().next().is_none());
        std::fs::write(&vault, &whole).unwrap();
    }
    // Another one's, another tenant's, and no object of ours at all.
    let moved = yard.path("vault", RecordId::random());
    std::fs::write(&moved, &whole).unwrap();
    std::fs::copy(vault.with_extension("json.sig"), moved.with_extension("json.sig")).unwrap();
    std::fs::write(vault.with_file_name("anything"), b"").unwrap();
    assert_eq!(yard.read().await.doubtful().count(), 2);
    // A worker's key withdraws nothing.
    let withdrawal = yard.note(ErasureSays::Withdrawn { tombstone: note.id });
    let (lockers, worker) = (&yard.lockers, yard.lockers.key("worker"));
    erased::put(&lockers.vault, &lockers.keyring, &withdrawal, &worker).await.unwrap();
    assert_eq!(yard.read().await.counting().count(), 1);
    assert!(yard.read().await.doubtful().count() > 2);
}
