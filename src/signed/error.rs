//! Why a document cannot be read or written.

use super::FORMAT;
use crate::{
    signature::SignatureError,
    store::{StoreError, StoreErrorKind},
};

/// A document that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The store failed.
    #[error("cannot reach {object}")]
    Store {
        /// Address and name.
        object: String,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// A definite "not there".
    #[error("{object} is not there")]
    Missing {
        /// Address and name.
        object: String,
    },
    /// It is there, its signature is not.
    #[error("{object} has no signature")]
    Unsigned {
        /// Address and name.
        object: String,
    },
    /// Its signature does not count.
    #[error("{object} is not to be trusted")]
    Signature {
        /// Address and name.
        object: String,
        /// Why.
        #[source]
        source: SignatureError,
    },
    /// Well signed, and not understood.
    #[error("{object} cannot be understood")]
    Malformed {
        /// Address and name.
        object: String,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a newer version.
    #[error("{object} has format {found}; this version of tenure knows format {FORMAT}")]
    NewerFormat {
        /// Address and name.
        object: String,
        /// Its format.
        found: u64,
    },
    /// Well signed, and not what its name says or what belongs here.
    #[error("{object}: {what}")]
    Contradiction {
        /// Address and name.
        object: String,
        /// What does not fit.
        what: String,
    },
    /// Create-only, and the name is taken.
    #[error("{object} is already there")]
    Exists {
        /// Address and name.
        object: String,
    },
    /// It could not be signed.
    #[error("cannot sign {object}")]
    Sign {
        /// Address and name.
        object: String,
        /// Why.
        #[source]
        source: SignatureError,
    },
}

impl DocumentError {
    /// Whether this says that something is missing, changed or foreign, rather than out of reach.
    #[must_use]
    pub fn is_integrity(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. }
                | Self::Unsigned { .. }
                | Self::Signature { .. }
                | Self::Malformed { .. }
                | Self::Contradiction { .. }
        )
    }

    /// Whether the store would not let these credentials look.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.kind == StoreErrorKind::Denied)
    }

    /// Whether it was stored, and the store does not lock it as it was asked to.
    #[must_use]
    pub fn is_not_locked(&self) -> bool {
        matches!(self, Self::Store { source, .. } if source.kind == StoreErrorKind::NotLocked)
    }

    /// What is wrong, without the object's name: for a list that shows it already.
    #[must_use]
    pub fn what(&self) -> String {
        let what = match self {
            Self::Unsigned { .. } => "its signature is missing".to_owned(),
            Self::Missing { .. } => "it is not there".to_owned(),
            Self::Contradiction { what, .. } => what.clone(),
            Self::NewerFormat { found, .. } => format!("it has format {found}, which this version of tenure does not know"),
            _ => "it is not to be trusted".to_owned(),
        };
        std::error::Error::source(self).map_or(what, ToString::to_string)
    }

    /// Address and name of the object.
    #[must_use]
    pub fn object(&self) -> &str {
        match self {
            Self::Store { object, .. }
            | Self::Missing { object }
            | Self::Unsigned { object }
            | Self::Signature { object, .. }
            | Self::Malformed { object, .. }
            | Self::NewerFormat { object, .. }
            | Self::Contradiction { object, .. }
            | Self::Exists { object }
            | Self::Sign { object, .. } => object,
        }
    }
}
