//! What tenure does: each operation takes a request, composes the stages below it, and returns a report.
//!
//! An operation reads neither the clock nor the environment and prints nothing. It tells how it goes through [`progress::Progress`],
//! and why it stopped through [`failure::Failure`].

pub mod admit;
pub mod again;
pub mod alarm;
pub mod audit;
pub mod backup;
pub mod budget;
pub mod certificate;
pub mod check;
pub mod drop;
pub mod erase;
pub mod erased;
pub mod expire;
pub mod failure;
pub mod fleet;
pub mod held;
pub mod hold;
pub mod init;
pub mod keys;
pub mod list;
pub mod living;
pub mod lost;
pub mod mirrors;
pub mod newcomer;
pub mod night;
pub mod night_report;
pub mod plans;
pub mod progress;
pub mod purge;
pub mod reconcile;
pub mod refused;
pub mod restore;
pub mod restore_all;
pub mod show;
pub mod status;
pub mod tenants;
mod unfinished;
pub mod verify;
mod whose;
