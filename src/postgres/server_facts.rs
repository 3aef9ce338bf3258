//! What a restore must know of the server before it makes anything there.

use std::collections::{BTreeMap, BTreeSet};

use postgres_protocol::escape::escape_literal;
use tokio_postgres::{Client, error::SqlState};

use super::statement::{Failed, StatementError};
use crate::format::description::{Database, Extension};

/// The server, and what the connecting role may do on it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent answers of the server")]
pub struct ServerFacts {
    /// `server_version_num`.
    pub version_num: u32,
    /// `pg_control_system()`'s identifier.
    pub system_identifier: String,
    /// Whether it is a standby: nothing can be made there.
    pub in_recovery: bool,
    /// The role.
    pub role: String,
    /// Its SUPERUSER.
    pub superuser: bool,
    /// Its CREATEDB, or SUPERUSER.
    pub create_db: bool,
    /// Its CREATEROLE, or SUPERUSER.
    pub create_role: bool,
    /// Its BYPASSRLS, or SUPERUSER.
    pub bypass_rls: bool,
    /// Where its data lies, as far as it tells.
    pub data_directory: Option<String>,
}

impl ServerFacts {
    /// Who must be let into a database that is closed to all others: the restore's logins, and an administrator who is no superuser.
    #[must_use]
    pub fn guests<'a>(&'a self, logins: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
        logins.chain((!self.superuser).then_some(self.role.as_str())).collect()
    }
}

/// Whether and how an extension can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// The recorded version is there, and a role without superuser could create it.
    Trusted,
    /// The recorded version is there; only a superuser may create it.
    Untrusted,
    /// Only other versions are there; the server would create this one.
    OtherVersion(String),
    /// Not installed on the server.
    Missing,
}

/// Asks the server.
///
/// # Errors
/// What it says.
pub async fn read(admin: &Client) -> Result<ServerFacts, StatementError> {
    let (what, whom) = ("asking for the facts of", "the server");
    let row = admin
        .query_one(
            "SELECT pg_catalog.current_setting('server_version_num')::int, (pg_catalog.pg_control_system()).system_identifier::text,
                    pg_catalog.pg_is_in_recovery(), r.rolname::text, r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolbypassrls,
                    (SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'data_directory')
               FROM pg_catalog.pg_roles r WHERE r.rolname = current_user",
            &[],
        )
        .await
        .failed(what, whom)?;
    let version: i32 = row.try_get(0).failed(what, whom)?;
    let superuser: bool = row.try_get(4).failed(what, whom)?;
    let create_db: bool = row.try_get(5).failed(what, whom)?;
    let create_role: bool = row.try_get(6).failed(what, whom)?;
    let bypass_rls: bool = row.try_get(7).failed(what, whom)?;
    Ok(ServerFacts {
        version_num: u32::try_from(version).unwrap_or(0),
        system_identifier: row.try_get(1).failed(what, whom)?,
        in_recovery: row.try_get(2).failed(what, whom)?,
        role: row.try_get(3).failed(what, whom)?,
        superuser,
        create_db: create_db || superuser,
        create_role: create_role || superuser,
        bypass_rls: bypass_rls || superuser,
        data_directory: row.try_get(8).failed(what, whom)?,
    })
}

/// OID of a database by name.
///
/// # Errors
/// What the server says.
pub async fn database_oid(admin: &Client, name: &str) -> Result<Option<u32>, StatementError> {
    let what = "looking for database";
    let row = admin.query_opt("SELECT oid FROM pg_catalog.pg_database WHERE datname = $1", &[&name]).await.failed(what, name)?;
    row.map(|row| row.try_get(0).failed(what, name)).transpose()
}

/// Whether there is a database with this OID.
///
/// # Errors
/// What the server says.
pub async fn has_database(admin: &Client, oid: u32) -> Result<bool, StatementError> {
    let what = "looking for the database with OID";
    let row = admin
        .query_one("SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE oid = $1)", &[&oid])
        .await
        .failed(what, &oid.to_string())?;
    row.try_get(0).failed(what, &oid.to_string())
}

