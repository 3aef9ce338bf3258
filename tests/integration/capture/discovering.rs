//! Which databases are tenants.

use std::collections::BTreeMap;

use tenure::postgres::discover::{Closed, ClosedBecause, Discovery, Rule, Rules, discover};

use super::*;
use crate::harness::postgres::{Options, quoted};

async fn found(cluster: &Cluster, rule: Rule, ignore: &[&str], copies: &[(u32, &str)]) -> Discovery {
    let rules = Rules { rule, ignore: ignore.iter().map(|name| (*name).to_owned()).collect() };
    let copies: BTreeMap<u32, tenure::tenant::TenantName> =
        copies.iter().map(|(oid, tenant)| (*oid, tenant.parse().unwrap())).collect();
    discover(&target(cluster), &rules, |_| copies.clone()).await.unwrap()
}

fn tenants(discovery: &Discovery) -> Vec<&str> {
    discovery.found.iter().map(|found| found.tenant.as_str()).collect()
}

/// A cluster of its own: databases of other tests would be found too.
#[tokio::test(flavor = "multi_thread")]
async fn databases_are_mapped_by_pattern_and_by_query() {
    let cluster = Cluster::start(&Options::default());
    let names = [
        "tenant_acme",
        "tenant_",
        "xtenant_b",
        "tenant_it's \"q\"",
        "tenant_a\nb",
        "tenant_🦀",
        "TENANT_C",
        "tenant_copy",
        "tenure_tenant_d",
        "tenant_template",
        "tenant_closed",
        "tenant_broken",
        "metrics",
        "web",
    ];
    for name in names {
        cluster.create_database(name);
    }
    cluster.sql("postgres", "ALTER DATABASE tenant_template IS_TEMPLATE true");
    cluster.sql("postgres", "ALTER DATABASE tenant_closed ALLOW_CONNECTIONS false");
    cluster.sql("postgres", "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'tenant_broken'");
    let copy = (oid_of(&cluster, "tenant_copy"), "acme");

    let pattern = || Rule::Databases("tenant_{tenant}".parse().unwrap());
    let discovery = found(&cluster, pattern(), &["metrics"], &[copy]).await;
    assert_eq!(tenants(&discovery), ["a\nb", "acme", "it's \"q\"", "🦀"]);
    assert_eq!(discovery.unassigned, ["TENANT_C", "tenant_", "web", "xtenant_b"]);
    assert_eq!(discovery.copies, ["tenant_copy", "tenure_tenant_d"]);
    assert_eq!(discovery.ignored, [oid_of(&cluster, "metrics")].into());
    // A copy of the tenant that it is named for is that tenant: whether it may be is for its source to say.
    let own = found(&cluster, pattern(), &[], &[(copy.0, "copy")]).await;
    assert!(tenants(&own).contains(&"copy"), "{own:?}");
    let closed = |tenant: &str, because| {
        let database = format!("tenant_{tenant}");
        let oid = (because != ClosedBecause::Missing).then(|| oid_of(&cluster, &database));
        Closed { tenant: tenant.parse().unwrap(), database, oid, because }
    };
    assert_eq!(
        discovery.closed,
        [
            closed("broken", ClosedBecause::Invalid),
            closed("closed", ClosedBecause::ConnectionsNotAllowed),
            closed("template", ClosedBecause::Template)
        ]
    );
    let acme = &discovery.found[1];
    assert_eq!((acme.database.as_str(), acme.oid), ("tenant_acme", oid_of(&cluster, "tenant_acme")));
    assert!(acme.bytes.unwrap() > 1_000_000);
    let identifier: u64 = cluster.sql("postgres", "SELECT system_identifier FROM pg_control_system()").trim().parse().unwrap();
    assert_eq!(discovery.system_identifier, identifier);
    assert_eq!(discovery.version_num / 10_000, crate::harness::postgres::major());
    assert!(!discovery.in_recovery);

    cluster.sql(
        "postgres",
        "CREATE TABLE customers (db name, name varchar(20));
         INSERT INTO customers VALUES ('tenant_acme', 'Acme'), ('web', 'twice'), ('metrics', 'twice'), ('TENANT_C', 'one'), ('TENANT_C', 'two'),
           ('gone', 'gone'), ('tenant_copy', 'copy'), ('tenure_tenant_d', 'd'), (NULL, 'none'), ('tenant_🦀', NULL), ('tenant_closed', 'closed')",
    );
    let query = || Rule::Query("SELECT db, name FROM customers -- ours\n;".to_owned());
    let discovery = found(&cluster, query(), &[], &[copy]).await;
    assert_eq!(tenants(&discovery), ["Acme"]);
    let ambiguous: Vec<_> =
        discovery.ambiguous.iter().map(|(tenant, databases)| (tenant.as_str(), databases.join("+"))).collect();
    let expected =
        [("one", "TENANT_C"), ("two", "TENANT_C"), ("twice", "metrics+web")].map(|(tenant, list)| (tenant, list.to_owned()));
    assert_eq!(ambiguous, {
        let mut sorted = expected;
        sorted.sort_unstable();
        sorted
    });
    let closed: Vec<_> = discovery.closed.iter().map(|closed| (closed.tenant.as_str(), closed.because)).collect();
    assert_eq!(closed, [("closed", ClosedBecause::ConnectionsNotAllowed), ("gone", ClosedBecause::Missing)]);
    // Ignoring one of two resolves the ambiguity.
    assert_eq!(tenants(&found(&cluster, query(), &["metrics"], &[copy]).await), ["Acme", "twice"]);

    // A role that may not connect everywhere still sees the list, without sizes.
    cluster
        .sql("postgres", &format!("CREATE ROLE visitor LOGIN; REVOKE CONNECT ON DATABASE {} FROM PUBLIC", quoted("tenant_acme")));
    let visitor = target(&cluster).with_login("visitor", "".to_owned().into());
    let rules = Rules { rule: pattern(), ignore: Vec::new() };
    let discovery = discover(&visitor, &rules, |_| BTreeMap::new()).await.unwrap();
    let sizes: BTreeMap<_, _> = discovery.found.iter().map(|found| (found.tenant.as_str(), found.bytes.is_some())).collect();
    assert!(!sizes["acme"] && sizes["🦀"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_wrong_is_an_error() {
    let cluster = crate::harness::postgres::shared();
    for query in [
        "SELECT 1",
        "SELECT 'a', 'b', 'c'",
        "SELEC",
        "SELECT 'a', ''",
        "SELECT 1); DROP TABLE x; (SELECT 1",
        "CREATE TABLE made AS SELECT 1",
    ] {
        let rules = Rules { rule: Rule::Query(query.to_owned()), ignore: Vec::new() };
        assert!(discover(&target(cluster), &rules, |_| BTreeMap::new()).await.is_err(), "{query}");
    }
    cluster.sql("postgres", "CREATE FUNCTION capture_writes() RETURNS text LANGUAGE plpgsql AS $$ BEGIN CREATE TABLE capture_made (); RETURN 'x'; END $$");
    let rules = Rules { rule: Rule::Query("SELECT 'a', public.capture_writes()".to_owned()), ignore: Vec::new() };
    assert!(discover(&target(cluster), &rules, |_| BTreeMap::new()).await.is_err(), "a query that writes");
    cluster.sql("postgres", "DROP FUNCTION capture_writes()");
}
