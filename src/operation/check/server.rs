//! A cluster's servers: reachable, protected, new enough, with room.

use super::{Clock, ClusterToCheck, Report};
use crate::{
    operation::failure::Failure,
    postgres::{
        Session, Target,
        leftovers::Leftovers,
        pooler::Pooling,
        readiness::{self, ServerReadiness},
        roles,
        statement::StatementError,
        target::{Protection, TlsMode},
    },
    printable::Printable,
};

/// PostgreSQL 14 was the first to read a range of pages without reading the whole table.
const OLDEST_VERSION: u32 = 140_000;

/// A clock that is further off than this is told.
const CLOCK_TOLERANCE_SECONDS: i64 = 300;

/// What one tenant in work holds at least: lock, snapshot, one reader, `pg_dump`.
const CONNECTIONS_PER_TENANT: u32 = 4;

/// Looks at primary, replicas, and the logins of restores. `tenants` are the OIDs of the tenants' databases. Gives the primary's major
/// version.
pub(super) async fn check(cluster: &ClusterToCheck, tenants: &[u32], clock: Clock, jobs: u32) -> (Report, Option<u32>) {
    let mut report = Report::default();
    let object = format!("cluster {}", cluster.name);
    let mut primary = None;
    match &cluster.primary {
        Err(error) => report.description(&object, error),
        Ok(target) => primary = check_primary(&object, target, cluster.connections, clock, jobs, &mut report).await,
    }
    if let Err(failure) = &cluster.rules {
        report.failure(&object, failure);
    }
    let mut streaming = 0;
    for (number, replica) in cluster.replicas.iter().enumerate() {
        let object = format!("cluster {} replica {}", cluster.name, number + 1);
        match replica {
            Err(error) => report.description(&object, error),
            Ok(target) => streaming += u32::from(check_replica(&object, target, primary.as_ref(), &mut report).await),
        }
    }
    if let Some(primary) = &primary
        && primary.receivers > streaming
    {
        report.warning(
            &object,
            format!(
                "{} receivers of its log are connected, and {streaming} of them are configured as replicas",
                primary.receivers
            ),
            "List every standby under `replicas`: on one that tenure does not know, a dropped tenant may live on.",
        );
    }
    check_restore_logins(cluster, primary.as_ref(), tenants, &mut report).await;
    (report, primary.map(|primary| primary.version_num / 10_000))
}

async fn check_primary(
    object: &str,
    target: &Target,
    wanted: u32,
    clock: Clock,
    jobs: u32,
    report: &mut Report,
) -> Option<ServerReadiness> {
    let (session, server) = match reach(target).await {
        Ok(reached) => reached,
        Err(failure) => {
            report.failure(object, &failure);
            return None;
        }
    };
    let version = format!("{}.{}", server.version_num / 10_000, server.version_num % 10_000);
    let endpoint = session.target().endpoint();
    if server.version_num < OLDEST_VERSION {
        report.error(
            object,
            format!("{endpoint} runs PostgreSQL {version}, and 14 is the oldest that tenure can read"),
            "Upgrade the server.",
        );
    } else if server.in_recovery {
        report.error(
            object,
            format!("`primary` leads to {endpoint}, which is a standby"),
            "Correct `primary`, or add target_session_attrs=primary to it.",
        );
    } else {
        report.ok(object, format!("{endpoint} answers as {}, PostgreSQL {version}", Printable(&server.role)));
    }
    protection(object, target, &session, report);
    match session.pooling().await {
        Ok(Pooling::Direct) => {}
        Ok(Pooling::Session) => report.ok(object, "a pooler in session mode is in between"),
        Ok(Pooling::Transaction) => report.error(
            object,
            "a pooler in transaction or statement mode is in between: locks and snapshots would be lost",
            "Connect to PostgreSQL itself, or through a pool in session mode.",
        ),
        Err(error) => report.failure(object, &error.into()),
    }
    skew(object, &server, clock, report);
    connections(object, wanted, &server, jobs, report);
    rights(object, &server, report);
    left_behind(object, &session, report).await;
    Some(server)
}

async fn reach(target: &Target) -> Result<(Session, ServerReadiness), Failure> {
    let session = target.connect(target.maintenance_database(), "tenure check").await?;
    let server = readiness::server(&session).await.map_err(asking)?;
    Ok((session, server))
}

