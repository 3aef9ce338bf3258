//! The description: what one backup holds, by name. It is sealed, because names are the tenant's own.
//!
//! Serialised as compact JSON with fields in the order written here and lists in the order said at each, so that the same database
//! gives the same bytes and an idle night stores nothing new. It therefore holds no times, no counts of rows and no snapshot.

use serde::{Deserialize, Serialize};

use crate::{id::SourceTag, tenant::TenantName};

/// What one backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// 1.
    pub format: u32,
    /// The tenant's name.
    pub tenant: TenantName,
    /// The name of its cluster in the configuration of the host that took the backup.
    pub cluster: String,
    /// The database as `CREATE DATABASE` and `ALTER DATABASE` would make it.
    pub database: Database,
    /// `server_version_num` of the source, for example `150018`.
    pub server_version_num: u32,
    /// Version line of the `pg_dump` that wrote the schema archive, for example `pg_dump (PostgreSQL) 15.18`.
    pub pg_dump: String,
    /// Roles that the database refers to as owner, grantee, grantor, in a policy, a user mapping or a setting, and those that they are
    /// members of, directly or not, sorted by name; roles that every server has (`pg_…`) and the first superuser among them. Attributes
    /// only, never a password.
    pub roles: Vec<Role>,
    /// Installed extensions, sorted by name.
    pub extensions: Vec<Extension>,
    /// Functions in a language that runs with the server's rights (C, internal, untrusted languages) that belong to no extension:
    /// `schema.name(arguments)`, sorted.
    pub untrusted_functions: Vec<String>,
    /// Event triggers that belong to no extension, sorted.
    pub event_triggers: Vec<String>,
    /// Subscriptions of this database, sorted. Never carried over by themselves.
    pub subscriptions: Vec<String>,
    /// The source that holds the archive of `pg_dump --format=custom --section=pre-data --section=post-data`.
    pub schema_archive: SourceTag,
    /// Every plain table and leaf partition, sorted by schema and name.
    pub tables: Vec<Table>,
    /// Every sequence, sorted by schema and name.
    pub sequences: Vec<Sequence>,
    /// Large objects, in order of OID.
    pub large_objects: Vec<LargeObjectBlock>,
    /// What could not be captured, and why, sorted.
    pub not_captured: Vec<NotCaptured>,
    /// Lines that `pg_dump` wrote to its standard error, in order.
    pub warnings: Vec<String>,
}

/// Properties of a database that no dump of its contents carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its name on the source.
    pub name: String,
    /// Owner.
    pub owner: String,
    /// `UTF8`, `LATIN1`, `SQL_ASCII`, …: `pg_encoding_to_char(encoding)`.
    pub encoding: String,
    /// `c` (libc), `i` (ICU), `b` (builtin).
    pub locale_provider: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// ICU or builtin locale.
    pub locale: Option<String>,
    /// ICU rules (PostgreSQL 16 and newer).
    pub icu_rules: Option<String>,
    /// Tablespace, when it is not `pg_default`. Restores put the database into the default tablespace and say so.
    pub tablespace: Option<String>,
    /// `-1` means no limit.
    pub connection_limit: i32,
    /// Whether it was marked as a template.
    pub is_template: bool,
    /// `COMMENT ON DATABASE`.
    pub comment: Option<String>,
    /// `datacl`, each item as text (`role=CTc/grantor`), in the order stored; `None` means the default.
    pub acl: Option<Vec<String>>,
    /// `ALTER DATABASE … SET` and `ALTER ROLE … IN DATABASE … SET`, sorted by role and setting.
    pub settings: Vec<Setting>,
    /// `SECURITY LABEL … ON DATABASE`, sorted by provider.
    pub security_labels: Vec<SecurityLabel>,
}

/// A security label of a database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityLabel {
    /// The label provider, for example `selinux`.
    pub provider: String,
    /// The label.
    pub label: String,
}

/// One setting of a database, or of a role in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// `None`: for everyone in the database.
    pub role: Option<String>,
    /// Its name.
    pub name: String,
    /// Its value as stored by the server.
    pub value: String,
}

