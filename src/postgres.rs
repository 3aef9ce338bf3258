//! PostgreSQL: reaching it as libpq would, the way out, the way back.

pub mod archive;
pub mod archive_toc;
pub mod catalog;
pub mod child;
mod connect;
pub mod connect_error;
pub mod conninfo;
pub mod create_database;
pub mod describe;
pub mod discover;
pub mod large_objects;
pub mod large_objects_in;
pub mod load;
pub mod lock;
mod passfile;
mod password;
pub mod quote;
pub mod read_back;
pub mod restore_plan;
pub mod roles;
pub mod sequences;
mod service;
pub mod session;
pub mod session_settings;
pub mod snapshot;
pub mod source;
pub mod source_tag;
pub mod statement;
pub mod target;
mod tls;
pub mod tools;

pub use child::ChildEnvironment;
pub use connect_error::{ConnectCause, ConnectError};
pub use conninfo::{ConnInfoError, LibpqEnvironment};
pub use session::Session;
pub use target::Target;
