//! When the peer's kernel last acknowledged anything.
//!
//! A client of an event stream cannot answer a heartbeat: what it sends is no part of the protocol.
//! Its kernel does, by acknowledging the bytes. `TCP_USER_TIMEOUT` would close by the same measure,
//! but also a reader whose window is closed (Linux 5.11), which here has `WS_STALL_TIMEOUT`.
//! Behind a proxy this is the proxy's kernel; the proxy has its own way to lose its clients.

use std::{io, mem::MaybeUninit, os::fd::AsRawFd, time::Duration};

use tokio::net::TcpStream;

/// How long ago.
pub(super) fn since_last_ack(socket: &TcpStream) -> io::Result<Duration> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).expect("104 bytes");
    // SAFETY: the kernel writes at most `length` bytes into `info`. Where it knows fewer fields they
    // stay 0, and the struct is of integers only, for which any bytes are values.
    let info = unsafe {
        let at = info.as_mut_ptr().cast();
        let (fd, level, name) = (socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO);
        if libc::getsockopt(fd, level, name, at, &raw mut length) != 0 {
            return Err(io::Error::last_os_error());
        }
        info.assume_init()
    };
    Ok(Duration::from_millis(info.tcpi_last_ack_recv.into()))
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn it_grows_in_silence_and_starts_again_with_what_is_written() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_client, mut socket) = (client.unwrap(), accepted.unwrap().0);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        let wait_for = async |socket: &TcpStream, so: fn(Duration) -> bool| {
            while !so(since_last_ack(socket).unwrap()) {
                assert!(std::time::Instant::now() < deadline);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        wait_for(&socket, |ago| ago > Duration::from_millis(300)).await;
        // Nobody reads it: the kernel acknowledges all the same.
        socket.write_all(b"anything").await.unwrap();
        wait_for(&socket, |ago| ago < Duration::from_millis(200)).await;
    }
}
