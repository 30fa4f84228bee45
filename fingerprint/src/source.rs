//! A part of an open file that stops at a deadline.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::Instant;

use symphonia::core::io::MediaSource;

/// The bytes of a file from `start` to its end, as if they were a file of their own.
///
/// Every read checks the deadline, so that no reader can be kept busy by a hostile file for longer.
#[derive(Debug)]
pub(crate) struct Window {
    file: File,
    start: u64,
    length: u64,
    at: u64,
    deadline: Instant,
}

impl Window {
    pub(crate) fn new(mut file: File, start: u64, end: u64, deadline: Instant) -> io::Result<Self> {
        file.seek(SeekFrom::Start(start))?;
        Ok(Self { file, start, length: end.saturating_sub(start), at: 0, deadline })
    }

    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() > self.deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = usize::try_from(self.length.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let room = buffer.len().min(left);
        let got = self.file.read(&mut buffer[..room])?;
        self.at += got as u64;
        Ok(got)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let target = target.ok_or(io::ErrorKind::InvalidInput)?;
        let absolute = self.start.checked_add(target).ok_or(io::ErrorKind::InvalidInput)?;
        self.file.seek(SeekFrom::Start(absolute))?;
        self.at = target;
        Ok(target)
    }
}

impl MediaSource for Window {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Duration;

    #[test]
    fn is_a_file_of_its_own() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let soon = Instant::now() + Duration::from_secs(60);
        let mut window = Window::new(file, 3, 8, soon).unwrap();
        let mut text = String::new();
        window.read_to_string(&mut text).unwrap();
        assert_eq!(text, "34567");
        assert_eq!(window.seek(SeekFrom::End(-2)).unwrap(), 3);
        text.clear();
        window.read_to_string(&mut text).unwrap();
        assert_eq!(text, "67");
        assert!(window.seek(SeekFrom::Current(-100)).is_err());
        assert_eq!(window.seek(SeekFrom::Start(100)).unwrap(), 100);
        assert_eq!(window.read(&mut [0; 4]).unwrap(), 0);
    }

    #[test]
    fn stops_at_the_deadline() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let past = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let error = Window::new(file, 0, 10, past).unwrap().read(&mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
