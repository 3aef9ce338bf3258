//! What a schedule's file may say.

use std::{fs, path::Path};

use tenure::config::schedule::{
    Action, Schedule,
    folder::{SHIPPED, files, write_shipped},
};

const SMALL: &str = "name = \"nightly\"\ncron = \"30 2 * * *\"\ntime_zone = \"Europe/Berlin\"\naction = \"backup\"\n";

fn parse(text: &str) -> Result<Schedule, String> {
    Schedule::parse(text, Path::new("schedules/nightly.toml"))
        .map_err(|error| format!("{error} | {} | {}", error.key, error.hint))
}

#[test]
fn what_tenure_comes_with_is_read_and_complete() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schedules");
    let shipped: Vec<_> = files(&folder).unwrap().iter().map(|file| Schedule::read(file).unwrap()).collect();
    let said: Vec<_> = shipped.iter().map(|schedule| (schedule.name.as_str(), schedule.enabled, schedule.action)).collect();
    let expected = [
        ("drill", false, Action::Drill),
        ("integrity", true, Action::Verify),
        ("nightly", true, Action::Backup),
        ("retention", true, Action::Expire),
    ];
    assert_eq!(said, expected);
    for schedule in &shipped {
        assert_eq!(schedule.role, Some(schedule.action.role()));
        assert!(schedule.is_for_everybody());
    }
    // The folder and what `--write` writes are the same.
    let there: Vec<String> =
        files(&folder).unwrap().iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let mut names = SHIPPED.map(|(name, _)| name.to_owned());
    names.sort();
    assert_eq!(there, names);
}

#[test]
fn a_small_schedule_has_defaults_and_reads_back() {
    let schedule = parse(SMALL).unwrap();
    assert!(schedule.enabled && schedule.is_for_everybody() && schedule.jitter.get().is_zero());
    assert_eq!((schedule.window, schedule.deadline, schedule.retries, schedule.role), (None, None, 0, None));
    let printed = toml::to_string(&schedule).unwrap();
    assert_eq!(parse(&printed).unwrap(), schedule, "{printed}");
}

#[test]
fn the_documented_schedule_is_one_and_has_every_setting() {
    let page = include_str!("../../../docs/configuration.md");
    let block = page.rsplit("```toml\n").next().unwrap().split("```").next().unwrap();
    let schedule = parse(block).unwrap();
    let said = serde_json::to_value(&schedule).unwrap();
    let schema = serde_json::to_value(schemars::schema_for!(Schedule)).unwrap();
    for setting in schema["properties"].as_object().unwrap().keys() {
        assert!(block.contains(&format!("\n{setting} = ")) || block.starts_with(&format!("{setting} = ")), "{setting}");
        assert!(!said[setting].is_null(), "{setting}");
    }
}

