//! The name of every object in a vault and a keyring: one enum builds and parses them all.

use std::{fmt, str::FromStr};

use chrono::NaiveDate;

use crate::{
    backup_id::BackupId,
    id::{ChunkName, KeyId, Locker, NameTag, RecordId, Sha256Digest},
};

/// An object's name. Everything that tenure writes has one of these forms.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ObjectName {
    /// A document.
    Document(Document),
    /// The signature of a document: its name and `.sig`.
    Signature(Document),
    /// `t/<locker>/c/<birth>/<name>`
    Chunk {
        /// Home of the tenant.
        locker: Locker,
        /// The backup that first wrote it.
        birth: BackupId,
        /// HMAC of its plaintext.
        name: ChunkName,
    },
    /// `t/<locker>/p/<birth>/<sha256>`
    Page {
        /// Home of the tenant.
        locker: Locker,
        /// The backup that first wrote it.
        birth: BackupId,
        /// SHA-256 of its bytes.
        sha256: Sha256Digest,
    },
    /// `k/<key-id>.<n>.age`, in the keyring: the wrapped identity.
    SecretKey {
        /// Which key.
        key_id: KeyId,
        /// 1, 2, 3, …: how often it was wrapped anew.
        wrapping: u32,
    },
    /// `plans/<id>/approvals/<key>.sig`: another signature of the plan's bytes, by the key with this SHA-256 fingerprint.
    Approval {
        /// Which plan.
        plan: RecordId,
        /// Whose signature.
        key: Sha256Digest,
    },
    /// `probe/<id>`: written and removed by `check` and by stores.
    Probe(RecordId),
}

/// A document that has, or may have, a signature beside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Document {
    /// `vault.json`
    VaultRoot,
    /// `keyring.json`
    KeyringRoot,
    /// `signers/<n>`
    Signers(u32),
    /// `t/<locker>/b/<backup>.json`
    Manifest(Locker, BackupId),
    /// `t/<locker>/b/<backup>.void`
    Void(Locker, BackupId),
    /// `t/<locker>/s/<id>.json`
    Source(Locker, RecordId),
    /// `t/<locker>/h/<id>.json`
    Hold(Locker, RecordId),
    /// `t/<locker>/v/<id>.json`
    Finding(Locker, RecordId),
    /// `t/<locker>/w/<key-id>.<n>.<id>.json`: the key's secret half was wrapped anew, as `n`
    Rewrapped(Locker, KeyId, u32, RecordId),
    /// `t/<locker>/gone/<id>.json`
    Gone(Locker, RecordId),
    /// `t/<locker>/copies/<id>.json`
    Copy(Locker, RecordId),
    /// `t/<locker>/copies/<id>.oid.json`
    CopyOid(Locker, RecordId),
    /// `erased/<name-tag>/<id>.json`, in vault and keyring
    Tombstone(NameTag, RecordId),
    /// `t/<name-tag>/<key-id>.json`, in the keyring
    KeyRecord(NameTag, KeyId),
    /// `t/<name-tag>/<key-id>.<n>.json`, in the keyring: what `k/<key-id>.<n>.age` is, for n from 2
    Rewrapping(NameTag, KeyId, u32),
    /// `plans/<id>/<part>`
    Plan(RecordId, Part),
    /// `certificates/<id>/<part>`
    Certificate(RecordId, Part),
    /// `runs/<yyyy>/<mm>/<dd>/<id>.json`
    Run(NaiveDate, RecordId),
}

/// The last segment of a plan's or a certificate's name: letters, digits, `-` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Part(String);

