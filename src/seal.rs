//! Encryption: age, and nothing else.
//!
//! A chunk is a complete age file with exactly one recipient, its tenant's key. A tenant's key is an age identity, itself wrapped in
//! an age file to the operators' recovery recipients.

use std::{io::Read as _, str::FromStr as _};

use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    compress::{CompressError, PackedChunk, unpack},
    id::{ChunkName, Sha256Digest},
};

/// No wrapped key is longer than this: a header of many recipients and one line.
pub const MAX_WRAPPED_KEY: u64 = 64 * 1024;

/// A tenant's secret key. Neither printable nor serialisable; wiped on drop.
pub struct TenantIdentity(age::x25519::Identity);

/// A tenant's public key: what chunks are sealed to.
#[derive(Clone)]
pub struct TenantRecipient(age::x25519::Recipient);

/// A sealed chunk. Only [`seal`] makes one, and a vault takes nothing else.
pub struct SealedChunk {
    name: ChunkName,
    length: u64,
    sha256: Sha256Digest,
    bytes: Bytes,
}

/// Encryption or decryption failed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Text that is no X25519 recipient.
    #[error("not an age X25519 recipient (`age1…`): {0}")]
    Recipient(&'static str),
    /// A recovery recipient that is neither X25519 nor a plugin's.
    #[error("`{0}` is not an age recipient (`age1…`)")]
    RecoveryRecipient(String),
    /// No recovery recipient at all: nobody could ever read a backup.
    #[error("no recovery recipient")]
    NoRecipient,
    /// age would not encrypt, usually because a plugin is missing.
    #[error("age cannot encrypt")]
    Encrypt(#[source] age::EncryptError),
    /// A recipient whose plugin is not installed.
    #[error("the plugin age-plugin-{0} is not installed")]
    Plugin(String),
    /// Another key, or bytes that were changed or cut.
    #[error("age cannot open it")]
    Decrypt(#[source] age::DecryptError),
    /// Read error in the middle of the plaintext: the ciphertext was changed or cut.
    #[error("age cannot open it to its end")]
    Truncated(#[source] std::io::Error),
    /// It opened, and is not what was compressed.
    #[error("it opens, but does not decompress")]
    Compress(#[source] CompressError),
    /// A file that should hold identities.
    #[error("not an age identity file")]
    IdentityFile(#[source] std::io::Error),
    /// A file without any identity.
    #[error("the file holds no identity (a line `AGE-SECRET-KEY-1…` or `AGE-PLUGIN-…`)")]
    NoIdentity,
    /// An identity whose plugin is not installed.
    #[error("an identity of the file cannot be used")]
    Identity(#[source] age::DecryptError),
    /// Sealed text that opened to something else.
    #[error("it is not text")]
    Text,
    /// A wrapped key that opened to something else.
    #[error("it opens, but holds no tenant key")]
    NotAKey,
}

impl TenantIdentity {
    /// A new random key.
    #[must_use]
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// Its public half.
    #[must_use]
    pub fn recipient(&self) -> TenantRecipient {
        TenantRecipient(self.0.to_public())
    }

    /// The text `AGE-SECRET-KEY-1…`, for the file that wraps it.
    fn to_text(&self) -> SecretString {
        self.0.to_string()
    }

    fn from_text(text: &str) -> Result<Self, SealError> {
        // Comments are allowed, as in any identity file.
        let line =
            text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).ok_or(SealError::NotAKey)?;
        age::x25519::Identity::from_str(line).map(Self).map_err(|_| SealError::NotAKey)
    }
}

impl TenantRecipient {
    /// Parses `age1…`.
    ///
    /// # Errors
    /// [`SealError::Recipient`] for any other text.
    pub fn parse(text: &str) -> Result<Self, SealError> {
        age::x25519::Recipient::from_str(text).map(Self).map_err(SealError::Recipient)
    }
}

impl std::fmt::Display for TenantRecipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl SealedChunk {
    /// HMAC of the plaintext.
    #[must_use]
    pub fn name(&self) -> ChunkName {
        self.name
    }

    /// Length of the plaintext in bytes.
    #[must_use]
    pub fn plain_length(&self) -> u64 {
        self.length
    }

    /// SHA-256 of the sealed bytes.
    #[must_use]
    pub fn sha256(&self) -> Sha256Digest {
        self.sha256
    }

    /// The sealed bytes: an age file.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Encrypts a compressed chunk to its tenant.
///
/// # Errors
/// [`SealError::Encrypt`] when age fails, which it does only for lack of memory or randomness.
pub fn seal(packed: PackedChunk, recipient: &TenantRecipient) -> Result<SealedChunk, SealError> {
    let bytes = age::encrypt(&recipient.0, &packed.bytes).map_err(SealError::Encrypt)?;
    Ok(SealedChunk { name: packed.name, length: packed.length, sha256: Sha256Digest::of(&bytes), bytes: bytes.into() })
}

/// Decrypts and decompresses one stored chunk whose plaintext has exactly `length` bytes.
///
/// # Errors
/// [`SealError::Decrypt`] for another key's chunk, [`SealError::Truncated`] for one that was cut or changed, [`SealError::Compress`] for
/// one that another program wrote.
pub fn open(identity: &TenantIdentity, sealed: &[u8], length: u64) -> Result<Vec<u8>, SealError> {
    let packed = decrypt(&identity.0, sealed, sealed.len())?;
    unpack(&packed, length).map_err(SealError::Compress)
}

/// Encrypts free text to a tenant, in ASCII armour, for a field of a document.
///
/// # Errors
/// [`SealError::Encrypt`], as [`seal`].
pub fn seal_text(text: &str, recipient: &TenantRecipient) -> Result<String, SealError> {
    age::encrypt_and_armor(&recipient.0, text.as_bytes()).map_err(SealError::Encrypt)
}

/// Decrypts what [`seal_text`] made.
///
/// # Errors
/// As [`open`]; [`SealError::Text`] for what is no text.
pub fn open_text(identity: &TenantIdentity, sealed: &str) -> Result<String, SealError> {
    let plain = decrypt(&identity.0, age::armor::ArmoredReader::new(sealed.as_bytes()), sealed.len())?;
    String::from_utf8(plain.to_vec()).map_err(|_| SealError::Text)
}

/// `longest` bytes at most come out of it: what grows would leave copies behind.
fn decrypt(
    identity: &dyn age::Identity,
    sealed: impl std::io::BufRead,
    longest: usize,
) -> Result<zeroize::Zeroizing<Vec<u8>>, SealError> {
    let decryptor = age::Decryptor::new_buffered(sealed).map_err(SealError::Decrypt)?;
    let mut reader = decryptor.decrypt(std::iter::once(identity)).map_err(SealError::Decrypt)?;
    let mut plain = zeroize::Zeroizing::new(Vec::with_capacity(longest));
    reader.read_to_end(&mut plain).map_err(SealError::Truncated)?;
    Ok(plain)
}

/// Who can open tenant keys: the operators' recovery recipients (X25519, or a plugin's: YubiKey, KMS).
pub struct RecoveryRecipients {
    texts: Vec<String>,
}

impl RecoveryRecipients {
    /// Takes `age1…` texts, at least one.
    ///
    /// # Errors
    /// [`SealError::RecoveryRecipient`] names the one that is none; [`SealError::NoRecipient`] when there are none.
    pub fn parse(texts: &[String]) -> Result<Self, SealError> {
        if texts.is_empty() {
            return Err(SealError::NoRecipient);
        }
        let recipients = Self { texts: texts.to_vec() };
        recipients.build()?;
        Ok(recipients)
    }

    /// Wraps a tenant's key: the content of `k/<key-id>.<n>.age`.
    ///
    /// # Errors
    /// [`SealError::Encrypt`] when a plugin is missing or refuses.
    pub fn wrap(&self, identity: &TenantIdentity) -> Result<Bytes, SealError> {
        let recipients = self.build()?;
        let encryptor =
            age::Encryptor::with_recipients(recipients.iter().map(|recipient| &**recipient as _)).map_err(SealError::Encrypt)?;
        let mut wrapped = Vec::new();
        let write = |wrapped: &mut Vec<u8>| -> std::io::Result<()> {
            let mut writer = encryptor.wrap_output(wrapped)?;
            std::io::Write::write_all(&mut writer, identity.to_text().expose_secret().as_bytes())?;
            std::io::Write::write_all(&mut writer, b"\n")?;
            writer.finish().map(drop)
        };
        write(&mut wrapped).map_err(|error| SealError::Encrypt(error.into()))?;
        Ok(wrapped.into())
    }

    /// Their texts, sorted, each once.
    #[must_use]
    pub fn sorted(&self) -> Vec<String> {
        let mut texts = self.texts.clone();
        texts.sort_unstable();
        texts.dedup();
        texts
    }

    fn build(&self) -> Result<Vec<Box<dyn age::Recipient + Send>>, SealError> {
        self.texts
            .iter()
            .map(|text| {
                if let Ok(native) = age::x25519::Recipient::from_str(text) {
                    return Ok(Box::new(native) as Box<dyn age::Recipient + Send>);
                }
                let plugin = age::plugin::Recipient::from_str(text).map_err(|_| SealError::RecoveryRecipient(text.clone()))?;
                let name = plugin.plugin().to_owned();
                let client = age::plugin::RecipientPluginV1::new(&name, &[plugin], &[], age::NoCallbacks)
                    .map_err(|_| SealError::Plugin(name))?;
                Ok(Box::new(client) as _)
            })
            .collect()
    }
}

/// The operators' recovery identities, as read from the recovery kit or any age identity file. Opens tenant keys and nothing else.
pub struct RecoveryIdentity {
    identities: Vec<Box<dyn age::Identity + Send + Sync>>,
    /// The recipients of those that are no plugin's.
    recipients: Vec<String>,
}

impl RecoveryIdentity {
    /// Reads an age identity file. `callbacks` speaks with the person, for plugins that ask for a touch or a PIN.
    ///
    /// # Errors
    /// [`SealError::IdentityFile`] for another kind of file, [`SealError::NoIdentity`] for one without identities,
    /// [`SealError::Identity`] when a plugin is missing.
    pub fn parse(file: &[u8], callbacks: impl age::Callbacks) -> Result<Self, SealError> {
        // age reports a file without an identity as any other malformed file; say which it is.
        let text = std::str::from_utf8(file).map_err(|_| SealError::NoIdentity)?;
        if !text.lines().any(|line| line.starts_with("AGE-")) {
            return Err(SealError::NoIdentity);
        }
        let identities = age::IdentityFile::from_buffer(file)
            .map_err(SealError::IdentityFile)?
            .with_callbacks(callbacks)
            .into_identities()
            .map_err(SealError::Identity)?;
        let native = text.lines().filter_map(|line| age::x25519::Identity::from_str(line.trim()).ok());
        let recipients = native.map(|identity| identity.to_public().to_string()).collect();
        Ok(Self { identities, recipients })
    }

    /// Whether it surely opens what is wrapped to these recipients. Of a plugin's identities only the plugin knows.
    #[must_use]
    pub fn is_among(&self, recipients: &[String]) -> bool {
        self.recipients.iter().any(|own| recipients.contains(own))
    }

    /// A new recovery identity: its secret text (`AGE-SECRET-KEY-1…`) and its recipient (`age1…`).
    #[must_use]
    pub fn generate() -> (SecretString, String) {
        let identity = age::x25519::Identity::generate();
        (identity.to_string(), identity.to_public().to_string())
    }

    /// Opens a wrapped tenant key.
    ///
    /// # Errors
    /// [`SealError::Decrypt`] when none of the identities is among its recipients or it was changed.
    pub fn unwrap(&self, wrapped: &[u8]) -> Result<TenantIdentity, SealError> {
        let decryptor = age::Decryptor::new_buffered(wrapped).map_err(SealError::Decrypt)?;
        let mut reader = decryptor
            .decrypt(self.identities.iter().map(|identity| &**identity as &dyn age::Identity))
            .map_err(SealError::Decrypt)?;
        let mut text = zeroize::Zeroizing::new(String::new());
        reader.read_to_string(&mut text).map_err(SealError::Truncated)?;
        TenantIdentity::from_text(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chunk::ChunkNameKey, compress::pack};

    fn sealed(identity: &TenantIdentity, plain: &[u8]) -> SealedChunk {
        let chunk = ChunkNameKey::random().plain_chunk(plain.to_vec());
        seal(pack(chunk).unwrap(), &identity.recipient()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens() {
        let identity = TenantIdentity::generate();
        for plain in [&b""[..], b"x", &[7; 200_000]] {
            let chunk = sealed(&identity, plain);
            assert_eq!(open(&identity, chunk.bytes(), plain.len() as u64).unwrap(), plain);
            assert_eq!(chunk.plain_length(), plain.len() as u64);
        }
    }

    #[test]
    fn another_key_does_not_open_it() {
        let chunk = sealed(&TenantIdentity::generate(), b"rows");
        assert!(matches!(open(&TenantIdentity::generate(), chunk.bytes(), 4), Err(SealError::Decrypt(_))));
    }

    #[test]
    fn every_cut_and_flip_is_seen() {
        let identity = TenantIdentity::generate();
        // Random bytes do not compress: the ciphertext spans three of age's 64 KiB blocks.
        let mut plain = vec![0; 150_000];
        getrandom::fill(&mut plain).unwrap();
        let chunk = sealed(&identity, &plain);
        let header = chunk.bytes().len() - plain.len() - 100;
        for cut in [0, 1, header, header + 65_536, header + 131_072, chunk.bytes().len() - 1] {
            assert!(open(&identity, &chunk.bytes()[..cut], 150_000).is_err(), "cut at {cut}");
        }
        // Exactly at a border of age's blocks: header, nonce of 16 bytes, blocks of 64 KiB and 16 bytes each.
        let body = chunk.bytes().windows(5).position(|w| w == b"\n--- ").unwrap() + 5 + 43 + 1 + 16;
        for blocks in 0..3 {
            assert!(open(&identity, &chunk.bytes()[..body + blocks * 65_552], 150_000).is_err(), "{blocks} blocks");
        }
        for at in [0, 30, header + 20, chunk.bytes().len() - 1] {
            let mut bytes = chunk.bytes().to_vec();
            bytes[at] ^= 1;
            assert!(open(&identity, &bytes, 150_000).is_err(), "flip at {at}");
        }
    }

    #[test]
    fn decompression_is_bounded_by_the_recorded_length() {
        let identity = TenantIdentity::generate();
        let chunk = sealed(&identity, &vec![0; 1 << 20]);
        for wrong in [0, 1, (1 << 20) - 1, (1 << 20) + 1, 1 << 40, u64::MAX] {
            assert!(matches!(open(&identity, chunk.bytes(), wrong), Err(SealError::Compress(_))), "{wrong}");
        }
    }

    #[test]
    fn a_wrapped_key_comes_back() {
        let (secret, public) = RecoveryIdentity::generate();
        let key = TenantIdentity::generate();
        let wrapped = RecoveryRecipients::parse(&[public]).unwrap().wrap(&key).unwrap();
        let kit = format!("# a kit\n\n{}\n# more\n", secret.expose_secret());
        let recovery = RecoveryIdentity::parse(kit.as_bytes(), age::NoCallbacks).unwrap();
        assert_eq!(recovery.unwrap(&wrapped).unwrap().recipient().to_string(), key.recipient().to_string());
        assert!(key.recipient().to_string().starts_with("age1"));
        let commented = format!("# made today\n\n{}\n", key.to_text().expose_secret());
        let again = TenantIdentity::from_text(&commented).map(|key| key.recipient().to_string());
        assert_eq!(again.unwrap(), key.recipient().to_string());
        let (other, _) = RecoveryIdentity::generate();
        let other = RecoveryIdentity::parse(other.expose_secret().as_bytes(), age::NoCallbacks).unwrap();
        assert!(matches!(other.unwrap(&wrapped), Err(SealError::Decrypt(_))));
        let many: Vec<String> = (0..100).map(|_| RecoveryIdentity::generate().1).collect();
        assert!((RecoveryRecipients::parse(&many).unwrap().wrap(&key).unwrap().len() as u64) < MAX_WRAPPED_KEY);
    }

    #[test]
    fn files_without_identities_are_named() {
        assert!(matches!(RecoveryIdentity::parse(b"# nothing\n", age::NoCallbacks), Err(SealError::NoIdentity)));
        assert!(matches!(RecoveryIdentity::parse(&[0xff, 0xfe], age::NoCallbacks), Err(SealError::NoIdentity)));
        assert!(RecoveryIdentity::parse(b"AGE-SECRET-KEY-1QQ\n", age::NoCallbacks).is_err());
        assert!(RecoveryRecipients::parse(&[]).is_err());
        assert!(matches!(RecoveryRecipients::parse(&["age1nonsense".into()]), Err(SealError::RecoveryRecipient(_))));
    }
}
