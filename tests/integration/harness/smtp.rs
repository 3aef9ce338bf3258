//! An SMTP server that records what it is sent, and misbehaves as told. TLS by a certificate for `localhost` that is made for it.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tempfile::TempDir;

use super::postgres::run;

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Offers STARTTLS, asks for a login, and takes mail.
    Good,
    /// Offers no STARTTLS.
    Plain,
    /// Refuses every login.
    NoLogin,
    /// Says that it is busy (451) after the mail.
    Busy,
    /// Never says a word.
    Silent,
}

/// What came in one connection.
#[derive(Debug, Clone, Default)]
pub struct Mail {
    /// What was said, line by line, without the mail itself.
    pub commands: Vec<String>,
    /// The mail, with its head.
    pub text: String,
    /// Whether TLS was on when it came.
    pub encrypted: bool,
}

/// The server, for as long as the process lives.
pub struct Smtp {
    pub port: u16,
    /// The certificate, which is its own root.
    pub certificate: PathBuf,
    mails: Arc<Mutex<Vec<Mail>>>,
    folder: TempDir,
}

impl Smtp {
    pub fn start(manner: Manner) -> Self {
        let folder = tempfile::Builder::new().prefix("tenure-smtp-").tempdir().unwrap();
        let tls = tls(folder.path());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mails = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&mails);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (tls, seen) = (Arc::clone(&tls), Arc::clone(&seen));
                std::thread::spawn(move || {
                    let mut mail = Mail::default();
                    // Who hangs up ends it.
                    serve(socket.unwrap(), &tls, manner, &mut mail).ok();
                    seen.lock().unwrap().push(mail);
                });
            }
        });
        Self { port, certificate: folder.path().join("server.crt"), mails, folder }
    }

    /// What came so far, a connection each.
    pub fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap().clone()
    }

    /// A file beside the certificate.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn tls(folder: &Path) -> Arc<ServerConfig> {
    run(Command::new("openssl").current_dir(folder).args(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout server.key -out server.crt -days 2 -subj /CN=localhost \
         -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE"
            .split_whitespace(),
    ));
    let certificate = CertificateDer::from_pem_file(folder.join("server.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
}

fn serve(socket: TcpStream, tls: &Arc<ServerConfig>, manner: Manner, mail: &mut Mail) -> std::io::Result<()> {
    if manner == Manner::Silent {
        let mut socket = socket;
        // Until the other side hangs up.
        return socket.read_to_end(&mut Vec::new()).map(drop);
    }
    let mut socket = socket;
    socket.write_all(b"220 recorder\r\n")?;
    if talk(&mut BufReader::new(&socket), &socket, manner, mail)? {
        let connection = ServerConnection::new(Arc::clone(tls)).map_err(std::io::Error::other)?;
        mail.encrypted = true;
        let mut stream = BufReader::new(Both(StreamOwned::new(connection, socket)));
        talk_on_one(&mut stream, manner, mail)?;
    }
    Ok(())
}

/// One stream that is read through a buffer and written to.
struct Both(StreamOwned<ServerConnection, TcpStream>);

impl Read for Both {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(bytes)
    }
}

fn talk_on_one(stream: &mut BufReader<Both>, manner: Manner, mail: &mut Mail) -> std::io::Result<bool> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let answer = answer(line.trim_end(), manner, mail, true);
        stream.get_mut().0.write_all(answer.as_bytes())?;
        stream.get_mut().0.flush()?;
        if answer.starts_with("354") {
            read_mail(stream, mail)?;
            stream.get_mut().0.write_all(end(manner).as_bytes())?;
            stream.get_mut().0.flush()?;
        }
    }
}

/// Until the end, or until TLS is to begin.
fn talk(input: &mut impl std::io::BufRead, mut output: &TcpStream, manner: Manner, mail: &mut Mail) -> std::io::Result<bool> {
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let line = line.trim_end();
        if line.eq_ignore_ascii_case("STARTTLS") && manner != Manner::Plain {
            output.write_all(b"220 go ahead\r\n")?;
            return Ok(true);
        }
        let answer = answer(line, manner, mail, false);
        output.write_all(answer.as_bytes())?;
        if answer.starts_with("354") {
            read_mail(input, mail)?;
            output.write_all(end(manner).as_bytes())?;
        }
    }
}

fn read_mail(input: &mut impl std::io::BufRead, mail: &mut Mail) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 || line == ".\r\n" {
            return Ok(());
        }
        mail.text.push_str(&line);
    }
}

fn end(manner: Manner) -> &'static str {
    if manner == Manner::Busy { "451 try later\r\n" } else { "250 taken\r\n" }
}

fn answer(line: &str, manner: Manner, mail: &mut Mail, is_encrypted: bool) -> String {
    mail.commands.push(line.to_owned());
    let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
    match (verb.as_str(), manner) {
        ("EHLO", Manner::Plain) => "250 recorder\r\n".to_owned(),
        ("EHLO", _) if is_encrypted => "250-recorder\r\n250 AUTH PLAIN LOGIN\r\n".to_owned(),
        ("EHLO", _) => "250-recorder\r\n250 STARTTLS\r\n".to_owned(),
        ("AUTH", Manner::NoLogin) => "535 5.7.8 who are you\r\n".to_owned(),
        ("AUTH", _) => "235 welcome\r\n".to_owned(),
        ("DATA", _) => "354 go on\r\n".to_owned(),
        ("QUIT", _) => "221 bye\r\n".to_owned(),
        _ => "250 fine\r\n".to_owned(),
    }
}