fn protection(object: &str, target: &Target, session: &Session, report: &mut Report) {
    for Protection { endpoint, mode, is_local } in target.protection() {
        match mode {
            _ if is_local => {}
            TlsMode::VerifyFull => report.ok(object, format!("{endpoint}: TLS, certificate and name verified")),
            TlsMode::VerifyCa => report.warning(
                object,
                format!("{endpoint}: sslmode=verify-ca accepts every certificate of that CA, whatever its name"),
                "Use sslmode=verify-full.",
            ),
            TlsMode::Disable | TlsMode::Allow | TlsMode::Prefer | TlsMode::Require => report.warning(
                object,
                format!(
                    "{endpoint}: sslmode={} over the network{}: who is on the way can read or change everything",
                    mode.as_str(),
                    if session.is_encrypted() { "" } else { ", and this connection is not encrypted" }
                ),
                "Use sslmode=verify-full, with sslrootcert=FILE or sslrootcert=system.",
            ),
        }
    }
}

fn skew(object: &str, server: &ServerReadiness, clock: Clock, report: &mut Report) {
    let ahead = (clock.now() - server.clock).num_seconds();
    if ahead.abs() > CLOCK_TOLERANCE_SECONDS {
        let side = if ahead > 0 { "ahead of" } else { "behind" };
        report.warning(
            object,
            format!("this host's clock is {} seconds {side} the server's", ahead.abs()),
            "Backups carry this host's time: run NTP on both.",
        );
    }
}

fn connections(object: &str, wanted: u32, server: &ServerReadiness, jobs: u32, report: &mut Report) {
    let free = server.usable.saturating_sub(server.in_use);
    if let Some(limit) = server.role_limit.filter(|limit| *limit < wanted) {
        report.error(
            object,
            format!("role {} may have {limit} connections, and `connections` is {wanted}", Printable(&server.role)),
            format!("ALTER ROLE {} CONNECTION LIMIT {wanted}, or lower `connections`.", quoted(&server.role)),
        );
    } else if wanted > server.usable {
        report.error(
            object,
            format!("the server has {} connections for this role, and `connections` is {wanted}", server.usable),
            "Lower `connections`, or raise max_connections.",
        );
    } else if wanted > free {
        report.warning(
            object,
            format!("{free} connections are free now, and `connections` is {wanted}: others would be turned away"),
            "Lower `connections`, raise max_connections, or run when fewer are connected.",
        );
    } else {
        let at_once = (wanted / CONNECTIONS_PER_TENANT).min(jobs);
        report.ok(
            object,
            format!("`connections` is {wanted}, and {free} are free: {at_once} tenants at once, of {jobs} that `jobs` allows"),
        );
    }
}

fn rights(object: &str, server: &ServerReadiness, report: &mut Report) {
    if server.superuser {
        report.warning(
            object,
            format!("role {} is a superuser: what code of a tenant a backup came to run would run as one", Printable(&server.role)),
            "Back up as a role without: CREATE ROLE tenure LOGIN BYPASSRLS; GRANT pg_read_all_data TO tenure. `check` names what else it needs; \
             `admin` may stay a superuser, for restores.",
        );
    } else if !server.bypass_rls {
        report.ok(
            object,
            format!("role {} is no superuser and obeys row security; see below what that costs", Printable(&server.role)),
        );
    } else {
        report.ok(object, format!("role {} is no superuser", Printable(&server.role)));
    }
}

/// What restores left that did not end: it holds a tenant's rows.
async fn left_behind(object: &str, session: &Session, report: &mut Report) {
    let left = match Leftovers::read(session).await {
        Ok(left) if left.is_empty() => return,
        Ok(left) => left,
        Err(error) => return report.failure(object, &asking(error)),
    };
    let databases = left.databases.iter().map(|(name, _)| format!("database {name}"));
    let names: Vec<String> = databases.chain(left.logins.iter().map(|login| format!("role {login}"))).collect();
    report.warning(
        object,
        format!("restores that did not end, or kept what they could not prove, left {}", names.join(", ")),
        format!("Remove it: {}", left.removal()),
    );
}

