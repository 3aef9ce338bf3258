//! The schema archive.

use std::process::{Command, Stdio};

use super::*;
use crate::harness::postgres::{bin, major, shared};
use tenure::postgres::{
    archive::{Archive, ArchiveError},
    tools::{Program, Tools},
};

async fn archive(snapshot: &Snapshot) -> Result<(Vec<u8>, Vec<String>), ArchiveError> {
    let tools = Tools::new(Some(bin().to_str().unwrap().to_owned()), None);
    let tool = tools.find(Program::Dump, major()).await.unwrap();
    let environment = snapshot.target().child_environment(&snapshot.facts().database).await.unwrap();
    let mut archive = Archive::start(&tool, &environment, snapshot)?;
    let mut bytes = Vec::new();
    while let Some(block) = archive.next().await? {
        bytes.extend_from_slice(&block);
    }
    Ok((bytes, archive.finish().await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_archives_of_one_schema_are_equal_and_pg_restore_reads_them() {
    let cluster = shared();
    let database = cluster.database("capture -f host=x 'é");
    cluster.sql(
        &database,
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz DEFAULT '2020-01-01 12:00+02');
         INSERT INTO t VALUES (1);
         CREATE MATERIALIZED VIEW m AS SELECT * FROM t;
         SELECT lo_from_bytea(0, 'x');
         ALTER ROLE postgres SET TimeZone = 'Asia/Tokyo';",
    );
    let first = archive(&open(cluster, &database).await.unwrap()).await.unwrap();
    cluster.sql(&database, "ALTER ROLE postgres SET TimeZone = 'Europe/Berlin'");
    let second = archive(&open(cluster, &database).await.unwrap()).await.unwrap();
    cluster.sql(&database, "ALTER ROLE postgres RESET TimeZone");
    assert_eq!(first.1, [""; 0]);
    assert!(first.0 == second.0, "two archives of an unchanged schema differ");

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &first.0).unwrap();
    let listed =
        Command::new(bin().join("pg_restore")).arg("--list").stdin(Stdio::from(file.reopen().unwrap())).output().unwrap();
    let list = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.status.success(), "{list}{}", String::from_utf8_lossy(&listed.stderr));
    assert!(list.contains("Archive created at 2000-01-01 00:00:00"), "{list}");
    for entry in ["TABLE public t", "MATERIALIZED VIEW DATA public m", "CONSTRAINT public t t_pkey"] {
        assert!(list.contains(entry), "{entry} is not in {list}");
    }
    // Rows and large objects go another way, whatever the version of pg_dump.
    assert!(!list.contains("TABLE DATA public t ") && !list.contains("BLOB"), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pg_dump_says_is_the_error() {
    let cluster = shared();
    let database = cluster.database("capture_refused");
    cluster.sql(&database, "CREATE TABLE secret (id int); CREATE TABLE mine (id int)");
    let snapshot = open(cluster, &database).await.unwrap();
    let tools = Tools::new(Some(bin().to_str().unwrap().to_owned()), None);
    let tool = tools.find(Program::Dump, major()).await.unwrap();
    let role = crate::harness::postgres::unique("capture_powerless");
    cluster.sql("postgres", &format!("CREATE ROLE {role} LOGIN"));
    let powerless = target(cluster).with_login(&role, "".to_owned().into()).child_environment(&database).await.unwrap();
    let mut archive = Archive::start(&tool, &powerless, &snapshot).unwrap();
    while let Some(block) = archive.next().await.unwrap() {
        drop(block);
    }
    let error = archive.finish().await.unwrap_err();
    let said = std::error::Error::source(&error).unwrap().to_string();
    assert!(said.contains("permission denied"), "{said}");
}
