//! The tenant's lock.

use std::time::Duration;

use tenure::{
    id::InstallationId,
    postgres::{
        lock::{LockError, TenantLock},
        silence::Patience,
    },
    tenant::TenantName,
};

use super::*;
use crate::harness::postgres::{shared, unique};

const IMPATIENT: Duration = Duration::from_millis(50);

async fn acquire(target: &Target, installation: &InstallationId, tenant: &str, ours: &[String]) -> Result<TenantLock, LockError> {
    let tenant: TenantName = tenant.parse().unwrap();
    TenantLock::acquire(target, installation, &tenant, ours, IMPATIENT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_at_a_time_per_installation_and_tenant() {
    let (target, installation) = (target(shared()), InstallationId::random());
    let lock = acquire(&target, &installation, "acme", &[]).await.unwrap();
    lock.still_held().await.unwrap();
    assert!(matches!(acquire(&target, &installation, "acme", &[]).await.err().unwrap(), LockError::Busy { holder: Some(_), .. }));
    acquire(&target, &installation, "other", &[]).await.unwrap().release().await.unwrap();
    acquire(&target, &InstallationId::random(), "acme", &[]).await.unwrap().release().await.unwrap();
    lock.release().await.unwrap();
    let again = acquire(&target, &installation, "acme", &[]).await.unwrap();
    // Dropped, it is free as soon as its session has ended.
    drop(again);
    let tenant = "acme".parse().unwrap();
    TenantLock::acquire(&target, &installation, &tenant, &[], PATIENT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_not_ours_is_named() {
    let cluster = shared();
    let role = unique("capture_squatter");
    cluster.sql("postgres", &format!("CREATE ROLE {role} LOGIN"));
    let installation = InstallationId::random();
    let squatter = target(cluster).with_login(&role, "".to_owned().into());
    let held = acquire(&squatter, &installation, "acme", &[]).await.unwrap();
    let error = acquire(&target(cluster), &installation, "acme", &[]).await.err().unwrap();
    let LockError::HeldByForeign { holder, .. } = &error else { panic!("{error}") };
    assert_eq!(holder.role.as_deref(), Some(role.as_str()));
    assert!(error.to_string().contains(&format!("pid {} of role {role}", holder.pid)), "{error}");
    let ours = [role];
    let error = acquire(&target(cluster), &installation, "acme", &ours).await.err().unwrap();
    assert!(matches!(error, LockError::Busy { .. }), "{error}");
    held.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_is_noticed() {
    let cluster = shared();
    let installation = InstallationId::random();
    let lock = acquire(&target(cluster), &installation, "acme", &[]).await.unwrap();
    let tenant = "acme".parse().unwrap();
    let busy = TenantLock::acquire(&target(cluster), &installation, &tenant, &[], IMPATIENT).await.err().unwrap();
    let LockError::Busy { holder: Some(holder), .. } = busy else { panic!("{busy}") };
    cluster.sql("postgres", &format!("SELECT pg_terminate_backend({})", holder.pid));
    tokio::time::timeout(PATIENT, lock.lost()).await.unwrap();
    assert!(matches!(lock.still_held().await.unwrap_err(), LockError::Lost { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_behind_a_snapshot_is_noticed() {
    let cluster = shared();
    let database = cluster.database("capture_yield");
    cluster.sql(&database, "CREATE TABLE t (id int)");
    let lock = acquire(&target(cluster), &InstallationId::random(), "acme", &[]).await.unwrap();
    let snapshot = open(cluster, &database).await.unwrap();
    let pid = snapshot.facts().leader_pid;
    let other = cluster.client(&database).await;
    other.batch_execute("SET application_name = 'migration'").await.unwrap();
    let altering = tokio::spawn(async move { other.batch_execute("ALTER TABLE t ADD COLUMN more int").await });
    let waiting = tokio::time::timeout(PATIENT, lock.somebody_waits(pid, Duration::from_millis(1))).await.unwrap().unwrap();
    assert_eq!((waiting.application.as_deref(), waiting.role.as_deref()), (Some("migration"), Some("postgres")));
    // An hour has not passed.
    let patient = lock.somebody_waits(pid, Duration::from_secs(3600));
    assert!(tokio::time::timeout(IMPATIENT, patient).await.is_err());
    drop(snapshot);
    altering.await.unwrap().unwrap();
}

/// Its process on the server is stopped: the connection stays, and says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_cannot_be_asked_for_is_not_waited_for() {
    let cluster = shared();
    let installation = InstallationId::random();
    let patience = Patience { silence: Duration::from_secs(1), ..Patience::default() };
    let impatient = target(cluster).with_patience(patience);
    let lock = acquire(&impatient, &installation, "acme", &[]).await.unwrap();
    let busy = acquire(&target(cluster), &installation, "acme", &[]).await.err().unwrap();
    let LockError::Busy { holder: Some(holder), .. } = busy else { panic!("{busy}") };
    let process = rustix::process::Pid::from_raw(holder.pid).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
    let held = tokio::time::timeout(PATIENT, lock.still_held()).await;
    rustix::process::kill_process(process, rustix::process::Signal::CONT).unwrap();
    let error = held.unwrap().unwrap_err();
    assert!(matches!(error, LockError::Silent { .. }), "{error}");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the server is connected and has not answered for 1 s");
}
