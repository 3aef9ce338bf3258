//! The socket beneath a connection.

use super::super::connect_error::ConnectCause;
use super::super::target::Resolved;
use super::{Failure, ResolvedPlace};
use crate::postgres::silence::Traffic;
use rustix::net::sockopt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// TCP or a Unix socket, and what passes over it.
pub(super) struct Transport {
    socket: Socket,
    traffic: Traffic,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Transport {
    pub async fn open(place: &ResolvedPlace, resolved: &Resolved) -> Result<Self, Failure> {
        let unreachable = |error: io::Error| (ConnectCause::Unreachable, Some(error.into()));
        let socket = match place {
            ResolvedPlace::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(unreachable)?;
                if let Some(name) = &resolved.required_peer {
                    check_peer(&stream, name)?;
                }
                Socket::Unix(stream)
            }
            ResolvedPlace::Address(address) => {
                let stream = TcpStream::connect(address).await.map_err(unreachable)?;
                configure(&stream, resolved).map_err(unreachable)?;
                Socket::Tcp(stream)
            }
        };
        Ok(Self { socket, traffic: Traffic::new() })
    }

    /// What passes over it.
    pub fn traffic(&self) -> Traffic {
        self.traffic.clone()
    }

    /// Sends an `SSLRequest` and reads the one byte that answers it. Not a byte more is read, so nothing that came in clear can
    /// pass for something encrypted.
    pub async fn ask_for_tls(&mut self) -> Result<bool, Failure> {
        const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
        let broken = |error: io::Error| (ConnectCause::BrokenOff, Some(error.into()));
        self.write_all(&SSL_REQUEST).await.map_err(broken)?;
        match self.read_u8().await.map_err(broken)? {
            b'S' => Ok(true),
            b'N' => Ok(false),
            _ => Err((ConnectCause::BrokenOff, None)),
        }
    }
}

fn configure(stream: &TcpStream, resolved: &Resolved) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if let Some(keepalives) = &resolved.keepalives {
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, keepalives.idle)?;
        sockopt::set_tcp_keepintvl(stream, keepalives.interval)?;
        sockopt::set_tcp_keepcnt(stream, keepalives.count)?;
    }
    if let Some(timeout) = resolved.user_timeout_ms {
        sockopt::set_tcp_user_timeout(stream, timeout)?;
    }
    Ok(())
}

/// `requirepeer`: the server must run as this user.
fn check_peer(stream: &UnixStream, name: &str) -> Result<(), Failure> {
    let unsatisfied = |what: String| (ConnectCause::Unsatisfied(format!("requirepeer={name}: {what}")), None);
    let peer = stream.peer_cred().map_err(|error| unsatisfied(error.to_string()))?.uid();
    let users = std::fs::read_to_string("/etc/passwd").map_err(|error| unsatisfied(format!("/etc/passwd: {error}")))?;
    let owner = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let user = fields.next()?;
        (fields.nth(1)?.parse() == Ok(peer)).then_some(user)
    });
    match owner {
        Some(owner) if owner == name => Ok(()),
        Some(owner) => Err(unsatisfied(format!("the server runs as {owner}"))),
        None => Err(unsatisfied(format!("the server runs as user {peer}, who is not in /etc/passwd"))),
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = match &mut this.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        this.traffic.read(read.is_ready());
        read
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        this.traffic.wrote(written.is_ready());
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
