//! Signing a plan: by a key file, or by an SSH agent through OpenSSH's own programs.

use std::{io::Write as _, os::fd::AsRawFd as _, path::Path, process::Stdio};

use chrono::{DateTime, Utc};
use rustix::fs::{MemfdFlags, memfd_create};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{
    operation::failure::{Failure, FailureClass},
    signature::{Namespace, SignatureError, SigningKey},
    vault::Vault,
};

/// A signature of `document` as a plan.
pub(super) async fn sign(key: Option<&Path>, vault: &Vault, document: &[u8], now: DateTime<Utc>) -> Result<Vec<u8>, Failure> {
    let Some(path) = key else {
        return by_agent(&agents_only(vault, now).await?, document).await;
    };
    let file = zeroize::Zeroizing::new(std::fs::read(path).map_err(|error| {
        usage("unreadable-file", format!("cannot read {}", path.display()))
            .hint("Name your private key, or its public half.")
            .because(error)
    })?);
    if let Ok(text) = std::str::from_utf8(&file)
        && text.starts_with("ssh-")
    {
        return by_agent(text, document).await;
    }
    let key = SigningKey::parse(&file).map_err(|error| {
        let hint = match error {
            SignatureError::Passphrase => {
                "Add it to your SSH agent (`ssh-add FILE`) and give its public half: --key FILE.pub. Or sign with `ssh-keygen -Y sign` and \
                 give the signature by --signature."
            }
            _ => "It must be an Ed25519 key, as `ssh-keygen -t ed25519` makes it.",
        };
        usage("bad-key", format!("{} is no key to sign with", path.display())).hint(hint).because(error)
    })?;
    key.sign(Namespace::Plan, document).map(String::into_bytes).map_err(|error| agent("cannot sign").because(error))
}

/// The only key of the agent that may sign plans in this vault.
async fn agents_only(vault: &Vault, now: DateTime<Utc>) -> Result<String, Failure> {
    let listed = said(Command::new("ssh-add").arg("-L"), &[]).await?;
    let may: Vec<String> = vault.signers().who_may(Namespace::Plan, now).into_iter().map(|signer| signer.fingerprint).collect();
    let keys = String::from_utf8_lossy(&listed).lines().map(str::to_owned).collect::<Vec<_>>();
    let mut keys = keys.into_iter().filter(|line| crate::signature::fingerprint_of(line).is_some_and(|key| may.contains(&key)));
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => {
            Err(usage("several-keys", "the SSH agent has several keys that may sign plans in this vault".to_owned())
                .hint("Name one by its public half: --key FILE.pub."))
        }
        (None, _) => Err(usage("no-key", "the SSH agent has no key that may sign plans in this vault".to_owned()).hint(
            "Add it with `ssh-add FILE`; or name a key file by --key, or a signature that was made elsewhere by --signature.",
        )),
    }
}

/// `ssh-keygen` finds the private half in the agent by the public one, which it reads from a file in memory.
async fn by_agent(public: &str, document: &[u8]) -> Result<Vec<u8>, Failure> {
    let broken = |error: std::io::Error| agent("cannot hand the public key to ssh-keygen").because(error);
    let descriptor = memfd_create(c"tenure-approve", MemfdFlags::CLOEXEC).map_err(|error| broken(error.into()))?;
    let mut file = std::fs::File::from(descriptor);
    file.write_all(public.trim().as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(broken)?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    said(Command::new("ssh-keygen").args(["-Y", "sign", "-n", Namespace::Plan.as_str(), "-f", &path]), document).await
}

/// What one of OpenSSH's programs says, when it succeeds. It inherits the environment: the agent's address is in it.
async fn said(command: &mut Command, input: &[u8]) -> Result<Vec<u8>, Failure> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let cannot = |error: std::io::Error| agent(&format!("cannot run {name}")).because(error);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().map_err(cannot)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ended before it read everything says why.
        stdin.write_all(input).await.ok();
    }
    let output = child.wait_with_output().await.map_err(cannot)?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(agent(&format!("{name} did not sign")).because(std::io::Error::other(why)))
        }
    }
}

fn usage(kind: &'static str, message: String) -> Failure {
    Failure::new(FailureClass::Usage, kind, "--key", message)
}

fn agent(message: &str) -> Failure {
    Failure::new(FailureClass::Failed, "not-signed", "ssh-agent", message).hint(
        "Nothing was written. Is an agent running (SSH_AUTH_SOCK), and does it have the key (`ssh-add -L`)? Otherwise name a key file by --key, or \
         a signature that was made elsewhere by --signature.",
    )
}
