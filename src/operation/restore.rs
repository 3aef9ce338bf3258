//! The way back.

pub mod choose;
pub mod content;
pub mod proof;
pub mod rows;
