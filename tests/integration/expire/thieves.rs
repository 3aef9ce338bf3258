//! What a thief of credentials and of a worker's or another key puts in, or takes away.

use tenure::operation::{
    expire::report::Brake,
    restore::choose::{Which, choose},
};

use super::*;

async fn confirm(lockers: &Lockers, run_id: &str, now: DateTime<Utc>) -> Result<ExpireReport, Failure> {
    let request = Request { confirm: Some(run_id.parse().unwrap()), ..Request::default() };
    run(lockers, (&lockers.vault, &lockers.keyring), request, now).await
}

/// The program's exit code and its answer.
fn program(lockers: &Lockers, arguments: &[&str]) -> (Option<i32>, String) {
    let program =
        std::process::Command::new(env!("CARGO_BIN_EXE_tenure")).args(arguments).current_dir(lockers.folder()).output().unwrap();
    (program.status.code(), String::from_utf8(program.stdout).unwrap())
}

const LATE: &str = "declared void long after it was made";

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_declared_void_long_after_it_was_made_counts_as_before() {
    let lockers = Lockers::new().await;
    let (mut acme, mut of_acme) = nights(&lockers, "acme", &days("2026-11-01", 4)).await;
    for night in &of_acme {
        lockers.void(acme.locker(), night.id(), at("2026-11-10")).await;
    }
    let before = stored(&lockers, &acme).await;
    let (now, tenant) = (at("2026-11-20"), "acme".parse().unwrap());
    let report = expire(&lockers, now).await;
    assert_eq!((code(&report), report.removed.len(), report.objects_removed), (5, 0, 0), "{report:?}");
    assert_eq!(report.problems.iter().filter(|problem| problem.problem.contains(LATE)).count(), 4, "{report:?}");
    assert_eq!(stored(&lockers, &acme).await, before);

    // Listed, verified as a failure, restored, built upon.
    let (code_of_list, listed) = program(&lockers, &["list", "acme", "--json"]);
    assert_eq!((code_of_list, listed.matches("\"state\": \"good\"").count()), (Some(5), 4), "{listed}");
    assert_eq!(listed.matches(LATE).count(), 4, "{listed}");
    let (code_of_verify, verified) = program(&lockers, &["verify", "--all", "--json"]);
    assert!(code_of_verify == Some(5) && verified.matches(LATE).count() == 4, "{verified}");
    let histories = [(acme.locker(), lockers.vault.history(acme.locker(), now).await.unwrap())];
    let (_, chosen) = choose(&tenant, (&histories, &[]), &Which::Latest, now, false).unwrap();
    assert_eq!(chosen.manifest.backup, of_acme[3].id());
    of_acme.push(lockers.night(&mut acme, now, &[5]).await);
    assert_eq!(of_acme[4].backup.manifest.previous.as_ref().unwrap().backup, of_acme[3].id());
    for night in &of_acme {
        lockers.opens(&acme, night).await.unwrap();
    }

    // It ends when its own time is over, and then nothing of it is left.
    nights(&lockers, "other", &days("2027-04-01", 6)).await;
    let report = expire(&lockers, at("2027-05-04")).await;
    assert_eq!(ids(&report.removed), texts(&of_acme[..4]), "{report:?}");
    assert_eq!(code(&expire(&lockers, at("2027-05-05")).await), 0);
    assert_eq!(stored(&lockers, &acme).await, needed(&acme, &[&of_acme[4]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_counts_until_the_longest_run_is_over_and_not_a_moment_longer() {
    for (late, counted) in [(0, 1), (1, 2)] {
        let lockers = Lockers::new().await;
        let (acme, of_acme) = nights(&lockers, "acme", &days("2026-11-01", 2)).await;
        let end = at("2026-11-02") + TimeDelta::seconds(lockers.vault.root().max_run_seconds as i64 + late);
        lockers.void(acme.locker(), of_acme[1].id(), end).await;
        let history = lockers.vault.history(acme.locker(), at("2026-11-20")).await.unwrap();
        assert_eq!((history.backups.len(), history.problems.len() as i64), (counted, late), "{history:?}");
        // Whose manifest is hidden as well is not explained by it.
        std::fs::remove_file(lockers.path(&ObjectName::Document(Document::Manifest(acme.locker(), of_acme[1].id())))).unwrap();
        let history = lockers.vault.history(acme.locker(), at("2026-11-20")).await.unwrap();
        assert_eq!((history.voids.len() as i64, history.perhaps_hidden(at("2026-11-20")).count() as i64), (1 - late, late));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn voided_backups_that_are_over_half_of_everything_wait() {
    let lockers = Lockers::new().await;
    let mut acme = lockers.tenant("acme", at("2026-11-01")).await;
    let mut nights = Vec::new();
    for (n, time) in days("2026-11-01", 5).into_iter().enumerate() {
        nights.push(lockers.night(&mut acme, time, &[n]).await);
        if (1..4).contains(&n) {
            lockers.void(acme.locker(), nights[n].id(), time).await;
        }
    }
    let before = stored(&lockers, &acme).await;
    let report = expire(&lockers, at("2026-11-20")).await;
    assert_eq!((code(&report), report.objects_removed, report.removed.len()), (4, 0, 0), "{report:?}");
    let waiting = report.waiting.unwrap();
    assert!(waiting.backups.iter().all(|backup| backup.brake == Brake::HalfOfTheFleet));
    assert_eq!(waiting.backups.iter().map(|backup| backup.backup.clone()).collect::<BTreeSet<_>>(), texts(&nights[1..4]));
    assert_eq!(stored(&lockers, &acme).await, before);
    let report = confirm(&lockers, &waiting.run.unwrap(), at("2026-11-20")).await.unwrap();
    assert_eq!(code(&report), 0, "{report:?}");
    assert_eq!(stored(&lockers, &acme).await, needed(&acme, &[&nights[0], &nights[4]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_newest_needs_stays_when_its_manifest_is_taken_away() {
    let lockers = Lockers::new().await;
    let (acme, of_acme) = nights(&lockers, "acme", &days("2026-06-01", 4)).await;
    let newest = &of_acme[3];
    let manifest = ObjectName::Document(Document::Manifest(acme.locker(), newest.id()));
    let aside = lockers.folder().join("aside");
    std::fs::rename(lockers.path(&manifest), &aside).unwrap();
    let left = |names: &BTreeSet<String>| names.iter().filter(|name| name.contains(&newest.id().to_string())).count();
    let of_newest = left(&stored(&lockers, &acme).await);
    assert!(of_newest > 2, "a chunk, a page and a signature: {of_newest}");
    let report = expire(&lockers, at("2026-12-01")).await;
    assert_eq!((code(&report), ids(&report.removed)), (0, texts(&of_acme[..1])), "{report:?}");
    assert_eq!(left(&stored(&lockers, &acme).await), of_newest);
    let (_, verified) = program(&lockers, &["verify", "--all", "--json"]);
    assert!(verified.contains(&format!("{}.json.sig", newest.id())), "{verified}");
    std::fs::rename(&aside, lockers.path(&manifest)).unwrap();
    lockers.opens(&acme, newest).await.unwrap();

    // Kept no longer than anything may be.
    std::fs::remove_file(lockers.path(&manifest)).unwrap();
    expire(&lockers, at("2036-06-04") - TimeDelta::microseconds(1)).await;
    assert_eq!(left(&stored(&lockers, &acme).await), of_newest);
    expire(&lockers, at("2036-06-04")).await;
    assert_eq!(left(&stored(&lockers, &acme).await), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobodys_record_confirms_but_that_of_the_key_that_runs_the_command() {
    let lockers = Lockers::new().await;
    nights(&lockers, "acme", &days("2026-05-01", 3)).await;
    let (now, cancel) = (at("2026-12-01"), CancellationToken::new());
    for role in ["worker", "operator", "eraser", "restorer"] {
        let signer = lockers.key(role);
        let (vault, keyring) = (&lockers.vault, &lockers.keyring);
        let theirs = Expire { vault, keyring, signer: Some(&signer), at_once: 1, cancel: &cancel };
        let waiting = theirs.run(Request::default(), now).await.unwrap().waiting.unwrap().run.unwrap();
        let before = lockers.objects().await;
        let refused = confirm(&lockers, &waiting, now).await.unwrap_err();
        assert_eq!((refused.class.code(), refused.kind), (4, "anothers-run"), "{role}: {refused:?}");
        assert!(refused.hint.contains("Nothing was removed"));
        assert_eq!(lockers.objects().await, before);
    }
}
