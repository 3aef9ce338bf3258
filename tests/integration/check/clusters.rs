//! Clusters, tenants and rights.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use tenure::{
    operation::check::{Level, check},
    postgres::{LibpqEnvironment, Target, discover::Rule, tools::Tools},
};

use super::{at, request, the};
use crate::harness::{
    postgres::{Cluster, Options, shared, unique},
    site::Site,
};

fn target(description: &str) -> Target {
    let environment = LibpqEnvironment { home: None, user: "nobody".to_owned(), variables: BTreeMap::new() };
    Target::parse(description, &environment).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_read_everything_is_told_what_cures_it() {
    let site = Site::new().await;
    let database = site.database("acme");
    let role = unique("weak");
    shared().sql("postgres", &format!("CREATE ROLE {role} LOGIN CONNECTION LIMIT 5"));
    shared().sql(
        &database,
        "CREATE TABLE plain (x int); CREATE SEQUENCE counter; CREATE SCHEMA \"Hidden\"; CREATE TABLE \"Hidden\".\"T\" (x int);
         CREATE TABLE guarded (x int); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; SELECT lo_create(0);",
    );
    shared().sql(
        &database,
        "CREATE SUBSCRIPTION far CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE)",
    );
    let mut request = request(&site).await;
    request.clusters[0].primary =
        Ok(target(&format!("host={} port={} user={role}", shared().socket_folder().display(), shared().port())));

    let report = check(&request).await;
    the(
        &report,
        Level::Error,
        &format!("may have 5 connections, and `connections` is 8 (ALTER ROLE \"{role}\" CONNECTION LIMIT 8"),
    );
    let finding = the(&report, Level::Error, &format!("GRANT pg_read_all_data TO \"{role}\""));
    assert!(finding.message.contains("acme: \"Hidden\".\"T\", public.counter, public.guarded and 1 more"), "{}", finding.message);
    the(&report, Level::Error, &format!("acme: public.guarded (ALTER ROLE \"{role}\" BYPASSRLS"));
    the(&report, Level::Error, "large objects that role");
    the(&report, Level::Warning, "subscriptions that only a superuser can dump, and that are left out: acme: far");
    the(&report, Level::Warning, "lacks CREATEDB and CREATEROLE");

    shared().sql("postgres", &format!("ALTER ROLE {role} BYPASSRLS CONNECTION LIMIT -1; GRANT pg_read_all_data TO {role}"));
    let report = check(&request).await;
    let errors = at(&report, Level::Error);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    the(&report, Level::Error, "large objects that role");
    shared().sql(&database, "DROP SUBSCRIPTION far; SELECT lo_unlink(oid) FROM pg_largeobject_metadata");
    let report = check(&request).await;
    assert_eq!(at(&report, Level::Error), Vec::<String>::new());
    the(&report, Level::Ok, "may read everything in 1 of 1 databases");
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_that_cannot_be_used_do_not_stop_the_rest() {
    let site = Site::new().await;
    site.database("acme");
    let mut request = request(&site).await;
    let mut more = |name: &str, description: &str| {
        let mut cluster = super::cluster(&site.backup.clusters[0]);
        name.clone_into(&mut cluster.name);
        cluster.primary = Ok(target(description));
        request.clusters.push(cluster);
    };
    more("away", "host=/nonexistent user=u");
    more("wrong", &format!("host=127.0.0.1 port={} user=postgres password=no", shared().port()));
    more("clear", &format!("host=127.0.0.1 port={} user=postgres password=no sslmode=require", shared().port()));
    let environment = LibpqEnvironment { user: "u".to_owned(), ..LibpqEnvironment::default() };
    let mut broken = super::cluster(&site.backup.clusters[0]);
    broken.name = "broken".to_owned();
    broken.primary = Err(Target::parse("host=a gssencmode=require", &environment).unwrap_err());
    request.clusters.push(broken);

    let report = check(&request).await;
    the(&report, Level::Error, "cluster away: /nonexistent:5432: database postgres as u: the server cannot be reached");
    let finding = the(&report, Level::Error, "the password is wrong");
    assert_eq!(finding.object, "cluster wrong");
    the(&report, Level::Error, "cluster clear: ");
    the(&report, Level::Error, "cluster broken: its connection description cannot be used: gssencmode is not supported");
    the(&report, Level::Ok, "1 tenant found");
    the(&report, Level::Ok, "may sign manifests");
    assert_eq!(report.errors, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_that_would_be_missed_are_named() {
    let site = Site::new().await;
    let (acme, stray) = (site.database("acme"), site.database("stray"));
    let mut request = request(&site).await;
    let rules = request.clusters[0].rules.as_mut().unwrap();
    rules.rule = Rule::Query(format!("VALUES ('{acme}', 'a'), ('{stray}', 'a')"));
    let report = check(&request).await;
    the(&report, Level::Error, &format!("tenant a: several databases answer to this name: {acme}; {stray}"));
    the(&report, Level::Error, "no tenant was found");

    let rules = request.clusters[0].rules.as_mut().unwrap();
    rules.rule = Rule::Query(format!("VALUES ('{acme}', 'a'), ('{acme}_gone', 'b')"));
    let report = check(&request).await;
    the(&report, Level::Error, &format!("tenant b: database {acme}_gone cannot be read: there is no such database"));
    the(&report, Level::Warning, "databases that no rule makes a tenant");

    // The same tenant on two clusters, here the same server twice.
    let mut twin = super::cluster(&site.backup.clusters[0]);
    twin.name = "twin".to_owned();
    twin.rules = request.clusters[0].rules.as_ref().map(Clone::clone).map_err(|_| unreachable!());
    request.clusters.push(twin);
    let report = check(&request).await;
    the(&report, Level::Error, &format!("tenant a: several clusters have it: eu-1/{acme}; twin/{acme}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_the_last_backup_is_told() {
    let site = Site::new().await;
    let (acme, gone) = (site.database("acme"), site.database("gone"));
    site.all().await;
    shared().sql("postgres", &format!("DROP DATABASE {acme}"));
    shared().sql("postgres", &format!("CREATE DATABASE {acme}"));
    shared().sql("postgres", &format!("DROP DATABASE {gone}"));
    let request = request(&site).await;
    let report = check(&request).await;
    the(&report, Level::Error, "tenant acme: database");
    the(&report, Level::Error, "tenure admit --source");
    the(&report, Level::Warning, "tenants that have backups and are not there any more: gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn standbys_and_their_primary_are_told_apart() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options { replicas: 2, ..Options::default() })));
    let site = Site::on(cluster).await;
    site.database("acme");
    cluster.wait_for_replicas();
    let mut request = request(&site).await;
    let replicas: Vec<Target> = cluster.replicas.iter().map(|replica| target(&replica.description())).collect();

    request.clusters[0].replicas = replicas.iter().cloned().map(Ok).collect();
    let report = check(&request).await;
    the(&report, Level::Ok, "cluster eu-1 replica 2: ");
    assert_eq!(at(&report, Level::Error), Vec::<String>::new());

    request.clusters[0].replicas = vec![Ok(target(&cluster.description())), Ok(target(&shared().description()))];
    let report = check(&request).await;
    the(&report, Level::Error, "takes writes: it is no standby");
    the(&report, Level::Error, "is no copy of the primary");
    the(&report, Level::Warning, "2 receivers of its log are connected, and 0 of them are configured");

    request.clusters[0].primary = Ok(replicas[0].clone());
    request.clusters[0].replicas.clear();
    let report = check(&request).await;
    the(&report, Level::Error, "which is a standby");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_room_is_told_before_the_night() {
    let settings =
        ["max_locks_per_transaction = 10", "max_connections = 10", "max_prepared_transactions = 0", "autovacuum = off"];
    let options = Options { settings: settings.map(str::to_owned).to_vec(), ..Options::default() };
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(&options)));
    let site = Site::on(cluster).await;
    let (acme, small) = (site.database("acme"), site.database("small"));
    let tables = |count: u32| (0..count).map(|n| format!("CREATE TABLE t{n} ();")).collect::<Vec<_>>();
    for statement in tables(20) {
        cluster.sql(&small, &statement);
    }
    let mut request = request(&site).await;
    request.clusters[0].connections = 4;
    let report = check(&request).await;
    the(&report, Level::Ok, "room for 100 locks; the largest tenant has 20 tables");
    for statement in tables(30) {
        cluster.sql(&acme, &statement);
    }
    let report = check(&request).await;
    the(&report, Level::Warning, "the 4 largest tenants together take 100 locks");
    for n in 30..60 {
        cluster.sql(&acme, &format!("CREATE TABLE t{n} ()"));
    }
    request.clusters[0].connections = 20;
    let report = check(&request).await;
    the(&report, Level::Error, "the largest tenant has 60 tables");
    the(&report, Level::Error, "the server has 10 connections for this role, and `connections` is 20");
}

#[tokio::test(flavor = "multi_thread")]
async fn poolers_and_clocks_are_looked_at() {
    let site = Site::new().await;
    site.database("acme");
    let bouncer = crate::connection::pooler::bouncer("pool_mode = transaction");
    let mut request = request(&site).await;
    request.clusters[0].primary = Ok(bouncer.target.clone());
    request.now += chrono::TimeDelta::minutes(10);
    let report = check(&request).await;
    the(&report, Level::Error, "a pooler in transaction or statement mode is in between");
    let skew = the(&report, Level::Warning, "this host's clock is");
    assert!(skew.message.ends_with("seconds ahead of the server's"), "{}", skew.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_must_be_there_new_and_sound() {
    let site = Site::new().await;
    site.database("acme");
    let mut request = request(&site).await;
    let major = crate::harness::postgres::major();
    let folder = tempfile::tempdir().unwrap();
    request.tools = Tools::new(Some(folder.path().display().to_string()), None);
    let report = check(&request).await;
    the(&report, Level::Error, &format!("pg_dump for PostgreSQL {major}: pg_dump was not found in"));
    the(&report, Level::Error, "pg_restore was not found in");

    let install = |version: &str| {
        for program in ["pg_dump", "pg_restore"] {
            let path = folder.path().join(program);
            std::fs::write(&path, format!("#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    };
    install("13.1");
    let report = check(&request).await;
    the(&report, Level::Error, &format!("pg_dump {major} or newer is needed here, and only 13.1"));
    install(&format!("{major}.1"));
    let report = check(&request).await;
    let holes = at(&report, Level::Warning).into_iter().filter(|finding| finding.contains("CVE-2025-8714")).count();
    assert_eq!(holes, 2, "{:#?}", report.findings);
    install("98.1");
    let too_new =
        at(&check(&request).await, Level::Error).into_iter().filter(|finding| finding.contains("17 or newer alone")).count();
    assert_eq!(too_new, if major < 17 { 2 } else { 0 });
}
