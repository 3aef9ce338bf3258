//! What the worker tells those who watch it.

mod deploy;
mod http;
mod notify;
mod prometheus;
