//! Making a database as it was recorded, and giving it its properties once its contents are proven.

use std::collections::BTreeSet;

use postgres_protocol::escape::{escape_identifier, escape_literal};
use tokio_postgres::Client;

use super::{
    rights,
    statement::{Failed, StatementError},
};
use crate::format::description::{Database, Extension, Setting};

/// Creates an empty database `name` with the recorded encoding and locale, owned by the recorded owner, closed to everybody but
/// superusers and `guests`: the loader, and an administrator who is no superuser.
///
/// `admin` is connected to another database of a server of `server_version_num`.
///
/// # Errors
/// What the server says, with the statement named.
pub async fn create_database(
    admin: &Client,
    name: &str,
    recorded: &Database,
    guests: &BTreeSet<&str>,
    server_version_num: u32,
) -> Result<u32, StatementError> {
    admin.batch_execute(&create_statement(name, recorded, server_version_num)).await.failed("CREATE DATABASE", name)?;
    let (database, owner) = (escape_identifier(name), escape_identifier(&recorded.owner));
    let guests = guests.iter().map(|role| escape_identifier(role)).collect::<Vec<_>>().join(", ");
    admin
        .batch_execute(&format!(
            "REVOKE ALL ON DATABASE {database} FROM PUBLIC, {owner};
             GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {database} TO {guests}"
        ))
        .await
        .failed("REVOKE ON DATABASE", name)?;
    let row = admin
        .query_one("SELECT oid FROM pg_catalog.pg_database WHERE datname = $1", &[&name])
        .await
        .failed("reading the OID of", name)?;
    row.try_get(0).failed("reading the OID of", name)
}

