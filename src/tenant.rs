//! The name of a tenant.

use serde::{Deserialize, Serialize};

/// A tenant's name: what discovery makes of a database or schema name.
///
/// Any text of 1 to 63 bytes (PostgreSQL's limit for names) without NUL. It may hold quotes, slashes, newlines or emoji:
/// nothing may join it into a command, a path or a statement.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct TenantName(String);

/// A tenant name that PostgreSQL could not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a tenant name has 1 to 63 bytes and no NUL; this one has {length}")]
pub struct TenantNameError {
    /// Its length in bytes.
    pub length: usize,
}

impl TenantName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TenantName {
    type Error = TenantNameError;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        if name.is_empty() || name.len() > 63 || name.contains('\0') {
            return Err(TenantNameError { length: name.len() });
        }
        Ok(Self(name))
    }
}

impl std::str::FromStr for TenantName {
    type Err = TenantNameError;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::try_from(name.to_owned())
    }
}

impl From<TenantName> for String {
    fn from(name: TenantName) -> Self {
        name.0
    }
}

/// Printable on one line: control characters are escaped, so that a name cannot forge a log line or move the cursor.
impl std::fmt::Display for TenantName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        crate::printable::Printable(&self.0).fmt(f)
    }
}

impl std::fmt::Debug for TenantName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
