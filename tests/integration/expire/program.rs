//! The program itself.

use chrono::Months;
use serde_json::{Value, json};

use super::*;
use crate::harness::program::{command_in, run_in};

/// Nights of which the older half is over.
async fn half_over(lockers: &Lockers, name: &str, count: usize) -> (Tenant, Vec<Night>) {
    let first = Utc::now() - Months::new(6) - TimeDelta::days(count as i64 / 2) + TimeDelta::hours(12);
    let times: Vec<_> = (0..count).map(|day| first + TimeDelta::days(day as i64)).collect();
    nights(lockers, name, &times).await
}

fn removed(document: &Value) -> BTreeSet<String> {
    document["removed"].as_array().unwrap().iter().map(|removed| removed["backup"].as_str().unwrap().to_owned()).collect()
}

/// No server is reached: whether a tenant's database is still there plays no part.
#[tokio::test(flavor = "multi_thread")]
async fn expire_works_without_any_server_and_says_what_it_did() {
    let lockers = Lockers::new().await;
    let (acme, of_acme) = half_over(&lockers, "acme", 10).await;
    let folder = lockers.folder();
    let before = lockers.objects().await;

    let (code, looked) = run_in(folder, &["expire", "--dry-run"]);
    assert_eq!((code, &looked["dry_run"], removed(&looked)), (0, &json!(true), texts(&of_acme[..5])), "{looked:#}");
    let tomorrow = (Utc::now() + TimeDelta::days(1)).format("%Y-%m-%dT%H:%M:%S+00:00").to_string();
    let (code, looked) = run_in(folder, &["expire", "--as-of", &tomorrow]);
    assert_eq!((code, &looked["dry_run"], removed(&looked).len()), (4, &json!(true), 0), "six of ten wait: {looked:#}");
    assert_eq!(looked["waiting"]["run"], Value::Null);
    assert_eq!(lockers.objects().await, before);

    let (code, done) = run_in(folder, &["expire"]);
    assert_eq!((code, removed(&done)), (0, texts(&of_acme[..5])), "{done:#}");
    assert_eq!((&done["kept_by_hold"], &done["waiting"], &done["problems"]), (&json!([]), &Value::Null, &json!([])));
    let left: Vec<&Night> = of_acme[5..].iter().collect();
    assert_eq!(stored(&lockers, &acme).await, needed(&acme, &left));
    // Nothing to say is nothing to print, for cron.
    let quiet = command_in(folder, &["-q", "expire"]).output().unwrap();
    assert_eq!((quiet.status.code(), quiet.stdout.len(), quiet.stderr.len()), (Some(0), 0, 0), "{quiet:?}");
    let (code, verified) = run_in(folder, &["verify", "--all", "--identity", "recovery-kit.txt"]);
    assert_eq!((code, &verified["problems"], &verified["leftovers"]), (0, &json!([]), &json!([])), "{verified:#}");
    let (code, listed) = run_in(folder, &["list", "acme"]);
    assert_eq!((code, listed["backups"].as_array().unwrap().len()), (0, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_said_with_the_command_that_lets_go_of_it() {
    let lockers = Lockers::new().await;
    let first = Utc::now() - Months::new(8);
    let (_, of_acme) = nights(&lockers, "acme", &[first, first + TimeDelta::days(1)]).await;
    let said = command_in(lockers.folder(), &["expire"]).output().unwrap();
    assert_eq!(said.status.code(), Some(4), "{said:?}");
    let (stdout, stderr) = (String::from_utf8(said.stdout).unwrap(), String::from_utf8(said.stderr).unwrap());
    assert!(stdout.contains(&format!("waits: acme {}: it is the newest that is left of a tenant", of_acme[1].id())), "{stdout}");
    let run = stderr.split("tenure expire --confirm ").nth(1).unwrap_or_else(|| panic!("{stderr}"));
    let run = run.split('`').next().unwrap();
    let (code, done) = run_in(lockers.folder(), &["expire", "--confirm", run]);
    assert_eq!((code, removed(&done)), (0, texts(&of_acme[1..])), "{done:#}");
    for (wrong, code) in [("x", 2), ("00000000000000000000000000000000", 1)] {
        assert_eq!(run_in(lockers.folder(), &["expire", "--confirm", wrong]).0, code, "{wrong}");
    }
    assert_eq!(run_in(lockers.folder(), &["expire", "--as-of", "2026-11-21T03:00:00"]).0, 2, "a time without a zone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_backup_on_hold_is_listed_as_held() {
    let lockers = Lockers::new().await;
    let (acme, of_acme) = half_over(&lockers, "acme", 4).await;
    let states = || -> Vec<String> {
        let (_, listed) = run_in(lockers.folder(), &["list", "acme"]);
        listed["backups"].as_array().unwrap().iter().map(|backup| backup["state"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(states(), ["good", "good", "expired", "expired"]);
    hold(&lockers, acme.locker(), placed()).await;
    assert_eq!(states(), ["good", "good", "held", "held"]);
    let (code, shown) = run_in(lockers.folder(), &["show", "acme", &of_acme[0].id().to_string()]);
    assert_eq!((code, &shown["backup"]["state"]), (0, &json!("held")));
}

/// Killed by the kernel at whatever it does; then run again.
#[tokio::test(flavor = "multi_thread")]
async fn killed_and_run_again_it_ends_as_if_it_had_not_been() {
    let lockers = Lockers::new().await;
    let (acme, of_acme) = half_over(&lockers, "acme", 40).await;
    let mut killed = 0;
    for n in 0..12 {
        let mut child = command_in(lockers.folder(), &["-q", "expire"]).spawn().unwrap();
        // Not to wait for anything: to be at another place each time. The first is killed before it can have ended.
        std::thread::sleep(std::time::Duration::from_millis(15 * n));
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        for night in &of_acme[20..] {
            lockers.opens(&acme, night).await.unwrap();
        }
    }
    assert!(killed > 0);
    assert_eq!(run_in(lockers.folder(), &["expire"]).0, 0);
    let left: Vec<&Night> = of_acme[20..].iter().collect();
    assert_eq!(stored(&lockers, &acme).await, needed(&acme, &left));
}
