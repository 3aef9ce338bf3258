//! What verifies found of a locker's chunks and pages.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};

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
/// found good. Of locks the second question alone: what is locked anew is as good as ever.
#[derive(Debug, Default)]
pub struct Findings {
    all: Vec<Finding>,
    named: HashSet<StoredObject>,
    damaged: BTreeSet<StoredObject>,
    short: BTreeSet<StoredObject>,
    /// Findings that cannot be read or trusted. They say nothing.
    pub unreadable: Vec<DocumentError>,
}

impl Findings {
    fn new(all: Vec<Finding>, unreadable: Vec<DocumentError>) -> Self {
        let named = all.iter().flat_map(|finding| finding.damaged.iter().copied()).collect();
        let mut findings = Self { all, named, unreadable, ..Self::default() };
        findings.damaged = findings.counting().flat_map(|(_, damaged)| damaged).collect();
        findings.short = findings.counting_locks().flat_map(|(_, short)| short).collect();
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

    /// Whether anything is damaged, as far as is known.
    #[must_use]
    pub fn any_damaged(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// Objects whose locks were found too short, and by no later look as long as they should be.
    #[must_use]
    pub fn short_locks(&self) -> usize {
        self.short.len()
    }

    /// Whether its lock was found shorter than a manifest says, and by no later look as long: then what manifests say of it is not believed.
    #[must_use]
    pub fn is_lock_short(&self, object: StoredObject) -> bool {
        self.short.contains(&object)
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

    /// Findings that still call a lock too short, each with whose that is.
    fn counting_locks(&self) -> impl Iterator<Item = (&Finding, Vec<StoredObject>)> {
        let mut cleared: HashSet<(RecordId, StoredObject)> = HashSet::new();
        for answer in &self.all {
            cleared.extend(answer.answers.iter().flat_map(|id| answer.whole_locks.iter().map(|object| (*id, *object))));
        }
        self.all.iter().filter_map(move |finding| {
            let still = |object: &&StoredObject| !cleared.contains(&(finding.id, **object));
            let short: Vec<StoredObject> = finding.short_locks.iter().filter(still).copied().collect();
            (!short.is_empty()).then_some((finding, short))
        })
    }

    /// What a look that found this has to say beyond what is known; `None` when that is nothing.
    #[must_use]
    pub fn news(&self, found: &Found, opened: bool) -> Option<News> {
        let Found { damaged, good, short_locks, whole_locks } = found;
        let mut news = News {
            damaged: damaged.difference(&self.damaged).copied().collect(),
            short_locks: short_locks.difference(&self.short).copied().collect(),
            ..News::default()
        };
        let mut whole = BTreeSet::new();
        for (finding, named) in self.counting_locks() {
            let now_whole: Vec<_> = named.into_iter().filter(|object| whole_locks.contains(object)).collect();
            if !now_whole.is_empty() {
                news.answers.push(finding.id);
                whole.extend(now_whole);
            }
        }
        news.whole_locks = whole.into_iter().collect();
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
        news.answers.sort();
        news.answers.dedup();
        (news != News::default()).then_some(news)
    }
}

/// What one look found.
#[derive(Debug, Default)]
pub struct Found {
    /// Objects that are missing or not what was written.
    pub damaged: BTreeSet<StoredObject>,
    /// Objects that are what was written.
    pub good: HashSet<StoredObject>,
    /// Objects that are locked for less than a manifest says.
    pub short_locks: BTreeSet<StoredObject>,
    /// Objects that are locked for as long as every manifest says.
    pub whole_locks: HashSet<StoredObject>,
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
    /// As [`Finding::short_locks`].
    pub short_locks: Vec<StoredObject>,
    /// As [`Finding::whole_locks`].
    pub whole_locks: Vec<StoredObject>,
}

impl Vault {
    /// Everything that was found in a locker.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only: a finding that is not to be trusted stops nobody.
    pub async fn findings(&self, locker: Locker) -> Result<Findings, DocumentError> {
        let (mut all, mut unreadable) = (Vec::new(), Vec::new());
        for (_, _, read) in self.records::<Finding>(locker, "v").await? {
            match read {
                Ok(signed) => all.push(signed.value),
                Err(error) => unreadable.push(error),
            }
        }
        all.sort_by_key(|finding| finding.id);
        Ok(Findings::new(all, unreadable))
    }

    /// Findings that can be read and trusted, with when the store got each.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn dated_findings(&self, locker: Locker) -> Result<Vec<(DateTime<Utc>, Finding)>, DocumentError> {
        let read = self.records::<Finding>(locker, "v").await?;
        Ok(read.into_iter().filter_map(|(_, stored_at, read)| Some((stored_at, read.ok()?.value))).collect())
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
            short_locks: Vec::new(),
            whole_locks: Vec::new(),
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
        let found = |damaged: &[u8], good: &[u8]| Found { damaged: set(damaged), good: set(good), ..Found::default() };
        assert_eq!(findings.news(&found(&[1, 2], &[3]), false), None);
        assert_eq!(findings.news(&found(&[1], &[3]), false), None, "what was not looked at stays as it was");
        let news = findings.news(&found(&[1, 3], &[2]), true).unwrap();
        assert_eq!(news, News { damaged: set(&[3]), answers: vec![before.id], sound: set(&[2]), ..News::default() });
        assert_eq!(findings.news(&found(&[2], &[2]), false), None, "bad for one backup is bad");
    }

    #[test]
    fn a_short_lock_stays_in_doubt_until_a_look_finds_it_whole() {
        let short = Finding { short_locks: set(&[1, 2]), ..finding(false, &[], &[], &[]) };
        let found = |short: &[u8], whole: &[u8]| Found { short_locks: set(short), whole_locks: set(whole), ..Found::default() };
        let findings = Findings::new(vec![short.clone()], Vec::new());
        assert!([1, 2].map(|byte| findings.is_lock_short(object(byte))) == [true; 2] && !findings.is_lock_short(object(3)));
        assert!(!findings.is_damaged(object(1)) && !findings.ever_damaged(object(1)), "what it holds is whole");
        assert_eq!(findings.news(&found(&[1], &[3]), false), None, "2 was not asked about");
        let news = findings.news(&found(&[1, 3], &[2]), false).unwrap();
        assert_eq!(news, News { short_locks: set(&[3]), answers: vec![short.id], whole_locks: set(&[2]), ..News::default() });
        let answer = Finding { whole_locks: set(&[2]), ..finding(false, &[], &[&short], &[]) };
        let findings = Findings::new(vec![short.clone(), answer.clone()], Vec::new());
        assert!([1, 2].map(|byte| findings.is_lock_short(object(byte))) == [true, false]);
        let again = Finding { short_locks: set(&[2]), ..finding(false, &[], &[], &[]) };
        assert!(Findings::new(vec![short, answer, again], Vec::new()).is_lock_short(object(2)), "shortened once more");
    }
}
