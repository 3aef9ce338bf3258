//! `tenure schedules`.

use std::{fs, process::Command};

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::harness::{postgres, program::Program};

#[test]
fn without_a_folder_it_says_where_it_looked_and_writes_those_that_tenure_comes_with() {
    let program = Program::new();
    let error = program.refused(2, &["schedules"]);
    assert_eq!(error["message"], "schedules: there are no schedules: no such folder");
    assert!(error["hint"].as_str().unwrap().contains("`tenure schedules --write`"), "{error:#}");
    assert!(!program.path("schedules").exists());

    let written = program.done(&["schedules", "--write"]);
    assert_eq!(written["written"].as_array().unwrap().len(), 4);
    assert_eq!(program.done(&["schedules", "--write"])["written"], serde_json::json!([]));
    let found = program.done(&["schedules"]);
    let said: Vec<_> = found["schedules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["name"].as_str().unwrap(), s["enabled"].as_bool().unwrap()))
        .collect();
    assert_eq!(said, [("drill", false), ("integrity", true), ("nightly", true), ("retention", true)]);
    assert!(
        found["notes"][0].as_str().unwrap().starts_with("`tenure worker` runs those that are on; without it cron"),
        "{found:#}"
    );
    let (code, stdout, stderr) = program.say(&["schedules"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(
        stdout.contains("drill: off, drill, which is not built yet\n")
            && stdout.contains("note: `tenure worker` runs those that are on"),
        "{stdout}"
    );
}

#[test]
fn the_next_five_times_are_local_with_their_offset_and_ahead() {
    let program = Program::new();
    fs::create_dir(program.path("schedules")).unwrap();
    let text = "name = \"x\"\ncron = \"30 2 * * *\"\ntime_zone = \"Asia/Kolkata\"\naction = \"backup\"\n";
    fs::write(program.path("schedules/x.toml"), text).unwrap();
    let before = Utc::now();
    let found = program.done(&["schedules"]);
    let next: Vec<&str> = found["schedules"][0]["next"].as_array().unwrap().iter().map(|time| time.as_str().unwrap()).collect();
    assert_eq!(next.len(), 5);
    assert!(next.iter().all(|time| time.ends_with("T02:30:00+05:30")), "{next:?}");
    let times: Vec<_> = next.iter().map(|time| DateTime::parse_from_rfc3339(time).unwrap()).collect();
    assert!(times[0] > before && times.windows(2).all(|pair| pair[1] - pair[0] == chrono::TimeDelta::days(1)), "{next:?}");
    let (_, stdout, _) = program.say(&["schedules"]);
    assert_eq!(stdout.matches(" 02:30 +05:30\n").count(), 5, "{stdout}");
}

#[test]
fn a_file_that_is_no_schedule_is_named_and_the_others_are_shown() {
    let program = Program::new();
    program.done(&["schedules", "--write"]);
    fs::write(program.path("schedules/broken.toml"), "name = \"broken\"\ncorn = \"@daily\"\n").unwrap();
    fs::write(program.path("schedules/latin.toml"), b"name = \"\xe9\"").unwrap();
    fs::create_dir(program.path("schedules/folder.toml")).unwrap();
    let (code, found) = program.run(&["schedules"]);
    assert_eq!((code, found["schedules"].as_array().unwrap().len()), (2, 4), "{found:#}");
    let problems: Vec<&str> = found["problems"].as_array().unwrap().iter().map(|p| p["problem"].as_str().unwrap()).collect();
    assert_eq!(problems[0], "schedules/broken.toml line 2: unknown key `corn`");
    assert_eq!(found["problems"][0]["hint"], "Did you mean `cron`?");
    assert_eq!(problems[1], "schedules/folder.toml: cannot read the schedule: not a file");
    assert!(problems[2].starts_with("schedules/latin.toml: cannot read the schedule: "), "{problems:?}");
    let (code, stdout, stderr) = program.say(&["schedules"]);
    assert!(
        code == 2 && stdout.contains("nightly: on, backup") && stderr.contains("error: schedules/broken.toml line 2"),
        "{stdout}{stderr}"
    );
}

/// What a schedule stands for, run as cron would run it: by a shell, in another folder, with next to no environment.
fn as_cron_runs(schedule: &Value) -> (i32, String) {
    let line = schedule["crontab"].as_str().unwrap().strip_prefix(schedule["cron"].as_str().unwrap()).unwrap();
    // A bare percent sign ends the command.
    let line = line.replace(r"\%", "\0").split('%').next().unwrap().replace('\0', "%");
    let done =
        Command::new("/bin/sh").args(["-c", &line]).current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").output().unwrap();
    (done.status.code().unwrap(), String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr))
}

#[test]
fn each_crontab_line_does_what_its_schedule_stands_for() {
    let server = postgres::Cluster::start(&postgres::Options::default());
    server.create_database("tenant_acme");
    server.create_database("tenant_o'brien%s");
    let program = Program::set_up(&server, "tenant_{tenant}");
    // The time before comes a moment ago, whenever the test runs: crontab lines are for cron to begin.
    let schedule = |name: &str, action: &str, more: &str| {
        fs::create_dir_all(program.path("schedules")).unwrap();
        let text = format!("name = \"{name}\"\ncron = \"* * * * *\"\ntime_zone = \"UTC\"\naction = \"{action}\"\n{more}");
        fs::write(program.path(&format!("schedules/{name}.toml")), text).unwrap();
    };
    schedule("nightly", "backup", "");
    schedule("single", "backup", "tenants = [\"o'brien%s\"]\n");
    schedule("some", "backup", "tenants = [\"a*\"]\n");
    schedule("retention", "expire", "");
    schedule("integrity", "verify", "");
    schedule("returned", "reconcile", "");
    schedule("drill", "drill", "enabled = false\n");
    let found = program.done(&["schedules"]);
    let named = |name: &str| found["schedules"].as_array().unwrap().iter().find(|s| s["name"] == name).unwrap();
    let backups = |tenant: &str| program.done(&["list", tenant])["backups"].as_array().unwrap().len();
    assert_eq!(as_cron_runs(named("single")), (0, String::new()));
    assert_eq!(program.refused(1, &["list", "acme"])["kind"], "unknown-tenant");
    for name in ["nightly", "some", "retention", "integrity", "returned"] {
        assert_eq!(as_cron_runs(named(name)), (0, String::new()), "{name}");
    }
    // As often as a minute began meanwhile.
    assert!(backups("acme") >= 1 && backups("o'brien%s") >= 1);
    assert_eq!((&named("drill")["crontab"], &named("drill")["why_no_crontab"]), (&Value::Null, &"not built yet".into()));
    schedule("single", "backup", "enabled = false\n");
    let found = program.done(&["schedules"]);
    let off = found["schedules"].as_array().unwrap().iter().find(|s| s["name"] == "single").unwrap();
    assert_eq!(
        (&off["crontab"], &off["why_no_crontab"], off["next"].as_array().unwrap().len()),
        (&Value::Null, &"off".into(), 5)
    );
}
