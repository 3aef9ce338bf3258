//! What stops a drop before anything is done.

use std::collections::BTreeSet;

use super::DropTenant;
use crate::{
    format::{
        erasure_note::ErasureNote,
        plan::{Plan, PlannedDatabase},
    },
    id::Locker,
    operation::{
        erased,
        failure::{Failure, FailureClass},
        fleet::Fleet,
    },
    postgres::{
        Session,
        drop_database::{Doomed, Kind, Obstacle},
        replication,
    },
    printable::{Printable, Word},
    tenant::TenantName,
};

impl DropTenant<'_> {
    /// Stops when the planned OID belongs to a database that does not answer to the tenant: somebody renamed it, or a server was put back to
    /// an earlier state and gave the number away again.
    pub(super) async fn refuse_another(&self, tenant: &TenantName, session: &Session, doomed: &Doomed) -> Result<(), Failure> {
        let known = self.known().await?;
        let fleet = Fleet::discover(self.clusters, known).await;
        let is_its = match self.place(tenant, &fleet, known).await? {
            Some((.., oid, name)) => (oid, name.as_str()) == (doomed.oid, doomed.name.as_str()),
            None => false,
        };
        if is_its && !fleet.ambiguous().contains_key(tenant) {
            return Ok(());
        }
        let endpoint = session.target().endpoint();
        let message = format!(
            "the database with OID {} on {endpoint}, which was to be dropped, is called {} now and does not answer to tenant {tenant}",
            doomed.oid,
            Printable(&doomed.name)
        );
        Err(Failure::new(FailureClass::Refused, "another-database", tenant, message)
            .hint("Nothing was dropped. Find out who renamed it, and give it its name back."))
    }

    /// Stops at a plan that names no locker, where no tombstone names its database: an operator alone wrote that.
    pub(super) async fn refuse_unerased(&self, plan: &Plan, database: &PlannedDatabase) -> Result<(), Failure> {
        let erasures = erased::read_both(self.vault, self.keyring, plan.name_tag).await?;
        for note in erasures.lasting().filter(|note| note.names(&database.system_identifier, database.database_oid)) {
            if !erased::is_given_up(self.vault, note.id).await? {
                return Ok(());
            }
        }
        let (oid, cluster) = (database.database_oid, Printable(&database.cluster));
        let message = format!(
            "plan {} names the database with OID {oid} on {cluster}, and no tombstone that counts says that it was erased",
            plan.id
        );
        Err(Failure::new(FailureClass::Integrity, "plan-contradicted", plan.id, message).hint(format!(
            "Nothing was dropped. Find out who signed that plan; `tenure plans cancel {}` gives it up, and `tenure reconcile` names what has come back.",
            plan.id
        )))
    }

    /// Stops when a database that was erased, and is there again, does not answer to the erased tenant alone: on a server that was put back
    /// another one may have got its number.
    pub(super) async fn refuse_anothers_name(
        &self,
        tenant: &TenantName,
        database: &PlannedDatabase,
        doomed: &Doomed,
    ) -> Result<(), Failure> {
        let known = self.known().await?;
        let fleet = Fleet::discover(self.clusters, known).await;
        let discovery = fleet.clusters.into_iter().find(|(cluster, _)| cluster.name == database.cluster);
        let Some((_, discovery)) = discovery else { return self.server(&database.cluster).map(drop) };
        let names = discovery?.answers_to(&doomed.name);
        let whose = match names.iter().find(|name| *name != tenant) {
            Some(other) => format!("answers to tenant {other}"),
            None if names.is_empty() => "answers to nobody".to_owned(),
            None => return Ok(()),
        };
        let name = Printable(&doomed.name);
        let message = format!(
            "database {name} on {} was erased as tenant {tenant}'s, by its number, and {whose} by its name",
            database.cluster
        );
        Err(Failure::new(FailureClass::Refused, "another-database", tenant, message).hint(
            "Nothing was dropped. Look at what is in it. If it is the erased one, give it its old name back; if it is another one, which got that number \
             when the server was put back to an older state, dump it and restore the dump into a new database.",
        ))
    }

    /// Stops before anything is done: what is missing, or in the way, and is not cleared away.
    ///
    /// # Errors
    /// A right that is missing (1), something in the way (4), each with what to type.
    pub async fn refuse(&self, tenant: &TenantName, session: &Session, doomed: &Doomed) -> Result<(), Failure> {
        let name = Printable(&doomed.name);
        let role = Printable(session.target().user()).to_string();
        if doomed.name == session.database() {
            let message = format!("database {name} is the one that tenure is connected to for dropping");
            return Err(Failure::new(FailureClass::Refused, "maintenance-database", tenant, message)
                .hint("Nothing was dropped. Name another one, like dbname=postgres, in `admin` or `primary` of the cluster."));
        }
        let lacks = |what: String, cure: String| {
            Err(Failure::new(FailureClass::Failed, "no-right", tenant, format!("role {role} {what}"))
                .hint(format!("Nothing was dropped. {cure}")))
        };
        if !doomed.may_drop {
            let owner = Printable(&doomed.owner);
            return lacks(
                format!("may not drop database {name}, which belongs to {owner}"),
                format!("GRANT {} TO {};", quoted(&doomed.owner), quoted(session.target().user())),
            );
        }
        if let Some((other, is_superuser)) = doomed.not_to_end.first() {
            let cure = match is_superuser {
                true => "Only a superuser may end it: end it by hand, or name one in `admin` of the cluster.".to_owned(),
                false => format!("GRANT pg_signal_backend TO {};", quoted(session.target().user())),
            };
            return lacks(format!("may not end the sessions of {} in database {name}", Printable(other)), cure);
        }
        if !replication::may_see(session).await? {
            return lacks(
                "may not see who receives the server's log, so that nobody could say which replicas there are".to_owned(),
                format!("GRANT pg_read_all_stats TO {};", quoted(session.target().user())),
            );
        }
        self.refuse_blocked(tenant, doomed)
    }

    /// Stops when something is in the way that is not to be cleared away. Of a database whose drop was interrupted nothing is.
    pub(super) fn refuse_blocked(&self, tenant: &TenantName, doomed: &Doomed) -> Result<(), Failure> {
        let in_the_way: Vec<&Obstacle> =
            doomed.obstacles.iter().filter(|obstacle| !doomed.is_invalid && !self.clear.contains(&obstacle.kind())).collect();
        if in_the_way.is_empty() {
            return Ok(());
        }
        let words: Vec<String> = in_the_way.iter().map(ToString::to_string).collect();
        let kinds: BTreeSet<Kind> =
            in_the_way.iter().chain(&doomed.obstacles.iter().collect::<Vec<_>>()).map(|o| o.kind()).collect();
        let cures: Vec<&str> = kinds.iter().map(|kind| cure(*kind)).collect();
        let flags: Vec<&str> = kinds.iter().map(|kind| flag(*kind)).collect();
        let message = format!("database {} cannot be dropped: {}", Printable(&doomed.name), words.join(", "));
        Err(Failure::new(FailureClass::Refused, "blocked", tenant, message).hint(format!(
            "Nothing was dropped. {} `tenure {} {} --clear {}` does that.",
            cures.join(" "),
            if self.within_erasure { "erase" } else { "drop" },
            Word(tenant.as_str()),
            flags.join(",")
        )))
    }

    /// Stops while somebody holds any of the plan's lockers.
    pub(super) async fn refuse_if_held(&self, tenant: &TenantName, plan: &Plan) -> Result<(), Failure> {
        let mut lockers: BTreeSet<Locker> = plan.lockers.iter().map(|planned| planned.locker).collect();
        if lockers.is_empty() {
            // Planned for what has come back: its tombstones name them.
            let erasures = erased::read_both(self.vault, self.keyring, plan.name_tag).await?;
            lockers.extend(erasures.lasting().flat_map(ErasureNote::lockers));
        }
        let holds = self.vault.holds_of(lockers).await?;
        if !holds.is_held() {
            return Ok(());
        }
        let message = format!("tenant {tenant} is on hold: {}", holds.by());
        Err(Failure::new(FailureClass::Refused, "on-hold", tenant, message).hint(format!(
            "Nothing was dropped. After `tenure release {}` run {} again.",
            Word(tenant.as_str()),
            self.command(tenant, plan)
        )))
    }
}

fn cure(kind: Kind) -> &'static str {
    match kind {
        Kind::Prepared => "Commit or roll back the prepared transactions there.",
        Kind::Slots => "Stop who reads the slots.",
        Kind::Subscriptions => "End the subscriptions there: DROP SUBSCRIPTION removes the slot of the publisher too.",
        Kind::Template => "Take the mark off: ALTER DATABASE … IS_TEMPLATE false.",
    }
}

/// The word for it on the command line.
#[must_use]
pub fn flag(kind: Kind) -> &'static str {
    match kind {
        Kind::Prepared => "prepared",
        Kind::Slots => "slots",
        Kind::Subscriptions => "subscriptions",
        Kind::Template => "template",
    }
}

/// A name as SQL wants it, printable.
fn quoted(name: &str) -> String {
    Printable(&postgres_protocol::escape::escape_identifier(name)).to_string()
}
