//! Names inside SQL statements. Every name is quoted, so that none is folded to lower case or read as a keyword.

use postgres_protocol::escape::escape_identifier;

/// `"schema"."name"`.
#[must_use]
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", escape_identifier(schema), escape_identifier(name))
}

#[cfg(test)]
mod tests {
    use super::qualified;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(qualified("a.b", "c\nd\"e"), "\"a.b\".\"c\nd\"\"e\"");
    }
}
