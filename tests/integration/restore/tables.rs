//! A few tables alone: beside what is there, or into a new database.

use std::collections::BTreeSet;

use super::*;
use crate::harness::{
    postgres::{Cluster, Options, shared, unique},
    program::Program,
    site::walk,
};

fn only(request: Request, tables: &[&str]) -> Request {
    let allow = vec!["superuser-code".to_owned()];
    Request { tables: tables.iter().map(|name| name.parse().unwrap()).collect(), allow, ..request }
}

fn failed(result: Result<Report, Failure>) -> (u8, &'static str, String) {
    let failure = result.unwrap_err();
    (failure.class.code(), failure.kind, format!("{} | {}", failure.one_line(), failure.hint))
}

fn own_server() -> &'static Cluster {
    Box::leak(Box::new(Cluster::start(&Options::default())))
}

/// All that a table may have. `OWN` owns it.
const SHOP: &str = r#"
    CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO "OWN"; GRANT ALL ON SCHEMA public TO "OWN"; SET SESSION AUTHORIZATION "OWN";
    CREATE TYPE app.mood AS ENUM ('sad', 'fine'); CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
    CREATE FUNCTION app.is_short(t text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN length(t) < 100; END';
    CREATE FUNCTION app.unneeded() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE SEQUENCE app.free START 40; SELECT nextval('app.free');
    CREATE TABLE public.customers (id serial PRIMARY KEY, name text NOT NULL UNIQUE);
    INSERT INTO customers (name) SELECT 'c' || n FROM generate_series(1, 50) n;
    CREATE TABLE app.orders (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int REFERENCES public.customers, mood app.mood DEFAULT 'fine',
        amount app.positive CHECK (amount < 1000000), twice int GENERATED ALWAYS AS (amount * 2) STORED, ticket int DEFAULT nextval('app.free'),
        note text CHECK (app.is_short(note)), EXCLUDE USING btree (id WITH =));
    INSERT INTO app.orders (customer, amount, note) SELECT n % 50 + 1, n, 'order ' || n FROM generate_series(1, 3000) n;
    CREATE INDEX by_short ON app.orders (app.is_short(note), note) WHERE amount > 10;
    COMMENT ON TABLE app.orders IS 'what was ordered'; COMMENT ON COLUMN app.orders.note IS 'said'; COMMENT ON INDEX app.by_short IS 'quick';
    CREATE TABLE app.lines (order_id bigint CONSTRAINT of_order REFERENCES app.orders, n int, PRIMARY KEY (order_id, n));
    INSERT INTO app.lines SELECT n, 1 FROM generate_series(1, 500) n;
    CREATE TRIGGER touched BEFORE UPDATE ON app.orders FOR EACH ROW EXECUTE FUNCTION app.touch();
    ALTER TABLE app.orders ENABLE ROW LEVEL SECURITY; CREATE POLICY all_of_it ON app.orders USING (true);
    CREATE RULE silent AS ON DELETE TO app.lines DO INSTEAD NOTHING;
    CREATE VIEW app.seen AS SELECT id FROM app.orders; GRANT SELECT ON app.orders TO PUBLIC;
    CREATE TABLE public.parted (k int, t text, PRIMARY KEY (k, t)) PARTITION BY LIST (k);
    CREATE TABLE public.parted_1 PARTITION OF parted FOR VALUES IN (1) PARTITION BY RANGE (t);
    CREATE TABLE app.parted_1a PARTITION OF parted_1 FOR VALUES FROM ('a') TO ('m');
    CREATE TABLE public.parted_rest PARTITION OF parted DEFAULT;
    CREATE INDEX ON parted (t); INSERT INTO parted VALUES (1, 'b'), (1, 'c'), (2, 'z');
    CREATE TABLE public.base (a int DEFAULT 3); INSERT INTO base VALUES (9);
    CREATE TABLE public.heir (b int) INHERITS (base); INSERT INTO heir VALUES (1, 2);
    CREATE TABLE public."Odd.Name ""q""" ("Col umn" int PRIMARY KEY, "select" text); INSERT INTO public."Odd.Name ""q""" VALUES (1, E'a\tb');
    CREATE TABLE app.customers (other int);
    RESET SESSION AUTHORIZATION;
"#;

/// Columns, constraints, indexes, comments and owner of a schema's tables, however the schema is called.
fn shape(server: &Cluster, database: &str, schema: &str, tables: &[&str]) -> String {
    let list = tables.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    server
        .sql(
            database,
            &format!(
                "SET search_path = '\"{schema}\"';
                 SELECT c.relname, c.relkind, pg_get_userbyid(c.relowner), obj_description(c.oid) FROM pg_class c
                  WHERE relnamespace = '\"{schema}\"'::regnamespace AND relname IN ({list}) ORDER BY 1;
                 SELECT c.relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attislocal, attinhcount,
                        pg_get_expr(adbin, adrelid), col_description(c.oid, attnum)
                   FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid LEFT JOIN pg_attrdef d ON adrelid = c.oid AND adnum = attnum
                  WHERE relnamespace = '\"{schema}\"'::regnamespace AND relname IN ({list}) AND attnum > 0 ORDER BY 1, attnum;
                 SELECT conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint
                  WHERE conrelid IN (SELECT oid FROM pg_class WHERE relnamespace = '\"{schema}\"'::regnamespace AND relname IN ({list}))
                    AND contype <> 'n' ORDER BY conrelid::regclass::text, 2;
                 SELECT pg_get_indexdef(indexrelid), obj_description(indexrelid), indisvalid FROM pg_index
                  WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = '\"{schema}\"'::regnamespace AND relname IN ({list})) ORDER BY 1;
                 SELECT c.relname, s.relname, pg_sequence_last_value(s.oid) FROM pg_class c JOIN pg_depend d ON refobjid = c.oid
                   JOIN pg_class s ON s.oid = objid AND s.relkind = 'S'
                  WHERE c.relnamespace = '\"{schema}\"'::regnamespace AND c.relname IN ({list}) AND deptype IN ('a', 'i') ORDER BY 1, 2;"
            ),
        )
        .replace(&format!("\"{schema}\"."), "")
        .replace("app.", "")
}

