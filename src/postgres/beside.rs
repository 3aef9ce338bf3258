//! A schema beside the others of a database, in which restored tables come to stand.

use std::collections::{BTreeSet, HashSet};

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::Client;

use super::{
    discover, loader,
    quote::qualified,
    statement::{Failed, StatementError},
};
use crate::backup_id::BackupId;

/// What such a schema is called when its tables are proven.
#[must_use]
pub fn schema_name(backup: BackupId) -> String {
    format!("restored_{backup}")
}

/// What is in a database already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Whether a schema has the name.
    pub taken: bool,
    /// Whether transactions there write nothing unless they say so.
    pub read_only: bool,
    /// Event triggers that are enabled.
    pub event_triggers: Vec<String>,
    /// Schemas that restores left which are no longer at work, each with the statements that remove it.
    pub left: Vec<(String, String)>,
}

/// Looks at the database that `admin` is connected to.
///
/// # Errors
/// What the server says.
pub async fn look(admin: &Client, name: &str) -> Result<Seen, StatementError> {
    let (what, whom) = ("looking for schemas in", "the database");
    let rows = admin
        .query(
            "SELECT 'taken', nspname::text, '' FROM pg_catalog.pg_namespace WHERE nspname = $1::text
             UNION ALL
             SELECT 'trigger', evtname::text, '' FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D'
             UNION ALL
             SELECT 'read-only', '', '' FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only' AND reset_val = 'on'
             UNION ALL
             SELECT 'left', nspname::text, pg_catalog.format('DROP SCHEMA %I CASCADE;', nspname) || COALESCE(
                        (SELECT pg_catalog.string_agg(pg_catalog.format(' DROP OWNED BY %I;', rolname), '') FROM pg_catalog.pg_roles
                          WHERE rolname ~ ('^' || $3 || '.*' || pg_catalog.right(nspname::text, 32) || '$')), '')
               FROM pg_catalog.pg_namespace
              WHERE nspname ~ ('^' || $2 || '[0-9a-f]{32}$')
                AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity
                                 WHERE application_name ~ ('^tenure restore ' || pg_catalog.right(nspname::text, 32) || '$'))
              ORDER BY 1, 2",
            &[&name, &discover::OWN_PREFIX, &loader::PREFIX],
        )
        .await
        .failed(what, whom)?;
    let mut seen = Seen::default();
    for row in rows {
        let text = |at: usize| row.try_get::<_, String>(at).failed(what, whom);
        let (kind, name) = (text(0)?, text(1)?);
        match kind.as_str() {
            "taken" => seen.taken = true,
            "read-only" => seen.read_only = true,
            "trigger" => seen.event_triggers.push(name),
            _ => seen.left.push((name, text(2)?)),
        }
    }
    Ok(seen)
}

/// Makes the schema for `login` to fill, and lets it look up names in the others. `admin` is connected to the database.
///
/// # Errors
/// What the server says.
pub async fn create(admin: &Client, schema: &str, login: &str) -> Result<(), StatementError> {
    let (schema, role) = (escape_identifier(schema), escape_identifier(login));
    admin.batch_execute(&format!("CREATE SCHEMA {schema}")).await.failed("CREATE SCHEMA", &schema)?;
    let rows = admin
        .query(
            "SELECT pg_catalog.format('GRANT USAGE ON SCHEMA %I TO %s', nspname, $2::text) FROM pg_catalog.pg_namespace
              WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
                AND NOT pg_catalog.has_schema_privilege($1::text::name, oid, 'USAGE')
             UNION ALL
             SELECT pg_catalog.format('GRANT CONNECT ON DATABASE %I TO %s', datname, $2::text) FROM pg_catalog.pg_database
              WHERE datname = pg_catalog.current_database()
                AND NOT pg_catalog.has_database_privilege($1::text::name, oid, 'CONNECT')",
            &[&login, &role],
        )
        .await
        .failed("reading the rights of", login)?;
    for row in rows {
        let statement: String = row.try_get(0).failed("reading the rights of", login)?;
        admin.batch_execute(&statement).await.failed("GRANT TO", login)?;
    }
    admin.batch_execute(&format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}")).await.failed("GRANT ON SCHEMA", &schema)
}

/// Lets `login` make things in the schema that every database has. `admin` is connected to one that is ours.
///
/// # Errors
/// What the server says.
pub async fn open_public(admin: &Client, login: &str) -> Result<(), StatementError> {
    let statement = format!("GRANT ALL ON SCHEMA public TO {}", escape_identifier(login));
    admin.batch_execute(&statement).await.failed("GRANT ON SCHEMA", "public")
}

