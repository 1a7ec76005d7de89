//! Listening sockets, and what to do where one cannot be had.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

/// Connections that the system holds before they are accepted.
const BACKLOG: i32 = 1024;

/// Listens on an address. `[::]` takes IPv4 as well, and is `0.0.0.0` on a machine without IPv6. `flag` is the option that
/// the address came from; messages name it.
///
/// # Errors
/// What the system said, and what can be done about it.
pub(crate) fn tcp(address: SocketAddr, flag: &str) -> Result<tokio::net::TcpListener> {
    let listener = open(address).with_context(|| advice(address, flag))?;
    tokio::net::TcpListener::from_std(listener).with_context(|| format!("listening on {address}"))
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    match open_exactly(address) {
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if address.is_ipv6() && address.ip().is_unspecified() => {
            Ok(open_exactly(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))?)
        }
        other => Ok(other?),
    }
}

fn open_exactly(address: SocketAddr) -> Result<TcpListener, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // A restart must not wait for the last connections' TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // Whatever net.ipv6.bindv6only says, `[::]` means everything.
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

fn advice(address: SocketAddr, flag: &str) -> String {
    let port = address.port();
    let elsewhere = if port < 1024 { 8000 + port } else { port + 1 };
    let mut text = format!("cannot listen on {address}; choose another address, such as {flag} 127.0.0.1:{elsewhere}");
    if port < 1024 {
        text.push_str(&format!(
            ", or allow ports from {port} on (sysctl net.ipv4.ip_unprivileged_port_start={port}, or \
             setcap cap_net_bind_service=+ep on the program)"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_taken_port_says_so_and_names_the_flag() {
        let taken = tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), "--registry-listen").unwrap();
        let error = format!("{:#}", tcp(taken.local_addr().unwrap(), "--registry-listen").unwrap_err());
        assert!(error.contains("--registry-listen 127.0.0.1:"), "{error}");
        assert!(error.contains("in use"), "{error}");
    }

    #[test]
    fn a_low_port_names_every_choice() {
        let text = advice("[::]:443".parse().unwrap(), "--controller-listen");
        for part in ["--controller-listen 127.0.0.1:8443", "ip_unprivileged_port_start=443", "setcap"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[tokio::test]
    async fn the_unspecified_address_takes_ipv4() {
        let listener = tcp("[::]:0".parse().unwrap(), "--registry-listen").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    }
}
