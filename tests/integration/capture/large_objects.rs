//! Large objects.

use futures_util::SinkExt as _;
use tenure::postgres::large_objects_in;

use super::*;
use crate::harness::postgres::{quoted, shared, unique};

#[tokio::test(flavor = "multi_thread")]
async fn pieces_holes_and_empty_ones() {
    let cluster = shared();
    let database = cluster.database("capture_lo");
    cluster.sql(
        &database,
        "SELECT lo_from_bytea(5000, '\\x0102'); SELECT lo_create(5001);
         SELECT lo_from_bytea(5002, decode(repeat('ab', 262144), 'hex')); SELECT lo_from_bytea(5003, decode(repeat('cd', 262145), 'hex'));
         SELECT lo_create(6200); SELECT lo_put(6200, 3 * 262144 + 10, '\\xff');
         SELECT lo_create(7000); SELECT lo_put(7000, 5000000000, '\\x01');
         SELECT lo_from_bytea(4294967295, '\\xee'); SELECT lo_from_bytea(5004, '\\x0000')",
    );
    let snapshot = open(cluster, &database).await.unwrap();
    let described = describe(&snapshot).await;
    let blocks: Vec<_> = described.description.large_objects.iter().map(|block| (block.first_oid, block.count)).collect();
    assert_eq!(blocks, [(4096, 5), (6144, 2), (4_294_966_272, 1)]);
    let read = read_all(&snapshot, &described).await;
    let pieces = |label: &str| -> Vec<(String, String, usize)> {
        read[label]
            .iter()
            .map(|row| {
                let fields: Vec<&str> = row.split('\t').collect();
                (fields[0].to_owned(), fields[1].to_owned(), (fields[2].len() - 3) / 2)
            })
            .collect()
    };
    let expected =
        |list: &[(&str, &str, usize)]| list.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), *c)).collect::<Vec<_>>();
    assert_eq!(
        pieces("large objects 4096..5120"),
        expected(&[("5000", "0", 2), ("5002", "0", 262_144), ("5003", "0", 262_144), ("5003", "1", 1), ("5004", "0", 2)])
    );
    assert_eq!(pieces("large objects 6144..7168"), expected(&[("6200", "3", 11), ("7000", "19073", 127_489)]));
    assert_eq!(read["large objects 4294966272..4294967296"], ["4294967295\t0\t\\\\xee"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_reads_them_without_being_superuser_and_others_are_told() {
    let cluster = shared();
    let database = cluster.database("capture_lo_owner");
    let (owner, granted) = (unique("capture_owner"), unique("capture_granted"));
    cluster.sql(
        &database,
        &format!(
            "CREATE ROLE {owner} LOGIN; CREATE ROLE {granted};
             SELECT lo_from_bytea(20000, '\\x01'); ALTER LARGE OBJECT 20000 OWNER TO {owner};
             SELECT lo_from_bytea(20001, '\\x02');
             SELECT lo_from_bytea(20002, '\\x03'); GRANT SELECT ON LARGE OBJECT 20002 TO {granted}; GRANT {granted} TO {owner};
             SELECT lo_from_bytea(20003, '\\x04'); GRANT SELECT ON LARGE OBJECT 20003 TO PUBLIC; GRANT UPDATE ON LARGE OBJECT 20001 TO {owner}"
        ),
    );
    let target = target(cluster).with_login(&owner, "".to_owned().into());
    let expected_oid = oid_of(cluster, &database);
    let snapshot = Opening { target: &target, database: &database, expected_oid, lock_timeout: PATIENT }.open().await.unwrap();
    let described = describe(&snapshot).await;
    let read = read_all(&snapshot, &described).await;
    assert_eq!(read["large objects 19456..20480"], ["20000\t0\t\\\\x01", "20002\t0\t\\\\x03", "20003\t0\t\\\\x04"]);
    assert_eq!(described.description.large_objects[0].count, 4);
    let missing: Vec<_> =
        described.description.not_captured.iter().map(|entry| (entry.kind.as_str(), entry.object.as_str())).collect();
    assert_eq!(missing, [("large objects", "1 of role postgres")]);
}

/// `pg_dump` 17 and newer say nothing of large objects without their bytes, older ones always do: neither is relied upon.
#[tokio::test(flavor = "multi_thread")]
async fn owner_rights_comment_and_bytes_come_back() {
    let cluster = shared();
    let (database, copy) = (cluster.database("capture_lo_out"), cluster.database("capture_lo_back"));
    let (owner, reader) = (unique("capture \"lo\" owner"), unique("capture lo reader"));
    let q = quoted;
    cluster.sql(
        &database,
        &format!(
            "CREATE ROLE {owner}; CREATE ROLE {reader};
             SELECT lo_from_bytea(g::oid, decode(repeat('ab', g), 'hex')) FROM generate_series(1000, 1300) g;
             SELECT lo_create(4294967295); SELECT lo_create(70000); SELECT lo_put(70000, 900000, '\\x07');
             DO $$ BEGIN FOR i IN 1010..1020 LOOP EXECUTE 'ALTER LARGE OBJECT ' || i || ' OWNER TO {owner}'; END LOOP; END $$;
             GRANT SELECT ON LARGE OBJECT 1012 TO {reader} WITH GRANT OPTION; GRANT SELECT, UPDATE ON LARGE OBJECT 1013 TO PUBLIC;
             REVOKE ALL ON LARGE OBJECT 1014 FROM {owner}; COMMENT ON LARGE OBJECT 1015 IS 'it''s\n\"mine\"'",
            owner = q(&owner),
            reader = q(&reader)
        ),
    );
    let snapshot = open(cluster, &database).await.unwrap();
    let described = describe(&snapshot).await;
    let read = read_all(&snapshot, &described).await;

    let admin = cluster.client(&copy).await;
    large_objects_in::prepare(&admin).await.unwrap();
    for block in &described.description.large_objects {
        large_objects_in::create(&admin, block).await.unwrap();
        let rows = &read[&format!("large objects {}..{}", block.first_oid, u64::from(block.first_oid) + 1024)];
        let sink = admin.copy_in::<_, bytes::Bytes>(large_objects_in::COPY).await.unwrap();
        let mut sink = std::pin::pin!(sink);
        sink.send(rows.iter().map(|row| format!("{row}\n")).collect::<String>().into()).await.unwrap();
        sink.finish().await.unwrap();
        large_objects_in::write(&admin).await.unwrap();
        large_objects_in::apply_properties(&admin, block).await.unwrap();
        assert_eq!(large_objects_in::count(&admin, block.first_oid).await.unwrap(), i64::from(block.count));
    }
    let restored = open(cluster, &copy).await.unwrap();
    let again = describe(&restored).await;
    let without_sources = |description: &Description| {
        description.large_objects.iter().map(|block| (block.first_oid, block.count, block.groups.clone())).collect::<Vec<_>>()
    };
    assert_eq!(without_sources(&described.description), without_sources(&again.description));
    assert_eq!(read_all(&restored, &again).await, read);
    let groups = &described.description.large_objects[0].groups;
    assert_eq!(groups[0].oids, [(1000, 1009), (1021, 1023)]);
    assert_eq!(groups[1].oids, [(1010, 1011), (1016, 1020)]);
    assert_eq!(groups.len(), 6);
}

/// What the description says is there is read, or the backup fails.
#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_lost_while_a_backup_runs_are_an_error() {
    let cluster = shared();
    let database = cluster.database("capture_lo_lost");
    let (reader, group) = (unique("capture_reader"), unique("capture_group"));
    cluster.sql(
        &database,
        &format!(
            "CREATE ROLE {group}; CREATE ROLE {reader} LOGIN IN ROLE {group}; SELECT lo_from_bytea(20000, '\\x01'), lo_from_bytea(20001, '\\x02');
             GRANT SELECT ON LARGE OBJECT 20000 TO {group}"
        ),
    );
    let target = target(cluster).with_login(&reader, "".to_owned().into());
    let expected_oid = oid_of(cluster, &database);
    let snapshot = Opening { target: &target, database: &database, expected_oid, lock_timeout: PATIENT }.open().await.unwrap();
    let described = describe(&snapshot).await;
    assert_eq!(described.description.not_captured[0].object, "1 of role postgres");
    assert_eq!(read_all(&snapshot, &described).await["large objects 19456..20480"], ["20000\t0\t\\\\x01"]);
    cluster.sql(&database, &format!("REVOKE {group} FROM {reader}"));
    let mut reader = snapshot.reader().await.unwrap();
    let source = described.jobs.iter().flat_map(Job::sources).next().unwrap();
    let error = match reader.rows(source).await {
        Err(error) => error,
        Ok(mut rows) => rows.next().await.expect_err("left out in silence"),
    };
    assert!(error.hint().contains("LARGE OBJECT"), "{error}: {}", error.hint());
}
