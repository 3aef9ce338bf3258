//! Everything that stands in the way, listed at once, before anything is made.

pub(super) mod guards;

use std::collections::BTreeSet;

use tokio_postgres::Client;

use self::guards::{allowed, guards, powerful_owners, superuser_code};
use super::{
    Request, Restorer,
    destination::{FOREIGN_NAME, Place},
    failures, shown,
};
use crate::{
    format::description::{Description, Role},
    operation::failure::{Failure, FailureClass},
    postgres::{
        archive_toc::TocEntry,
        leftovers::Leftovers,
        powers::{self, Powers},
        roles::{self, KnownRoles},
        server_facts::{self, Availability, ServerFacts},
        tools::{Program, Tool},
    },
};

/// One thing that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// For scripts: `name-taken`, `extension-missing`, …
    pub kind: &'static str,
    /// What it is.
    pub what: String,
    /// What to do.
    pub hint: String,
    /// Whether it is a guard's refusal, which `--allow` may lift.
    pub guard: bool,
}

/// What was found on the way there.
pub(super) struct Preflight {
    pub findings: Vec<Finding>,
    pub notes: Vec<String>,
    pub facts: ServerFacts,
    pub known_roles: KnownRoles,
    pub powers: Powers,
    pub pg_restore: Option<Tool>,
}

impl Preflight {
    pub(super) fn add(&mut self, kind: &'static str, what: impl Into<String>, hint: impl Into<String>) {
        self.findings.push(Finding { kind, what: what.into(), hint: hint.into(), guard: false });
    }

    fn guard(&mut self, kind: &'static str, what: impl Into<String>, hint: impl Into<String>) {
        self.findings.push(Finding { kind, what: what.into(), hint: hint.into(), guard: true });
    }

    /// All findings as one failure; `Ok` when there are none.
    pub(super) fn verdict(&self, request: &Request) -> Result<(), Failure> {
        let tenant = &request.tenant;
        let Some(first) = self.findings.first() else { return Ok(()) };
        let refused = self.findings.iter().any(|finding| finding.guard);
        let class = if refused { FailureClass::Refused } else { FailureClass::Failed };
        let kind = if self.findings.len() == 1 { first.kind } else { "preflight" };
        let what: Vec<&str> = self.findings.iter().map(|finding| finding.what.as_str()).collect();
        let mut hints: Vec<&str> = Vec::new();
        for finding in &self.findings {
            if !finding.hint.is_empty() && !hints.contains(&finding.hint.as_str()) {
                hints.push(&finding.hint);
            }
        }
        let message = format!("tenant {tenant} cannot be restored there: {}", what.join("; "));
        Err(Failure::new(class, kind, tenant, message)
            .hint(format!("{}. Nothing was made.", hints.join("; ").trim_end_matches('.'))))
    }
}

/// A name as SQL wants it, printable.
fn quoted(name: &str) -> String {
    shown(&postgres_protocol::escape::escape_identifier(name))
}