fn create_statement(name: &str, recorded: &Database, server_version_num: u32) -> String {
    let mut statement = format!(
        "CREATE DATABASE {} TEMPLATE template0 OWNER {} ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        escape_identifier(name),
        escape_identifier(&recorded.owner),
        escape_literal(&recorded.encoding),
        escape_literal(&recorded.collate),
        escape_literal(&recorded.ctype),
    );
    let locale = recorded.locale.as_deref().map(escape_literal);
    match (recorded.locale_provider.as_str(), locale) {
        ("i", Some(locale)) => statement.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {locale}")),
        ("b", Some(locale)) => statement.push_str(&format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {locale}")),
        _ if server_version_num >= 150_000 => statement.push_str(" LOCALE_PROVIDER libc"),
        _ => {}
    }
    if let Some(rules) = &recorded.icu_rules {
        statement.push_str(&format!(" ICU_RULES {}", escape_literal(rules)));
    }
    statement
}

/// Creates an extension where the record says, at the recorded version if `exact`.
///
/// # Errors
/// What the server says, with the extension named.
pub async fn create_extension(admin: &Client, recorded: &Extension, exact: bool) -> Result<(), StatementError> {
    let mut statement = format!(
        "CREATE EXTENSION IF NOT EXISTS {} SCHEMA {}",
        escape_identifier(&recorded.name),
        escape_identifier(&recorded.schema)
    );
    if exact {
        statement.push_str(&format!(" VERSION {}", escape_literal(&recorded.version)));
    }
    admin.batch_execute(&statement).await.failed("CREATE EXTENSION", &recorded.name)
}

/// Gives the database its recorded rights, settings, comment, limit and template mark, and takes the guests' rights.
///
/// Last, because a setting may change what a restore's own sessions do (`default_transaction_read_only`, `role`, …).
///
/// # Errors
/// What the server says, with the statement named.
pub async fn apply_properties(
    admin: &Client,
    name: &str,
    recorded: &Database,
    guests: &BTreeSet<&str>,
) -> Result<(), StatementError> {
    let database = escape_identifier(name);
    for statement in rights(admin, name, recorded, guests).await? {
        admin.batch_execute(&statement).await.failed("GRANT ON DATABASE", name)?;
    }
    if let Some(comment) = &recorded.comment {
        let statement = format!("COMMENT ON DATABASE {database} IS {}", escape_literal(comment));
        admin.batch_execute(&statement).await.failed("COMMENT ON DATABASE", name)?;
    }
    for setting in &recorded.settings {
        let statement = setting_statement(name, setting);
        admin.batch_execute(&statement).await.failed("ALTER DATABASE … SET", &setting.name)?;
    }
    for label in &recorded.security_labels {
        let statement = format!(
            "SECURITY LABEL FOR {} ON DATABASE {database} IS {}",
            escape_identifier(&label.provider),
            escape_literal(&label.label)
        );
        admin.batch_execute(&statement).await.failed("SECURITY LABEL ON DATABASE, by the provider", &label.provider)?;
    }
    if recorded.connection_limit != -1 {
        let statement = format!("ALTER DATABASE {database} CONNECTION LIMIT {}", recorded.connection_limit);
        admin.batch_execute(&statement).await.failed("ALTER DATABASE … CONNECTION LIMIT", name)?;
    }
    if recorded.is_template {
        let statement = format!("ALTER DATABASE {database} IS_TEMPLATE true");
        admin.batch_execute(&statement).await.failed("ALTER DATABASE … IS_TEMPLATE", name)?;
    }
    Ok(())
}

/// Statements that turn the rights of the closed database into the recorded ones. Run with the guests still there.
async fn rights(admin: &Client, name: &str, recorded: &Database, guests: &BTreeSet<&str>) -> Result<Vec<String>, StatementError> {
    let database = escape_identifier(name);
    let owner = escape_identifier(&recorded.owner);
    let guests = guests.iter().map(|role| escape_identifier(role)).collect::<Vec<_>>().join(", ");
    let mut statements = Vec::new();
    if !guests.is_empty() {
        statements.push(format!("REVOKE ALL ON DATABASE {database} FROM {guests}"));
    }
    let Some(items) = &recorded.acl else {
        statements.push(format!("GRANT ALL ON DATABASE {database} TO {owner}"));
        statements.push(format!("GRANT CONNECT, TEMPORARY ON DATABASE {database} TO PUBLIC"));
        return Ok(statements);
    };
    for rights::Grant { privilege, grantable, grantor, to } in rights::explode(admin, items, name).await? {
        let option = if grantable { " WITH GRANT OPTION" } else { "" };
        let grant = format!("GRANT {privilege} ON DATABASE {database} TO {to}{option}");
        // This session is in the maintenance database, where no tenant's code is: changing the role is safe here.
        statements.push(if grantor == recorded.owner {
            grant
        } else {
            format!("SET ROLE {}; {grant}; RESET ROLE", escape_identifier(&grantor))
        });
    }
    Ok(statements)
}

/// Settings whose value is a list of names: the server stores them quoted, and takes them back one by one.
const LISTS_OF_NAMES: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

fn setting_statement(database: &str, setting: &Setting) -> String {
    let database = escape_identifier(database);
    let value = if LISTS_OF_NAMES.contains(&setting.name.to_ascii_lowercase().as_str()) {
        let names: Vec<String> = split_names(&setting.value).iter().map(|name| escape_literal(name)).collect();
        if names.is_empty() { "''".to_owned() } else { names.join(", ") }
    } else {
        escape_literal(&setting.value)
    };
    let name = setting.name.split('.').map(escape_identifier).collect::<Vec<_>>().join(".");
    match &setting.role {
        None => format!("ALTER DATABASE {database} SET {name} TO {value}"),
        Some(role) => format!("ALTER ROLE {} IN DATABASE {database} SET {name} TO {value}", escape_identifier(role)),
    }
}

/// The search path under which rows were written: the one that the database sets for everybody, else PostgreSQL's own. Without `"$user"`,
/// which would be whoever loads them.
#[must_use]
pub fn search_path(recorded: &Database) -> String {
    let for_all = |setting: &&Setting| setting.role.is_none() && setting.name.eq_ignore_ascii_case("search_path");
    let names = match recorded.settings.iter().find(for_all) {
        Some(setting) => split_names(&setting.value),
        None => vec!["public".to_owned()],
    };
    names.iter().filter(|name| *name != "$user").map(|name| escape_identifier(name)).collect::<Vec<_>>().join(", ")
}

/// Splits `"$user", public` into `$user` and `public`, as the server's `SplitGUCList`.
fn split_names(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut chars = list.chars().peekable();
    loop {
        while chars.peek().is_some_and(|c| c.is_ascii_whitespace() || *c == ',') {
            chars.next();
        }
        let Some(first) = chars.peek() else { return names };
        let mut name = String::new();
        if *first == '"' {
            chars.next();
            while let Some(c) = chars.next() {
                if c == '"' && chars.next_if_eq(&'"').is_none() {
                    break;
                }
                name.push(c);
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',' && !c.is_ascii_whitespace()) {
                name.push(c);
            }
        }
        names.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::{setting_statement, split_names};
    use crate::format::description::Setting;

    #[test]
    fn lists_of_names() {
        assert_eq!(split_names(r#""$user", public"#), ["$user", "public"]);
        assert_eq!(split_names(r#""a""b, c",d ,e"#), ["a\"b, c", "d", "e"]);
        assert_eq!(split_names(r#""""#), [""]);
        assert_eq!(split_names(""), Vec::<String>::new());
    }

    #[test]
    fn settings() {
        let setting = |role: Option<&str>, name: &str, value: &str| {
            setting_statement("d\"b", &Setting { role: role.map(Into::into), name: name.into(), value: value.into() })
        };
        assert_eq!(
            setting(None, "search_path", "app, \"$user\""),
            r#"ALTER DATABASE "d""b" SET "search_path" TO 'app', '$user'"#
        );
        assert_eq!(
            setting(Some("r"), "my.thing", "it's, 1"),
            r#"ALTER ROLE "r" IN DATABASE "d""b" SET "my"."thing" TO 'it''s, 1'"#
        );
    }
}
