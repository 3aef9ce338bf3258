//! Writing down what was found, so that the next backup stores it anew.

use chrono::{DateTime, Utc};

use super::{Verify, VerifyReport, look::Look};
use crate::{
    format::record::{Finding, StoredObject},
    id::{Locker, RecordId},
    object_name::Document,
    operation::failure::Failure,
    signature::Namespace,
    signed::{self, FORMAT},
    vault::findings::{Findings, News},
};

/// Objects to one finding: some megabytes of JSON.
const OBJECTS: usize = 50_000;

impl Verify<'_> {
    /// Writes what the look at a locker has to say that no finding says yet. That it cannot be written is said, and stops nothing.
    pub(super) async fn record(
        &self,
        locker: Locker,
        known: &Findings,
        look: &Look<'_>,
        now: DateTime<Utc>,
        report: &mut VerifyReport,
    ) -> Result<(), Failure> {
        let Some(news) = known.news(&look.found, self.identity.is_some()) else { return Ok(()) };
        let signer = match &self.signer {
            Ok(signer) => {
                self.vault.check_signer(signer, Namespace::Run, now).map(|()| *signer).map_err(|error| error.to_string())
            }
            Err(why) => Err(why.clone()),
        };
        let signer = match signer {
            Ok(signer) => signer,
            Err(why) => {
                report.notes.push(format!("what was found is not recorded for the next backup: {why}"));
                return Ok(());
            }
        };
        for finding in self.split(locker, news, now) {
            let object = signed::locate(self.vault.store(), &Document::Finding(locker, finding.id));
            match self.vault.put_finding(&finding, signer).await {
                Ok(()) => report.findings.push(object),
                Err(error) => report.notes.push(format!("what was found could not be recorded as {object}: {}", error.what())),
            }
        }
        Ok(())
    }

    fn split(&self, locker: Locker, news: News, now: DateTime<Utc>) -> Vec<Finding> {
        let blank = |answers: &[RecordId]| Finding {
            format: FORMAT,
            installation: self.vault.root().installation,
            locker,
            id: RecordId::random(),
            found_at: now,
            opened: self.identity.is_some(),
            damaged: Vec::new(),
            answers: answers.to_vec(),
            sound: Vec::new(),
            short_locks: Vec::new(),
            whole_locks: Vec::new(),
        };
        let split = |objects: Vec<StoredObject>| objects.chunks(OBJECTS).map(<[_]>::to_vec).collect::<Vec<_>>();
        let damaged = split(news.damaged).into_iter().map(|damaged| Finding { damaged, ..blank(&[]) });
        let sound = split(news.sound).into_iter().map(|sound| Finding { sound, ..blank(&news.answers) });
        let short = split(news.short_locks).into_iter().map(|short_locks| Finding { short_locks, ..blank(&[]) });
        let whole = split(news.whole_locks).into_iter().map(|whole_locks| Finding { whole_locks, ..blank(&news.answers) });
        damaged.chain(sound).chain(short).chain(whole).collect()
    }
}
