//! What the records of nights and of restores say.

use chrono::{DateTime, Days, TimeDelta, Utc};
use tenure::{
    format::act::{Act, ActCommand, ActOn, ActOutcome, Newest, Night, NightOf, NightOutcome},
    id::{Locker, NameTag, RecordId},
    operation::{alarm::AlarmKind, failure::FailureClass, tenants::TenantState},
};

use super::{Site, hours, identities, of};
use crate::harness::locker::{Night as Backup, at};

/// How a tenant stood.
pub fn stood(name_tag: NameTag, outcome: NightOutcome, newest: Option<&Backup>, reason: Option<&str>) -> NightOf {
    NightOf {
        name_tag,
        outcome,
        newest: newest.map(|night| Newest {
            locker: night.backup.manifest.locker,
            backup: night.id(),
            sha256: night.backup.sha256,
            taken_at: night.backup.manifest.taken_at,
        }),
        duration_ms: newest.map(|_| 1_500),
        bytes_read: newest.map_or(0, |night| night.backup.manifest.totals.bytes_read),
        bytes_stored: newest.map_or(0, |night| night.backup.manifest.totals.bytes_stored),
        attempts: 1,
        reason: reason.map(str::to_owned),
    }
}

impl Site {
    /// Records a run of a worker.
    pub async fn record(&self, due_at: DateTime<Utc>, tenants: Vec<NightOf>) -> Act {
        let waiting = tenants.iter().filter(|of| of.outcome == NightOutcome::Waiting).count() as u64;
        let night = Night { schedule: "nightly".to_owned(), due_at, worker: RecordId::random(), waiting, tenants };
        let times = (due_at, due_at + TimeDelta::minutes(20));
        let act =
            Act { night: Some(night), ..Act::new(self.lockers.installation(), ActCommand::Backup, times, ActOutcome::Done) };
        self.lockers.vault.put_act(&act, &self.lockers.key("worker")).await.unwrap();
        act
    }

