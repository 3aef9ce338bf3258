//! A backup made by a thief of a worker's key: signed as a backup must be, and of whatever the thief likes.

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
    sync::Arc,
};

use tenure::postgres::{Target, tools::Tools};

use super::*;
use crate::{
    harness::{
        postgres::{eventually, major},
        program::Program,
    },
    restore::{here, restore_to},
};

/// How often each text stands in the memory of a process.
fn in_memory(pid: u32, texts: &[&[u8]]) -> Vec<usize> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = vec![0; texts.len()];
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut bytes = vec![0; (to - from) as usize];
        memory.seek(SeekFrom::Start(from)).unwrap();
        // Some of it is nobody's to read.
        let Ok(()) = memory.read_exact(&mut bytes) else { continue };
        for (text, found) in texts.iter().zip(&mut found) {
            *found += bytes.windows(text.len()).filter(|window| window == text).count();
        }
    }
    found
}

/// A process and all that it started.
fn family(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let of_tasks = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok()).collect::<String>();
    let mut all: Vec<u32> = format!("{children} {of_tasks}").split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    all.sort_unstable();
    all.dedup();
    [pid].into_iter().chain(all.into_iter().flat_map(family)).collect()
}

/// The 32 bytes of a key in bech32, without its checksum.
fn key_bytes(text: &str) -> Vec<u8> {
    let data = text.rsplit_once('1').unwrap().1.to_lowercase();
    let values = data.chars().map(|c| "qpzry9x8gf2tvdw0s3jn54khce6mua7l".find(c).unwrap() as u32);
    let (mut bits, mut held, mut bytes) = (0u32, 0, Vec::new());
    for value in values {
        (bits, held) = ((bits << 5 | value) & 0xfff, held + 5);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    bytes.truncate(32);
    bytes
}

/// Whatever the backup makes PostgreSQL do: while it does it, the recovery identity is nowhere near.
#[test]
fn while_a_tenants_code_runs_the_recovery_identity_is_in_no_process() {
    let server = own_server();
    server.create_database("tenant_acme");
    let waits = "BEGIN WHILE current_database() LIKE 'tenure%' AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'WORD') LOOP PERFORM pg_sleep(0.01); END LOOP;
                 RETURN true; END";
    server.sql(
        "tenant_acme",
        &format!(
            "CREATE ROLE app; ALTER DATABASE tenant_acme OWNER TO app; CREATE SCHEMA s AUTHORIZATION app; SET SESSION AUTHORIZATION app;
             CREATE FUNCTION s.rows() RETURNS boolean LANGUAGE plpgsql AS $${}$$; CREATE FUNCTION s.views() RETURNS boolean LANGUAGE plpgsql AS $${}$$;
             CREATE TABLE s.t (i int CHECK (s.rows())); INSERT INTO s.t VALUES (1); CREATE MATERIALIZED VIEW s.m AS SELECT s.views() AS x",
            waits.replace("WORD", "rows_done"),
            waits.replace("WORD", "views_done")
        ),
    );
    let program = Program::set_up(server, "tenant_{tenant}");
    program.done(&["backup", "--all"]);
    let kit = std::fs::read_to_string(program.path("recovery-kit.txt")).unwrap();
    let text = kit.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap().trim().to_owned();
    let bytes = key_bytes(&text);
    let wanted: [&[u8]; 4] = [text.as_bytes(), &text.as_bytes()[30..], &bytes, b"tenant_acme"];
    for all in [false, true] {
        server.sql("postgres", "DROP ROLE IF EXISTS rows_done; DROP ROLE IF EXISTS views_done");
        let arguments: &[&str] = match all {
            false => &["restore", "acme", "--into", "copy", "--identity", "recovery-kit.txt"],
            true => &["restore", "--all", "--identity", "recovery-kit.txt"],
        };
        if all {
            server.sql("postgres", "DROP DATABASE tenant_acme");
        }
        let mut child = program.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        for (done, processes) in [("rows_done", 1), ("views_done", 2)] {
            let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND usename LIKE 'tenure_loader%'";
            eventually("the tenant's code runs", || server.sql("postgres", asleep).trim() == "1");
            let family = family(child.id());
            assert_eq!(family.len(), processes, "{family:?}");
            for pid in family {
                let found = in_memory(pid, &wanted);
                assert_eq!(found[..3], [0, 0, 0], "the identity is in process {pid} while {done} is waited for");
                assert!(found[3] > 0, "the memory of process {pid} was not seen");
                for file in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(Result::ok) {
                    let target = std::fs::read_link(file.path()).unwrap_or_default();
                    assert!(!target.to_string_lossy().contains("recovery-kit"), "{}", target.display());
                }
                let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
                assert!(!environment.contains("AGE-SECRET-KEY") && !environment.contains("recovery-kit"), "{environment}");
            }
            server.sql("postgres", &format!("CREATE ROLE {done}"));
        }
        assert!(child.wait().unwrap().success());
    }
    // It can be seen where it is: this process holds it.
    assert!(in_memory(std::process::id(), &wanted).iter().all(|found| *found > 0));
}

/// Makes a `pg_dump` in a folder that puts `payload` in the place of a table's comment. Gives the statement that makes the comment.
fn forge(server: &Cluster, folder: &std::path::Path, payload: &str) -> String {
    let comment = format!("COMMENT ON TABLE public.t IS '{}';", "x".repeat(300));
    assert!(payload.len() <= comment.len() && !payload.contains(['#', '&', '\\']));
    std::fs::write(folder.join("script"), format!("s#{comment}#{payload:<length$}#\n", length = comment.len())).unwrap();
    let program = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && exec {0}/pg_dump --version\n{0}/pg_dump \"$@\" | LC_ALL=C /bin/sed -f {1}/script\n",
        server.programs().display(),
        folder.display(),
    );
    let path = folder.join("pg_dump");
    std::fs::write(&path, program).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    comment
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_archive_gives_an_administrator_without_superuser_no_more_than_that() {
    let server = own_server();
    let mut site = Site::on(server).await;
    let database = site.database("acme");
    let folder = tempfile::tempdir().unwrap();
    let marker = server.socket_folder().join("owned");
    server.sql(
        "postgres",
        &format!("CREATE ROLE app; CREATE ROLE adm LOGIN CREATEDB CREATEROLE; ALTER DATABASE {database} OWNER TO app"),
    );
    if major() >= 16 {
        server.sql("postgres", "GRANT app TO adm WITH ADMIN OPTION");
    }
    server.sql(&database, "SET SESSION AUTHORIZATION app; RESET SESSION AUTHORIZATION; GRANT CREATE ON SCHEMA public TO app; CREATE TABLE t (i int); ALTER TABLE t OWNER TO app");
    let environment =
        tenure::postgres::LibpqEnvironment { home: None, user: "nobody".into(), variables: std::collections::BTreeMap::new() };
    let description = server.description().replace(" user=postgres", " user=adm dbname=postgres");
    for payload in [
        format!("COPY public.t FROM PROGRAM 'touch {}';", marker.display()),
        "CREATE ROLE gained SUPERUSER;".to_owned(),
        "ALTER ROLE adm SUPERUSER;".to_owned(),
        "ALTER SYSTEM SET log_statement = 'all';".to_owned(),
        "DO $$ BEGIN EXECUTE 'ALTER ROLE app BYPASSRLS SUPERUSER'; END $$;".to_owned(),
        "CREATE FUNCTION public.c() RETURNS int LANGUAGE internal AS 'pg_backend_pid';".to_owned(),
        "ALTER DATABASE postgres OWNER TO app;".to_owned(),
    ] {
        server.sql(&database, &forge(server, folder.path(), &payload));
        site.backup.tools = Arc::new(Tools::new(Some(folder.path().display().to_string()), None));
        assert_eq!(site.all().await.class, None);
        site.backup.tools = Arc::new(Tools::new(Some(server.programs().display().to_string()), None));
        let admin =
            tenure::operation::restore::Destination { admin: Target::parse(&description, &environment).unwrap(), ..here(&site) };
        let failure = restore_to(&site, admin, &copy("acme", "forged")).await.unwrap_err();
        assert_eq!(failure.kind, "schema", "{payload}: {failure:?}");
        assert!(!marker.exists(), "{payload}");
        let state = "SELECT (SELECT count(*) FROM pg_roles WHERE rolsuper) || ' ' || (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenure%')
                     || ' ' || (SELECT count(*) FROM pg_database WHERE datname IN ('forged') OR datname LIKE 'tenure%')
                     || ' ' || (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'postgres')";
        assert_eq!(server.sql("postgres", state).trim(), "1 0 0 postgres", "{payload}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_description_gives_nobody_power() {
    // The thief's own server, where everybody has everything.
    let server = own_server();
    let site = Site::on(server).await;
    let database = site.database("acme");
    server.sql(
        "postgres",
        &format!(
            "CREATE ROLE app SUPERUSER CREATEROLE CREATEDB REPLICATION BYPASSRLS LOGIN PASSWORD 'x' IN ROLE pg_execute_server_program, pg_write_server_files;
             CREATE ROLE boss SUPERUSER LOGIN IN ROLE app; ALTER DATABASE {database} OWNER TO app"
        ),
    );
    server.sql(&database, "CREATE TABLE t (i int); ALTER TABLE t OWNER TO app; GRANT SELECT ON t TO boss");
    assert_eq!(site.all().await.class, None);
    let target = own_server();
    let there = || tenure::operation::restore::Destination {
        admin: Target::parse(
            &target.description(),
            &tenure::postgres::LibpqEnvironment {
                home: None,
                user: "nobody".into(),
                variables: std::collections::BTreeMap::new(),
            },
        )
        .unwrap(),
        ..here(&site)
    };
    let report = restore_to(&site, there(), &copy("acme", "copy")).await.unwrap();
    assert_eq!(report.created_roles, ["app", "boss"]);
    let powers = "SELECT count(*) FROM pg_roles r WHERE rolname IN ('app', 'boss') AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
                  OR rolcanlogin OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid AND m.roleid < 16384))";
    assert_eq!(target.sql("postgres", powers).trim(), "0");

    // Libraries that every session of the database would load.
    for setting in ["session_preload_libraries", "local_preload_libraries", "dynamic_library_path"] {
        server.sql("postgres", &format!("ALTER ROLE boss IN DATABASE {database} SET {setting} = 'plpgsql'"));
        assert_eq!(site.all().await.class, None);
        let failure = restore_to(&site, there(), &copy("acme", "again")).await.unwrap_err();
        assert_eq!((failure.class.code(), failure.kind), (4, "needs-allow"), "{failure:?}");
        assert!(failure.message.contains(setting) && failure.hint.contains("--allow c-functions"), "{failure:?}");
        server.sql("postgres", &format!("ALTER ROLE boss IN DATABASE {database} RESET {setting}"));
    }
}
