//! What the worker tells those who watch it.

mod deploy;
pub mod http;
mod notify;
mod prometheus;
