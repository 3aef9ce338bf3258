//! What goes when its time is over, and nothing else.

mod brakes;
mod faults;
mod held;
mod program;
mod stores;
mod thieves;

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use tenure::{
    format::{
        hold::{Hold, HoldAct},
        purge_note::{PurgeNote, Purged, PurgedBackup},
    },
    id::{Locker, RecordId},
    keyring::Keyring,
    object_name::{Document, ObjectName},
    operation::{
        expire::{
            Expire, Request,
            report::{ExpireReport, ExpiredBackup},
        },
        failure::{Failure, FailureClass},
    },
    signature::Namespace,
    signed,
    vault::Vault,
};
use tokio_util::sync::CancellationToken;

use crate::harness::locker::{Lockers, Night, Tenant, at};

async fn run(
    lockers: &Lockers,
    (vault, keyring): (&Vault, &Keyring),
    request: Request,
    now: DateTime<Utc>,
) -> Result<ExpireReport, Failure> {
    let (signer, cancel) = (lockers.key("janitor"), CancellationToken::new());
    Expire { vault, keyring, signer: Some(&signer), at_once: 2, cancel: &cancel }.run(request, now).await
}

async fn expire(lockers: &Lockers, now: DateTime<Utc>) -> ExpireReport {
    run(lockers, (&lockers.vault, &lockers.keyring), Request::default(), now).await.unwrap()
}

fn code(report: &ExpireReport) -> u8 {
    report.class().map_or(0, FailureClass::code)
}

fn ids(backups: &[ExpiredBackup]) -> BTreeSet<String> {
    backups.iter().map(|backup| backup.backup.clone()).collect()
}

fn texts<'a>(nights: impl IntoIterator<Item = &'a Night>) -> BTreeSet<String> {
    nights.into_iter().map(|night| night.id().to_string()).collect()
}

/// Everything that these nights need, and what is no backup.
fn needed(tenant: &Tenant, nights: &[&Night]) -> BTreeSet<String> {
    let locker = tenant.locker();
    let mut names = BTreeSet::new();
    for night in nights {
        let manifest = &night.backup.manifest;
        let document = Document::Manifest(locker, manifest.backup);
        names.extend([document.to_string(), format!("{document}.sig")]);
        let pages = manifest.pages.iter().map(|page| ObjectName::Page { locker, birth: page.birth, sha256: page.sha256 });
        let entries = night.entries.iter().chain(&manifest.description);
        let chunks = entries.map(|entry| ObjectName::Chunk { locker, birth: entry.birth, name: entry.name });
        names.extend(pages.chain(chunks).map(|name| name.to_string()));
    }
    names
}

/// What lies in a locker, but for the record of where its tenant lives.
async fn stored(lockers: &Lockers, tenant: &Tenant) -> BTreeSet<String> {
    let (prefix, source) = (format!("t/{}/", tenant.locker()), format!("t/{}/s/", tenant.locker()));
    let names = lockers.objects().await.into_iter();
    names.filter(|name| name.starts_with(&prefix) && !name.starts_with(&source)).collect()
}

fn days(first: &str, count: usize) -> Vec<DateTime<Utc>> {
    (0..count).map(|day| at(first) + TimeDelta::days(day as i64)).collect()
}

/// A tenant with these nights; each changes a range of its own.
async fn nights(lockers: &Lockers, name: &str, times: &[DateTime<Utc>]) -> (Tenant, Vec<Night>) {
    let mut tenant = lockers.tenant(name, times[0]).await;
    let mut nights = Vec::new();
    for (n, time) in times.iter().enumerate() {
        let changed = if n == 0 { vec![] } else { vec![1 + n % (lockers.ranges - 1)] };
        nights.push(lockers.night(&mut tenant, *time, &changed).await);
    }
    (tenant, nights)
}

