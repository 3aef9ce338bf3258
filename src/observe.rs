//! What the program tells while it works: logs and progress on standard error; of the worker also what monitors ask for.

pub mod board;
pub mod http;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod progress;
pub mod screen;
