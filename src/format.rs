//! The documents of the vault and the keyring: what their bytes mean, and nothing about where they lie.
//!
//! All are JSON with a `format` number. Unknown fields are refused: a document that this version does not fully understand is not
//! acted upon.

pub mod act;
pub mod certificate;
pub mod description;
pub mod erasure_note;
pub mod hold;
pub mod index_page;
pub mod inventory;
pub mod key_record;
pub mod manifest;
pub mod plan;
pub mod purge_note;
pub mod record;
pub mod root;
