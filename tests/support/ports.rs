//! Loopback addresses that nobody else takes.
//!
//! A free port is found by binding port 0. The usual trick of closing that socket and handing the number
//! on is a race that several test runs at once do lose. So the socket stays bound (it never listens), with
//! `SO_REUSEPORT`: the process that is meant to have the port binds it beside us, with the same option.
//! While nobody listens, connections are refused, and that is how a dead server keeps its address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// A loopback address that is ours until this is dropped.
pub struct Port {
    addr: SocketAddr,
    _held: Socket,
}

impl Port {
    /// Any free port.
    pub fn free() -> Port {
        Port::free_on(Ipv4Addr::LOCALHOST).expect("a free port on the loopback interface")
    }

    /// Any free port of this address.
    pub fn free_on(ip: impl Into<IpAddr>) -> io::Result<Port> {
        Port::at(SocketAddr::new(ip.into(), 0))
    }

    /// This very port if nobody uses it, otherwise any.
    pub fn prefer(port: u16) -> Port {
        // Without SO_REUSEPORT, so that somebody else's socket of that kind counts as taken.
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let unused = TcpListener::bind(addr).is_ok();
        match Port::at(addr) {
            Ok(held) if unused => held,
            _ => Port::free(),
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// This address, beside another process that may hold it for us.
    pub fn at(addr: SocketAddr) -> io::Result<Port> {
        let held = bind(addr)?;
        let addr = held.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Port { addr, _held: held })
    }
}

/// Listens on an address that a [`Port`] holds, here or in another process.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind(addr)?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn bind(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}
