//! The program as a person or a script meets it.

mod init;
mod join;
mod journey;
mod stopping;
mod without_tenure;
