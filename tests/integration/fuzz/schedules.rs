//! Schedules: their files, and the expressions in them.

use std::path::Path;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use tenure::config::schedule::{Schedule, cron::Cron, folder::SHIPPED, zone::Zone};

use super::mutate::{each, each_text};

/// Ten times, at the beginning, in the middle and at the end of the calendar: each ahead of the last, and never a search without end.
fn goes_on(cron: &Cron, zone: Tz) {
    for start in ["0001-01-01T00:00:00Z", "2027-03-27T12:00:00Z", "2100-12-31T00:00:00Z", "+262142-12-31T23:59:59Z"] {
        let mut last: DateTime<Utc> = start.parse().unwrap();
        for _ in 0..10 {
            let Some(next) = cron.next(last, zone) else { break };
            assert!(next > last, "{cron}: {next} after {last}");
            last = next.to_utc();
        }
    }
    assert!(cron.next(DateTime::<Utc>::MIN_UTC, zone).is_some());
    assert!(cron.next(DateTime::<Utc>::MAX_UTC, zone).is_none());
}

#[test]
fn files() {
    let mut corpus: Vec<Vec<u8>> = SHIPPED.iter().map(|(_, text)| text.as_bytes().to_vec()).collect();
    corpus.push(b"name = \"nightly\"\ncron = \"*/7 1-5,22 1,15 feb-NOV mon,5-7/2\"\ntime_zone = \"Europe/Berlin\"\naction = \"verify\"\ntenants = [\"bank_*\", \"acme\"]\n".to_vec());
    each("schedules::files", 3_000, &corpus, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let parsed = ["nightly", "retention", "integrity", "drill"].map(|name| {
            let file = format!("/etc/tenure/schedules/{name}.toml");
            let parsed = Schedule::parse(&text, Path::new(&file));
            if let Err(error) = &parsed {
                assert!(error.line.is_none_or(|line| (1..=text.matches('\n').count() + 1).contains(&line)), "{error}");
            }
            parsed.map(|schedule| (file, schedule))
        });
        let Some((file, schedule)) = parsed.into_iter().find_map(Result::ok) else { return false };
        let printed = toml::to_string(&schedule).unwrap();
        assert_eq!(Schedule::parse(&printed, Path::new(&file)).unwrap_or_else(|error| panic!("{error}\n{printed}")), schedule);
        goes_on(&schedule.cron, schedule.time_zone.0);
        true
    });
}

#[test]
fn expressions() {
    let corpus = [
        "30 2 * * *",
        "*/7 1-5,22 1,15 feb-NOV mon,5-7/2",
        "0 0 29 2 */7",
        "0-59/15 */3 13 * 5",
        "59 23 31 12 0",
        "@daily",
        "@annually",
    ];
    each_text("schedules::expressions", 3_000, &corpus, |text| {
        let parsed = Cron::try_from(text.to_owned());
        if let Ok(cron) = &parsed {
            assert_eq!(Cron::try_from(cron.to_string()).as_ref(), Ok(cron), "{text}");
            goes_on(cron, Tz::Australia__Lord_Howe);
        }
        parsed.is_ok()
    });
}

#[test]
fn zones() {
    each_text("schedules::zones", 300, &["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+12"], |text| {
        let parsed = Zone::try_from(text.to_owned());
        match &parsed {
            Ok(zone) => assert_eq!(zone.to_string(), text),
            Err(error) => assert!(error.to_string().contains(": expected an IANA name"), "{error}"),
        }
        parsed.is_ok()
    });
}