impl Part {
    /// Takes 1 to 64 of the characters `a-z`, `0-9`, `-`, `.`; not beginning with `.`, not ending in `.sig`.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        let good = (1..=64).contains(&text.len()) && text.bytes().all(known) && !text.starts_with('.') && !text.ends_with(".sig");
        good.then(|| Self(text.to_owned()))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Text that names no object of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an object that tenure writes")]
pub struct ObjectNameError;

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VaultRoot => f.write_str("vault.json"),
            Self::KeyringRoot => f.write_str("keyring.json"),
            Self::Signers(n) => write!(f, "signers/{n}"),
            Self::Manifest(locker, backup) => write!(f, "t/{locker}/b/{backup}.json"),
            Self::Void(locker, backup) => write!(f, "t/{locker}/b/{backup}.void"),
            Self::Source(locker, id) => write!(f, "t/{locker}/s/{id}.json"),
            Self::Hold(locker, id) => write!(f, "t/{locker}/h/{id}.json"),
            Self::Finding(locker, id) => write!(f, "t/{locker}/v/{id}.json"),
            Self::Rewrapped(locker, key, n, id) => write!(f, "t/{locker}/w/{key}.{n}.{id}.json"),
            Self::Gone(locker, id) => write!(f, "t/{locker}/gone/{id}.json"),
            Self::Copy(locker, id) => write!(f, "t/{locker}/copies/{id}.json"),
            Self::CopyOid(locker, id) => write!(f, "t/{locker}/copies/{id}.oid.json"),
            Self::Tombstone(tag, id) => write!(f, "erased/{tag}/{id}.json"),
            Self::KeyRecord(tag, key) => write!(f, "t/{tag}/{key}.json"),
            Self::Rewrapping(tag, key, n) => write!(f, "t/{tag}/{key}.{n}.json"),
            Self::Plan(id, Part(part)) => write!(f, "plans/{id}/{part}"),
            Self::Certificate(id, Part(part)) => write!(f, "certificates/{id}/{part}"),
            Self::Run(day, id) => write!(f, "runs/{}/{id}.json", day.format("%Y/%m/%d")),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document(document) => document.fmt(f),
            Self::Signature(document) => write!(f, "{document}.sig"),
            Self::Chunk { locker, birth, name } => write!(f, "t/{locker}/c/{birth}/{name}"),
            Self::Page { locker, birth, sha256 } => write!(f, "t/{locker}/p/{birth}/{sha256}"),
            Self::SecretKey { key_id, wrapping } => write!(f, "k/{key_id}.{wrapping}.age"),
            Self::Approval { plan, key } => write!(f, "plans/{plan}/approvals/{key}.sig"),
            Self::Probe(id) => write!(f, "probe/{id}"),
        }
    }
}

impl FromStr for ObjectName {
    type Err = ObjectNameError;

    fn from_str(text: &str) -> Result<Self, ObjectNameError> {
        let name = parse(text).ok_or(ObjectNameError)?;
        // One spelling only: what it says must be what was read.
        if name.to_string() == text { Ok(name) } else { Err(ObjectNameError) }
    }
}

fn parse(text: &str) -> Option<ObjectName> {
    if let ["plans", plan, "approvals", file] = text.split('/').collect::<Vec<_>>()[..] {
        return Some(ObjectName::Approval { plan: plan.parse().ok()?, key: file.strip_suffix(".sig")?.parse().ok()? });
    }
    if let Some(document) = text.strip_suffix(".sig") {
        return parse_document(document).map(ObjectName::Signature);
    }
    if let Some(document) = parse_document(text) {
        return Some(ObjectName::Document(document));
    }
    let segments: Vec<&str> = text.split('/').collect();
    Some(match segments[..] {
        ["t", locker, "c", birth, name] => {
            ObjectName::Chunk { locker: locker.parse().ok()?, birth: birth.parse().ok()?, name: name.parse().ok()? }
        }
        ["t", locker, "p", birth, sha256] => {
            ObjectName::Page { locker: locker.parse().ok()?, birth: birth.parse().ok()?, sha256: sha256.parse().ok()? }
        }
        ["k", file] => {
            let (key_id, wrapping) = file.strip_suffix(".age")?.split_once('.')?;
            ObjectName::SecretKey { key_id: key_id.parse().ok()?, wrapping: wrapping.parse().ok()? }
        }
        ["probe", id] => ObjectName::Probe(id.parse().ok()?),
        _ => return None,
    })
}

