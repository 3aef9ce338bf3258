//! Secrets of channels: read from a file or the environment, and never printed.

use std::path::Path;

use zeroize::Zeroizing;

use crate::{
    config::notify::SecretAt,
    operation::failure::{Failure, FailureClass},
};

/// Reads a secret: one line, whose end and surrounding spaces do not count. `setting` is what names it, like `notify.webhook.url`.
///
/// # Errors
/// It is not there, is empty, or is more than a line. None of it is in the error.
pub(super) fn read(at: SecretAt<'_>, setting: &str, folder: &Path) -> Result<Zeroizing<String>, Failure> {
    let (whole, text, hint) = match at {
        SecretAt::File(path) => {
            let path = folder.join(path);
            let text = std::fs::read_to_string(&path).map(Zeroizing::new).map_err(|error| {
                refused(&format!("{setting}_file"), format!("cannot read {}", path.display()))
                    .hint("the file holds the secret alone on its line, and whoever runs the worker must be able to read it")
                    .because(error)
            })?;
            (format!("{setting}_file"), text, format!("{} must hold one line", path.display()))
        }
        SecretAt::Variable(name) => {
            let text = std::env::var(name).map(Zeroizing::new).map_err(|_| {
                let hint = format!("set {name} where the worker is started, in its systemd unit for instance");
                refused(&format!("{setting}_env"), format!("the environment has no {name}, which `{setting}_env` names"))
                    .hint(hint)
            })?;
            (format!("{setting}_env"), text, format!("{name} must hold one line"))
        }
    };
    let line = Zeroizing::new(text.trim().to_owned());
    if line.is_empty() || line.contains(char::is_control) {
        let message = format!("`{whole}` names {}", if line.is_empty() { "what is empty" } else { "more than one line" });
        return Err(refused(&whole, message).hint(hint));
    }
    Ok(line)
}

/// A configuration that cannot be used.
pub(super) fn refused(setting: &str, message: String) -> Failure {
    Failure::new(FailureClass::Usage, "configuration", setting, message)
}
