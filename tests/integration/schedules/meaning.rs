//! What crontab(5) says of its fields.

use chrono::Datelike as _;
use chrono_tz::UTC;
use tenure::config::schedule::{cron::Cron, zone::Zone};

use super::{cron, shown, times, utc};

/// A Thursday's midnight.
const START: &str = "2026-12-31T23:59:59Z";

#[test]
fn names_lists_ranges_and_steps() {
    for (text, expected) in [
        ("30 2 * * *", ["01-01 02:30", "01-02 02:30", "01-03 02:30"]),
        ("*/20 4 * * *", ["01-01 04:00", "01-01 04:20", "01-01 04:40"]),
        ("5-59/30 0,12 * * *", ["01-01 00:05", "01-01 00:35", "01-01 12:05"]),
        ("0 22-23,1-2 * * *", ["01-01 01:00", "01-01 02:00", "01-01 22:00"]),
        ("0 0 1 feb,APR-Jun *", ["02-01 00:00", "04-01 00:00", "05-01 00:00"]),
        ("0 0 29-31 2-4 *", ["03-29 00:00", "03-30 00:00", "03-31 00:00"]),
        // The first is a Friday.
        ("0 6 * * 1-5", ["01-01 06:00", "01-04 06:00", "01-05 06:00"]),
        ("0 6 * * mon-Fri", ["01-01 06:00", "01-04 06:00", "01-05 06:00"]),
        ("  07\t006  *  * 5-7  ", ["01-01 06:07", "01-02 06:07", "01-03 06:07"]),
        ("@hourly", ["01-01 00:00", "01-01 01:00", "01-01 02:00"]),
        ("@daily", ["01-01 00:00", "01-02 00:00", "01-03 00:00"]),
        ("@midnight", ["01-01 00:00", "01-02 00:00", "01-03 00:00"]),
        ("@weekly", ["01-03 00:00", "01-10 00:00", "01-17 00:00"]),
        ("@monthly", ["01-01 00:00", "02-01 00:00", "03-01 00:00"]),
    ] {
        let expected = expected.map(|time| format!("2027-{time} +00:00"));
        assert_eq!(shown(text, START, UTC, 3), expected, "{text}");
    }
    for text in ["@yearly", "@annually"] {
        assert_eq!(shown(text, START, UTC, 2), ["2027-01-01 00:00 +00:00", "2028-01-01 00:00 +00:00"]);
    }
}

#[test]
fn sunday_is_0_and_7() {
    for text in ["0 0 * * 0", "0 0 * * 7", "0 0 * * sun", "0 0 * * SUN", "0 0 * * 0,7", "0 0 * * */7", "0 0 * * 7-7"] {
        let sundays = times(&cron(text), utc(START), UTC).take(20).collect::<Vec<_>>();
        assert!(sundays.iter().all(|time| time.weekday() == chrono::Weekday::Sun), "{text}: {sundays:?}");
        assert_eq!(sundays[19] - sundays[0], chrono::TimeDelta::weeks(19), "{text}");
    }
    // All seven, however they are written.
    for text in ["0 0 * * *", "0 0 * * 0-7", "0 0 * * 0-6", "0 0 * * 1-7", "0 0 */1 * *", "0 0 1-31 * *", "0 0 1 * 0-6"] {
        assert_eq!(
            times(&cron(text), utc(START), UTC).take(60).last(),
            Some(utc("2027-03-01T00:00:00Z").with_timezone(&UTC)),
            "{text}"
        );
    }
}

#[test]
fn either_day_will_do_when_both_are_restricted_and_a_star_restricts_nothing() {
    let days = |text: &str| shown(text, START, UTC, 5).iter().map(|time| time[5..10].to_owned()).collect::<Vec<_>>();
    // Fridays, and the thirteenth.
    assert_eq!(days("0 0 13 * 5"), ["01-01", "01-08", "01-13", "01-15", "01-22"]);
    // A star with a step still is one: odd days that are Fridays; the thirteenth where it is a Sunday or a Wednesday.
    assert_eq!(days("0 0 */2 * 5"), ["01-01", "01-15", "01-29", "02-05", "02-19"]);
    assert_eq!(days("0 0 13 * */3"), ["01-13", "02-13", "03-13", "06-13", "10-13"]);
    // The same days as a range restrict.
    assert_eq!(days("0 0 1-31/2 * 5"), ["01-01", "01-03", "01-05", "01-07", "01-08"]);
    // What never comes alone may come with the other.
    assert_eq!(days("0 0 30 2 1"), ["02-01", "02-08", "02-15", "02-22", "02-07"]);
}