/// A role that the tenant's objects refer to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Name.
    pub name: String,
    /// `SUPERUSER`. Informs only: a restore never makes a superuser.
    pub superuser: bool,
    /// `INHERIT`.
    pub inherit: bool,
    /// `CREATEROLE`.
    pub create_role: bool,
    /// `CREATEDB`.
    pub create_db: bool,
    /// `LOGIN`. A restore makes missing roles NOLOGIN unless asked.
    pub login: bool,
    /// `REPLICATION`.
    pub replication: bool,
    /// `BYPASSRLS`.
    pub bypass_rls: bool,
    /// Roles listed here that it is a member of, sorted.
    pub member_of: Vec<String>,
    /// Those of `member_of` that it is a member of in another way than `GRANT role TO member` gives, sorted by role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<MembershipOptions>,
    /// Roles not listed here that are members of it, where it owns something in the database, sorted. A restore names them and gives them nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
}

impl Role {
    /// How it is a member of `role`, where that is not the plain way.
    #[must_use]
    pub fn options_in(&self, role: &str) -> Option<&MembershipOptions> {
        self.options.iter().find(|options| options.role == role)
    }
}

/// How a role is a member of another one: over all its grantors, as the server takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MembershipOptions {
    /// The role that it is a member of.
    pub role: String,
    /// `WITH ADMIN TRUE`: it may make others members.
    pub admin: bool,
    /// `WITH INHERIT`; before PostgreSQL 16 the member's own `INHERIT`.
    pub inherit: bool,
    /// `WITH SET`; always before PostgreSQL 16.
    pub set: bool,
}

/// An installed extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// Name.
    pub name: String,
    /// Installed version.
    pub version: String,
    /// Schema it lives in.
    pub schema: String,
}

/// A table whose rows are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Owner.
    pub owner: String,
    /// The columns of each row's COPY text, in order; generated columns are left out. Empty for a table without columns.
    pub columns: Vec<String>,
    /// Whether the table belongs to an extension, which creates it on restore; its stored rows are then added.
    pub extension_member: bool,
    /// A condition on the rows stored (an extension's configuration table): SQL text as the extension gives it, beginning with `WHERE`.
    pub filter: Option<String>,
    /// The page ranges, in order, from page 0 to an open end, without gap or overlap. One range `0..` for tables read as a whole.
    pub ranges: Vec<Range>,
}

/// A range of heap pages, and the source that holds its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Its source tag.
    pub source: SourceTag,
    /// First page.
    pub from: u32,
    /// First page that is not in it; `None` is the open end.
    pub to: Option<u32>,
}

/// A sequence's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Owner.
    pub owner: String,
    /// `last_value`.
    pub last_value: i64,
    /// `is_called`.
    pub is_called: bool,
}

/// Large objects whose OIDs lie in one block of 1,024, and the source that holds their bytes as COPY text of
/// `(oid, piece number, bytea)`, pieces of 262,144 bytes, in that order. A piece of zeros that is not an object's last one is left out: it
/// is a hole, or reads like one. An empty object has no piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LargeObjectBlock {
    /// Its source tag.
    pub source: SourceTag,
    /// First OID of the block: a multiple of 1,024.
    pub first_oid: u32,
    /// How many large objects are in it, empty ones included, and those whose bytes are not captured.
    pub count: u32,
    /// All of them by what `pg_dump` says about them from version 17 on only together with their bytes, in the order of each group's
    /// first object. The schema archive never holds them.
    pub groups: Vec<LargeObjectGroup>,
}

/// Large objects of one block with the same owner, rights and comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LargeObjectGroup {
    /// Owner.
    pub owner: String,
    /// `lomacl`, each item as text (`role=rw/grantor`), in the order stored; `None` means the default.
    pub acl: Option<Vec<String>>,
    /// `COMMENT ON LARGE OBJECT`.
    pub comment: Option<String>,
    /// Their OIDs as runs of first and last, in order.
    pub oids: Vec<(u32, u32)>,
}

/// Something that this backup does not hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotCaptured {
    /// What kind of thing: `rows of a table`, `rows of a foreign table`, [`NotCaptured::UNREADABLE`], `subscription`, `tablespace`, …
    pub kind: String,
    /// Its name.
    pub object: String,
    /// Why not.
    pub reason: String,
}

impl NotCaptured {
    /// The kind of what a grant would have let the backup read. Everything else that is not captured, no dump holds, or was left out
    /// on purpose.
    pub const UNREADABLE: &str = "large objects";
}
