//! A client of bytes: it sends what it is told to and reads answers as RFC 9112 frames them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No answer takes longer in these tests.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// `100 Continue` came first.
    pub continued: bool,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// What stands between `<name>` and `</name>`, first occurrence.
    pub fn field(&self, name: &str) -> String {
        let text = self.text();
        let open = format!("<{name}>");
        let Some((_, rest)) = text.split_once(&open) else {
            return String::new();
        };
        rest.split_once(&format!("</{name}>"))
            .map_or(String::new(), |(inner, _)| inner.to_owned())
    }

    #[track_caller]
    pub fn expect(self, status: u16, code: &str) -> Self {
        assert_eq!(
            (self.status, self.field("Code").as_str()),
            (status, code),
            "{}",
            self.text()
        );
        assert!(!self.header("x-amz-request-id").is_empty());
        if !code.is_empty() && !self.body.is_empty() {
            assert_eq!(self.field("RequestId"), self.header("x-amz-request-id"));
        }
        self
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(
            (200..300).contains(&self.status),
            "{} {}",
            self.status,
            self.text()
        );
        assert!(!self.header("x-amz-request-id").is_empty());
        self
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// More bytes from the server; false at the end of the stream.
    async fn more(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut chunk)).await;
        match read.expect("the server is silent") {
            Ok(n) => {
                self.unread.extend_from_slice(&chunk[..n]);
                n > 0
            }
            Err(_) => false,
        }
    }

    /// True when the server has closed and sent nothing more.
    pub async fn closed(&mut self) -> bool {
        self.unread.is_empty() && !self.more().await
    }

    async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.unread, b"\r\n\r\n") {
                let rest = self.unread.split_off(end + 4);
                let head = std::mem::replace(&mut self.unread, rest);
                return Some(String::from_utf8(head).unwrap());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    pub async fn answer(&mut self, method: &str) -> Answer {
        self.try_answer(method)
            .await
            .expect("the connection ended without an answer")
    }

    pub async fn try_answer(&mut self, method: &str) -> Option<Answer> {
        let mut continued = false;
        let mut head = self.head().await?;
        while head.starts_with("HTTP/1.1 100 ") {
            continued = true;
            head = self.head().await?;
        }
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: HashMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length").and_then(|n| n.parse().ok());
        let body = if method == "HEAD" || status == 204 || status == 304 {
            Vec::new()
        } else if headers
            .get("transfer-encoding")
            .is_some_and(|t| t == "chunked")
        {
            self.chunks().await
        } else {
            self.exactly(length.unwrap_or(0)).await
        };
        Some(Answer {
            status,
            headers,
            body,
            continued,
        })
    }

    async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length && self.more().await {}
        let rest = self.unread.split_off(length.min(self.unread.len()));
        std::mem::replace(&mut self.unread, rest)
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                match memchr::memmem::find(&self.unread, b"\r\n") {
                    Some(end) => break self.exactly(end + 2).await,
                    None => assert!(self.more().await, "cut off in a chunk"),
                }
            };
            let size = std::str::from_utf8(&line).unwrap().trim();
            let size = usize::from_str_radix(size, 16).unwrap();
            let chunk = self.exactly(size + 2).await;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return body;
            }
        }
    }
}
