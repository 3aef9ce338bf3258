//! Code that would run while a database is read, and does not.

use super::*;

/// Every place of a table at which PostgreSQL may call a function; each call is a line of the server's log.
const CODE: &str = "
CREATE SCHEMA s;
CREATE FUNCTION s.look(place text) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
  RAISE LOG 'canary % as % of %.', place, current_user, session_user; RETURN 1; END $$;
CREATE FUNCTION s.sees(place text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN s.look(place) = 1; END';
CREATE TABLE s.large (i int, filler text); ALTER TABLE s.large ALTER filler SET STORAGE PLAIN;
INSERT INTO s.large SELECT n, repeat('x', 5000) FROM generate_series(1, 8300) n;
CREATE INDEX ON s.large ((i + s.look('index')));
CREATE TABLE s.t (LIKE s.large INCLUDING ALL);
DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT unnest(ARRAY['predicate', 'inlined', 'operator', 'statistics', 'cast', 'check', 'plain']) LOOP
    EXECUTE format('CREATE TABLE s.by_%s AS SELECT n AS i, repeat(''x'', 300) AS filler FROM generate_series(1, 3000) n', name);
  END LOOP;
END $$;
CREATE INDEX ON s.by_predicate (i) WHERE s.sees('predicate');
CREATE FUNCTION s.inlined(i int) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT i + s.look('inlined') $$;
CREATE INDEX ON s.by_inlined (s.inlined(i));
CREATE FUNCTION s.plus(int, int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN $1 + s.look('operator'); END $$;
CREATE OPERATOR s.<+> (LEFTARG = int, RIGHTARG = int, FUNCTION = s.plus);
CREATE INDEX ON s.by_operator ((i + (1 OPERATOR(s.<+>) 2)));
CREATE STATISTICS s.st ON (i + s.look('statistics')), i FROM s.by_statistics; ANALYZE s.by_statistics;
CREATE TYPE s.own AS (v int);
CREATE FUNCTION s.to_int(s.own) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN s.look('cast'); END $$;
CREATE CAST (s.own AS int) WITH FUNCTION s.to_int(s.own);
CREATE INDEX ON s.by_cast ((i + ROW(1)::s.own::int));
ALTER TABLE s.by_check ADD CHECK (i > s.look('check') - 10);
CREATE DOMAIN s.watched AS int CHECK (s.sees('domain'));
CREATE TABLE s.rest (i int DEFAULT s.look('default'), d s.watched, g int GENERATED ALWAYS AS (s.look('generated')) STORED);
INSERT INTO s.rest (d) VALUES (1);
CREATE TABLE s.parts (i int) PARTITION BY RANGE ((i + s.look('partition')));
CREATE TABLE s.part PARTITION OF s.parts FOR VALUES FROM (0) TO (10000);
INSERT INTO s.parts SELECT generate_series(1, 9000);
CREATE POLICY p ON s.rest USING (s.sees('policy')); ALTER TABLE s.rest ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION s.on_insert() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM s.look('trigger'); RETURN NEW; END $$;
CREATE TRIGGER t BEFORE INSERT ON s.rest FOR EACH ROW EXECUTE FUNCTION s.on_insert(); INSERT INTO s.rest (d) VALUES (2);
CREATE RULE r AS ON INSERT TO s.by_plain DO ALSO SELECT s.look('rule'); INSERT INTO s.by_plain VALUES (0, '');
CREATE VIEW s.v AS SELECT s.look('view') AS x, i FROM s.rest; SELECT * FROM s.v;
CREATE MATERIALIZED VIEW s.m AS SELECT s.look('materialized view') AS x;
ALTER TABLE s.rest FORCE ROW LEVEL SECURITY; SELECT * FROM s.rest;
";

/// Names of PostgreSQL's own, in front of them for who trusts the search path.
const SHADOWS: &str = "
CREATE SCHEMA postgres;
CREATE FUNCTION public.always(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM s.look('operator in front'); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.always);
CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM s.look('function in front'); RETURN $1; END $$;
CREATE FUNCTION postgres.current_setting(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM s.look('function in front'); RETURN $1; END $$;
CREATE FUNCTION public.pg_export_snapshot() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM s.look('function in front'); RETURN ''; END $$;
SET search_path TO public, pg_catalog; SELECT lower('X'::text), 'a'::text = 'b'::text;
";

/// What was called, where, as whom.
fn canaries(server: &Cluster) -> Vec<String> {
    let log = server.log();
    log.lines()
        .filter_map(|line| Some(line.split_once("canary ")?.1))
        .filter(|line| line.ends_with('.'))
        .map(str::to_owned)
        .collect()
}

fn called(canaries: &[String], place: &str) -> bool {
    canaries.iter().any(|canary| canary.starts_with(&format!("{place} as ")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superusers_backup_runs_nothing_and_a_restore_nothing_with_power() {
    let server = own_server();
    let site = Site::on(server).await;
    let database = site.database("acme");
    server.sql("postgres", &format!("CREATE ROLE low; ALTER DATABASE {database} OWNER TO low"));
    let by_low = |sql: &str| server.sql(&database, &format!("SET SESSION AUTHORIZATION low; {sql}"));
    by_low(CODE);
    by_low(SHADOWS);
    server.sql(
        &database,
        "ALTER DATABASE current_db SET search_path TO \"$user\", public, pg_catalog; ALTER DATABASE current_db SET constraint_exclusion = on"
            .replace("current_db", &quoted(&database))
            .as_str(),
    );
    // Everything of it does run, where it is asked to.
    let before = canaries(server);
    let places = [
        "index",
        "predicate",
        "inlined",
        "operator",
        "statistics",
        "cast",
        "check",
        "domain",
        "default",
        "generated",
        "partition",
        "policy",
        "trigger",
        "rule",
        "view",
        "materialized view",
        "operator in front",
        "function in front",
    ];
    for place in places {
        assert!(called(&before, place), "{place} in {before:#?}");
    }
    // And as a superuser, where one reads a part of a table as anybody would.
    for table in ["large", "by_predicate", "by_inlined", "by_operator", "by_statistics", "by_cast", "by_check"] {
        server.sql(&database, &format!("COPY (SELECT i FROM ONLY s.{table} WHERE ctid < '(1,0)') TO STDOUT"));
    }
    let after = canaries(server);
    for place in &places[..7] {
        assert!(after.contains(&format!("{place} as postgres of postgres.")), "{place} in {after:#?}");
    }

    let report = site.all().await;
    assert_eq!(report.class, None, "{report:?}");
    assert_eq!(canaries(server)[after.len()..], [""; 0]);
    assert_eq!(site.verify(true).await.problems.len(), 0);
    assert_eq!(canaries(server)[after.len()..], [""; 0]);

    let report = restore(&site, &copy("acme", "copy")).await.unwrap();
    assert!(report.proven);
    let restored = canaries(server)[after.len()..].to_vec();
    assert!(called(&restored, "index") && called(&restored, "domain") && called(&restored, "generated"), "{restored:#?}");
    let wrong: Vec<&String> = restored.iter().filter(|canary| !canary.contains(" of tenure_loader_")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
