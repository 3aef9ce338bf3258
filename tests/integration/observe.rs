//! What the worker tells those who watch it.

mod http;
mod notify;
