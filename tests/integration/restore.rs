//! Restores of real databases, through the library.

mod faults;
mod fidelity;
mod fleet;
mod foreign_keys;
mod guards;
mod killed;
mod logins;
mod odd;
mod partitions;
mod powers;
mod roles;
mod row_security;
mod salvage;
mod search_path;
mod tables;

use std::collections::BTreeMap;

use chrono::Utc;
use tenure::{
    operation::{
        budget::Budget,
        failure::Failure,
        progress::Silent,
        restore::{Destination, Report, Request, Restorer, Which},
    },
    postgres::Target,
};

use crate::harness::{postgres, site::Site};

/// A request for the newest backup.
pub fn latest(tenant: &str) -> Request {
    Request {
        tenant: tenant.parse().unwrap(),
        which: Which::Latest,
        into: None,
        cluster: None,
        replace: false,
        allow: Vec::new(),
        accept_gap: false,
        accept_lost_keys: false,
        keep_failed: false,
        salvage: false,
        tables: Vec::new(),
    }
}

/// The newest backup into another database.
pub fn copy(tenant: &str, into: &str) -> Request {
    Request { into: Some(into.to_owned()), ..latest(tenant) }
}

/// The cluster of `site` as a place to restore to.
pub fn here(site: &Site) -> Destination {
    let cluster = &site.backup.clusters[0];
    Destination {
        name: cluster.name.clone(),
        admin: cluster.target.clone(),
        loader: None,
        rules: cluster.rules.clone(),
        roles: Vec::new(),
        connections: 6,
    }
}

/// Another server under the same name.
fn there(site: &Site, server: &postgres::Cluster) -> Destination {
    let environment = tenure::postgres::LibpqEnvironment { home: None, user: "nobody".into(), variables: BTreeMap::new() };
    Destination { admin: Target::parse(&server.description(), &environment).unwrap(), ..here(site) }
}

pub async fn restore_to(site: &Site, destination: Destination, request: &Request) -> Result<Report, Failure> {
    let clusters = BTreeMap::from([(destination.name.clone(), destination)]);
    let restorer = Restorer {
        vault: &site.backup.vault,
        keyring: &site.backup.keyring,
        clusters: &clusters,
        tools: &site.backup.tools,
        signer: &site.backup.signer,
        jobs: 3,
        budget: &Budget::new(6 * 1024 * 1024),
        progress: &Silent,
        cancel: &site.backup.cancel,
    };
    restorer.restore(request, site.identity(), Utc::now()).await
}

pub async fn restore(site: &Site, request: &Request) -> Result<Report, Failure> {
    restore_to(site, here(site), request).await
}
