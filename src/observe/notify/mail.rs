//! E-mail.

use std::{error::Error, path::Path, time::Duration};

use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
    },
};

use zeroize::Zeroizing;

use super::{
    channels::SendError,
    message::Message,
    secret::{self, refused},
};
use crate::{
    config::notify::{Email, MailTls, SecretAt},
    operation::failure::Failure,
    printable::Printable,
};

/// For one answer of the server.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A server that takes mail, and whom it is for.
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    password: Zeroizing<String>,
    /// Server and port.
    pub shown: String,
}

impl Mailer {
    /// Reads the password; asks nobody.
    ///
    /// # Errors
    /// What is configured cannot be read or used.
    pub(super) fn open(email: &Email, folder: &Path) -> Result<Self, Failure> {
        let port = email.port();
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&email.server)
            .port(port)
            .tls(tls(email, folder)?)
            .timeout(Some(ANSWER_WITHIN));
        let secret = SecretAt::of(email.password_file.as_ref(), email.password_env.as_ref());
        let mut password = Zeroizing::default();
        if let (Some(user), Some(at)) = (&email.user, secret) {
            password = secret::read(at, "notify.email.password", folder)?;
            builder = builder.credentials(Credentials::new(user.clone(), password.to_string()));
        }
        let address = |text: &String| {
            text.parse::<Mailbox>().map_err(|error| refused("notify.email", format!("{text:?} is no address")).because(error))
        };
        Ok(Self {
            transport: builder.build(),
            from: address(&email.from)?,
            password,
            to: email.to.iter().map(address).collect::<Result<_, _>>()?,
            shown: format!("{}:{port}", email.server),
        })
    }

    /// The password.
    pub(super) fn secret(&self) -> &[u8] {
        self.password.as_bytes()
    }

    /// Sends it to all recipients as one mail.
    ///
    /// # Errors
    /// The server does not take it.
    pub(super) async fn send(&self, message: &Message) -> Result<(), SendError> {
        let mut mail = lettre::Message::builder().from(self.from.clone()).subject(message.subject());
        // Marked as from a program, so that nobody's absence is answered to it.
        mail = mail.header(AutoSubmitted);
        for to in &self.to {
            mail = mail.to(to.clone());
        }
        let mail = mail.header(ContentType::TEXT_PLAIN).body(message.text());
        let mail = mail.map_err(|error| SendError::lasting(format!("the mail cannot be written: {error}")))?;
        match self.transport.send(mail).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let said = format!("{} does not take the mail: {}", self.shown, causes(&error));
                Err(if error.is_permanent() { SendError::lasting(said) } else { SendError::passing(said) })
            }
        }
    }
}

fn tls(email: &Email, folder: &Path) -> Result<Tls, Failure> {
    if email.tls == MailTls::None {
        return Ok(Tls::None);
    }
    let cannot = |error: lettre::transport::smtp::Error| {
        refused("notify.email", format!("TLS to {} cannot be set up", email.server))
            .hint("`server` is a host name as in its certificate; `ca_file` names certificates in PEM")
            .because(error)
    };
    let mut parameters = TlsParameters::builder(email.server.clone());
    if let Some(path) = &email.ca_file {
        let path = folder.join(path);
        let pem = std::fs::read(&path)
            .map_err(|error| refused("notify.email.ca_file", format!("cannot read {}", path.display())).because(error))?;
        let certificates = Certificate::from_pem(&pem).map_err(cannot)?;
        parameters = parameters.certificate_store(CertificateStore::None).add_root_certificate(certificates);
    }
    let parameters = parameters.build_rustls().map_err(cannot)?;
    Ok(if email.tls == MailTls::Implicit { Tls::Wrapper(parameters) } else { Tls::Required(parameters) })
}

/// The causes in one line. What a server says is its own.
fn causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| <dyn Error>::source(*error)).map(ToString::to_string);
    Printable(&causes.collect::<Vec<_>>().join(": ")).to_string()
}

/// `Auto-Submitted: auto-generated` (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl lettre::message::header::Header for AutoSubmitted {
    fn name() -> lettre::message::header::HeaderName {
        lettre::message::header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> lettre::message::header::HeaderValue {
        lettre::message::header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
