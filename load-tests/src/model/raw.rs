//! A client as small as can be: one request a connection, the bytes as they come. It hides nothing that a server does.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The head, as it came, without the status line.
    pub head: String,
    /// What followed it; of a chunked body without the chunks' frames.
    pub body: String,
    /// Whether the body was as long as the head promised.
    pub complete: bool,
}

impl Response {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Sends one request and reads until the server closes the connection. `headers` are whole lines.
///
/// # Errors
/// There is no connection, or what came is no HTTP.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
) -> io::Result<Response> {
    let mut stream = TcpStream::connect(address).await?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: stub\r\nconnection: close\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all((head + body).as_bytes()).await?;
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes).await
        && bytes.is_empty()
    {
        return Err(error);
    }
    parse(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| io::Error::other("the stub answered something that is no HTTP"))
}

fn parse(text: &str) -> Option<Response> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let (line, head) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut response = Response { status, head: head.to_owned(), body: body.to_owned(), complete: true };
    if response.header("transfer-encoding").is_some() {
        (response.body, response.complete) = unchunk(body);
    } else if let Some(length) = response.header("content-length").and_then(|length| length.parse::<usize>().ok()) {
        response.complete = body.len() == length;
    }
    Some(response)
}

fn unchunk(mut rest: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        if size == 0 {
            return (body, true);
        }
        let Some(chunk) = after.get(..size) else { break };
        body.push_str(chunk);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}