#[test]
fn rare_days_are_found_and_days_that_never_come_are_refused() {
    assert_eq!(shown("0 0 29 2 *", START, UTC, 2), ["2028-02-29 00:00 +00:00", "2032-02-29 00:00 +00:00"]);
    // A Sunday.
    assert_eq!(shown("0 0 29 2 */7", START, UTC, 2), ["2032-02-29 00:00 +00:00", "2060-02-29 00:00 +00:00"]);
    assert_eq!(shown("0 0 * * *", "2100-12-30T00:00:00Z", UTC, 5), ["2100-12-31 00:00 +00:00"]);
    assert_eq!(shown("* * * * *", "+262142-12-31T23:59:59Z", UTC, 5), [""; 0]);
    for never in ["0 0 30 2 *", "* * 31 4,6,9,11 *", "0 0 30-31 feb *"] {
        let error = Cron::try_from(never.to_owned()).unwrap_err().to_string();
        assert_eq!(error, format!("`{never}`: that day never comes: expected a day that the month has"));
    }
}

#[test]
fn every_refusal_says_what_was_expected() {
    const FIVE: &str = "minute, hour, day of the month, month and day of the week, like `30 2 * * *`, or @daily";
    for (text, why) in [
        ("", format!("it has 0 fields, and crontab(5) has five: expected {FIVE}")),
        ("*", format!("it has 1 field, and crontab(5) has five: expected {FIVE}")),
        ("0 30 2 * * *", format!("it has 6 fields, and crontab(5) has five: expected {FIVE}")),
        ("@reboot", format!("a schedule is a time, and the start of a host is none: expected {FIVE}")),
        (
            "@dayly",
            "there is no such name for a schedule: expected one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually".into(),
        ),
        ("60 * * * *", "`60` is not a minute: expected a number from 0 to 59".into()),
        ("* 24 * * *", "`24` is not an hour: expected a number from 0 to 23".into()),
        ("* * 0 * *", "`0` is not a day of the month: expected a number from 1 to 31".into()),
        ("* * * 13 *", "`13` is not a month: expected a number from 1 to 12 or a name from jan to dec".into()),
        ("* * * * 8", "`8` is not a day of the week: expected a number from 0 to 7 or a name from sun to sat".into()),
        ("* * * * jan", "`jan` is not a day of the week: expected a number from 0 to 7 or a name from sun to sat".into()),
        ("+5 * * * *", "`+5` is not a minute: expected a number from 0 to 59".into()),
        ("5, * * * *", "`` is not a minute: expected a number from 0 to 59".into()),
        ("1-2-3 * * * *", "`2-3` is not a minute: expected a number from 0 to 59".into()),
        ("99999999999 * * * *", "`99999999999` is not a minute: expected a number from 0 to 59".into()),
        ("? * * * *", "`?` is not a minute: expected a number from 0 to 59".into()),
        ("* 22-2 * * *", "`22-2` of the hour ends before it begins: expected two ranges, like `22-23,0-2`".into()),
        ("* * * * fri-sun", "`fri-sun` of the day of the week ends before it begins: expected two ranges, like `5-7,0`".into()),
        ("*/90 * * * *", "`90` is not a step for the minute: expected a number from 1 to 59".into()),
        ("*/0 * * * *", "`0` is not a step for the minute: expected a number from 1 to 59".into()),
        ("*/ * * * *", "`` is not a step for the minute: expected a number from 1 to 59".into()),
        ("5/15 * * * *", "a step needs a range to go through, and `5/15` has none: expected `5-59/15` or `*/15`".into()),
    ] {
        let error = Cron::try_from(text.to_owned()).expect_err(text).to_string();
        assert_eq!(error, format!("`{text}`: {why}"));
    }
}

#[test]
fn zones_have_their_iana_names() {
    for name in ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Argentina/Buenos_Aires"] {
        assert_eq!(Zone::try_from(name.to_owned()).unwrap().to_string(), name);
    }
    for (text, meant) in
        [("europe/berlin", "Europe/Berlin"), ("Berlin", "Europe/Berlin"), ("America/New York", "America/New_York")]
    {
        let error = Zone::try_from(text.to_owned()).unwrap_err().to_string();
        assert_eq!(error, format!("`{text}` is not a time zone: expected an IANA name; did you mean `{meant}`?"));
    }
    let error = Zone::try_from("+01:00".to_owned()).unwrap_err().to_string();
    assert_eq!(error, "`+01:00` is not a time zone: expected an IANA name, like UTC or Europe/Berlin");
}