/// Whether it is a replica of the primary that streams now.
async fn check_replica(object: &str, target: &Target, primary: Option<&ServerReadiness>, report: &mut Report) -> bool {
    let (session, replica) = match reach(target).await {
        Ok(reached) => reached,
        Err(failure) => {
            report.failure(object, &failure);
            return false;
        }
    };
    let endpoint = session.target().endpoint();
    if primary.is_some_and(|primary| primary.system_identifier != replica.system_identifier) {
        report.error(
            object,
            format!("{endpoint} is no copy of the primary: it has another system identifier"),
            "Correct `replicas`.",
        );
        return false;
    }
    if !replica.in_recovery {
        report.error(
            object,
            format!("{endpoint} takes writes: it is no standby (any more)"),
            "Correct `primary` and `replicas`.",
        );
        return false;
    }
    report.ok(object, format!("{endpoint} answers, a standby"));
    protection(object, target, &session, report);
    true
}

async fn check_restore_logins(cluster: &ClusterToCheck, primary: Option<&ServerReadiness>, tenants: &[u32], report: &mut Report) {
    let object = format!("cluster {} admin", cluster.name);
    let configured;
    let admin = match &cluster.admin {
        None => primary,
        Some(Err(error)) => return report.description(&object, error),
        Some(Ok(target)) => match reach(target).await {
            Ok((session, server)) => {
                protection(&object, target, &session, report);
                configured = server;
                Some(&configured)
            }
            Err(failure) => return report.failure(&object, &failure),
        },
    };
    if let Some(admin) = admin {
        let missing: Vec<&str> = [(admin.create_db, "CREATEDB"), (admin.create_role, "CREATEROLE")]
            .iter()
            .filter(|(has, _)| !has)
            .map(|(_, word)| *word)
            .collect();
        if missing.is_empty() && !admin.superuser && cluster.loader.is_none() {
            owners(&object, cluster, admin, tenants, report).await;
        }
        if missing.is_empty() {
            report
                .ok(&object, format!("role {} may create databases and roles, so restores can run here", Printable(&admin.role)));
        } else {
            report.warning(
                &object,
                format!(
                    "role {} lacks {}: backups run, restores onto this cluster do not",
                    Printable(&admin.role),
                    missing.join(" and ")
                ),
                format!("Set `admin` to a login that has them, or ALTER ROLE {} {}.", quoted(&admin.role), missing.join(" ")),
            );
        }
    }
    let object = format!("cluster {} loader", cluster.name);
    match &cluster.loader {
        None => {}
        Some(Err(error)) => report.description(&object, error),
        Some(Ok(target)) => match reach(target).await {
            Err(failure) => report.failure(&object, &failure),
            Ok((_, loader)) if loader.superuser => report.error(
                &object,
                format!("role {} is a superuser: code in a tenant's tables would run as one", Printable(&loader.role)),
                "Name a role without SUPERUSER, or leave `loader` out: then a temporary one is made.",
            ),
            Ok((_, loader)) => report.ok(&object, format!("role {} answers", Printable(&loader.role))),
        },
    }
}

/// The owners of what is to be restored, and whether the administrator, who is no superuser, may act for them.
async fn owners(object: &str, cluster: &ClusterToCheck, admin: &ServerReadiness, tenants: &[u32], report: &mut Report) {
    let Some(Ok(target)) = cluster.admin.as_ref().or(Some(&cluster.primary)) else { return };
    let asked = async {
        let session = target.connect(target.maintenance_database(), "tenure check").await?;
        let owners = roles::owners_in(&session, tenants).await.map_err(asking)?;
        let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
        roles::not_to_grant(&session, &owners).await.map_err(asking)
    };
    match asked.await {
        Err(failure) => report.failure(object, &failure),
        Ok(lacking) if lacking.is_empty() => {}
        Ok(lacking) => report.warning(
            object,
            format!(
                "role {} may not act for owners of what it would restore here: {}",
                Printable(&admin.role),
                lacking.iter().map(|role| Printable(role).to_string()).collect::<Vec<_>>().join(", ")
            ),
            format!(
                "GRANT {} TO {} WITH ADMIN OPTION.",
                lacking.iter().map(|role| quoted(role)).collect::<Vec<_>>().join(", "),
                quoted(&admin.role)
            ),
        ),
    }
}

/// A question that the server did not answer.
pub(super) fn asking(error: StatementError) -> Failure {
    Failure { kind: "cannot-ask", ..Failure::from(error) }
        .hint("The role may lack a right, or the server ended the connection: see its log.")
}

/// A name as SQL wants it, printable.
pub(super) fn quoted(name: &str) -> String {
    Printable(&format!("\"{}\"", name.replace('"', "\"\""))).to_string()
}
