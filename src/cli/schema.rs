//! The schemas of everything that `--json` prints, made from the report types; `docs/json/` holds a copy of each.

use schemars::{JsonSchema, Schema, schema_for};

use super::init::InitReport;
use super::{
    config::ConfigReport,
    output::{Document, ErrorDocument},
};

/// Every schema with the name of its file, without `.schema.json`.
#[must_use]
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![("error", schema_for!(ErrorDocument)), ("config-show", of::<ConfigReport>()), ("init", of::<InitReport>())]
}

fn of<R: JsonSchema>() -> Schema {
    schema_for!(Document<R>)
}
