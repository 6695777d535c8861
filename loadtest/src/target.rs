//! Where the server is, and sockets towards it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections from one source address: below the 28,000 ephemeral ports of an address pair.
pub(crate) const CONNECTIONS_PER_ADDRESS: u32 = 25_000;

/// An HTTP origin.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Host and port, as the Host header wants them.
    pub(crate) authority: String,
    /// Where it is.
    pub(crate) address: SocketAddr,
}

impl Target {
    /// Resolves `http://host[:port]`. Somebody else's machine is refused unless asked for: this
    /// program is made to overload what it talks to.
    pub(crate) fn parse(url: &str, allow_remote: bool) -> Result<Self> {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("{url}: only http:// is supported; put the load behind any TLS terminator");
        };
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains(['/', '?', '#', '@']) {
            bail!("{url}: give http://host:port and nothing else");
        }
        let has_port =
            authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let with_port = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let address = with_port
            .to_socket_addrs()
            .with_context(|| format!("{url}: cannot resolve the host"))?
            .min_by_key(SocketAddr::is_ipv6)
            .with_context(|| format!("{url}: the host has no address"))?;
        if !address.ip().is_loopback() && !allow_remote {
            bail!("{url} is not this machine; pass --allow-remote if you may load it and mean to");
        }
        Ok(Self { authority: authority.to_owned(), address })
    }

    /// Begins to connect. `number` picks the source address where one would run out of ports.
    pub(crate) fn connect(
        &self,
        number: u32,
        receive_buffer: Option<usize>,
    ) -> io::Result<TcpStream> {
        let socket =
            Socket::new(Domain::for_address(self.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(source) = self.source(number) {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&self.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(TcpStream::from_std(socket.into()))
    }

    fn source(&self, number: u32) -> Option<IpAddr> {
        let block = number / CONNECTIONS_PER_ADDRESS;
        if block == 0 || !matches!(self.address.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
            return None;
        }
        let last = u8::try_from(1 + block).unwrap_or(u8::MAX);
        Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)))
    }
}

/// The nodes of a cluster, or one server.
#[derive(Clone, Debug)]
pub(crate) struct Targets(Vec<Target>);

impl Targets {
    /// As [`Target::parse`], each of them.
    pub(crate) fn parse(urls: &[String], allow_remote: bool) -> Result<Self> {
        if urls.is_empty() {
            bail!("give --url");
        }
        urls.iter().map(|url| Target::parse(url, allow_remote)).collect::<Result<_>>().map(Self)
    }

    /// Where somebody goes: round the nodes by their number, and on to the next with each try.
    pub(crate) fn pick(&self, number: usize, tries: u32) -> &Target {
        &self.0[number.wrapping_add(tries as usize) % self.0.len()]
    }

    /// The first.
    pub(crate) fn first(&self) -> &Target {
        &self.0[0]
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Target> {
        self.0.iter()
    }
}

/// Makes the close of this socket a reset, as a pulled cable or a dead phone would look.
pub(crate) fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_unless_asked() {
        assert!(Target::parse("http://127.0.0.1:8080", false).is_ok());
        assert!(Target::parse("http://127.0.0.1:8080/", false).is_ok());
        assert!(Target::parse("http://192.0.2.1:8080", false).is_err());
        assert!(Target::parse("http://192.0.2.1:8080", true).is_ok());
        assert!(Target::parse("https://127.0.0.1:8080", true).is_err());
        assert!(Target::parse("http://127.0.0.1:8080/ws", true).is_err());
    }

    #[test]
    fn everybody_goes_round_the_nodes() {
        let urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(str::to_owned);
        let targets = Targets::parse(&urls, false).unwrap();
        let port = |number, tries| targets.pick(number, tries).address.port();
        assert_eq!([port(0, 0), port(1, 0), port(2, 0), port(0, 1), port(1, 1)], [1, 2, 1, 2, 1]);
        assert!(Targets::parse(&[], false).is_err());
    }

    #[test]
    fn many_sockets_come_from_several_addresses() {
        let target = Target::parse("http://127.0.0.1:8080", false).unwrap();
        assert_eq!(target.source(24_999), None);
        assert_eq!(target.source(25_000), Some("127.0.0.2".parse().unwrap()));
        assert_eq!(target.source(50_000), Some("127.0.0.3".parse().unwrap()));
    }
}