fn rows_of(server: &Cluster, database: &str, table: &str) -> String {
    server.sql(database, &format!("SELECT md5(string_agg(t::text, '|' ORDER BY t::text)), count(*) FROM ONLY {table} AS t"))
}

/// Everything but the schemas that restores made.
fn dumped(server: &Cluster, database: &str) -> String {
    let mut command = server.program("pg_dump", database);
    let output = crate::harness::postgres::run(command.args(["--exclude-schema=restored_*", "--restrict-key=x"]));
    String::from_utf8(output.stdout).unwrap()
}

fn is_clean(server: &Cluster, database: &str) {
    let left = server.sql(
        database,
        "SELECT datname FROM pg_database WHERE datname LIKE 'tenure%' UNION ALL SELECT rolname FROM pg_roles WHERE rolname LIKE 'tenure%'
         UNION ALL SELECT nspname FROM pg_namespace WHERE nspname LIKE 'tenure%' UNION ALL
         SELECT 'grants' FROM pg_namespace WHERE nspacl::text LIKE '%tenure%' UNION ALL
         SELECT 'grants' FROM pg_database WHERE datacl::text LIKE '%tenure%'",
    );
    assert_eq!(left.trim(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_the_live_ones_they_are_as_they_were_and_nothing_else_is_touched() {
    let server = own_server();
    let site = Site::on(server).await;
    let live = site.database("acme");
    server.sql("postgres", "CREATE ROLE \"OWN\"");
    server.sql(&live, SHOP);
    assert_eq!(site.all().await.class, None);
    let plain = ["app.orders", "app.lines"];
    let names = ["orders", "lines"];
    let (was, shape_was) = (plain.map(|table| rows_of(server, &live, table)), shape(server, &live, "app", &names));
    server.sql(&live, "DELETE FROM app.orders WHERE id > 500; ALTER TABLE app.orders DROP COLUMN mood, ADD COLUMN later int");
    let before = dumped(server, &live);

    let report = restore(&site, &only(latest("acme"), &["app.orders", "APP.lines"])).await.unwrap();
    let schema = report.schema.clone().unwrap();
    assert_eq!((schema.as_str(), &report.database), (format!("restored_{}", report.backup).as_str(), &live));
    assert_eq!((report.proven, report.tables, report.rows), (true, 2, 3500));
    assert_eq!(dumped(server, &live), before);
    is_clean(server, &live);
    for (name, was) in names.iter().zip(&was) {
        assert_eq!(rows_of(server, &live, &format!("\"{schema}\".{name}")), *was);
    }
    // But for the key to a table that is not among them.
    let without_key: Vec<&str> = shape_was.lines().filter(|line| !line.contains("REFERENCES public.customers")).collect();
    assert_eq!(shape(server, &live, &schema, &names).lines().collect::<Vec<_>>(), without_key);
    let notes = report.notes.join("\n");
    for part in [
        "left out: foreign key app.orders orders_customer_fkey",
        "left out: trigger app.orders touched",
        "left out: policy app.orders all_of_it",
        "left out: row security of app.orders",
        "left out: rule app.lines silent",
        "grants",
    ] {
        assert!(notes.contains(part), "{part} in {notes}");
    }
    server.sql(&live, &format!("SET ROLE \"OWN\"; SELECT count(*) FROM \"{schema}\".orders"));

    // The same once more: its place is taken, and what is there is named.
    let (exit, kind, text) = failed(restore(&site, &only(latest("acme"), &["app.orders"])).await);
    assert_eq!((exit, kind), (1, "schema-taken"), "{text}");
    assert!(text.contains(&format!("DROP SCHEMA \"{schema}\" CASCADE")), "{text}");
    assert_eq!(dumped(server, &live), before);
    server.sql(&live, &format!("DROP SCHEMA \"{schema}\" CASCADE"));

    // Partitions, heirs, odd names, a table that is gone, two of one name.
    server.sql(&live, "DROP TABLE public.base, public.heir");
    let odd = ["public.parted", "heir", "\"Odd.Name \"\"q\"\"\""];
    let report = restore(&site, &only(latest("acme"), &odd)).await.unwrap();
    let schema = report.schema.unwrap();
    assert_eq!((report.tables, report.rows), (4, 5), "{:?}", report.notes);
    let list = "SELECT string_agg(r::text, ' ' ORDER BY r::text)";
    assert_eq!(server.sql(&live, &format!("{list} FROM \"{schema}\".parted r")).trim(), "(1,b) (1,c) (2,z)");
    assert_eq!(server.sql(&live, &format!("{list} FROM \"{schema}\".parted_1a r")).trim(), "(1,b) (1,c)");
    assert_eq!(server.sql(&live, &format!("{list} FROM \"{schema}\".heir r")).trim(), "(1,2)");
    let odd = format!("SELECT \"Col umn\" || \"select\" FROM \"{schema}\".\"Odd.Name \"\"q\"\"\"");
    assert_eq!(server.sql(&live, &odd).trim(), "1a\tb");
    assert_eq!(server.sql(&live, "SELECT count(*) FROM public.parted").trim(), "3");
    server.sql(&live, &format!("DROP SCHEMA \"{schema}\" CASCADE"));
    let (exit, kind, text) = failed(restore(&site, &only(latest("acme"), &["public.customers", "app.customers"])).await);
    assert_eq!((exit, kind), (1, "same-name"), "{text}");
    let (exit, kind, text) = failed(restore(&site, &only(latest("acme"), &["customers"])).await);
    assert_eq!((exit, kind), (1, "ambiguous-table"), "{text}");
    assert!(text.contains("app.customers, public.customers"), "{text}");
    let (exit, kind, text) = failed(restore(&site, &only(latest("acme"), &["app.ordres"])).await);
    assert_eq!((exit, kind), (1, "no-such-table"), "{text}");
    assert!(text.contains("It has app.orders"), "{text}");
    let (_, _, text) = failed(restore(&site, &only(latest("acme"), &["odd.name"])).await);
    assert!(text.contains("public.\"Odd.Name \"\"q\"\"\""), "{text}");
    is_clean(server, &live);

    // What an event trigger would do there, nobody knows.
    server.sql(
        &live,
        "CREATE FUNCTION public.e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
         CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION public.e()",
    );
    let (exit, kind, text) = failed(restore(&site, &only(latest("acme"), &["app.lines"])).await);
    assert_eq!((exit, kind), (1, "event-triggers"), "{text}");
    is_clean(server, &live);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_has_them_with_what_they_need_and_a_part_is_never_the_tenant() {
    let server = own_server();
    let site = Site::on(server).await;
    let live = site.database("acme");
    server.sql("postgres", "CREATE ROLE \"OWN\"");
    server.sql(&live, SHOP);
    assert_eq!(site.all().await.class, None);
    let into = unique("alone");
    let tables = ["app.orders", "app.lines", "app.parted_1a", "public.heir"];
    let report = restore(&site, &only(copy("acme", &into), &tables)).await.unwrap();
    assert_eq!((report.proven, report.tables, report.schema), (true, 4, None));
    for table in tables {
        assert_eq!(rows_of(server, &into, table), rows_of(server, &live, table), "{table}");
    }
    let names = ["orders", "lines"];
    let shape_was = shape(server, &live, "app", &names);
    let without_key: Vec<&str> = shape_was.lines().filter(|line| !line.contains("REFERENCES public.customers")).collect();
    assert_eq!(shape(server, &into, "app", &names).lines().collect::<Vec<_>>(), without_key);
    let made = server.sql(
        &into,
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v') AND relnamespace::regnamespace::text IN ('app', 'public')
         UNION ALL SELECT proname FROM pg_proc WHERE pronamespace::regnamespace::text IN ('app', 'public') ORDER BY 1",
    );
    assert_eq!(made.lines().collect::<Vec<_>>(), ["base", "heir", "is_short", "lines", "orders", "parted_1a"]);
    assert_eq!(server.sql(&into, "SELECT count(*) FROM ONLY base").trim(), "0");
    assert!(report.notes.iter().any(|note| note.contains("public.base is there without rows")), "{:?}", report.notes);
    assert_eq!(server.sql(&into, "SELECT relispartition FROM pg_class WHERE relname = 'parted_1a'").trim(), "f");
    is_clean(server, &into);

    // Into the copy, beside what it has.
    let report = restore(&site, &only(copy("acme", &into), &["app.lines"])).await.unwrap();
    assert!(report.schema.is_some());

    // Another tenant's database, and one that is nobody's.
    site.database("other");
    assert_eq!(site.all().await.class, None);
    server.create_database("foreign");
    for (name, code, kind) in [(site.name("other"), 4, "foreign-name"), ("foreign".to_owned(), 1, "not-ours")] {
        let before = dumped(server, &name);
        let (exit, found, text) = failed(restore(&site, &only(copy("acme", &name), &["app.lines"])).await);
        assert!(found == kind || text.contains("belongs to tenant"), "{text}");
        assert_eq!(exit, code, "{text}");
        assert_eq!(dumped(server, &name), before);
    }
    server.sql("postgres", &format!("ALTER DATABASE {live} RENAME TO elsewhere"));
    let (exit, kind, text) = failed(restore(&site, &only(latest("acme"), &["app.lines"])).await);
    assert_eq!((exit, kind), (1, "no-database"), "{text}");
}

/// Whatever the tenant's functions try while a table is filled beside the live ones, they are a login that may do nothing there.
#[tokio::test(flavor = "multi_thread")]
async fn the_tenants_code_can_do_nothing_in_the_live_database() {
    let server = own_server();
    let site = Site::on(server).await;
    let live = site.database("acme");
    server.sql("postgres", "CREATE ROLE \"OWN\"");
    server.sql(
        &live,
        "GRANT ALL ON SCHEMA public TO \"OWN\"; SET SESSION AUTHORIZATION \"OWN\";
         CREATE TABLE seen (who text, may text);
         CREATE FUNCTION try(what text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN true; END';
         CREATE TABLE t (a int CHECK (try('check')), g boolean GENERATED ALWAYS AS (try('generated' || a)) STORED);
         INSERT INTO t SELECT generate_series(1, 300); CREATE INDEX ON t ((try('index' || a)));
         CREATE FUNCTION note(what text) RETURNS void LANGUAGE sql VOLATILE AS 'INSERT INTO public.seen VALUES (current_user, what)';
         CREATE OR REPLACE FUNCTION try(what text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
           BEGIN RESET SESSION AUTHORIZATION; RESET ROLE; EXCEPTION WHEN OTHERS THEN NULL; END;
           BEGIN SET ROLE \"OWN\"; EXCEPTION WHEN OTHERS THEN NULL; END;
           BEGIN PERFORM public.note(what); EXCEPTION WHEN OTHERS THEN NULL; END;
           IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN RAISE EXCEPTION 'superuser'; END IF;
           RETURN true; END $$;
         RESET SESSION AUTHORIZATION;",
    );
    assert_eq!(site.all().await.class, None);
    // It would, if it might.
    server.sql(&live, "SET ROLE \"OWN\"; INSERT INTO t VALUES (0)");
    assert_ne!(server.sql(&live, "SELECT count(*) FROM seen").trim(), "0");
    server.sql(&live, "TRUNCATE seen");
    let report = restore(&site, &only(latest("acme"), &["t"])).await.unwrap();
    assert_eq!((report.proven, report.rows), (true, 300));
    assert_eq!(server.sql(&live, "SELECT count(*) FROM seen").trim(), "0");
    server.sql(&live, &format!("DROP SCHEMA \"{}\" CASCADE", report.schema.unwrap()));
    is_clean(server, &live);

    // One that cannot be filled there leaves nothing.
    server.sql(
        &live,
        "CREATE OR REPLACE FUNCTION try(what text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'",
    );
    let before = dumped(server, &live);
    let (exit, _, text) = failed(restore(&site, &only(latest("acme"), &["t"])).await);
    assert_eq!(exit, 1, "{text}");
    assert_eq!(dumped(server, &live), before);
    is_clean(server, &live);
}

/// A function in one owner's constraint could put an index on another owner's table, who would then run it.
#[tokio::test(flavor = "multi_thread")]
async fn beside_the_live_ones_the_tables_are_of_one_owner_without_power() {
    let server = own_server();
    let site = Site::on(server).await;
    let live = site.database("acme");
    server.sql(
        "postgres",
        "CREATE ROLE low; CREATE ROLE other; CREATE ROLE team; CREATE ROLE reads IN ROLE team; GRANT pg_read_all_data TO team",
    );
    let tables = "CREATE TABLE of_low (a int); CREATE TABLE of_other (a int); CREATE TABLE of_super (a int); CREATE TABLE of_reads (a int);
                  ALTER TABLE of_low OWNER TO low; ALTER TABLE of_other OWNER TO other; ALTER TABLE of_reads OWNER TO reads";
    server.sql(&live, tables);
    assert_eq!(site.all().await.class, None);
    let before = dumped(server, &live);
    let with = |tables: &[&str], allow: &[&str]| {
        let allow = allow.iter().map(|word| (*word).to_owned()).collect();
        Request { allow, ..only(latest("acme"), tables) }
    };
    for (tables, allow, kind) in [
        (&["of_low", "of_other"][..], &["all"][..], "several-owners"),
        (&["of_low", "of_super"], &["all"], "several-owners"),
        (&["of_super"], &[], "needs-allow"),
    ] {
        let (exit, refused, text) = failed(restore(&site, &with(tables, allow)).await);
        assert_eq!((exit, refused), (4, kind), "{text}");
        assert!(text.contains("--into NAME"), "{text}");
        assert_eq!(dumped(server, &live), before);
    }
    // The power that the backup records of an owner is no news.
    let (_, _, text) = failed(restore(&site, &with(&["of_reads"], &[])).await);
    assert!(text.contains("--allow superuser-code") && !text.contains("powerful-owners"), "{text}");
    for (tables, allow) in
        [(&["of_low"][..], &[][..]), (&["of_super"], &["superuser-code"]), (&["of_reads"], &["superuser-code"])]
    {
        let report = restore(&site, &with(tables, allow)).await.unwrap();
        assert!(report.proven);
        server.sql(&live, &format!("DROP SCHEMA \"{}\" CASCADE", report.schema.unwrap()));
    }
    // Sessions there write nothing unless they say so.
    server.sql("postgres", &format!("ALTER DATABASE {live} SET default_transaction_read_only = on"));
    let report = restore(&site, &with(&["of_low"], &[])).await.unwrap();
    server.sql("postgres", &format!("ALTER DATABASE {live} RESET default_transaction_read_only"));
    server.sql(&live, &format!("DROP SCHEMA \"{}\" CASCADE", report.schema.unwrap()));
    let into = Request { into: Some(unique("apart")), ..with(&["of_low", "of_other"], &[]) };
    assert!(restore(&site, &into).await.unwrap().proven);
    is_clean(server, &live);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_without_superuser_may_do_it() {
    let server = own_server();
    let site = Site::on(server).await;
    server.sql("postgres", "CREATE ROLE app; CREATE ROLE adm LOGIN CREATEDB CREATEROLE");
    let give = if postgres::major() >= 16 { "GRANT app TO adm WITH ADMIN OPTION" } else { "GRANT app TO adm" };
    server.sql("postgres", give);
    let live = site.database("acme");
    server.sql("postgres", &format!("ALTER DATABASE {live} OWNER TO app"));
    server.sql(
        &live,
        "SET SESSION AUTHORIZATION app; CREATE SCHEMA s; CREATE TABLE s.t (id serial PRIMARY KEY, x text);
         INSERT INTO s.t (x) SELECT md5(n::text) FROM generate_series(1, 100) n",
    );
    assert_eq!(site.all().await.class, None);
    let environment = tenure::postgres::LibpqEnvironment { home: None, user: "nobody".into(), variables: BTreeMap::new() };
    let description = site.cluster.description().replace(" user=postgres", "");
    let admin = Target::parse(&format!("{description} user=adm dbname=postgres"), &environment).unwrap();
    let destination = Destination { admin, ..here(&site) };
    let report = restore_to(&site, destination, &only(latest("acme"), &["s.t"])).await.unwrap();
    assert_eq!((report.proven, report.rows), (true, 100));
    let schema = report.schema.unwrap();
    assert_eq!(rows_of(server, &live, &format!("\"{schema}\".t")), rows_of(server, &live, "s.t"));
    let owner = format!("SELECT tableowner FROM pg_tables WHERE schemaname = '{schema}'");
    assert_eq!(server.sql(&live, &owner).trim(), "app");
    is_clean(server, &live);
    let members = "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE r.rolname LIKE 'tenure%'";
    assert_eq!(server.sql("postgres", members).trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_fetched_but_the_tables_and_damage_elsewhere_does_not_matter() {
    let site = Site::new().await;
    let live = site.database("acme");
    shared().sql(
        &live,
        "CREATE TABLE big (id int PRIMARY KEY, t text); INSERT INTO big SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 4000) n;
         CREATE TABLE refers (id int REFERENCES big); INSERT INTO refers SELECT generate_series(1, 4000);
         CREATE TABLE mid (id int, t text); INSERT INTO mid SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 100) n",
    );
    assert_eq!(site.all().await.class, None);
    let chunks: Vec<_> =
        walk(&site.folder().join("vault/t")).into_iter().filter(|path| path.to_string_lossy().contains("/c/")).collect();
    let into = unique("few");
    let mut needed = BTreeSet::new();
    for path in &chunks {
        let before = std::fs::read(path).unwrap();
        std::fs::remove_file(path).unwrap();
        match restore(&site, &only(copy("acme", &into), &["mid"])).await {
            Ok(_) => drop(shared().sql("postgres", &format!("DROP DATABASE {into}"))),
            Err(_) => drop(needed.insert(path)),
        }
        std::fs::write(path, before).unwrap();
    }
    // The description, the schema, and its rows.
    assert!(needed.len() <= 3 && chunks.len() >= 9, "{} of {}", needed.len(), chunks.len());

    // What is left of them, beside the live ones.
    let mut partly = 0;
    for path in &chunks {
        let before = std::fs::read(path).unwrap();
        std::fs::remove_file(path).unwrap();
        let wanted = Request { salvage: true, ..only(latest("acme"), &["big", "refers"]) };
        if let Ok(report) = restore(&site, &wanted).await {
            let schema = report.schema.unwrap();
            let lacks = report.salvage.unwrap();
            let lost: u64 = lacks.absent.iter().map(|absent| absent.rows_lost.unwrap()).sum();
            let count = shared().sql(
                &live,
                &format!("SELECT (SELECT count(*) FROM \"{schema}\".big) + (SELECT count(*) FROM \"{schema}\".refers)"),
            );
            assert_eq!(count.trim().parse::<u64>().unwrap() + lost, 8000, "{lacks:#?}");
            assert_eq!((report.proven, lacks.weakened.is_empty()), (lost == 0, lost == 0), "{lacks:#?}");
            partly += usize::from(lost > 0);
            shared().sql(&live, &format!("DROP SCHEMA \"{schema}\" CASCADE"));
        }
        std::fs::write(path, before).unwrap();
    }
    assert!(partly >= 6, "{partly}");
}

#[test]
fn the_program_restores_a_table_and_names_what_an_earlier_run_left() {
    let cluster = Cluster::start(&Options::default());
    cluster.create_database("tenant_acme");
    let tables = "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2); CREATE TABLE other (a int); CREATE ROLE app; ALTER TABLE t OWNER TO app";
    cluster.sql("tenant_acme", tables);
    let program = Program::set_up(&cluster, "tenant_{tenant}");
    program.done(&["backup", "--all"]);
    let id = "0123456789abcdef0123456789abcdef";
    cluster.sql(
        "tenant_acme",
        &format!(
            "CREATE SCHEMA tenure_{id}; CREATE ROLE tenure_loader_{id}; GRANT ALL ON SCHEMA tenure_{id}, public TO tenure_loader_{id};
             CREATE TABLE tenure_{id}.half (a int); ALTER TABLE tenure_{id}.half OWNER TO tenure_loader_{id}"
        ),
    );
    let arguments = ["restore", "acme", "--table", "public.t", "--identity", "recovery-kit.txt"];
    let document = program.done(&arguments);
    let schema = document["schema"].as_str().unwrap();
    assert_eq!(
        (&document["proven"], &document["rows"], &document["tables"]),
        (&true.into(), &2.into(), &1.into()),
        "{document:#}"
    );
    // Typed as they are told, one after the other, they work.
    let notes: Vec<&str> = document["notes"].as_array().unwrap().iter().filter_map(|note| note.as_str()).collect();
    let told = notes
        .iter()
        .filter(|note| note.contains(id))
        .map(|note| note.split_once("remove it").unwrap().1.split_once(": ").unwrap().1);
    for statements in told {
        cluster.sql("tenant_acme", statements);
    }
    cluster.sql("tenant_acme", &format!("DROP SCHEMA \"{schema}\" CASCADE"));
    is_clean(&cluster, "tenant_acme");
    let (code, text, _) = program.say(&arguments);
    assert_eq!(code, 0);
    assert!(text.starts_with(&format!("acme is restored as schema {schema} in database tenant_acme on here, ")), "{text}");
    assert!(text.contains("DROP SCHEMA") && !text.contains(id), "{text}");
    assert_eq!(program.refused(2, &["restore", "acme", "--table", "a.b.c", "--identity", "recovery-kit.txt"])["kind"], "usage");
}
