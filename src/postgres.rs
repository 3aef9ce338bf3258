//! PostgreSQL: reaching it as libpq would, the way out, the way back.

pub mod archive_toc;
pub mod child;
mod connect;
pub mod connect_error;
pub mod conninfo;
pub mod create_database;
pub mod large_objects_in;
pub mod load;
mod passfile;
mod password;
pub mod read_back;
pub mod restore_plan;
pub mod roles;
pub mod sequences;
mod service;
pub mod session;
pub mod statement;
pub mod target;
mod tls;
pub mod tools;

pub use child::ChildEnvironment;
pub use connect_error::{ConnectCause, ConnectError};
pub use conninfo::{ConnInfoError, LibpqEnvironment};
pub use session::Session;
pub use target::Target;
