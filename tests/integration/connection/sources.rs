//! Where settings and passwords come from.

use super::{refusal, text};
use crate::harness::postgres::{Cluster, PASSWORD, shared};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tenure::postgres::{ConnectCause, LibpqEnvironment, Target};

fn surroundings(home: &Path, variables: &[(&str, &str)]) -> LibpqEnvironment {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    LibpqEnvironment::new(Some(home.to_owned()), "postgres".to_owned(), variables)
}

fn passfile(folder: &Path, name: &str, cluster: &Cluster, host: &str) {
    let password = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    let path = folder.join(name);
    std::fs::write(&path, format!("{host}:{}:*:postgres:{password}\n", cluster.port())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

async fn works(target: &Target) {
    let session = target.connect("postgres", "tenure test").await.unwrap();
    assert_eq!(text(&session, "SELECT current_user::text").await, "postgres");
    // And whatever we found, a child finds too.
    super::names::dump(&target.child_environment("postgres").await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_service_and_a_password_file_in_the_home_directory() {
    let home = tempfile::tempdir().unwrap();
    passfile(home.path(), ".pgpass", shared(), "127.0.0.1");
    let service = format!("[one]\nhost=127.0.0.1\nport={}\ndbname=template1\n", shared().port());
    std::fs::write(home.path().join(".pg_service.conf"), service).unwrap();
    let by_word = Target::parse("service=one", &surroundings(home.path(), &[])).unwrap();
    assert_eq!(by_word.maintenance_database(), "template1");
    works(&by_word).await;
    works(&Target::parse("", &surroundings(home.path(), &[("PGSERVICE", "one")])).unwrap()).await;
    // A file that others can read is ignored.
    std::fs::set_permissions(home.path().join(".pgpass"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(refusal(&by_word, "postgres").await, ConnectCause::NoPassword);
}

#[tokio::test]
async fn a_service_file_named_by_variable_and_a_named_password_file() {
    let home = tempfile::tempdir().unwrap();
    passfile(home.path(), "mine", shared(), "*");
    let service = format!("[two]\nhost=127.0.0.1\nport={}\npassfile={}\n", shared().port(), home.path().join("mine").display());
    let file = home.path().join("services");
    std::fs::write(&file, service).unwrap();
    works(&Target::parse("service=two", &surroundings(home.path(), &[("PGSERVICEFILE", file.to_str().unwrap())])).unwrap()).await;
    works(&Target::parse(&format!("service=two servicefile={}", file.display()), &surroundings(home.path(), &[])).unwrap()).await;
}

#[tokio::test]
async fn variables_alone_are_enough() {
    let home = tempfile::tempdir().unwrap();
    let port = shared().port().to_string();
    let variables = [("PGHOST", "127.0.0.1"), ("PGPORT", &port), ("PGUSER", "postgres"), ("PGPASSWORD", PASSWORD)];
    works(&Target::parse("", &surroundings(home.path(), &variables)).unwrap()).await;
}

#[tokio::test]
async fn a_program_gives_a_fresh_password_each_time() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("password");
    let description = format!("host=127.0.0.1 port={} user=postgres", shared().port());
    let target = Target::parse(&description, &surroundings(home.path(), &[])).unwrap();
    let by = |argv: &[&str]| target.clone().with_password_command(argv.iter().map(|word| (*word).to_owned()).collect());

    let cat = by(&["cat", file.to_str().unwrap()]);
    let cause = refusal(&cat, "postgres").await;
    assert!(
        matches!(&cause, ConnectCause::PasswordCommand(why) if why.starts_with("cat failed (exit status: 1): cat: ")),
        "{cause}"
    );
    std::fs::write(&file, "stale\n").unwrap();
    assert_eq!(refusal(&cat, "postgres").await, ConnectCause::WrongPassword);
    std::fs::write(&file, format!("{PASSWORD}\r\nsecond line\n")).unwrap();
    works(&cat).await;
    // No shell: nothing is expanded.
    let echo = by(&["echo", "$HOME"]);
    assert_eq!(refusal(&echo, "postgres").await, ConnectCause::WrongPassword);
    for argv in [&["true"][..], &["/nonexistent/program"], &[]] {
        let cause = refusal(&by(argv), "postgres").await;
        assert!(matches!(cause, ConnectCause::PasswordCommand(_)), "{argv:?}: {cause}");
    }
}

#[tokio::test]
async fn another_login_replaces_role_and_password() {
    let home = tempfile::tempdir().unwrap();
    shared().sql("postgres", "CREATE ROLE \"other \"\"login\" LOGIN PASSWORD 'it''s'");
    let target = Target::parse(&shared().tcp_description(), &surroundings(home.path(), &[])).unwrap();
    let other = target.with_login("other \"login", "it's".into());
    let session = other.connect("postgres", "tenure test").await.unwrap();
    assert_eq!(text(&session, "SELECT current_user::text").await, "other \"login");
    assert_eq!(refusal(&target.with_login("other \"login", "no".into()), "postgres").await, ConnectCause::WrongPassword);
    let on_loopback = Target::parse(&shared().description(), &surroundings(home.path(), &[])).unwrap().on_loopback();
    let session = on_loopback.with_login("postgres", PASSWORD.into()).connect("postgres", "t").await.unwrap();
    assert_eq!(text(&session, "SELECT host(inet_client_addr())").await, "127.0.0.1");
}
