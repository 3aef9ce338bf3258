//! Key material that cannot be printed.

/// Defines a newtype over `[u8; N]` that is wiped on drop, has no `Debug` and no `Display`, and is hexadecimal in JSON.
macro_rules! secret_bytes {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// A new random key.
            ///
            /// # Panics
            /// If the kernel has no randomness to give.
            #[must_use]
            pub fn random() -> Self {
                let mut bytes = [0; $bytes];
                getrandom::fill(&mut bytes).expect("the kernel's random generator answers");
                Self(bytes)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&zeroize::Zeroizing::new(hex::encode(self.0)))
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = zeroize::Zeroizing::new(String::deserialize(deserializer)?);
                let mut bytes = [0; $bytes];
                // The text itself stays out of the error.
                hex::decode_to_slice(text.as_bytes(), &mut bytes)
                    .map_err(|_| serde::de::Error::custom(concat!("not ", stringify!($bytes), " bytes in hexadecimal")))?;
                Ok(Self(bytes))
            }
        }
    };
}
pub(crate) use secret_bytes;