    fn tag(&self, name: &str) -> NameTag {
        self.lockers.keyring.tag(&name.parse().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_try_is_said_until_a_later_one_succeeds() {
    let site = Site::new().await;
    let (first, night) = (at("2026-11-20"), at("2026-11-21"));
    let mut acme = site.tenant("acme", first).await;
    let backup = site.lockers.night(&mut acme, first + TimeDelta::minutes(1), &[]).await;
    let tag = site.tag("acme");
    site.record(first, vec![stood(tag, NightOutcome::Done, Some(&backup), None)]).await;
    let good = site.status(first + hours(1)).await;
    assert_eq!((of(&good, "acme").duration_ms, of(&good, "acme").failed.as_deref()), (Some(1_500), None));
    site.record(night, vec![stood(tag, NightOutcome::Failed, Some(&backup), Some("table-locked"))]).await;
    // It is not late yet, and it did not go well.
    let failed = site.status(night + hours(1)).await;
    assert_eq!((identities(&failed), failed.class), (vec![], Some(FailureClass::SomeTenants)));
    assert_eq!((of(&failed, "acme").state, of(&failed, "acme").failed.as_deref()), (TenantState::Good, Some("table-locked")));
    let late = site.status(night + hours(4)).await;
    assert!(late.alarms[0].message.contains("its last try failed: table-locked"), "{late:#?}");
    site.lockers.night(&mut acme, night + hours(5), &[]).await;
    site.quiet(night + hours(6)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_backups_are_counted_and_a_queue_that_moves_alarms_nobody() {
    let site = Site::new().await;
    let names: Vec<String> = (0..15).map(|n| format!("t{n:02}")).collect();
    names.iter().for_each(|name| site.server.create_database(&Site::database(name)));
    let night = at("2026-11-20");
    let mut newest = Vec::new();
    // Four have theirs in the first night, and eleven wait.
    for name in &names[..4] {
        let mut tenant = site.lockers.tenant(name, night).await;
        site.moved_here(&tenant, name, 2, night).await;
        newest.push(site.lockers.night(&mut tenant, night + TimeDelta::minutes(5), &[]).await);
    }
    let after = async |due_at: DateTime<Utc>, done: &[Backup]| {
        let done = done.iter().zip(&names).map(|(night, name)| stood(site.tag(name), NightOutcome::Done, Some(night), None));
        let waiting = names[done.len()..].iter().map(|name| stood(site.tag(name), NightOutcome::Waiting, None, None));
        site.record(due_at, done.chain(waiting).collect()).await;
    };
    after(night, &newest).await;
    let report = site.status(night + hours(9)).await;
    assert_eq!(report.first_backups.unwrap().in_words(), "first backup done 4, waiting 11, about 3 more nights");
    assert_eq!((identities(&report), report.class), (vec![], None), "{report:#?}");

    // A second night makes three: about seven in two nights.
    let second = night + Days::new(1);
    for name in &names[4..7] {
        let mut tenant = site.lockers.tenant(name, second).await;
        site.moved_here(&tenant, name, 2, second).await;
        newest.push(site.lockers.night(&mut tenant, second + TimeDelta::minutes(5), &[]).await);
    }
    after(second, &newest).await;
    let report = site.status(second + hours(1)).await;
    assert_eq!(report.first_backups.unwrap().in_words(), "first backup done 7, waiting 8, about 3 more nights");
    // They are known for longer than a backup may be old by now, and the queue moves.
    let report = site.status(second + hours(6)).await;
    assert!(report.alarms.iter().all(|alarm| alarm.kind == AlarmKind::TenantLate), "{report:#?}");
    // One that fails is in no queue.
    site.record(second + hours(3), vec![stood(site.tag("t14"), NightOutcome::Failed, None, Some("denied"))]).await;
    let report = site.status(second + hours(6)).await;
    assert_eq!(report.alarms.iter().filter(|alarm| alarm.kind == AlarmKind::TenantNever).count(), 1, "{report:#?}");
    // Nobody moves any more: everybody who waits is told.
    let report = site.status(second + Days::new(3) + hours(1)).await;
    assert_eq!(report.alarms.iter().filter(|alarm| alarm.kind == AlarmKind::TenantNever).count(), 8, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_that_restores_many_in_a_day_and_a_forged_record() {
    let site = Site::new().await;
    let now = Utc::now();
    let mut acme = site.tenant("acme", now).await;
    let backup = site.lockers.night(&mut acme, now, &[]).await;
    let restored = async |locker: Locker, outcome: ActOutcome| {
        let on = ActOn {
            locker,
            name_tag: None,
            backups: vec![backup.id()],
            keys: Vec::new(),
            holds: Vec::new(),
            objects: 0,
            bytes: 0,
        };
        let act = Act { lockers: vec![on], ..Act::new(site.lockers.installation(), ActCommand::Restore, (now, now), outcome) };
        site.lockers.vault.put_act(&act, &site.lockers.key("restorer")).await.unwrap();
        act
    };
    for _ in 0..3 {
        restored(acme.locker(), ActOutcome::Done).await;
        restored(Locker::random(), ActOutcome::Refused).await;
    }
    restored(Locker::random(), ActOutcome::Done).await;
    restored(Locker::random(), ActOutcome::Failed).await;
    site.quiet(now).await;
    let last = restored(Locker::random(), ActOutcome::Done).await;
    let report = site.status(now).await;
    let [(AlarmKind::UnusualVolume, who)] = &identities(&report)[..] else { panic!("{report:#?}") };
    assert!(who.starts_with("restorer@"), "{report:#?}");
    assert!(report.alarms[0].message.contains("restored 4 tenants within a day"), "{report:#?}");
    site.lockers.night(&mut acme, now + hours(24), &[]).await;
    site.quiet(now + hours(25)).await;

    // A record that was changed is no record.
    let document = tenure::object_name::Document::Run(last.started_at.date_naive(), last.id).to_string();
    let file = site.lockers.folder().join("vault").join(&document);
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, whole.replace("restore", "reconcile")).unwrap();
    let [(AlarmKind::Integrity, object)] = &site.alarms(now + hours(25)).await[..] else { panic!("no alarm") };
    assert!(object.ends_with(&document), "{object}");
    std::fs::write(&file, whole).unwrap();
    site.quiet(now + hours(25)).await;
}