async fn hold(lockers: &Lockers, locker: Locker, act: HoldAct) -> RecordId {
    let id = RecordId::random();
    let hold = Hold { format: 1, installation: lockers.installation(), locker, id, act, created_at: at("2026-11-21") };
    lockers.vault.put_hold(&hold, &lockers.key("operator")).await.unwrap();
    id
}

fn placed() -> HoldAct {
    HoldAct::Placed { reason: "sealed".to_owned() }
}

async fn note(lockers: &Lockers, tenant: &Tenant, purged: Purged) {
    let (locker, name_tag) = (tenant.locker(), tenant.record.name_tag);
    let (id, created_at) = (RecordId::random(), at("2026-11-21"));
    let note = PurgeNote { format: 1, installation: lockers.installation(), locker, id, name_tag, purged, created_at };
    lockers.vault.put_purge_note(&note, &lockers.key("eraser")).await.unwrap();
    // Long ago: no run is at work that began before it.
    lockers.stamp(&ObjectName::Document(Document::Gone(locker, id)), at("2026-08-01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lockers_made_without_a_server_are_as_good_as_those_of_one() {
    let lockers = Lockers::new().await;
    let mut acme = lockers.tenant("acme", at("2026-11-20")).await;
    let first = lockers.night(&mut acme, at("2026-11-20"), &[]).await;
    let second = lockers.night(&mut acme, at("2026-11-21"), &[0, 5]).await;
    assert_eq!((first.backup.manifest.totals.chunks_stored, second.backup.manifest.totals.chunks_stored), (9, 2));
    for night in [&first, &second] {
        lockers.opens(&acme, night).await.unwrap();
    }
    let crashed = lockers.crashed(&mut acme, at("2026-11-22"), &[1]).await;
    let third = lockers.night(&mut acme, at("2026-11-23"), &[2]).await;
    lockers.void(acme.locker(), third.id(), at("2026-11-23")).await;
    let fourth = lockers.night(&mut acme, at("2026-11-24"), &[3]).await;
    assert_eq!(fourth.backup.manifest.previous.as_ref().unwrap().backup, second.id());
    let history = lockers.vault.history(acme.locker(), at("2026-11-25")).await.unwrap();
    assert_eq!((history.backups.len(), history.problems.len()), (3, 0), "{history:?}");
    assert_eq!((history.unfinished().collect::<Vec<_>>(), &history.voids), (vec![crashed], &vec![third.id()]));
    let verified = std::process::Command::new(env!("CARGO_BIN_EXE_tenure"))
        .args(["verify", "--all", "--identity", "recovery-kit.txt", "--json"])
        .current_dir(lockers.folder())
        .output()
        .unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_goes_and_a_chunk_unchanged_since_the_first_night_outlives_its_birth() {
    let lockers = Lockers::new().await;
    let (acme, nights) = nights(&lockers, "acme", &days("2026-05-01", 10)).await;
    // Six months to the moment: the fourth is over at three in the morning of that day.
    let end = nights[3].backup.manifest.expires_at;
    assert_eq!(end, at("2026-11-04"));
    assert_eq!(ids(&expire(&lockers, end - TimeDelta::microseconds(1)).await.removed), texts(&nights[..3]));
    let before = stored(&lockers, &acme).await;
    let bytes = |names: &BTreeSet<String>| {
        let length = |name: &String| std::fs::metadata(lockers.folder().join("vault").join(name)).unwrap().len();
        names.iter().map(length).sum::<u64>()
    };
    let bytes_before = bytes(&before);
    let report = expire(&lockers, end).await;
    assert_eq!((code(&report), ids(&report.removed)), (0, texts(&nights[3..4])), "{report:?}");
    assert_eq!(report.removed[0].tenant.as_deref(), Some("acme"));

    let left: Vec<&Night> = nights[4..].iter().collect();
    let after = stored(&lockers, &acme).await;
    assert_eq!(after, needed(&acme, &left), "what they need, and nothing else");
    assert_eq!(report.objects_removed, (before.len() - after.len()) as u64);
    assert_eq!(report.bytes_removed, bytes_before - bytes(&after));
    for night in left {
        lockers.opens(&acme, night).await.unwrap();
    }
    // The first range never changed.
    let (first, last) = (&nights[0], nights.last().unwrap());
    assert_eq!((last.entries[0].birth, &last.entries[0]), (first.id(), &first.entries[0]));

    // Once more, nothing is left to do.
    let again = expire(&lockers, end).await;
    assert_eq!((again.removed.len(), again.objects_removed, again.problems.len()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_policy_ends_by_the_calendar_and_no_name_decides() {
    let lockers = Lockers::new().await;
    let mut acme = lockers.tenant("acme", at("2027-08-30")).await;
    for (keep, last_day) in
        [("6 months", "2028-02-29"), ("1 year", "2028-08-31"), ("2 weeks", "2027-09-14"), ("40 days", "2027-10-10")]
    {
        let night = lockers.night_kept(&mut acme, at("2027-08-31"), &[0], keep).await;
        assert_eq!(night.backup.manifest.expires_at, at(last_day), "{keep}");
    }
    lockers.night_kept(&mut acme, at("2028-09-01"), &[1], "1 year").await;
    // Its name says that it is old, and the time that it records is what counts.
    let (mut manifest, entries) = lockers.stored(&mut acme, at("2020-01-01"), &[2], "6 months".parse().unwrap()).await;
    (manifest.taken_at, manifest.expires_at) = (at("2028-09-01"), at("2029-03-01"));
    let named_old = lockers.commit(&mut acme, (manifest, entries)).await;
    for (day, left) in
        [("2027-09-13", 6), ("2027-09-14", 5), ("2027-10-10", 4), ("2028-02-28", 4), ("2028-02-29", 3), ("2028-08-31", 2)]
    {
        assert_eq!(code(&expire(&lockers, at(day)).await), 0);
        let history = lockers.vault.history(acme.locker(), at(day)).await.unwrap();
        assert_eq!(history.backups.len(), left, "{day}");
    }
    lockers.opens(&acme, &named_old).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_cannot_be_read_stops_the_sweep_of_its_tenant_and_nobody_elses() {
    let lockers = Lockers::new().await;
    let (acme, of_acme) = nights(&lockers, "acme", &days("2026-05-01", 6)).await;
    let (other, of_other) = nights(&lockers, "other", &days("2026-05-01", 6)).await;
    let damaged = lockers.path(&ObjectName::Document(Document::Manifest(acme.locker(), of_acme[4].id())));
    let whole = std::fs::read(&damaged).unwrap();
    std::fs::write(&damaged, b"{}").unwrap();
    let report = expire(&lockers, at("2026-11-02")).await;
    assert_eq!(code(&report), 5, "{report:?}");
    assert!(report.problems.iter().all(|problem| problem.tenant.as_deref() == Some("acme")), "{report:?}");
    assert!(report.problems.iter().any(|problem| problem.object.contains(&of_acme[4].id().to_string())), "{report:?}");
    // Those whose own signed time is over went; what only they needed stays, because nobody knows who needs it.
    assert_eq!(ids(&report.removed), texts(of_acme[..2].iter().chain(&of_other[..2])));
    let left: Vec<&Night> = of_other[2..].iter().collect();
    assert_eq!(stored(&lockers, &other).await, needed(&other, &left));
    let of_all: Vec<&Night> = of_acme.iter().collect();
    let chunks = |names: BTreeSet<String>| names.into_iter().filter(|name| !name.contains("/b/")).collect::<BTreeSet<_>>();
    assert_eq!(chunks(stored(&lockers, &acme).await), chunks(needed(&acme, &of_all)));

    // Whole again, it is swept.
    std::fs::write(&damaged, whole).unwrap();
    assert_eq!(code(&expire(&lockers, at("2026-11-02")).await), 0);
    let left: Vec<&Night> = of_acme[2..].iter().collect();
    assert_eq!(stored(&lockers, &acme).await, needed(&acme, &left));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_cannot_be_read_stops_the_sweep() {
    let lockers = Lockers::new().await;
    let (acme, nights) = nights(&lockers, "acme", &days("2026-05-01", 4)).await;
    let page = nights[3].backup.manifest.pages.iter().find(|page| page.birth == nights[3].id()).unwrap();
    let path = lockers.path(&ObjectName::Page { locker: acme.locker(), birth: page.birth, sha256: page.sha256 });
    let whole = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let report = expire(&lockers, at("2026-11-01")).await;
    assert_eq!((code(&report), report.removed.len()), (5, 1), "{report:?}");
    assert!(report.problems[0].problem.contains("is missing"), "{report:?}");
    std::fs::write(&path, whole).unwrap();
    for night in &nights[1..] {
        lockers.opens(&acme, night).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_manifest_unprotects_nothing_unless_a_note_or_a_void_says_why_it_is_gone() {
    for explained in [None, Some("note"), Some("void")] {
        let lockers = Lockers::new().await;
        let mut acme = lockers.tenant("acme", at("2026-05-01")).await;
        let mut nights = Vec::new();
        // What the third night changed, the fourth changed again: nobody else needs it.
        for (time, range) in days("2026-05-01", 5).into_iter().zip([0, 1, 2, 2, 3]) {
            nights.push(lockers.night(&mut acme, time, &[range]).await);
        }
        let gone = &nights[2];
        match explained {
            Some("note") => {
                let backup =
                    PurgedBackup { backup: gone.id(), sha256: gone.backup.sha256, expires_at: gone.backup.manifest.expires_at };
                note(&lockers, &acme, Purged::Backups { before: at("2026-05-04"), backups: vec![backup] }).await;
            }
            Some(_) => lockers.void(acme.locker(), gone.id(), at("2026-05-03")).await,
            None => {}
        }
        std::fs::remove_file(lockers.path(&ObjectName::Document(Document::Manifest(acme.locker(), gone.id())))).unwrap();
        let report = expire(&lockers, at("2026-11-01")).await;
        assert_eq!(ids(&report.removed), texts(&nights[..1]));
        let left: Vec<&Night> = [&nights[1], &nights[3], &nights[4]].to_vec();
        let stored = stored(&lockers, &acme).await;
        if explained.is_none() {
            assert_eq!(code(&report), 5, "{report:?}");
            let chunks: BTreeSet<String> = needed(&acme, &[gone]).into_iter().filter(|name| !name.contains("/b/")).collect();
            assert!(!chunks.is_subset(&needed(&acme, &left)) && chunks.is_subset(&stored), "they stay: it may be put back");
        } else {
            assert_eq!(code(&report), 0, "{report:?}");
            let needed = needed(&acme, &left);
            assert!(needed.is_subset(&stored));
            let more: Vec<&String> = stored.difference(&needed).filter(|name| !name.contains("/gone/")).collect();
            // While the next one names it, the void stays.
            assert_eq!(more.len(), if explained == Some("void") { 3 } else { 0 }, "{explained:?} {more:?}");
        }
        for night in left {
            lockers.opens(&acme, night).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_whose_expiry_is_not_what_it_promised_alarms_and_is_not_acted_upon() {
    let lockers = Lockers::new().await;
    for (tenant, keep, expires_at) in [("early", "6 months", "2026-05-02"), ("late", "20 years", "2046-05-01")] {
        let (mut acme, _) = nights(&lockers, tenant, &days("2026-04-20", 1)).await;
        let (mut manifest, entries) = lockers.stored(&mut acme, at("2026-05-01"), &[1], keep.parse().unwrap()).await;
        manifest.expires_at = at(expires_at);
        lockers.commit(&mut acme, (manifest, entries)).await;
        lockers.night(&mut acme, at("2026-05-02"), &[2]).await;
    }
    let before = lockers.objects().await;
    let report = expire(&lockers, at("2026-05-20")).await;
    assert_eq!((code(&report), report.removed.len(), report.objects_removed), (5, 0, 0), "{report:?}");
    let said: Vec<&str> = report.problems.iter().map(|problem| problem.problem.as_str()).collect();
    assert!(said.iter().any(|what| what.contains("its time, retention and expiry disagree")), "{said:?}");
    assert!(said.iter().any(|what| what.contains("it would be kept longer than 10 years")), "{said:?}");
    let after: Vec<String> = lockers.objects().await.into_iter().filter(|name| !name.starts_with("runs/")).collect();
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_crashed_runs_and_voids_left_is_collected_when_it_has_settled_and_not_before() {
    let lockers = Lockers::new().await;
    let (mut acme, nights) = nights(&lockers, "acme", &days("2026-11-01", 3)).await;
    let crashed = lockers.crashed(&mut acme, at("2026-11-04"), &[5]).await;
    let void = lockers.night(&mut acme, at("2026-11-05"), &[6]).await;
    lockers.void(acme.locker(), void.id(), at("2026-11-05")).await;
    let last = lockers.night(&mut acme, at("2026-11-06"), &[7]).await;
    let before = stored(&lockers, &acme).await;
    let settle = TimeDelta::hours(48);
    // The store's time counts as well as the birth's.
    let late: BTreeSet<&String> = before.iter().filter(|name| name.contains(&crashed.to_string())).collect();
    assert!(late.len() >= 3, "a chunk, a page and a signature: {late:?}");
    for name in &late {
        lockers.stamp(&name.parse().unwrap(), at("2026-11-05"));
    }
    let young = expire(&lockers, at("2026-11-05") + settle).await;
    assert_eq!((young.objects_removed, code(&young)), (0, 0), "{young:?}");
    assert_eq!(young.settling as usize, before.len() - needed(&acme, &[&nights[0], &nights[1], &nights[2], &last]).len());
    assert_eq!(stored(&lockers, &acme).await, before);
    let old = expire(&lockers, at("2026-11-05") + settle + TimeDelta::seconds(1)).await;
    assert_eq!((code(&old), old.settling, old.removed.len()), (0, 0, 0), "{old:?}");
    assert_eq!(stored(&lockers, &acme).await, needed(&acme, &[&nights[0], &nights[1], &nights[2], &last]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_stays_until_it_is_released() {
    let lockers = Lockers::new().await;
    let (acme, of_acme) = nights(&lockers, "acme", &days("2026-05-01", 6)).await;
    let (_, of_other) = nights(&lockers, "other", &days("2026-05-01", 6)).await;
    let (first, second) = (hold(&lockers, acme.locker(), placed()).await, hold(&lockers, acme.locker(), placed()).await);
    let before = stored(&lockers, &acme).await;
    for held in [true, true, false] {
        let report = expire(&lockers, at("2026-11-02")).await;
        assert_eq!(code(&report), 0, "{report:?}");
        assert_eq!(ids(&report.kept_by_hold), if held { texts(&of_acme[..2]) } else { BTreeSet::new() });
        assert!(report.kept_by_hold.iter().all(|kept| kept.tenant.as_deref() == Some("acme")));
        if held {
            assert!(report.removed.iter().all(|removed| removed.tenant.as_deref() == Some("other")));
            let now: BTreeSet<String> = stored(&lockers, &acme).await;
            assert_eq!(
                now.iter().filter(|name| !name.contains("/h/")).cloned().collect::<BTreeSet<_>>(),
                before.iter().filter(|name| !name.contains("/h/")).cloned().collect()
            );
        } else {
            assert_eq!(ids(&report.removed), texts(&of_acme[..2]));
        }
        let hold_id = if held && of_other.len() == 6 { first } else { second };
        // The first round releases one of two, the second the other.
        let released =
            lockers.vault.holds(acme.locker()).await.unwrap().active.iter().map(|held| held.hold.id).collect::<Vec<_>>();
        if let Some(id) = released.iter().find(|id| **id == hold_id).or(released.first()) {
            hold(&lockers, acme.locker(), HoldAct::Released { hold: *id }).await;
        }
    }
    // What cannot be read may be a hold.
    let id = hold(&lockers, acme.locker(), placed()).await;
    std::fs::write(lockers.path(&ObjectName::Document(Document::Hold(acme.locker(), id))), b"{}").unwrap();
    let report = expire(&lockers, at("2026-11-03")).await;
    assert_eq!((code(&report), ids(&report.kept_by_hold)), (5, texts(&of_acme[2..3])), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_is_finished_once_its_keys_are_gone() {
    let lockers = Lockers::new().await;
    let (acme, _) = nights(&lockers, "acme", &days("2026-11-01", 3)).await;
    let (other, of_other) = nights(&lockers, "other", &days("2026-11-01", 3)).await;
    note(&lockers, &acme, Purged::All { keys: vec![acme.record.key_id] }).await;
    let before = stored(&lockers, &acme).await;
    let open = expire(&lockers, at("2026-11-04")).await;
    assert_eq!((code(&open), open.objects_removed), (3, 0), "{open:?}");
    assert!(open.problems[0].problem.contains("the keyring still has a key"), "{open:?}");
    assert_eq!(stored(&lockers, &acme).await, before);

    let record = Document::KeyRecord(acme.record.name_tag, acme.record.key_id);
    for name in [ObjectName::Document(record.clone()), ObjectName::Signature(record)] {
        lockers.keyring.store().delete(&name.to_string()).await.unwrap();
    }
    // A hold still wins.
    let id = hold(&lockers, acme.locker(), placed()).await;
    assert_eq!(expire(&lockers, at("2026-11-04")).await.objects_removed, 0);
    hold(&lockers, acme.locker(), HoldAct::Released { hold: id }).await;
    let done = expire(&lockers, at("2026-11-04")).await;
    assert_eq!((code(&done), done.removed.len()), (0, 0), "{done:?}");
    let prefix = format!("t/{}/", acme.locker());
    let left: Vec<String> = lockers.objects().await.into_iter().filter(|name| name.starts_with(&prefix)).collect();
    assert!(left.len() == 2 && left.iter().all(|name| name.contains("/gone/")), "{left:?}");
    let all: Vec<&Night> = of_other.iter().collect();
    assert_eq!(stored(&lockers, &other).await, needed(&other, &all));

    // A note that is not to be trusted is an alarm, and nobody acts on it.
    let (_, bad) = nights(&lockers, "third", &days("2026-11-01", 1)).await;
    let locker = bad[0].backup.manifest.locker;
    let document = Document::Gone(locker, RecordId::random());
    signed::create_bytes(lockers.vault.store(), &document, "{}".into(), Namespace::Run, &lockers.key("worker")).await.unwrap();
    let report = expire(&lockers, at("2026-11-04")).await;
    assert_eq!((code(&report), report.objects_removed), (5, 0), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_and_the_future_can_be_looked_at() {
    let lockers = Lockers::new().await;
    let (acme, nights) = nights(&lockers, "acme", &days("2026-05-01", 10)).await;
    let look = async |as_of: &str, dry_run: bool, now: &str| {
        let request = Request { as_of: Some(at(as_of)), dry_run, confirm: None };
        run(&lockers, (&lockers.vault, &lockers.keyring), request, at(now)).await.unwrap()
    };
    let before = lockers.objects().await;
    // The future, and a dry run, only look: as it will be then, chunks and all.
    let future = look("2026-11-04", false, "2026-05-11").await;
    let dry = look("2026-11-04", true, "2026-11-04").await;
    assert_eq!(lockers.objects().await, before);
    for report in [&future, &dry] {
        assert!(report.dry_run && report.run.is_none(), "{report:?}");
        assert_eq!(ids(&report.removed), texts(&nights[..4]));
    }
    // The past: only what was over by then.
    let past = look("2026-11-02", false, "2026-11-20").await;
    assert_eq!((past.dry_run, ids(&past.removed)), (false, texts(&nights[..2])));
    let left: Vec<&Night> = nights[2..].iter().collect();
    assert_eq!(stored(&lockers, &acme).await, needed(&acme, &left));
    let real = look("2026-11-04", false, "2026-11-20").await;
    assert_eq!(past.objects_removed + real.objects_removed, future.objects_removed);
    assert_eq!((future.objects_removed, future.bytes_removed), (dry.objects_removed, dry.bytes_removed));
}

/// A finding goes when no backup refers to anything that it speaks of, and not before: the next backup goes by it.
#[tokio::test(flavor = "multi_thread")]
async fn findings_go_with_what_they_speak_of() {
    use tenure::format::record::{Finding, StoredObject};
    let lockers = Lockers::new().await;
    let (acme, of_acme) = nights(&lockers, "acme", &days("2026-05-01", 6)).await;
    let is_left = |entry: &tenure::format::index_page::Entry| {
        of_acme[2..].iter().any(|night| night.entries.iter().any(|other| other.name == entry.name))
    };
    let chunk = |left: bool| {
        let entry = of_acme[0].entries.iter().find(|entry| is_left(entry) == left).unwrap();
        StoredObject::Chunk { birth: entry.birth, name: entry.name }
    };
    let (gone, stays) = (chunk(false), chunk(true));
    let mut put = Vec::new();
    let mut finding = async |damaged: Vec<StoredObject>, sound: Vec<StoredObject>, day: &str| {
        let (answers, id) = (put.iter().copied().take(1).collect(), RecordId::random());
        let finding = Finding {
            format: 1,
            installation: lockers.installation(),
            locker: acme.locker(),
            id,
            found_at: at(day),
            opened: false,
            damaged,
            answers,
            sound,
            short_locks: Vec::new(),
            whole_locks: Vec::new(),
        };
        lockers.vault.put_finding(&finding, &lockers.key("restorer")).await.unwrap();
        let document = Document::Finding(acme.locker(), id);
        lockers.stamp(&ObjectName::Document(document.clone()), at(day));
        lockers.stamp(&ObjectName::Signature(document), at(day));
        put.push(id);
    };
    finding(vec![gone, stays], vec![], "2026-06-01").await;
    finding(vec![gone], vec![], "2026-06-01").await;
    finding(vec![], vec![gone], "2026-06-02").await;
    finding(vec![], vec![stays], "2026-06-03").await;
    finding(vec![gone], vec![], "2026-11-01").await;
    let left = async || {
        let mut ids: Vec<RecordId> =
            lockers.vault.dated_findings(acme.locker()).await.unwrap().iter().map(|(_, finding)| finding.id).collect();
        ids.sort();
        ids
    };
    let of = |which: &[usize]| {
        let mut ids: Vec<RecordId> = which.iter().map(|n| put[*n]).collect();
        ids.sort();
        ids
    };
    // Its backup is over, and on hold: whoever may still be asked for is gone by.
    let id = hold(&lockers, acme.locker(), placed()).await;
    expire(&lockers, at("2026-11-02")).await;
    assert_eq!(left().await, of(&[0, 1, 2, 3, 4]));
    hold(&lockers, acme.locker(), HoldAct::Released { hold: id }).await;
    let report = expire(&lockers, at("2026-11-02")).await;
    assert_eq!((code(&report), report.removed.len()), (0, 2), "{report:?}");
    assert_eq!(left().await, of(&[0, 3, 4]), "the last one is too young");
    let findings = lockers.vault.findings(acme.locker()).await.unwrap();
    assert!(findings.ever_damaged(stays) && !findings.is_damaged(stays));
    let names: BTreeSet<String> = stored(&lockers, &acme).await.into_iter().filter(|name| name.contains("/v/")).collect();
    assert_eq!(names.len(), 6, "no signature is left alone: {names:?}");
}
