//! A hostile tenant: what its code, its settings and its names gain at a backup, a verify and a restore. Nothing.

mod code;
mod forged;
mod names;
mod settings;

use crate::{
    fidelity::oracle::{Picture, plain_copy, properties},
    harness::{
        postgres::{Cluster, Options, quoted},
        site::Site,
    },
    restore::{copy, restore},
};

fn own_server() -> &'static Cluster {
    Box::leak(Box::new(Cluster::start(&Options::default())))
}
