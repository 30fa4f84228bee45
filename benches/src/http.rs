//! A client of HTTP/1.1 as plain as can be, so that what is measured is the server: one connection, one request at a time.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// Longest wait for the next bytes.
const WAIT: Duration = Duration::from_secs(120);
/// Longest line of a head.
const LINE_BYTES: u64 = 16 * 1024;

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    host: String,
}

/// How much of a body is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Bytes(u64),
    /// Bytes of this chunk, and more chunks behind it.
    Chunk(u64),
}

/// An answer whose head has come; its body is what is read. A body that is not read to its end spoils the connection.
#[derive(Debug)]
pub struct Answer<'c> {
    stream: &'c mut BufReader<TcpStream>,
    left: Left,
    /// The status.
    pub status: u16,
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.take(LINE_BYTES).read_line(&mut line)?;
    line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| wrong("a line without an end"))
}

impl Client {
    /// Connects to `http://address:port`.
    ///
    /// # Errors
    /// When nobody answers there.
    pub fn connect(base: &str) -> io::Result<Self> {
        let host = base.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let stream = TcpStream::connect(&host)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(WAIT))?;
        Ok(Self { stream: BufReader::with_capacity(64 * 1024, stream), host })
    }

    /// Asks, and reads the head of the answer.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no HTTP.
    pub fn get(&mut self, path: &str) -> io::Result<Answer<'_>> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.answer()
    }

    /// The same with a form.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn post(&mut self, path: &str, form: &str) -> io::Result<Answer<'_>> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{form}",
            self.host,
            form.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Answer<'_>> {
        let first = line(&mut self.stream)?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut left = Left::Bytes(0);
        loop {
            let line = line(&mut self.stream)?.to_ascii_lowercase();
            match line.split_once(':').map(|(name, value)| (name, value.trim())) {
                Some(("content-length", length)) => {
                    left = Left::Bytes(length.parse().map_err(|_| wrong("a length that is no number"))?);
                }
                Some(("transfer-encoding", "chunked")) => left = Left::Chunk(0),
                Some(_) => {}
                None if line.is_empty() => break,
                None => return Err(wrong("a line that is no header")),
            }
        }
        let mut answer =
            Answer { stream: &mut self.stream, left, status: status.ok_or_else(|| wrong("no status"))? };
        if answer.left == Left::Chunk(0) {
            answer.next_chunk()?;
        }
        Ok(answer)
    }

    /// The whole body of an answer that must be good.
    ///
    /// # Errors
    /// As [`Self::get`], or when the status is another one than 200.
    pub fn whole(&mut self, path: &str) -> io::Result<Vec<u8>> {
        let mut answer = self.get(path)?;
        let mut body = Vec::new();
        answer.read_to_end(&mut body)?;
        if answer.status == 200 {
            Ok(body)
        } else {
            Err(wrong(&format!("{path}: {} {}", answer.status, String::from_utf8_lossy(&body))))
        }
    }
}

impl Answer<'_> {
    fn next_chunk(&mut self) -> io::Result<()> {
        let size =
            u64::from_str_radix(&line(self.stream)?, 16).map_err(|_| wrong("a chunk without a size"))?;
        if size == 0 {
            line(self.stream)?;
            self.left = Left::Bytes(0);
        } else {
            self.left = Left::Chunk(size);
        }
        Ok(())
    }
}

impl Read for Answer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (Left::Bytes(left) | Left::Chunk(left)) = self.left;
        if left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.stream.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let left = left - read as u64;
        match self.left {
            Left::Bytes(_) => self.left = Left::Bytes(left),
            Left::Chunk(_) if left > 0 => self.left = Left::Chunk(left),
            Left::Chunk(_) => {
                line(self.stream)?;
                self.next_chunk()?;
            }
        }
        Ok(read)
    }
}
