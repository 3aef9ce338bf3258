//! What the program tells while it works: logs and progress, both on standard error.

pub mod log;
pub mod progress;
pub mod screen;
