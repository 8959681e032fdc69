//! A service behind the gateway: it keeps every request as it came, byte for byte, and
//! does what the last segment of the path says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) line: String,
    /// The head's lines after the first, in order.
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
    /// How long the body was, also where it is not kept.
    pub(crate) body_bytes: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.headers.iter().find_map(|line| line.strip_prefix(&*prefix))
    }
}

#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    /// Bytes of `big` answers that were handed to the kernel.
    pub(crate) written: Arc<AtomicUsize>,
}

impl Origin {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let origin = Self {
            address,
            seen: Arc::default(),
            connections: Arc::default(),
            written: Arc::default(),
        };
        let serving = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::Relaxed);
                let origin = serving.clone();
                // A client that breaks off is what some tests are about.
                tokio::spawn(async move { origin.serve(stream).await.ok() });
            }
        });
        origin
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().len()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = Vec::new();
        while let Some(mut seen) = read_head(&mut stream, &mut buffer).await? {
            let action = seen.line.split(' ').nth(1).unwrap_or_default().to_owned();
            let action = action.split('?').next().unwrap_or_default();
            let (action, number) =
                match action.rsplit('/').next().unwrap_or_default().split_once('-') {
                    Some((action, number)) => (action, number.parse().unwrap_or(0)),
                    None => (action.rsplit('/').next().unwrap_or_default(), 0),
                };
            if action == "stuck" {
                std::future::pending::<()>().await;
            }
            if action == "early" {
                let head = format!("HTTP/1.1 403 Early\r\ncontent-length: {number}\r\n\r\n");
                let answer = [head.into_bytes(), vec![b'x'; number as usize]].concat();
                let (mut reading, mut writing) = stream.split();
                let read = read_body(&mut reading, &mut buffer, &mut seen, false);
                let (read, written) = tokio::join!(read, writing.write_all(&answer));
                self.seen.lock().push(seen);
                read.and(written)?;
                continue;
            }
            let whole = read_body(&mut stream, &mut buffer, &mut seen, action != "sink").await;
            let is_head = seen.line.starts_with("HEAD ");
            let (body, body_bytes) = (seen.body.clone(), seen.body_bytes);
            self.seen.lock().push(seen);
            whole?;
            match action {
                "slow" => tokio::time::sleep(Duration::from_millis(number)).await,
                "closed" => return Ok(()),
                "broken" => {
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789")
                        .await?;
                    return stream.flush().await;
                }
                "unchunked" => {
                    let head =
                        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n";
                    return stream.write_all(head.as_bytes()).await;
                }
                "ambiguous" => {
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: \
                                  chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
                    stream.write_all(answer.as_bytes()).await?;
                    continue;
                }
                "old" => {
                    let answer = "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello";
                    return stream.write_all(answer.as_bytes()).await;
                }
                _ => {}
            }
            if action == "big" {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {number}\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
                let (part, mut left) = (vec![b'x'; 64 * 1024], number as usize);
                while left > 0 {
                    let next = left.min(part.len());
                    stream.write_all(&part[..next]).await?;
                    left -= next;
                    self.written.fetch_add(next, Ordering::Relaxed);
                }
                continue;
            }
            let status = if action == "status" { number } else { 200 };
            let body = match action {
                "echo" => body,
                "sink" => body_bytes.to_string().into_bytes(),
                _ => b"hello".to_vec(),
            };
            let hop = "connection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=9\r\n";
            let head = format!(
                "HTTP/1.1 {status} Fine\r\n{hop}x-origin: yes\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await?;
            if !is_head {
                stream.write_all(&body).await?;
            }
            if action == "last" {
                return Ok(());
            }
        }
        Ok(())
    }
}

async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> std::io::Result<bool> {
    Ok(stream.read_buf(buffer).await? > 0)
}

async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Seen>> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if !fill(stream, buffer).await? {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n").map(str::to_owned);
    let line = lines.next().unwrap_or_default();
    Ok(Some(Seen { line, headers: lines.collect(), ..Seen::default() }))
}

async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    seen: &mut Seen,
    is_kept: bool,
) -> std::io::Result<()> {
    let broken = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let is_chunked = seen.header("transfer-encoding").is_some();
    loop {
        let mut left = match seen.header("content-length") {
            _ if is_chunked => {
                let end = loop {
                    if let Some(end) = buffer.windows(2).position(|two| two == b"\r\n") {
                        break end;
                    }
                    if !fill(stream, buffer).await? {
                        return Err(broken());
                    }
                };
                let line: Vec<u8> = buffer.drain(..end + 2).collect();
                let line = String::from_utf8_lossy(&line[..end]).into_owned();
                usize::from_str_radix(&line, 16).map_err(|_| broken())?
            }
            Some(length) => length.parse().map_err(|_| broken())?,
            None => return Ok(()),
        };
        let is_last = !is_chunked || left == 0;
        while left > 0 {
            if buffer.is_empty() && !fill(stream, buffer).await? {
                return Err(broken());
            }
            let taken = buffer.len().min(left);
            let part = buffer.drain(..taken);
            if is_kept {
                seen.body.extend(part);
            } else {
                drop(part);
            }
            seen.body_bytes += taken;
            left -= taken;
        }
        while is_chunked && buffer.len() < 2 {
            if !fill(stream, buffer).await? {
                return Err(broken());
            }
        }
        if is_chunked {
            buffer.drain(..2);
        }
        if is_last {
            return Ok(());
        }
    }
}
