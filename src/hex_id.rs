//! Fixed-length identifiers written as lower-case hexadecimal.

/// Defines a newtype over `[u8; N]` whose only text form is `2 * N` lower-case hexadecimal digits.
///
/// Upper case, other lengths and other characters are refused when parsing, so that an object name has exactly one spelling.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// A new random value from the operating system's generator.
            ///
            /// # Panics
            /// If the kernel has no randomness to give: there is no safe way on.
            #[must_use]
            pub fn random() -> Self {
                let mut bytes = [0; $bytes];
                getrandom::fill(&mut bytes).expect("the kernel's random generator answers");
                Self(bytes)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::hex_id::HexIdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let wrong = || $crate::hex_id::HexIdError { what: stringify!($name), digits: 2 * $bytes };
                if text.len() != 2 * $bytes || text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(wrong());
                }
                let mut bytes = [0; $bytes];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| wrong())?;
                Ok(Self(bytes))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": format!("^[0-9a-f]{{{}}}$", 2 * $bytes) })
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use hex_id;

/// Text that is not the identifier it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a {what}: expected {digits} lower-case hexadecimal digits")]
pub struct HexIdError {
    /// The type that was expected.
    pub what: &'static str,
    /// Its length in digits.
    pub digits: usize,
}

#[cfg(test)]
mod tests {
    hex_id! { /// Four bytes.
    Small, 4 }

    #[test]
    fn one_spelling_only() {
        let id: Small = "00ff10ab".parse().unwrap();
        assert_eq!(id.to_string(), "00ff10ab");
        assert_ne!(Small::random(), Small::random());
        for bad in ["", "00ff10a", "00ff10abc", "00FF10ab", "00ff10ag", " 0ff10ab"] {
            assert!(bad.parse::<Small>().is_err(), "{bad}");
        }
    }
}