#[test]
fn every_refusal_names_line_key_and_cure() {
    let at = "schedules/nightly.toml line";
    let with = |more: &str| format!("{SMALL}{more}\n");
    for (text, expected) in [
        (with("jiter = \"5min\""), format!("{at} 5: unknown key `jiter` | jiter | did you mean `jitter`?")),
        (with("[tenant]"), format!("{at} 5: unknown key `tenant` | tenant | did you mean `tenants`?")),
        (
            SMALL.replace("cron = ", "# "),
            "schedules/nightly.toml: there is no `cron` |  | add `cron = …`; `tenure schedules --write` writes complete files"
                .into(),
        ),
        (
            String::new(),
            "schedules/nightly.toml: there is no `name` |  | add `name = …`; `tenure schedules --write` writes complete files"
                .into(),
        ),
        (
            SMALL.replace("30 2", "30 2,24"),
            format!("{at} 2: `cron`: `30 2,24 * * *`: `24` is not an hour | cron | expected a number from 0 to 23"),
        ),
        (
            SMALL.replace("30 2 * * *", "0 0 30 2 *"),
            format!("{at} 2: `cron`: `0 0 30 2 *`: that day never comes | cron | expected a day that the month has"),
        ),
        (
            SMALL.replace("30 2 * * *", "@reboot"),
            format!(
                "{at} 2: `cron`: `@reboot`: a schedule is a time, and the start of a host is none | cron | expected minute, hour, day of the month, month and day of the week, like `30 2 * * *`, or @daily"
            ),
        ),
        (
            SMALL.replace("Europe/Berlin", "Europe/Berln"),
            format!(
                "{at} 3: `time_zone`: `Europe/Berln` is not a time zone | time_zone | expected an IANA name; did you mean `Europe/Berlin`?"
            ),
        ),
        (
            SMALL.replace("\"backup\"", "\"bakcup\""),
            format!("{at} 4: `action`: there is no `bakcup` | action | did you mean `backup`?"),
        ),
        (
            SMALL.replace("\"backup\"", "\"erase\""),
            format!(
                "{at} 4: `action`: there is no `erase` | action | use one of backup, expire, verify, reconcile, report, drill"
            ),
        ),
        (
            SMALL.replace("\"backup\"", "\"drill\""),
            format!(
                "{at} 4: `action`: the action \"drill\" is not built yet | action | write `enabled = false`: then it is parsed, and nothing more"
            ),
        ),
        (
            SMALL.replace("nightly", "weekly"),
            format!(
                "{at} 1: the schedule is named `weekly`, and its file is not | name | a schedule has the name of its file, without `.toml`: change one of the two"
            ),
        ),
        (
            with("role = \"eraser\""),
            format!(
                "{at} 5: `role`: \"backup\" works with the credentials of the writer | role | remove the line, or name that role: a schedule has no other rights than its command"
            ),
        ),
        (
            with("tenants = []"),
            format!("{at} 5: `tenants` is empty: nothing could be done | tenants | leave `tenants` out for every tenant"),
        ),
        (
            with("tenants = [\"\"]"),
            format!("{at} 5: `` cannot be a tenant | tenants | write names of tenants, or patterns like \"bank_*\""),
        ),
        (
            with("tenants = [\"acme\"]").replace("backup", "expire"),
            format!("{at} 5: \"expire\" is done for all tenants, and not for some | tenants | remove `tenants`"),
        ),
        (with("window = \"0s\""), format!("{at} 5: `window` is zero: nothing could be done | window | remove the line for none")),
        (
            with("deadline = \"soon\""),
            format!(
                "{at} 5: `deadline`: `soon` is not a length of time | deadline | expected a whole number and s, min, h, days or weeks, like `20s` or `7 days`"
            ),
        ),
        (
            with("jitter = \"2h\"\nwindow = \"2h\""),
            format!("{at} 5: `jitter` is 2h, which may use up the whole `window` | jitter | use less than `window`"),
        ),
        (
            with("window = \"5h\"\ndeadline = \"4h\""),
            format!(
                "{at} 5: `window` is longer than `deadline`: tenants would be begun after everything was stopped | window | use at most `deadline`"
            ),
        ),
        (
            with("retries = 11"),
            format!("{at} 5: `retries` is 11: whoever fails so often does not need another try | retries | use 0 to 10"),
        ),
        (with("retries = -1"), format!("{at} 5: `retries`: invalid value: integer `-1`, expected u32 | retries | ")),
    ] {
        assert_eq!(parse(&text).expect_err(&text), expected, "{text}");
    }
    let odd = SMALL.replace("nightly", "night ly");
    let refusal = Schedule::parse(&odd, Path::new("schedules/night ly.toml")).unwrap_err();
    assert_eq!(refusal.message, "`night ly` is not a name for a schedule");
}

#[test]
fn an_action_that_is_not_built_is_parsed_while_it_is_off() {
    for action in ["report", "drill"] {
        let text = SMALL.replace("\"backup\"", &format!("\"{action}\""));
        assert!(parse(&text).unwrap_err().contains("is not built yet"));
        assert!(!parse(&format!("{text}enabled = false\n")).unwrap().enabled);
    }
}

#[test]
fn what_is_there_is_never_written_over() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("schedules");
    assert_eq!(files(&folder).unwrap_err().message, "there are no schedules: no such folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("notes.txt"), "").unwrap();
    assert_eq!(files(&folder).unwrap_err().message, "there are no schedules in this folder: no file ends in .toml");
    fs::write(folder.join("nightly.toml"), "mine").unwrap();
    assert_eq!(write_shipped(&folder).unwrap().len(), SHIPPED.len() - 1);
    assert_eq!(fs::read_to_string(folder.join("nightly.toml")).unwrap(), "mine");
    assert_eq!(write_shipped(&folder).unwrap(), [] as [std::path::PathBuf; 0]);
    // A hidden file is an editor's.
    fs::write(folder.join(".x.toml"), "").unwrap();
    assert_eq!(files(&folder).unwrap().len(), SHIPPED.len());
}
