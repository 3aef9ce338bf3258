//! The configuration, and the small languages in it.

use std::path::Path;

use chrono::{DateTime, Utc};
use tenure::{
    config::{Config, duration::Span, glob::Glob, store::StoreUrl},
    postgres::discover::Pattern,
    retention::Keep,
    tenant::TenantName,
};

use super::mutate::{each, each_text};

#[test]
fn configuration() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/configuration.in");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let whole =
        String::from_utf8(std::fs::read(files.iter().find(|file| file.ends_with("good.toml")).unwrap()).unwrap()).unwrap();
    let more = "ignore = [\"metrics\"]\nconnections = 8\npassword_command = [\"true\"]\nreplica_wait = \"20s\"\n[limits]\njobs = 4\n\
                yield_after = \"10s\"\n[[policy]]\ntenants = [\"bank_*\"]\nkeep = \"6 months\"\nlate_after = \"26h\"\n[restore]\nallow = []\n";
    corpus.push(format!("{whole}{more}").into_bytes());
    let acme: TenantName = "acme".parse().unwrap();
    each("settings::configuration", 3_000, &corpus, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        match Config::parse(&text, Path::new("/etc/tenure/tenure.toml")) {
            Ok(config) => {
                let printed = toml::to_string(&config).unwrap();
                let again = Config::parse(&printed, Path::new("/etc/tenure/tenure.toml"))
                    .unwrap_or_else(|error| panic!("{error}\n{printed}"));
                assert_eq!(toml::to_string(&again).unwrap(), printed);
                drop(config.policy(&acme));
                true
            }
            Err(error) => {
                assert!(error.line.is_none_or(|line| (1..=text.matches('\n').count() + 1).contains(&line)), "{error}");
                false
            }
        }
    });
}

#[test]
fn lengths_of_time_and_retentions() {
    let corpus = ["20s", "5 min", "26h", "7 days", "2 weeks", "6 months", "1 year", "9999 years", "9999 weeks"];
    let times = ["2026-08-31T00:00:00Z".parse().unwrap(), DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC];
    each_text("settings::lengths_of_time_and_retentions", 5_000, &corpus, |text| {
        let (span, keep) = (Span::try_from(text.to_owned()), text.parse::<Keep>());
        let is_read = span.is_ok() || keep.is_ok();
        if let Ok(span) = span {
            assert_eq!(Span::try_from(span.to_string()), Ok(span));
        }
        if let Ok(keep) = keep {
            assert_eq!(keep.to_string().parse(), Ok(keep));
            for time in times {
                assert!(keep.expiry(time) > time || time == DateTime::<Utc>::MAX_UTC);
            }
        }
        is_read
    });
}

#[test]
fn stores_patterns_and_globs() {
    let corpus =
        ["file:///srv/vault", "s3://acme-tenure/a/b", "s3://bucket", "tenant_{tenant}", "app.org_{tenant}", "bank_*", "*a*b?"];
    each_text("settings::stores_patterns_and_globs", 6_000, &corpus, |text| {
        let (url, pattern) = (text.parse::<StoreUrl>(), text.parse::<Pattern>());
        let is_read = url.is_ok() || pattern.is_ok();
        if let Ok(url) = url {
            assert_eq!(url.to_string().parse(), Ok(url.clone()), "{text}");
            assert!(url.overlaps(&url, true));
        }
        if let Ok(pattern) = pattern {
            assert_eq!(pattern.to_string(), text);
            let name = text.replacen("{tenant}", "acme", 1);
            assert_eq!(pattern.tenant(&name), Some("acme"));
        }
        assert!(Glob(text.replace('*', "x")).matches(&text.replace('*', "x")));
        is_read
    });
}
