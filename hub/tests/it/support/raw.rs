//! HTTP and WebSocket by hand, for what no library would send.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What came back before the connection ended, or the deadline.
pub(crate) struct RawAnswer {
    pub(crate) bytes: Vec<u8>,
    /// Whether the server closed the connection.
    pub(crate) closed: bool,
}

impl RawAnswer {
    /// The status of the first answer; none where nothing came.
    pub(crate) fn status(&self) -> Option<u16> {
        let text = self.text();
        text.strip_prefix("HTTP/1.1 ").or(text.strip_prefix("HTTP/1.0 "))?.get(..3)?.parse().ok()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Sends bytes and reads until the server closes, or answers and then says nothing for a moment, or
/// the deadline.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8], deadline: Duration) -> RawAnswer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that refuses early resets what is still being sent.
    let _ = stream.write_all(bytes).await;
    drain(&mut stream, deadline).await
}

/// Reads until the server closes, or has answered and is quiet, or the deadline.
pub(crate) async fn drain(stream: &mut TcpStream, deadline: Duration) -> RawAnswer {
    read(stream, deadline, Duration::from_millis(500)).await
}

/// Reads until the server closes, or the deadline.
pub(crate) async fn read_to_end(stream: &mut TcpStream, deadline: Duration) -> RawAnswer {
    read(stream, deadline, deadline).await
}

async fn read(stream: &mut TcpStream, deadline: Duration, quiet: Duration) -> RawAnswer {
    let mut bytes = vec![];
    let start = tokio::time::Instant::now();
    loop {
        let patience = if bytes.is_empty() { deadline } else { quiet };
        let mut chunk = vec![0; 16 << 10];
        match tokio::time::timeout(patience, stream.read(&mut chunk)).await {
            Ok(Ok(0) | Err(_)) => return RawAnswer { bytes, closed: true },
            Ok(Ok(read)) => bytes.extend_from_slice(&chunk[..read]),
            Err(_) => return RawAnswer { bytes, closed: false },
        }
        if start.elapsed() > deadline {
            return RawAnswer { bytes, closed: false };
        }
    }
}

/// Feeds one byte at a time until the server closes; how long it took and what it said.
pub(crate) async fn trickle(
    address: SocketAddr,
    head: &[u8],
    deadline: Duration,
) -> (Duration, RawAnswer) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head).await.unwrap();
    let start = tokio::time::Instant::now();
    let mut bytes = vec![];
    while start.elapsed() < deadline {
        let mut chunk = [0; 4096];
        match tokio::time::timeout(Duration::from_millis(100), stream.read(&mut chunk)).await {
            Ok(Ok(0) | Err(_)) => return (start.elapsed(), RawAnswer { bytes, closed: true }),
            Ok(Ok(read)) => bytes.extend_from_slice(&chunk[..read]),
            Err(_) => {
                let _ = stream.write_all(b"x").await;
            }
        }
    }
    (start.elapsed(), RawAnswer { bytes, closed: false })
}

/// A client's WebSocket frame, built by hand: what no library lets through.
pub(crate) fn frame(first_byte: u8, masked: bool, claimed: Option<u64>, payload: &[u8]) -> Vec<u8> {
    let length = claimed.unwrap_or(payload.len() as u64);
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first_byte];
    match length {
        0..=125 => bytes.push(mask_bit | u8::try_from(length).unwrap()),
        126..=0xffff => {
            bytes.push(mask_bit | 126);
            bytes.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            bytes.push(mask_bit | 127);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    if masked {
        bytes.extend_from_slice(&[0; 4]);
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// The close code in a server's bytes: the last frame, if it is a close frame.
pub(crate) fn close_code(bytes: &[u8]) -> Option<u16> {
    let mut rest = bytes;
    while let [first, length, ..] = *rest {
        let (header, length) = match length {
            126 => (4, usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]))),
            127 => return None,
            short => (2, usize::from(short)),
        };
        let payload = rest.get(header..header + length)?;
        if first & 0x0f == 8 {
            return Some(u16::from_be_bytes([*payload.first()?, *payload.get(1)?]));
        }
        rest = &rest[header + length..];
    }
    None
}