impl Restorer<'_> {
    /// Looks at everything but the loader's login. `recorded` are all roles of the backup, also where only some of them matter.
    #[allow(clippy::too_many_arguments, reason = "each is used once, and none belongs together")]
    pub(super) async fn preflight(
        &self,
        request: &Request,
        place: &Place<'_>,
        description: &Description,
        recorded: &[Role],
        toc: &[TocEntry],
        bytes: u64,
        admin: &Client,
    ) -> Result<Preflight, Failure> {
        let failed = |error| failures::statement(&request.tenant, error);
        let facts = server_facts::read(admin).await.map_err(failed)?;
        let known_roles = KnownRoles::read(admin).await.map_err(failed)?;
        let powers = powers::read(admin, &owners(description, toc), recorded).await.map_err(failed)?;
        let mut found = Preflight { findings: Vec::new(), notes: Vec::new(), facts, known_roles, powers, pg_restore: None };
        self.server(&mut found, place, description);
        self.tool(&mut found, description).await;
        for (kind, what, hint) in self.place_trouble(request, place, &found.facts, admin).await? {
            if kind == FOREIGN_NAME {
                found.guard(kind, what, hint);
                continue;
            }
            found.add(kind, what, hint);
        }
        for trouble in
            server_facts::locale_trouble(admin, &description.database, found.facts.version_num).await.map_err(failed)?
        {
            found.add("locale", trouble, "install the locale on the server's machine and restart the server");
        }
        role_findings(&mut found, description);
        granting(&mut found, place, &owners(description, toc), admin).await.map_err(failed)?;
        powerful_owners(&mut found, request);
        superuser_code(&mut found, request, toc);
        handing_over(&mut found, description, toc);
        extensions(&mut found, request, description, admin).await.map_err(failed)?;
        guards(&mut found, request, description, toc);
        space(&mut found, place, bytes);
        notes(&mut found, description);
        self.leftovers(&mut found, request, place, admin).await?;
        Ok(found)
    }

    /// What restores that were killed left, and the statements that remove it: the databases first, which hold the roles' rights.
    async fn leftovers(
        &self,
        found: &mut Preflight,
        request: &Request,
        place: &Place<'_>,
        admin: &Client,
    ) -> Result<(), Failure> {
        let left = Leftovers::read(admin).await.map_err(|error| failures::statement(&request.tenant, error))?;
        let mut names = Vec::new();
        for (database, oid) in &left.databases {
            let whose = if self.is_copy(request, &found.facts, *oid).await? { "this tenant's " } else { "" };
            names.push(format!("{whose}database {database}"));
        }
        names.extend(left.logins.iter().map(|login| format!("role {login}")));
        if !names.is_empty() {
            found.notes.push(format!(
                "restores that did not end, or kept what they could not prove, left on cluster {}: {}; remove it: {}",
                place.server.name,
                names.join(", "),
                left.removal()
            ));
        }
        Ok(())
    }

    fn server(&self, found: &mut Preflight, place: &Place<'_>, description: &Description) {
        let facts = found.facts.clone();
        let server = &place.server.name;
        if facts.in_recovery {
            found.add("standby", format!("cluster {server} is a standby"), "name its primary with --cluster");
        }
        if facts.version_num / 10_000 < description.server_version_num / 10_000 {
            let what = format!(
                "cluster {server} runs PostgreSQL {}, the backup is of PostgreSQL {}",
                facts.version_num / 10_000,
                description.server_version_num / 10_000
            );
            found.add("older-server", what, "restore to a server of the same or a newer major version, with --cluster");
        }
        if !facts.create_db {
            let what = format!("role {} may not create databases on cluster {server}", shown(&facts.role));
            let hint = format!("ALTER ROLE {} CREATEDB, or set `admin =` of the cluster to a role that may", quoted(&facts.role));
            found.add("no-createdb", what, hint);
        }
        if place.server.loader.is_none() && !facts.create_role {
            let what = format!(
                "role {} may not create roles on cluster {server}, where rows are loaded by a temporary one",
                shown(&facts.role)
            );
            let hint = format!(
                "ALTER ROLE {} CREATEROLE, or set `admin =` of the cluster to a role that may, or `loader =` to a login without superuser",
                quoted(&facts.role)
            );
            found.add("no-createrole", what, hint);
        }
        if place.server.connections < 4 {
            let what = format!("cluster {server} allows tenure {} connections; a restore needs 4", place.server.connections);
            found.add("too-few-connections", what, "raise `connections` of the cluster");
        }
    }

    async fn tool(&self, found: &mut Preflight, description: &Description) {
        // One that reads what the pg_dump of that time wrote, and speaks with this server.
        let dumped_by = description.pg_dump.split_whitespace().find_map(|word| word.split('.').next()?.parse::<u32>().ok());
        let server = found.facts.version_num / 10_000;
        let major = dumped_by.unwrap_or(0).max(server);
        match self.tools.find(Program::Restore, major).await {
            Ok(tool) if tool.version.is_too_new_for(server) => {
                let what = format!(
                    "pg_restore {} sets transaction_timeout, which the server, PostgreSQL {server}, does not know",
                    tool.version
                );
                let hint = if major > server {
                    format!(
                        "{} wrote this backup's archive: restore it to PostgreSQL 17 or newer (--cluster)",
                        description.pg_dump
                    )
                } else {
                    format!("install postgresql-client-{server}; `{{major}}` in [postgres] bin stands for the version")
                };
                found.add("pg-restore", what, hint);
            }
            Ok(tool) => {
                if let Some(holes) = tool.version.known_holes() {
                    found.notes.push(format!(
                        "{} {} has known holes ({}): update it to {}",
                        tool.program.name(),
                        tool.version,
                        holes.names.join(", "),
                        holes.fixed_in
                    ));
                }
                found.pg_restore = Some(tool);
            }
            Err(error) => found.add("pg-restore", error.to_string(), error.hint()),
        }
    }
}

fn role_findings(found: &mut Preflight, description: &Description) {
    let missing: Vec<_> = roles::missing(&description.roles, &found.known_roles).into_iter().cloned().collect();
    if missing.is_empty() {
        return;
    }
    let names: Vec<String> = missing.iter().map(|role| shown(&role.name)).collect();
    if !found.facts.create_role {
        let what = format!("roles are missing and role {} may not create any: {}", shown(&found.facts.role), names.join(", "));
        let hint = missing
            .iter()
            .map(|role| format!("CREATE ROLE {} NOLOGIN;", postgres_protocol::escape::escape_identifier(&role.name)))
            .collect::<Vec<_>>()
            .join(" ");
        found.add("role-missing", what, format!("make them: {}", shown(&hint)));
    }
}

