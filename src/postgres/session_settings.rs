//! Settings of the sessions that write rows as COPY text and read them back.
//!
//! A role or a database may carry settings of its own (`ALTER ROLE … SET`), so everything that shapes the text, the plan or a time
//! limit is set, not assumed.

use std::fmt::Write as _;

use postgres_protocol::escape::escape_literal;

/// What shapes the text of values, in both directions: rows must be read back under the settings that they were written under.
/// `lc_monetary` is among them because `money` prints by it.
pub const ROW_TEXT: [(&str, &str); 7] = [
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("xmloption", "content"),
    ("lc_monetary", "C"),
];

/// No time limit of the server's ends a session of ours: our own limits do.
pub const NO_TIME_LIMITS: [(&str, &str); 4] = [
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
];

/// Reading: rows that a policy hides are an error and not missing; in the file's order, so no workers and no start in the middle; no compilation for short statements;
/// and no view or foreign table is ever read, whatever stands under a table's name by then (servers from August 2024 know the setting).
pub const READING: [(&str, &str); 7] = [
    ("synchronize_seqscans", "off"),
    ("row_security", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
    ("enable_tidscan", "on"),
    ("client_min_messages", "warning"),
    ("restrict_nonsystem_relation_kind", "view, foreign-table"),
];

/// Statements that empty the search path, so that no operator or function of the tenant's is found by a bare name, and then set what this
/// server knows of `settings`. To be run as one simple query, outside a transaction.
#[must_use]
pub fn statements(settings: &[&[(&str, &str)]]) -> String {
    let mut sql = String::from(
        // The role's time limit would be that of these statements too.
        "SET statement_timeout = 0; SELECT pg_catalog.set_config('search_path', '', false); \
         SELECT pg_catalog.set_config(s.name, v.value, false) FROM (VALUES ",
    );
    let mut first = true;
    for (name, value) in settings.iter().copied().flatten() {
        let comma = if first { "" } else { ", " };
        first = false;
        write!(sql, "{comma}({}, {})", escape_literal(name), escape_literal(value)).expect("a String takes any text");
    }
    sql.push_str(") AS v(name, value) JOIN pg_catalog.pg_settings s ON pg_catalog.lower(s.name) = pg_catalog.lower(v.name)");
    sql
}

#[cfg(test)]
mod tests {
    use super::{READING, ROW_TEXT, statements};

    #[test]
    fn the_search_path_is_emptied_first() {
        let sql = statements(&[&ROW_TEXT, &READING]);
        assert!(sql.starts_with("SET statement_timeout = 0; SELECT pg_catalog.set_config('search_path', '', false); "));
        assert!(sql.contains("('DateStyle', 'ISO, YMD'), ('IntervalStyle', 'postgres')"));
        assert!(sql.contains("('restrict_nonsystem_relation_kind', 'view, foreign-table'))"));
    }
}
