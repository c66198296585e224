//! Load balancers in front of the public listener: how they say whom a connection or a request is from.

use crate::connections::Connection;
use hyper::HeaderMap;
use hyper::header::HeaderValue;
use instance_connect_core::proxies::{PROXY_HEAD, ProxyHead, TrustedProxies};
use std::io;
use std::net::IpAddr;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Those that are trusted, and how they speak. By default there are none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    pub(crate) trusted: TrustedProxies,
    /// Whether they begin each connection with a header of the PROXY protocol.
    pub(crate) proxy_protocol: bool,
}

impl Proxies {
    /// Reads the PROXY header of a trusted proxy's connection; nothing of anybody else's. The connection counts as the
    /// client's from then on.
    ///
    /// # Errors
    /// There is no such header, the connection ends, or the client has no place for another one.
    pub(crate) async fn read_header(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        connection: &mut Connection,
    ) -> io::Result<()> {
        if !self.proxy_protocol || !self.trusted.contain(connection.peer()) {
            return Ok(());
        }
        let mut head = [0; PROXY_HEAD];
        stream.read_exact(&mut head).await?;
        let head = ProxyHead::read(&head).map_err(io::Error::other)?;
        let mut rest = vec![0; head.length];
        stream.read_exact(&mut rest).await?;
        match head.client(&rest).map_err(io::Error::other)? {
            Some(client) => connection.is_from(client).map_err(io::Error::other),
            None => Ok(()),
        }
    }

    /// The address that a request is from, over a connection from `peer`.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let forwarded: Vec<&[u8]> =
            headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes).collect();
        self.trusted.client(peer, &forwarded)
    }
}
