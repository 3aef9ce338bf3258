//! `report` of nights that several workers recorded.

use std::fs;

use chrono::{DateTime, Days, TimeDelta};
use serde_json::{Value, json};
use tenure::{
    format::act::NightOutcome,
    id::NameTag,
    object_name::{Document, ObjectName},
};

use super::{Site, hours, nights::stood};
use crate::harness::{
    locker::at,
    program::{command_in, run_in},
};

fn tenants(report: &Value) -> Vec<(&str, &str, &str)> {
    let tenants = report["slots"][0]["tenants"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    let text = |tenant: &'_ Value, key: &str| tenant[key].as_str().map(|text| text.to_owned().leak() as &str);
    tenants
        .iter()
        .map(|tenant| {
            (
                text(tenant, "tenant").unwrap_or("forgotten"),
                text(tenant, "outcome").unwrap(),
                text(tenant, "manifest").unwrap_or("none"),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runs_of_several_workers_are_one_night_and_it_is_checked_again() {
    let site = Site::new().await;
    let folder = site.lockers.folder();
    let report = |arguments: &[&str]| run_in(folder, &[&["report"], arguments].concat());
    let (code, none) = report(&[]);
    assert_eq!((code, &none["error"]["kind"]), (1, &json!("no-such-night")));

    let today = chrono::Utc::now().date_naive().and_hms_opt(0, 5, 0).unwrap().and_utc();
    let due_at: DateTime<chrono::Utc> = today - Days::new(2);
    let mut newest = Vec::new();
    for name in ["acme", "globex", "initech", "umbrella"] {
        let mut tenant = site.lockers.tenant(name, due_at).await;
        newest.push(site.lockers.night(&mut tenant, due_at + TimeDelta::minutes(5), &[]).await);
    }
    let tag = |name: &str| site.lockers.keyring.tag(&name.parse().unwrap());
    let some = |n: usize| Some(&newest[n]);
    // One worker had two, tried a third and left a fourth; another one knows better of that third.
    let first = vec![
        stood(tag("acme"), NightOutcome::Done, some(0), None),
        stood(tag("globex"), NightOutcome::Done, some(1), None),
        stood(tag("initech"), NightOutcome::Failed, None, Some("table-locked")),
        stood(tag("umbrella"), NightOutcome::Waiting, some(3), None),
    ];
    let second = vec![
        stood(tag("acme"), NightOutcome::Current, some(0), None),
        stood(tag("initech"), NightOutcome::Done, some(2), None),
        stood(tag("umbrella"), NightOutcome::Failed, some(3), Some("denied")),
        stood(tag("nobody"), NightOutcome::Refused, None, Some("tenant-erased")),
    ];
    site.record(due_at, first).await;
    let last = site.record(due_at, second).await;
    // Another night, with nothing to say of these.
    site.record(due_at - Days::new(1), vec![stood(tag("acme"), NightOutcome::Failed, None, Some("denied"))]).await;

    let expected = vec![
        ("umbrella", "failed", "same"),
        ("forgotten", "refused", "none"),
        ("acme", "done", "same"),
        ("globex", "done", "same"),
        ("initech", "done", "same"),
    ];
    let (code, latest) = report(&[]);
    assert_eq!((code, tenants(&latest)), (3, expected.clone()), "{latest:#}");
    let slot = &latest["slots"][0];
    assert_eq!(slot["outcomes"], json!({"done": 3, "failed": 1, "refused": 1}));
    assert_eq!((slot["records"].as_array().unwrap().len(), &slot["tenants"][4]["attempts"]), (2, &json!(2)));
    let night = due_at.date_naive().to_string();
    assert_eq!(report(&["--night", &night]).1, latest);
    let before = (due_at - Days::new(1)).date_naive().to_string();
    assert_eq!(tenants(&report(&["--night", &before]).1), [("acme", "failed", "none")]);
    assert_eq!(report(&["--night", "2020-01-01"]).1["error"]["kind"], "no-such-night");
    assert_eq!(report(&["--night", "yesterday"]).0, 2);

    let words = command_in(folder, &["report"]).output().unwrap();
    let words = String::from_utf8(words.stdout).unwrap();
    for expected in ["3 done, 1 failed, 1 refused by 2 runs, in 20 min 0 s", "umbrella", "denied"] {
        assert!(words.contains(expected), "{expected}: {words}");
    }
    assert!(!words.contains("globex"), "{words}");

    // A manifest that is another one, or gone.
    let file = site.lockers.path(&ObjectName::Document(Document::Manifest(newest[0].backup.manifest.locker, newest[0].id())));
    let whole = fs::read(&file).unwrap();
    for (spoil, said) in [(Some(b"{}".as_slice()), "changed"), (None, "missing")] {
        match spoil {
            Some(bytes) => fs::write(&file, bytes).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let (code, report) = report(&[]);
        assert_eq!((code, tenants(&report)[2]), (5, ("acme", "done", said)), "{report:#}");
    }
    fs::write(&file, whole).unwrap();
    // Somebody changed what a worker wrote: it says nothing.
    let record = site.lockers.path(&ObjectName::Document(Document::Run(last.started_at.date_naive(), last.id)));
    let whole = fs::read_to_string(&record).unwrap();
    fs::write(&record, whole.replace("denied", "allowed")).unwrap();
    let (code, forged) = report(&["--night", &night]);
    assert_eq!((code, forged["problems"].as_array().unwrap().len()), (5, 1), "{forged:#}");
    assert_eq!(tenants(&forged)[0], ("initech", "failed", "none"), "{forged:#}");
    fs::write(&record, whole).unwrap();
    assert_eq!(tenants(&report(&[]).1), expected);
}

/// A thousand tenants with hostile names are one page that fetches nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_thousand_tenants() {
    let site = Site::new().await;
    let folder = site.lockers.folder();
    let due_at = at("2026-11-21");
    let hostile = "<script>document.title = 'taken'</script>";
    let mut acme = site.lockers.tenant(hostile, due_at).await;
    let newest = site.lockers.night(&mut acme, due_at + hours(1), &[]).await;
    let mut all = vec![stood(acme.record.name_tag, NightOutcome::Done, Some(&newest), None)];
    for n in 1..1000u64 {
        let failed = n % 50 == 7;
        let outcome = if failed { NightOutcome::Failed } else { NightOutcome::Done };
        let mut one = stood(NameTag::random(), outcome, None, failed.then_some("table-locked"));
        one.duration_ms = Some(200 + n * n % 90_000);
        one.bytes_read = (n * 7919) % 1000 * 1_048_576 * (1 + n % 3);
        one.bytes_stored = one.bytes_read / 50;
        all.push(one);
    }
    site.record(due_at, all).await;
    let page = std::env::var_os("TENURE_TEST_PAGE").map_or_else(|| folder.join("night.html"), Into::into);
    let (code, report) = run_in(folder, &["report", "--html", page.to_str().unwrap()]);
    assert_eq!((code, report["slots"][0]["tenants"].as_array().unwrap().len()), (3, 1000));
    let html = fs::read_to_string(&page).unwrap();
    for outside in ["url(", "@import", "<script", "<link", "<img", "<iframe", "<a ", "http:", "https:"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains("&lt;script&gt;") && html.matches("<svg").count() >= 6);
    assert_eq!(html.matches("table-locked").count(), 20);
    assert!(html.len() < 1_000_000, "{}", html.len());
    // Once more in its place, for its owner alone; and nothing is left where it cannot be written.
    run_in(folder, &["report", "--html", page.to_str().unwrap()]);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&page).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, refused) = run_in(folder, &["report", "--html", "not-there/night.html"]);
    assert_eq!((code, &refused["error"]["kind"]), (1, &json!("output")), "{refused:#}");
}
