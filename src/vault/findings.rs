//! What verifies found of a locker's chunks and pages.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::Vault;
use crate::{
    format::record::{Finding, StoredObject},
    id::{Locker, RecordId},
    signature::SigningKey,
    signed::DocumentError,
};

/// Everything that a locker's `v/` says.
///
/// Two questions are answered apart. What a backup may refer to: nothing that any finding ever called damaged; the worst that a wrong
/// finding does is that something is stored twice. What is damaged now: what a finding calls damaged and no later look, at least as deep,
/// found good.
#[derive(Debug, Default)]
pub struct Findings {
    all: Vec<Finding>,
    named: HashSet<StoredObject>,
    damaged: BTreeSet<StoredObject>,
    /// Findings that cannot be read or trusted. They say nothing.
    pub unreadable: Vec<DocumentError>,
}

impl Findings {
    fn new(all: Vec<Finding>, unreadable: Vec<DocumentError>) -> Self {
        let named = all.iter().flat_map(|finding| finding.damaged.iter().copied()).collect();
        let mut findings = Self { all, named, damaged: BTreeSet::new(), unreadable };
        findings.damaged = findings.counting().flat_map(|(_, damaged)| damaged).collect();
        findings
    }

    /// Whether any finding ever called it damaged: then no new backup refers to it.
    #[must_use]
    pub fn ever_damaged(&self, object: StoredObject) -> bool {
        self.named.contains(&object)
    }

    /// Whether it is damaged as far as is known.
    #[must_use]
    pub fn is_damaged(&self, object: StoredObject) -> bool {
        self.damaged.contains(&object)
    }

    /// Findings that still call something damaged, each with what that is.
    fn counting(&self) -> impl Iterator<Item = (&Finding, Vec<StoredObject>)> {
        let mut cleared: HashMap<RecordId, HashSet<(bool, StoredObject)>> = HashMap::new();
        for answer in &self.all {
            for id in &answer.answers {
                cleared.entry(*id).or_default().extend(answer.sound.iter().map(|object| (answer.opened, *object)));
            }
        }
        self.all.iter().filter_map(move |finding| {
            let cleared = cleared.get(&finding.id);
            let by = |opened: bool, object: &StoredObject| cleared.is_some_and(|cleared| cleared.contains(&(opened, *object)));
            let still = |object: &&StoredObject| !by(true, object) && (finding.opened || !by(false, object));
            let damaged: Vec<StoredObject> = finding.damaged.iter().filter(still).copied().collect();
            (!damaged.is_empty()).then_some((finding, damaged))
        })
    }

    /// What a look that found `damaged` and `good` has to say beyond what is known; `None` when that is nothing.
    #[must_use]
    pub fn news(&self, damaged: &BTreeSet<StoredObject>, good: &HashSet<StoredObject>, opened: bool) -> Option<News> {
        let mut news = News { damaged: damaged.difference(&self.damaged).copied().collect(), ..News::default() };
        let mut sound = BTreeSet::new();
        for (finding, named) in self.counting().filter(|(finding, _)| opened || !finding.opened) {
            let now_good: Vec<_> =
                named.into_iter().filter(|object| good.contains(object) && !damaged.contains(object)).collect();
            if !now_good.is_empty() {
                news.answers.push(finding.id);
                sound.extend(now_good);
            }
        }
        news.sound = sound.into_iter().collect();
        (!news.damaged.is_empty() || !news.sound.is_empty()).then_some(news)
    }
}

/// What a finding will say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// As [`Finding::damaged`].
    pub damaged: Vec<StoredObject>,
    /// As [`Finding::answers`].
    pub answers: Vec<RecordId>,
    /// As [`Finding::sound`].
    pub sound: Vec<StoredObject>,
}

impl Vault {
    /// Everything that was found in a locker.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only: a finding that is not to be trusted stops nobody.
    pub async fn findings(&self, locker: Locker) -> Result<Findings, DocumentError> {
        let (mut all, mut unreadable) = (Vec::new(), Vec::new());
        for (_, read) in self.records::<Finding>(locker, "v").await? {
            match read {
                Ok(signed) => all.push(signed.value),
                Err(error) => unreadable.push(error),
            }
        }
        all.sort_by_key(|finding| finding.id);
        Ok(Findings::new(all, unreadable))
    }

    /// Records what a verify found.
    ///
    /// # Errors
    /// As [`signed::create`](crate::signed::create).
    pub async fn put_finding(&self, finding: &Finding, key: &SigningKey) -> Result<(), DocumentError> {
        self.create(&crate::object_name::Document::Finding(finding.locker, finding.id), finding, key).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backup_id::BackupId,
        id::{InstallationId, Sha256Digest},
    };

    fn object(byte: u8) -> StoredObject {
        let birth: BackupId = "20261121T030000Z-3f9a51c07be2d418".parse().unwrap();
        StoredObject::Page { birth, sha256: Sha256Digest::of(&[byte]) }
    }

    fn finding(opened: bool, damaged: &[u8], answers: &[&Finding], sound: &[u8]) -> Finding {
        Finding {
            format: 1,
            installation: InstallationId::random(),
            locker: Locker::random(),
            id: RecordId::random(),
            found_at: chrono::DateTime::UNIX_EPOCH,
            opened,
            damaged: damaged.iter().map(|byte| object(*byte)).collect(),
            answers: answers.iter().map(|finding| finding.id).collect(),
            sound: sound.iter().map(|byte| object(*byte)).collect(),
        }
    }

    fn set<T: FromIterator<StoredObject>>(bytes: &[u8]) -> T {
        bytes.iter().map(|byte| object(*byte)).collect()
    }

    #[test]
    fn only_a_later_look_that_is_as_deep_makes_an_object_good_again() {
        let deep = finding(true, &[1, 2], &[], &[]);
        let unseen = finding(false, &[2], &[], &[]);
        let shallow = finding(false, &[], &[&deep, &unseen], &[1]);
        let again = finding(true, &[], &[&deep], &[2]);
        let findings = |all: &[&Finding]| Findings::new(all.iter().copied().cloned().collect(), Vec::new());
        let is = |findings: &Findings| [1, 2].map(|byte| findings.is_damaged(object(byte)));
        assert_eq!(is(&findings(&[&deep])), [true, true]);
        assert_eq!(is(&findings(&[&deep, &shallow])), [true, true], "digests are not the whole truth");
        assert_eq!(is(&findings(&[&deep, &again])), [true, false]);
        assert_eq!(is(&findings(&[&deep, &again, &unseen])), [true, true], "it answers what it had read, and no more");
        // What a backup may refer to is another question.
        assert!(findings(&[&deep, &again]).ever_damaged(object(2)));
        assert!(!findings(&[&deep]).ever_damaged(object(3)));
    }

    #[test]
    fn nothing_new_is_nothing_to_write() {
        let before = finding(false, &[1, 2], &[], &[]);
        let findings = Findings::new(vec![before.clone()], Vec::new());
        assert_eq!(findings.news(&set(&[1, 2]), &set(&[3]), false), None);
        assert_eq!(findings.news(&set(&[1]), &set(&[3]), false), None, "what was not looked at stays as it was");
        let news = findings.news(&set(&[1, 3]), &set(&[2]), true).unwrap();
        assert_eq!(news, News { damaged: set(&[3]), answers: vec![before.id], sound: set(&[2]) });
        assert_eq!(findings.news(&set(&[2]), &set(&[2]), false), None, "bad for one backup is bad");
    }
}
