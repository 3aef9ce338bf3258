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
        let Some(news) = known.news(&look.damaged, &look.good, self.identity.is_some()) else { return Ok(()) };
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
        let one = |damaged: &[StoredObject], sound: &[StoredObject]| Finding {
            format: FORMAT,
            installation: self.vault.root().installation,
            locker,
            id: RecordId::random(),
            found_at: now,
            opened: self.identity.is_some(),
            damaged: damaged.to_vec(),
            answers: if sound.is_empty() { Vec::new() } else { news.answers.clone() },
            sound: sound.to_vec(),
        };
        let damaged = news.damaged.chunks(OBJECTS).map(|damaged| one(damaged, &[]));
        damaged.chain(news.sound.chunks(OBJECTS).map(|sound| one(&[], sound))).collect()
    }
}
