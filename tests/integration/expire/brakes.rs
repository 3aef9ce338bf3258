//! What waits for a person.

use tenure::{
    format::act::{ActCommand, ActOutcome},
    object_name::ObjectName,
    operation::expire::report::Brake,
};

use super::*;

async fn confirm(lockers: &Lockers, run_id: &str, now: DateTime<Utc>) -> Result<ExpireReport, Failure> {
    let request = Request { confirm: Some(run_id.parse().unwrap()), ..Request::default() };
    run(lockers, (&lockers.vault, &lockers.keyring), request, now).await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_half_of_everything_and_the_newest_of_a_tenant_wait_until_they_are_confirmed() {
    let lockers = Lockers::new().await;
    let (dropped, of_dropped) = nights(&lockers, "dropped", &days("2026-05-01", 4)).await;
    let (living, of_living) = nights(&lockers, "living", &days("2026-10-01", 5)).await;
    // Four of nine are over; the last of them is all that is left of its tenant.
    let report = expire(&lockers, at("2026-11-04")).await;
    assert_eq!((code(&report), ids(&report.removed)), (4, texts(&of_dropped[..3])), "{report:?}");
    let waiting = report.waiting.unwrap();
    assert_eq!(waiting.backups.len(), 1);
    assert_eq!((waiting.backups[0].backup.as_str(), waiting.backups[0].brake), (&*of_dropped[3].id().to_string(), Brake::Newest));
    let left: Vec<&Night> = of_dropped[3..].iter().collect();
    assert_eq!(stored(&lockers, &dropped).await, needed(&dropped, &left));
    // The record says so, and what was done.
    let act = lockers.vault.act(waiting.run.as_ref().unwrap().parse().unwrap()).await.unwrap();
    assert_eq!((act.command, act.outcome), (ActCommand::Expire, ActOutcome::Waiting));
    assert_eq!((act.lockers[0].locker, &act.lockers[0].backups), (dropped.locker(), &vec![of_dropped[3].id()]));
    let act = lockers.vault.act(report.run.unwrap().parse().unwrap()).await.unwrap();
    assert_eq!((act.outcome, act.lockers.len(), act.lockers[0].backups.len()), (ActOutcome::Done, 1, 3));
    assert_eq!((act.lockers[0].name_tag, act.certificate), (Some(dropped.record.name_tag), None));

    let confirmed = confirm(&lockers, &waiting.run.unwrap(), at("2026-11-05")).await.unwrap();
    assert_eq!((code(&confirmed), ids(&confirmed.removed)), (0, texts(&of_dropped[3..])), "{confirmed:?}");
    assert_eq!(stored(&lockers, &dropped).await, BTreeSet::new());

    // The clock, or whoever set it, is wrong by a year: everything waits, also what is not the newest.
    let before = stored(&lockers, &living).await;
    let report = expire(&lockers, at("2027-11-05")).await;
    assert_eq!((code(&report), report.removed.len(), report.objects_removed), (4, 0, 0), "{report:?}");
    let waiting = report.waiting.unwrap();
    let brakes: Vec<Brake> = waiting.backups.iter().map(|backup| backup.brake).collect();
    assert_eq!(
        brakes,
        [Brake::HalfOfTheFleet, Brake::HalfOfTheFleet, Brake::HalfOfTheFleet, Brake::HalfOfTheFleet, Brake::Newest]
    );
    assert_eq!(stored(&lockers, &living).await, before);
    // Confirmed too early, nothing is over yet.
    let early = confirm(&lockers, waiting.run.as_ref().unwrap(), at("2026-11-06")).await.unwrap();
    assert_eq!((code(&early), early.removed.len()), (0, 0));
    let confirmed = confirm(&lockers, waiting.run.as_ref().unwrap(), at("2027-11-05")).await.unwrap();
    assert_eq!((code(&confirmed), ids(&confirmed.removed)), (0, texts(&of_living)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_lets_go_of_what_it_names_and_of_nothing_later() {
    let lockers = Lockers::new().await;
    let (mut acme, of_acme) = nights(&lockers, "acme", &days("2026-05-01", 3)).await;
    let waiting = expire(&lockers, at("2026-12-01")).await.waiting.unwrap();
    assert_eq!(waiting.backups.len(), 3);
    let later = lockers.night(&mut acme, at("2026-12-01"), &[1]).await;
    // A year on, that one is over as well. It was not there when somebody looked.
    let report = confirm(&lockers, waiting.run.as_ref().unwrap(), at("2027-12-01")).await.unwrap();
    assert_eq!((code(&report), ids(&report.removed)), (4, texts(&of_acme)), "{report:?}");
    lockers.opens(&acme, &later).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_signed_record_of_a_run_that_waited_confirms() {
    let lockers = Lockers::new().await;
    nights(&lockers, "acme", &days("2026-05-01", 3)).await;
    let quiet = expire(&lockers, at("2026-05-10")).await.run.unwrap();
    let waiting = expire(&lockers, at("2026-12-01")).await.waiting.unwrap().run.unwrap();
    let before = lockers.objects().await;
    let refused = async |id: &str| confirm(&lockers, id, at("2026-12-01")).await.unwrap_err();
    assert_eq!((refused(&quiet).await.class.code(), refused(&quiet).await.kind), (4, "not-waiting"));
    let nobodys = RecordId::random().to_string();
    assert_eq!((refused(&nobodys).await.class.code(), refused(&nobodys).await.kind), (1, "no-such-run"));
    let name = before.iter().find(|name| name.ends_with(&format!("{waiting}.json"))).unwrap();
    let name: ObjectName = name.parse().unwrap();
    let text = std::fs::read_to_string(lockers.path(&name)).unwrap();
    std::fs::write(lockers.path(&name), text.replace("expire", "purge")).unwrap();
    assert_eq!(refused(&waiting).await.class.code(), 5);
    assert_eq!(lockers.objects().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_locker_of_a_tenant_with_a_newer_one_empties_by_itself() {
    let lockers = Lockers::new().await;
    let (old, of_old) = nights(&lockers, "acme", &days("2026-05-01", 3)).await;
    let (_, of_new) = nights(&lockers, "acme", &days("2026-10-01", 4)).await;
    let report = expire(&lockers, at("2026-11-10")).await;
    assert_eq!((code(&report), ids(&report.removed)), (0, texts(&of_old)), "{report:?}");
    assert_eq!(stored(&lockers, &old).await, BTreeSet::new());
    assert_eq!(of_new.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locker_that_the_keyring_does_not_know_expires_all_the_same_and_is_named() {
    let lockers = Lockers::new().await;
    let (acme, of_acme) = nights(&lockers, "acme", &days("2026-05-01", 3)).await;
    nights(&lockers, "other", &days("2026-10-01", 4)).await;
    let record = Document::KeyRecord(acme.record.name_tag, acme.record.key_id);
    lockers.keyring.store().delete(&record.to_string()).await.unwrap();
    let report = expire(&lockers, at("2026-11-02")).await;
    assert_eq!((code(&report), ids(&report.removed)), (5, texts(&of_acme[..2])), "{report:?}");
    assert_eq!(report.removed[0].tenant, None);
    assert!(report.problems[0].problem.contains("no key record"), "{report:?}");
    // Its last one waits as anybody's: the key may be put back.
    let report = expire(&lockers, at("2026-11-04")).await;
    assert_eq!(report.waiting.unwrap().backups[0].tenant, None);
}
