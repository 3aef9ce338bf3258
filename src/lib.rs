//! Encrypted backup and data lifecycle for companies that keep each customer in its own PostgreSQL database.
//!
//! The folders are the architecture; `docs/architecture.md` draws it, and a test over every path in the code holds it.

pub mod backup_id;
pub mod chunk;
pub mod cli;
pub mod compress;
pub mod config;
pub mod format;
mod hex_id;
pub mod id;
pub mod keyring;
pub mod name_key;
pub mod object_lock;
pub mod object_name;
pub mod observe;
pub mod operation;
pub mod postgres;
pub mod printable;
pub mod retention;
pub mod seal;
mod secret;
pub mod signature;
pub mod signed;
pub mod store;
pub mod tenant;
pub mod vault;
pub mod worker;
