//! Where a tenant is restored to: which server, which name, and whether that is the tenant's own place.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::{Destination, Request, Restorer, failures, shown};
use crate::{
    format::description::Description,
    id::Locker,
    operation::{
        erased,
        failure::{Failure, FailureClass},
        living,
    },
    postgres::{
        discover::{Rule, Rules, discover},
        server_facts::{self, ServerFacts},
    },
    tenant::TenantName,
};

/// PostgreSQL's limit for names, in bytes.
const NAME_BYTES: usize = 63;

/// A name that another tenant's database has, or would get: a guard's refusal, which nothing lifts.
pub(super) const FOREIGN_NAME: &str = "foreign-name";

/// The place.
pub(super) struct Place<'a> {
    /// The server.
    pub server: &'a Destination,
    /// Name of the database in the end.
    pub database: String,
    /// Whether the tenant lives there from then on.
    pub own: bool,
}

impl Restorer<'_> {
    /// Finds the place. Nothing is asked of a server yet.
    pub(super) async fn place(&self, request: &Request, locker: Locker, description: &Description) -> Result<Place<'_>, Failure> {
        // Missing or unreadable ones were refused, unless a cluster is named.
        let source = self.vault.sources(locker).await?.current;
        let home = source.map_or_else(|| description.cluster.clone(), |source| source.cluster);
        let wanted = request.cluster.as_ref().unwrap_or(&home);
        let server = match self.clusters.get(wanted) {
            Some(server) => server,
            None if request.cluster.is_none() && self.clusters.len() == 1 => {
                self.clusters.values().next().ok_or_else(|| unknown_cluster(wanted, self))?
            }
            None => return Err(unknown_cluster(wanted, self)),
        };
        let database = request.into.clone().unwrap_or_else(|| description.database.name.clone());
        if database.is_empty() || database.len() > NAME_BYTES || database.contains('\0') {
            let message = format!("{} is no name for a database: 1 to {NAME_BYTES} bytes", shown(&database));
            return Err(
                Failure::new(FailureClass::Usage, "bad-name", shown(&database), message).hint("Choose another name with --into.")
            );
        }
        if database.starts_with(crate::postgres::discover::OWN_PREFIX) {
            let message = format!("names that begin with `tenure_` are for databases that tenure builds: {}", shown(&database));
            return Err(
                Failure::new(FailureClass::Usage, "bad-name", shown(&database), message).hint("Choose another name with --into.")
            );
        }
        let own = match answers_to(&server.rules, &database) {
            Some(tenant) => tenant == request.tenant,
            None => server.name == home && database == description.database.name,
        };
        if own && request.salvage && request.tables.is_empty() {
            let message =
                format!("{} is tenant {}'s own place: what is salvaged never takes it", shown(&database), request.tenant);
            return Err(Failure::new(FailureClass::Refused, "own-place", shown(&database), message)
                .hint("Choose another name with --into, look at what came back, and take from it what you need."));
        }
        Ok(Place { server, database, own })
    }

    /// Why the place may not be taken: kind, what, and what to do about it.
    pub(super) async fn place_trouble(
        &self,
        request: &Request,
        place: &Place<'_>,
        facts: &ServerFacts,
        admin: &Client,
    ) -> Result<Vec<(&'static str, String, String)>, Failure> {
        let mut trouble = Vec::new();
        let name = shown(&place.database);
        let cluster = &place.server.name;
        let live = server_facts::database_oid(admin, &place.database)
            .await
            .map_err(|error| failures::statement(&request.tenant, error))?;
        let other = self.belongs_to(request, place, facts, live).await?;
        if let Some(other) = &other {
            let what = format!("database name {name} belongs to tenant {other} on cluster {cluster}");
            trouble.push((FOREIGN_NAME, what, "choose another name with --into".to_owned()));
        }
        let Some(oid) = live else {
            if place.own && !request.tables.is_empty() {
                let what = format!("there is no database {name} on cluster {cluster}, and a few tables are not the tenant");
                trouble.push(("no-database", what, "choose another name with --into, or restore everything".to_owned()));
            }
            return Ok(trouble);
        };
        if !request.tables.is_empty() {
            if !place.own && other.is_none() && !self.is_copy(request, facts, oid).await? {
                trouble.push(self.not_ours(request, &name, cluster));
            }
        } else if !request.replace {
            let what = format!("there is a database {name} on cluster {cluster}");
            trouble.push(("name-taken", what, "restore beside it with --into NAME, or put it aside with --replace".to_owned()));
        } else if place.database == place.server.admin.maintenance_database() {
            let what = format!("database {name} is the one that tenure connects to for its own work");
            trouble.push(("name-taken", what, "choose another name with --into".to_owned()));
        } else if !place.own && other.is_none() && !self.is_copy(request, facts, oid).await? {
            trouble.push(self.not_ours(request, &name, cluster));
        }
        Ok(trouble)
    }

    fn not_ours(&self, request: &Request, name: &str, cluster: &str) -> (&'static str, String, String) {
        let tenant = &request.tenant;
        let what = format!("database {name} on cluster {cluster} is neither tenant {tenant}'s nor a copy that tenure made of it");
        ("not-ours", what, "choose another name with --into, or move that database away yourself".to_owned())
    }

    /// Another tenant that the name belongs to: by the rule, and by a key record, a live database or a tombstone.
    async fn belongs_to(
        &self,
        request: &Request,
        place: &Place<'_>,
        facts: &ServerFacts,
        live: Option<u32>,
    ) -> Result<Option<TenantName>, Failure> {
        let other = match &place.server.rules.rule {
            Rule::Databases(_) => answers_to(&place.server.rules, &place.database),
            Rule::Query(_) => {
                let discovery =
                    discover(&place.server.admin, &place.server.rules, |_| BTreeMap::new()).await.map_err(failures::discover)?;
                discovery.found.into_iter().find(|found| found.database == place.database).map(|found| found.tenant)
            }
        };
        let Some(other) = other.filter(|other| *other != request.tenant) else { return Ok(None) };
        let tag = self.keyring.tag(&other);
        // A copy of ours may have any name that no other tenant has.
        let lives = match live {
            Some(oid) => !self.is_copy(request, facts, oid).await?,
            None => false,
        };
        let known = lives
            || !erased::read_both(self.vault, self.keyring, tag).await?.is_empty()
            || living::keys(self.vault, self.keyring, &other).await?.is_some_and(|keys| !keys.lockers().is_empty());
        Ok(known.then_some(other))
    }

    /// Whether a database is one that tenure made from this tenant's backups.
    pub(super) async fn is_copy(&self, request: &Request, facts: &ServerFacts, oid: u32) -> Result<bool, Failure> {
        let Some(keys) = self.keyring.keys(&request.tenant).await? else { return Ok(false) };
        for locker in keys.lockers() {
            let copies = self.vault.copies(locker).await?;
            if copies.iter().any(|copy| copy.system_identifier == facts.system_identifier && copy.database_oid == oid) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The tenant that a database of this name would be taken for. Unknown where a query decides.
fn answers_to(rules: &Rules, database: &str) -> Option<TenantName> {
    match &rules.rule {
        Rule::Databases(pattern) => pattern.tenant(database).and_then(|name| name.parse().ok()),
        Rule::Query(_) => None,
    }
}

fn unknown_cluster(name: &str, restorer: &Restorer<'_>) -> Failure {
    let known: Vec<&str> = restorer.clusters.keys().map(String::as_str).collect();
    let message = format!("no cluster {} is configured", shown(name));
    Failure::new(FailureClass::Usage, "unknown-cluster", shown(name), message)
        .hint(format!("Name one with --cluster: {}.", known.join(", ")))
}
