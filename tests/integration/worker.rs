//! Scheduled work: who is due, what many workers make of one night, and the program that runs for years.

mod due;
mod program;
mod told;
