//! PostgreSQL: connections, the way out, the way back.

pub mod archive_toc;
pub mod create_database;
pub mod large_objects_in;
pub mod load;
pub mod read_back;
pub mod restore_plan;
pub mod roles;
pub mod sequences;
pub mod statement;
