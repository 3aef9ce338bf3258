//! Comparing two databases by what PostgreSQL's own tools say of them.

use std::collections::BTreeMap;

use crate::harness::postgres::{Cluster, quoted, run};

/// All that `pg_dump` says of a database.
pub struct Picture {
    /// Every line but rows: the schema, states of sequences, large objects.
    schema: Vec<String>,
    /// By the `COPY` statement of each table its lines, sorted, equal ones as often as they are there.
    rows: BTreeMap<String, Vec<String>>,
}

impl Picture {
    /// Dumps `database` by the server's own `pg_dump`.
    pub fn take(server: &Cluster, database: &str) -> Self {
        let dump = run(server.program("pg_dump", database).args(["--restrict-key=fidelity", "--no-sync"])).stdout;
        let mut picture = Self { schema: Vec::new(), rows: BTreeMap::new() };
        let mut table: Option<Vec<String>> = None;
        for line in dump.split(|byte| *byte == b'\n') {
            // What is not UTF-8 is spelled out, so that no two lines look the same that are not.
            let line = std::str::from_utf8(line).map_or_else(|_| line.escape_ascii().to_string(), str::to_owned);
            let opens = line.starts_with("COPY ") && line.ends_with(" FROM stdin;");
            match &mut table {
                Some(rows) if line == r"\." => {
                    rows.sort_unstable();
                    let statement = picture.schema.last().unwrap().clone();
                    assert!(picture.rows.insert(statement, table.take().unwrap()).is_none());
                }
                Some(rows) => rows.push(line),
                None => {
                    table = opens.then(Vec::new);
                    picture.schema.push(line);
                }
            }
        }
        assert!(table.is_none(), "the dump of {database} ends within a table");
        picture
    }

    /// What differs, in words; nothing if nothing does. `+` stands before what only `other` has.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (line, count) in surplus(&other.schema, &self.schema) {
            found.push(format!("{}{line} ({count} times)", if count > 0 { '+' } else { '-' }));
        }
        if found.is_empty() && self.schema != other.schema {
            let at = self.schema.iter().zip(&other.schema).position(|(ours, theirs)| ours != theirs);
            found.push(format!("the same lines in another order, from line {}", at.map_or(0, |at| at + 1)));
        }
        let empty = Vec::new();
        for statement in self.rows.keys().chain(other.rows.keys().filter(|statement| !self.rows.contains_key(*statement))) {
            let [ours, theirs] = [self, other].map(|picture| picture.rows.get(statement).unwrap_or(&empty));
            if ours != theirs {
                let first = surplus(theirs, ours).into_iter().next();
                found.push(format!("{statement} {} and {} rows: {first:.300?}", ours.len(), theirs.len()));
            }
        }
        found
    }
}

/// How many more times each line is in `theirs` than in `ours`, where that is not zero.
fn surplus<'a>(theirs: &'a [String], ours: &'a [String]) -> BTreeMap<&'a str, i64> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for (lines, weight) in [(theirs, 1), (ours, -1)] {
        for line in lines {
            *counts.entry(line).or_default() += weight;
        }
    }
    counts.retain(|_, count| *count != 0);
    counts
}

/// Copies a database by `pg_dump` of the server it is on and `pg_restore` of the one it goes to.
pub fn plain_copy(from: &Cluster, database: &str, to: &Cluster, copy: &str) {
    let how = from.sql(
        "postgres",
        &format!(
            "SELECT format('ENCODING %L LC_COLLATE %L LC_CTYPE %L', pg_encoding_to_char(encoding), datcollate, datctype)
                 || CASE to_jsonb(d) ->> 'datlocprovider'
                    WHEN 'i' THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %L', coalesce(to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale'))
                    WHEN 'b' THEN format(' LOCALE_PROVIDER builtin BUILTIN_LOCALE %L', to_jsonb(d) ->> 'datlocale')
                    ELSE '' END
                 || coalesce(' ICU_RULES ' || quote_literal(to_jsonb(d) ->> 'daticurules'), '')
               FROM pg_database d WHERE datname = '{database}'"
        ),
    );
    to.sql("postgres", &format!("CREATE DATABASE {} TEMPLATE template0 {}", quoted(copy), how.trim()));
    let archive = tempfile::NamedTempFile::new().unwrap();
    run(from.program("pg_dump", database).arg("-Fc").arg("-f").arg(archive.path()));
    run(to.program("pg_restore", copy).arg("-d").arg(copy).arg("--exit-on-error").arg(archive.path()));
}

/// What a database is besides its contents.
pub fn properties(server: &Cluster, database: &str) -> String {
    server.sql(
        "postgres",
        &format!(
            "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
                    coalesce(to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale'), to_jsonb(d) ->> 'daticurules', datconnlimit, datistemplate, datallowconn,
                    (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(coalesce(datacl, acldefault('d', datdba))) x), shobj_description(d.oid, 'pg_database'),
                    (SELECT array_agg((coalesce(setrole::regrole::text, ''), x)::text ORDER BY setrole::regrole::text, x)
                       FROM pg_db_role_setting, unnest(setconfig) x WHERE setdatabase = d.oid)
               FROM pg_database d WHERE datname = '{database}'"
        ),
    )
}
