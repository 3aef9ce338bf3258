//! Everything that needs real parts: PostgreSQL clusters, S3 servers, the program itself.

mod connection;
#[allow(dead_code, reason = "offered to every test, used by some")]
mod harness;