/// Looks for each recorded extension.
///
/// # Errors
/// What the server says.
pub async fn extensions(admin: &Client, recorded: &[Extension]) -> Result<BTreeMap<String, Availability>, StatementError> {
    let (what, whom) = ("asking for the extensions of", "the server");
    let names: Vec<&str> = recorded.iter().map(|extension| extension.name.as_str()).collect();
    let rows = admin
        .query(
            "SELECT v.name::text, v.version, NOT v.superuser OR v.trusted, e.default_version
               FROM pg_catalog.pg_available_extension_versions v JOIN pg_catalog.pg_available_extensions e USING (name)
              WHERE v.name::text = ANY ($1)",
            &[&names],
        )
        .await
        .failed(what, whom)?;
    let mut found = BTreeMap::new();
    for extension in recorded {
        let mut availability = Availability::Missing;
        for row in &rows {
            let name: String = row.try_get(0).failed(what, whom)?;
            let version: String = row.try_get(1).failed(what, whom)?;
            if name != extension.name {
                continue;
            }
            if version == extension.version {
                let trusted: bool = row.try_get(2).failed(what, whom)?;
                availability = if trusted { Availability::Trusted } else { Availability::Untrusted };
                break;
            }
            availability = Availability::OtherVersion(row.try_get::<_, Option<String>>(3).failed(what, whom)?.unwrap_or(version));
        }
        found.insert(extension.name.clone(), availability);
    }
    Ok(found)
}

/// Why the server cannot make a database with the recorded encoding and locale; empty when it can, as far as it tells.
///
/// The locale is tried, not looked up: a collation is made from it in a transaction that is rolled back.
///
/// # Errors
/// What the server says to anything else.
pub async fn locale_trouble(admin: &Client, recorded: &Database, version_num: u32) -> Result<Vec<String>, StatementError> {
    let mut trouble = Vec::new();
    let row = admin
        .query_one("SELECT pg_catalog.pg_char_to_encoding($1::text::name)", &[&recorded.encoding])
        .await
        .failed("asking for encoding", &recorded.encoding)?;
    if row.try_get::<_, i32>(0).failed("asking for encoding", &recorded.encoding)? < 0 {
        trouble.push(format!("encoding {} is not known there", recorded.encoding));
    }
    let mut probes =
        vec![format!("LC_COLLATE = {}, LC_CTYPE = {}", escape_literal(&recorded.collate), escape_literal(&recorded.ctype))];
    match recorded.locale_provider.as_str() {
        "i" if version_num < 150_000 => trouble.push("the database's ICU locale needs PostgreSQL 15".to_owned()),
        "b" if version_num < 170_000 => trouble.push("the database's builtin locale needs PostgreSQL 17".to_owned()),
        "i" => {
            let locale = recorded.locale.as_deref().unwrap_or_default();
            probes.push(format!("PROVIDER = icu, LOCALE = {}", escape_literal(locale)));
        }
        _ => {}
    }
    if recorded.icu_rules.is_some() && version_num < 160_000 {
        trouble.push("the database's ICU rules need PostgreSQL 16".to_owned());
    }
    for probe in probes {
        let statement = format!("BEGIN; CREATE COLLATION pg_temp.tenure_probe ({probe}); ROLLBACK");
        if let Err(error) = admin.batch_execute(&statement).await {
            admin.batch_execute("ROLLBACK").await.failed("trying the locale of", &recorded.name)?;
            // Other refusals, like a locale of another encoding than this database's, say nothing of the one to be made.
            let telling = [SqlState::UNDEFINED_OBJECT, SqlState::INVALID_PARAMETER_VALUE, SqlState::FEATURE_NOT_SUPPORTED];
            if let Some(said) = error.as_db_error().filter(|said| telling.contains(said.code())) {
                trouble.push(format!("the database's locale ({probe}): {}", said.message()));
            }
        }
    }
    Ok(trouble)
}