fn parse_document(text: &str) -> Option<Document> {
    let segments: Vec<&str> = text.split('/').collect();
    let json = |file: &str| file.strip_suffix(".json").and_then(|id| id.parse::<RecordId>().ok());
    Some(match segments[..] {
        ["vault.json"] => Document::VaultRoot,
        ["keyring.json"] => Document::KeyringRoot,
        ["signers", n] => Document::Signers(n.parse().ok()?),
        ["t", locker, "b", file] if file.ends_with(".void") => {
            Document::Void(locker.parse().ok()?, file.strip_suffix(".void")?.parse().ok()?)
        }
        ["t", locker, "b", file] => Document::Manifest(locker.parse().ok()?, file.strip_suffix(".json")?.parse().ok()?),
        ["t", locker, "s", file] => Document::Source(locker.parse().ok()?, json(file)?),
        ["t", locker, "h", file] => Document::Hold(locker.parse().ok()?, json(file)?),
        ["t", locker, "v", file] => Document::Finding(locker.parse().ok()?, json(file)?),
        ["t", locker, "w", file] => {
            let (key, rest) = file.strip_suffix(".json")?.split_once('.')?;
            let (n, id) = rest.split_once('.')?;
            Document::Rewrapped(locker.parse().ok()?, key.parse().ok()?, n.parse().ok().filter(|n| *n > 1)?, id.parse().ok()?)
        }
        ["t", locker, "gone", file] => Document::Gone(locker.parse().ok()?, json(file)?),
        ["t", locker, "copies", file] => match file.strip_suffix(".oid.json") {
            Some(id) => Document::CopyOid(locker.parse().ok()?, id.parse().ok()?),
            None => Document::Copy(locker.parse().ok()?, json(file)?),
        },
        ["erased", tag, file] => Document::Tombstone(tag.parse().ok()?, json(file)?),
        ["t", tag, file] => match file.strip_suffix(".json")?.split_once('.') {
            None => Document::KeyRecord(tag.parse().ok()?, file.strip_suffix(".json")?.parse().ok()?),
            // The first wrapping stands in the key record itself.
            Some((key, n)) => Document::Rewrapping(tag.parse().ok()?, key.parse().ok()?, n.parse().ok().filter(|n| *n > 1)?),
        },
        ["plans", id, part] => Document::Plan(id.parse().ok()?, Part::new(part)?),
        ["certificates", id, part] => Document::Certificate(id.parse().ok()?, Part::new(part)?),
        ["runs", year, month, day, file] => {
            let day = NaiveDate::parse_from_str(&format!("{year}/{month}/{day}"), "%Y/%m/%d").ok()?;
            Document::Run(day, json(file)?)
        }
        _ => return None,
    })
}

/// Prefixes for listings. All end in `/`, so that one never matches a neighbour's.
pub mod prefix {
    use chrono::NaiveDate;

    use super::{Locker, NameTag, RecordId};

    /// `signers/`
    pub const SIGNERS: &str = "signers/";
    /// `t/`: lockers in the vault, name tags in the keyring.
    pub const TENANTS: &str = "t/";
    /// `erased/`
    pub const ERASED: &str = "erased/";
    /// `k/`
    pub const SECRET_KEYS: &str = "k/";
    /// What `check` and the stores themselves try things with.
    pub const PROBE: &str = "probe/";
    /// `runs/`
    pub const RUNS: &str = "runs/";

    /// Records of acts that began on one day.
    #[must_use]
    pub fn runs_of(day: NaiveDate) -> String {
        format!("{RUNS}{}/", day.format("%Y/%m/%d"))
    }

    /// `plans/`
    pub const PLANS: &str = "plans/";

    /// `certificates/`
    pub const CERTIFICATES: &str = "certificates/";

    /// Everything of one certificate.
    #[must_use]
    pub fn certificate(id: RecordId) -> String {
        format!("{CERTIFICATES}{id}/")
    }