/// The logins that make the owners' things are members of them for the time of the restore.
async fn granting(
    found: &mut Preflight,
    place: &Place<'_>,
    owners: &BTreeSet<String>,
    admin: &Client,
) -> Result<(), crate::postgres::statement::StatementError> {
    // What belongs to a role with power the administrator makes.
    let plain: Vec<&str> = owners.iter().filter(|owner| !found.powers.owners.contains(*owner)).map(String::as_str).collect();
    if place.server.loader.is_some() {
        return Ok(());
    }
    let lacking = roles::not_to_grant(admin, &plain).await?;
    if !lacking.is_empty() {
        let names: Vec<String> = lacking.iter().map(|role| shown(role)).collect();
        let what = format!("role {} may not act for the owners {}, nor let others", shown(&found.facts.role), names.join(", "));
        let quoted: Vec<String> = lacking.iter().map(|role| self::quoted(role)).collect();
        let hint = format!("GRANT {} TO {} WITH ADMIN OPTION", quoted.join(", "), self::quoted(&found.facts.role));
        found.add("no-admin-option", what, hint);
    }
    Ok(())
}

/// Every role that will own something. What an extension makes belongs to whoever installs it.
fn owners(description: &Description, toc: &[TocEntry]) -> BTreeSet<String> {
    let of_tables = description.tables.iter().filter(|table| !table.extension_member).map(|table| &table.owner);
    let of_sequences = description.sequences.iter().map(|sequence| &sequence.owner);
    toc.iter()
        .map(|entry| &entry.owner)
        .chain(of_tables)
        .chain(of_sequences)
        .chain([&description.database.owner])
        .filter(|owner| !owner.is_empty() && !owner.starts_with("pg_"))
        .cloned()
        .collect()
}

/// An administrator who is no superuser can give nothing to one.
fn handing_over(found: &mut Preflight, description: &Description, toc: &[TocEntry]) {
    if found.facts.superuser {
        return;
    }
    let superusers = found.known_roles.superusers();
    let owners = toc.iter().map(|entry| &entry.owner).chain([&description.database.owner]);
    let of_superusers: BTreeSet<&String> = owners.filter(|owner| superusers.contains(*owner)).collect();
    if !of_superusers.is_empty() {
        let names: Vec<String> = of_superusers.iter().map(|name| shown(name)).collect();
        let what =
            format!("it has things that belong to {}, and role {} is no superuser", names.join(", "), shown(&found.facts.role));
        found.add("needs-superuser", what, "set `admin =` of the cluster to a superuser");
    }
}

async fn extensions(
    found: &mut Preflight,
    request: &Request,
    description: &Description,
    admin: &Client,
) -> Result<(), crate::postgres::statement::StatementError> {
    let available = server_facts::extensions(admin, &description.extensions).await?;
    for extension in description.extensions.iter().filter(|extension| extension.name != "plpgsql") {
        let (name, allowance) = (shown(&extension.name), format!("extension:{}", extension.name));
        let may = allowed(&request.allow, &allowance);
        match available.get(&extension.name) {
            Some(Availability::Trusted) => {}
            Some(Availability::Untrusted) if may => {}
            Some(Availability::Untrusted) => {
                found.guard(
                    "needs-allow",
                    format!("extension {name} runs with the server's rights"),
                    format!("add --allow '{}'", shown(&allowance)),
                );
            }
            Some(Availability::OtherVersion(other)) if may => {
                found.notes.push(format!("extension {name} has version {other}, not {}", shown(&extension.version)));
            }
            Some(Availability::OtherVersion(other)) => found.add(
                "extension-version",
                format!("extension {name} is not available in version {}, only in {}", shown(&extension.version), shown(other)),
                format!("install that version on the server, or take the other with --allow '{}'", shown(&allowance)),
            ),
            Some(Availability::Missing) | None => found.add(
                "extension-missing",
                format!("extension {name} {} is not installed on the server", shown(&extension.version)),
                "install its package on the server's machine",
            ),
        }
    }
    Ok(())
}

/// Asked of the machine itself where the server runs on it: over a socket, with a data directory that can be seen.
fn space(found: &mut Preflight, place: &Place<'_>, bytes: u64) {
    let Some(directory) = &found.facts.data_directory else { return };
    if !place.server.admin.endpoint().starts_with('/') {
        return;
    }
    let Ok(disk) = rustix::fs::statvfs(directory.as_str()) else { return };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < bytes {
        let what =
            format!("{} MB are free under {}, the rows alone are {} MB", free / 1_000_000, shown(directory), bytes / 1_000_000);
        found.add("no-space", what, "make room on the server's machine");
    }
}

fn notes(found: &mut Preflight, description: &Description) {
    if let Some(tablespace) = &description.database.tablespace {
        found.notes.push(format!("the database was in tablespace {}; it is in the default one now", shown(tablespace)));
    }
    for not in &description.not_captured {
        found.notes.push(format!("not in the backup: {} {}: {}", not.kind, shown(&not.object), not.reason));
    }
}
