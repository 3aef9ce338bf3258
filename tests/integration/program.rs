//! The program as a person or a script meets it.

mod incomplete;
mod init;
mod join;
mod journey;
mod keyrings;
mod mirrored;
mod moved;
mod owner;
mod stopping;
mod unattended;
mod without_tenure;