    /// Signatures of a plan besides its own.
    #[must_use]
    pub fn approvals(plan: RecordId) -> String {
        format!("plans/{plan}/approvals/")
    }

    /// Everything of one locker.
    #[must_use]
    pub fn locker(locker: Locker) -> String {
        format!("t/{locker}/")
    }

    /// One kind of object in a locker: `b`, `c`, `p`, `s`, `h`, `v`, `w`, `gone`, `copies`.
    #[must_use]
    pub fn in_locker(locker: Locker, kind: &str) -> String {
        format!("t/{locker}/{kind}/")
    }

    /// Key records of one tenant.
    #[must_use]
    pub fn key_records(tag: NameTag) -> String {
        format!("t/{tag}/")
    }

    /// Tombstones and what else was said of an erased tenant.
    #[must_use]
    pub fn erased(tag: NameTag) -> String {
        format!("erased/{tag}/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff";
    const LONG: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const BACKUP: &str = "20261121T030000Z-3f9a51c07be2d418";

    #[test]
    fn every_form_comes_back() {
        let documents = [
            "vault.json".to_owned(),
            "keyring.json".to_owned(),
            "signers/12".to_owned(),
            format!("t/{ID}/b/{BACKUP}.json"),
            format!("t/{ID}/b/{BACKUP}.void"),
            format!("t/{ID}/s/{ID}.json"),
            format!("t/{ID}/h/{ID}.json"),
            format!("t/{ID}/v/{ID}.json"),
            format!("t/{ID}/w/{ID}.2.{ID}.json"),
            format!("t/{ID}/gone/{ID}.json"),
            format!("t/{ID}/copies/{ID}.json"),
            format!("t/{ID}/copies/{ID}.oid.json"),
            format!("erased/{LONG}/{ID}.json"),
            format!("t/{LONG}/{ID}.json"),
            format!("t/{LONG}/{ID}.2.json"),
            format!("plans/{ID}/plan.json"),
            format!("certificates/{ID}/inventory.json"),
            format!("runs/2026/11/21/{ID}.json"),
        ];
        for text in &documents {
            assert!(matches!(text.parse(), Ok(ObjectName::Document(_))), "{text}");
            let signature = format!("{text}.sig");
            assert!(matches!(signature.parse(), Ok(ObjectName::Signature(_))), "{signature}");
            assert_eq!(signature.parse::<ObjectName>().unwrap().to_string(), signature);
        }
        for text in [
            format!("t/{ID}/c/{BACKUP}/{LONG}"),
            format!("t/{ID}/p/{BACKUP}/{LONG}"),
            format!("k/{ID}.3.age"),
            format!("plans/{ID}/approvals/{LONG}.sig"),
            format!("probe/{ID}"),
        ] {
            assert_eq!(text.parse::<ObjectName>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nothing_else_is_a_name() {
        for text in [
            String::new(),
            "vault.jsonx".to_owned(),
            "signers/01".to_owned(),
            "signers/+1".to_owned(),
            format!("t/{ID}/b/{BACKUP}.json.sig.sig"),
            format!("t/{ID}/c/{BACKUP}/{LONG}.sig"),
            format!("t/{ID}/x/{ID}.json"),
            format!("/t/{ID}/s/{ID}.json"),
            format!("t//{ID}/s/{ID}.json"),
            format!("runs/2026/1/21/{ID}.json"),
            format!("runs/2026/02/30/{ID}.json"),
            format!("plans/{ID}/../x"),
            format!("plans/{ID}/approvals/{LONG}"),
            format!("plans/{ID}/approvals/{ID}.sig"),
            format!("plans/{ID}/approvals/{LONG}.sig.sig"),
            format!("k/{ID}.03.age"),
            format!("t/{LONG}/{ID}.1.json"),
            format!("t/{LONG}/{ID}.02.json"),
            format!("t/{ID}/w/{ID}.1.{ID}.json"),
            format!("t/{ID}/w/{ID}.json"),
        ] {
            assert!(text.parse::<ObjectName>().is_err(), "{text}");
        }
    }
}
