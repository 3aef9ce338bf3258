//! What libpq's users write: descriptions, URIs and service files.

use tenure::postgres::{LibpqEnvironment, Target};

use super::mutate::each_text;

fn environment(variables: &[(&str, &str)]) -> LibpqEnvironment {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let always = [("PGSYSCONFDIR".to_owned(), "/nonexistent".to_owned())];
    LibpqEnvironment::new(None, "me".to_owned(), variables.chain(always))
}

#[test]
fn descriptions() {
    let corpus = [
        "host=db1,db2 hostaddr=192.0.2.1,::1 port=5432,5433 user=u dbname=d sslmode=verify-full connect_timeout=10",
        r"host = '/run/postgresql' user='o\'brien \\ x' password=hunter2 dbname='host=x' options='-c a=b'",
        "postgresql://u:hunter2@db1:5433,[::1],%2Frun%2Fpg:6000/my%20db?sslmode=verify-ca&connect_timeout=3&target_session_attrs=primary",
        "postgres:///tenants?host=/run/postgresql&ssl=true&keepalives_idle=30&channel_binding=require",
        "service=eu1 application_name=tenure sslrootcert=system passfile=/nonexistent requirepeer=postgres",
    ];
    let environment = environment(&[]);
    each_text("connection::descriptions", 6_000, &corpus, |text| match Target::parse(text, &environment) {
        Ok(target) => {
            assert!(!format!("{target:?} {}", target.endpoint()).is_empty());
            assert!(!target.protection().is_empty());
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    });
}

#[test]
fn service_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("services");
    let environment = environment(&[("PGSERVICEFILE", file.to_str().unwrap())]);
    let corpus = ["# fleet\n[eu1]\nhost=db1\nport=5433\n  user=backup \npassword=it's a=b\n\n[eu2]\nhost=x\n"];
    each_text("connection::service_files", 3_000, &corpus, |text| {
        std::fs::write(&file, text).unwrap();
        let parsed = Target::parse("service=eu1", &environment);
        if let Err(error) = &parsed {
            assert!(!error.to_string().contains("it's"), "{error}");
        }
        parsed.is_ok()
    });
}
