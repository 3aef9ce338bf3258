//! Everything that needs real parts: PostgreSQL clusters, S3 servers, the program itself.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is the point")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the numbers are the tests' own")]

mod approvals;
mod audit;
mod backup;
mod capture;
mod changes;
mod check;
mod command_line;
mod connection;
mod drop;
mod erase;
mod erasure;
mod expire;
mod fidelity;
mod fuzz;
mod golden;
#[allow(dead_code, reason = "offered to every test, used by some")]
mod harness;
mod hostile;
mod integrity;
mod json_schemas;
mod keys;
mod layering;
mod life;
mod lock_nights;
mod observe;
mod policies;
mod program;
mod purge;
mod reconcile;
mod restore;
mod s3_journey;
mod schedules;
mod status;
mod store_conformance;
mod store_directory;
mod store_locks;
mod store_s3;
mod threat_model;
mod vectors;
mod walk;
mod worker;
