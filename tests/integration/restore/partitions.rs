//! Partitions by a hash that is another one on every server: rows come back through the partitioned table at the top.

use super::{fidelity::without_tenure, *};
use crate::harness::postgres::{quoted, shared, unique};

/// An enum of forty labels, and tables partitioned by the hash of what is made of it. `WHO` is a role.
const TABLES: &str = r#"
CREATE TYPE kind AS ENUM (LABELS); CREATE TYPE pair AS (k kind, n int); CREATE DOMAIN other AS kind; CREATE SCHEMA "q u";
ALTER TYPE kind OWNER TO "WHO";
CREATE TABLE direct (k kind, id int, t text, len int GENERATED ALWAYS AS (length(t)) STORED, PRIMARY KEY (k, id)) PARTITION BY HASH (k);
CREATE TABLE direct0 PARTITION OF direct FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE "q u".direct1 PARTITION OF direct FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE direct2 (t text, dropped int, id int NOT NULL, k kind NOT NULL, len int GENERATED ALWAYS AS (length(t)) STORED);
ALTER TABLE direct2 DROP COLUMN dropped; ALTER TABLE direct ATTACH PARTITION direct2 FOR VALUES WITH (MODULUS 3, REMAINDER 2);
ALTER TABLE direct0 OWNER TO "WHO"; ALTER TABLE direct2 OWNER TO "WHO"; CREATE INDEX ON direct (left(t, 5));
CREATE TABLE deep (y int, k other, t text) PARTITION BY RANGE (y); ALTER TABLE deep OWNER TO "WHO";
CREATE TABLE deep_low PARTITION OF deep FOR VALUES FROM (0) TO (10) PARTITION BY HASH (k, y);
CREATE TABLE deep_low0 PARTITION OF deep_low FOR VALUES WITH (MODULUS 2, REMAINDER 0) PARTITION BY RANGE (t);
CREATE TABLE deep_low0a PARTITION OF deep_low0 DEFAULT;
CREATE TABLE deep_low1 PARTITION OF deep_low FOR VALUES WITH (MODULUS 2, REMAINDER 1); CREATE TABLE deep_high PARTITION OF deep DEFAULT;
ALTER TABLE deep_low1 OWNER TO "WHO";
CREATE TABLE arrays (k kind[]) PARTITION BY HASH (k);
CREATE TABLE arrays0 PARTITION OF arrays FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE arrays1 PARTITION OF arrays FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE pairs (p pair) PARTITION BY HASH (p);
CREATE TABLE pairs0 PARTITION OF pairs FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE pairs1 PARTITION OF pairs FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO direct SELECT k, n, CASE n WHEN 3 THEN NULL ELSE E'a\tb\\' || n END FROM unnest(enum_range(NULL::kind)) k, generate_series(1, 20) n;
INSERT INTO direct SELECT k, 21, repeat('z', 5000000) FROM unnest(enum_range(NULL::kind)) WITH ORDINALITY AS o(k, n) WHERE n % 20 = 0;
INSERT INTO deep SELECT n, k, k FROM unnest(enum_range(NULL::kind)) k, generate_series(5, 14) n;
INSERT INTO arrays SELECT ARRAY[k, k] FROM unnest(enum_range(NULL::kind)) k;
INSERT INTO pairs SELECT (k, 1)::pair FROM unnest(enum_range(NULL::kind)) k;
"#;

fn fill(server: &postgres::Cluster, database: &str, owner: &str) {
    let labels: Vec<String> = (0..40).map(|n| format!("'label {n}'")).collect();
    server.sql("postgres", &format!("CREATE ROLE {}", quoted(owner)));
    let sql = TABLES.replace("LABELS", &labels.join(", ")).replace("WHO", &owner.replace('"', "\"\""));
    server.sql(database, &sql.replace(";\n", ";\nCOMMIT;\n"));
}

fn rows(server: &postgres::Cluster, database: &str) -> String {
    let of = |table: &str| format!("SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM {table} t");
    ["direct", "deep", "arrays", "pairs"].map(|table| server.sql(database, &of(table))).concat()
}

fn places(server: &postgres::Cluster, database: &str) -> String {
    server.sql(database, "SELECT tableoid::regclass, array_agg(DISTINCT k) FROM direct GROUP BY 1 ORDER BY 1")
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_partitions_by_the_hash_of_an_enum_come_back() {
    let site = Site::new().await;
    let server = shared();
    let database = site.database("acme");
    fill(server, &database, &unique("own\"er"));
    assert_eq!(site.all().await.class, None);
    let into = unique("partitions");
    let report = restore(&site, &copy("acme", &into)).await.unwrap();
    assert_eq!((report.proven, report.tables, report.rows), (true, 10, 802 + 400 + 80));
    assert_eq!(rows(server, &into), rows(server, &database));
    assert_ne!(places(server, &into), places(server, &database), "the labels have other OIDs, so the rows lie elsewhere");
    let rights = "SELECT count(*) FROM pg_class WHERE relacl::text LIKE '%tenure%'";
    assert_eq!(server.sql(&into, rights).trim(), "0");

    let into = unique("partitions");
    let said = without_tenure(&site, server, "acme", &into);
    assert!(said.contains("10 tables, 1282 rows"), "{said}");
    assert_eq!(rows(server, &into), rows(server, &database));
}

/// What a tenant's function changes there is found, wherever the row was put.
#[tokio::test(flavor = "multi_thread")]
async fn such_rows_are_proven() {
    let server = shared();
    for (harm, words) in [
        (
            "UPDATE public.direct SET t = 'x' WHERE id = 7 AND k = 'label 7'",
            "table public.direct (3 partitions): 802 rows, but not",
        ),
        ("DELETE FROM public.direct WHERE id = 7 AND k = 'label 7'", "public.direct (3 partitions): 801 rows instead of 802"),
        ("UPDATE public.deep SET t = 'x' WHERE y = 5 AND t = 'label 7'", "table public.deep (2 partitions): 200 rows, but not"),
        ("DELETE FROM public.deep WHERE y = 12 AND t = 'label 7'", "table public.deep_high: 199 rows instead of 200"),
    ] {
        let site = Site::new().await;
        let database = site.database("acme");
        let owner = unique("owner");
        fill(server, &database, &owner);
        server.sql(
            &database,
            &format!(
                "CREATE FUNCTION harm() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; GRANT ALL ON ALL TABLES IN SCHEMA public TO {owner};
                 CREATE MATERIALIZED VIEW m AS SELECT harm(); ALTER MATERIALIZED VIEW m OWNER TO {owner};
                 CREATE OR REPLACE FUNCTION harm() RETURNS int LANGUAGE plpgsql AS $$ BEGIN {harm}; RETURN 1; END $$;"
            ),
        );
        assert_eq!(site.all().await.class, None);
        let failure = restore(&site, &copy("acme", &unique("unproven"))).await.unwrap_err();
        assert_eq!((failure.class.code(), failure.kind), (5, "not-proven"), "{harm}: {failure:?}");
        assert!(failure.message.contains(words), "{}", failure.message);
    }
}