/// Sequences that belong to columns of the tables: schema and name.
///
/// # Errors
/// What the server says.
pub async fn owned_sequences(session: &Client, tables: &[(&str, &str)]) -> Result<HashSet<(String, String)>, StatementError> {
    let (what, whom) = ("reading the sequences of", "the tables");
    let schemas: Vec<&str> = tables.iter().map(|(schema, _)| *schema).collect();
    let names: Vec<&str> = tables.iter().map(|(_, name)| *name).collect();
    let rows = session
        .query(
            "SELECT sn.nspname::text, s.relname::text
               FROM unnest($1::text[], $2::text[]) AS t(nsp, rel)
               JOIN pg_catalog.pg_namespace AS n ON n.nspname = t.nsp
               JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.rel
               JOIN pg_catalog.pg_depend AS d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = c.oid
                AND d.refobjsubid > 0 AND d.classid = d.refclassid AND d.deptype IN ('a', 'i')
               JOIN pg_catalog.pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
               JOIN pg_catalog.pg_namespace AS sn ON sn.oid = s.relnamespace",
            &[&schemas, &names],
        )
        .await
        .failed(what, whom)?;
    rows.iter().map(|row| Ok((row.try_get(0).failed(what, whom)?, row.try_get(1).failed(what, whom)?))).collect()
}

/// Moves tables, with their indexes and sequences, into a new schema. They inherit no more from tables that stay.
///
/// # Errors
/// What the server says, with the table named.
pub async fn move_to(session: &Client, schema: &str, tables: &[(&str, &str)]) -> Result<(), StatementError> {
    let quoted = escape_identifier(schema);
    session.batch_execute(&format!("CREATE SCHEMA {quoted}")).await.failed("CREATE SCHEMA", schema)?;
    for (from, name) in tables {
        let statement = format!("ALTER TABLE {} SET SCHEMA {quoted}", qualified(from, name));
        session.batch_execute(&statement).await.failed("ALTER TABLE … SET SCHEMA", name)?;
    }
    let what = "reading what is inherited in";
    let rows = session
        .query(
            "SELECT pg_catalog.format('ALTER TABLE %I.%I NO INHERIT %I.%I', n.nspname, c.relname, pn.nspname, p.relname)
               FROM pg_catalog.pg_inherits AS i
               JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid AND NOT c.relispartition
               JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = $1::text
               JOIN pg_catalog.pg_class AS p ON p.oid = i.inhparent
               JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.relnamespace AND pn.nspname <> $1::text
              WHERE c.relkind IN ('r', 'f')",
            &[&schema],
        )
        .await
        .failed(what, schema)?;
    for row in rows {
        let statement: String = row.try_get(0).failed(what, schema)?;
        session.batch_execute(&statement).await.failed("ALTER TABLE … NO INHERIT", schema)?;
    }
    Ok(())
}

/// Gives the tables, name and owner, to whom they belonged, who may then use the schema.
///
/// # Errors
/// What the server says, with the table named.
pub async fn hand_over<'a>(
    admin: &Client,
    schema: &str,
    tables: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), StatementError> {
    let quoted = escape_identifier(schema);
    let mut owners = BTreeSet::new();
    for (name, owner) in tables {
        let role = escape_identifier(owner);
        if owners.insert(owner) {
            let statement = format!("GRANT USAGE, CREATE ON SCHEMA {quoted} TO {role}");
            admin.batch_execute(&statement).await.failed("GRANT ON SCHEMA", schema)?;
        }
        let statement = format!("ALTER TABLE {} OWNER TO {role}", qualified(schema, name));
        admin.batch_execute(&statement).await.failed("ALTER TABLE … OWNER TO", name)?;
    }
    for owner in owners {
        let statement = format!("REVOKE CREATE ON SCHEMA {quoted} FROM {}", escape_identifier(owner));
        admin.batch_execute(&statement).await.failed("REVOKE ON SCHEMA", schema)?;
    }
    Ok(())
}

/// Gives the schema its name.
///
/// # Errors
/// What the server says; the name may have been taken meanwhile.
pub async fn rename(admin: &Client, from: &str, to: &str) -> Result<(), StatementError> {
    let statement = format!("ALTER SCHEMA {} RENAME TO {}", escape_identifier(from), escape_identifier(to));
    admin.batch_execute(&statement).await.failed("ALTER SCHEMA … RENAME", to)
}

/// Drops the schema that this restore made, and takes the rights of its logins in the database.
///
/// # Errors
/// What the server says.
pub async fn drop_own(admin: &Client, schema: &str, logins: &[String]) -> Result<(), StatementError> {
    let statement = format!("DROP SCHEMA IF EXISTS {} CASCADE", escape_identifier(schema));
    admin.batch_execute(&statement).await.failed("DROP SCHEMA", schema)?;
    for login in logins {
        if super::roles::exists(admin, login).await? {
            super::loader::drop_owned(admin, login).await?;
        }
    }
    Ok(())
}
