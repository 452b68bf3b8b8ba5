//! What the programs of this workspace write to standard output and standard error.
//!
//! `println!` and its like panic where the stream cannot be written. A reader that has seen enough, such as `head` or a
//! pager that was left, closes its pipe; that ends the output and is no fault. So the programs write through here.

use std::io::{self, ErrorKind, Write};

/// Writes `text` to standard output, to its end. A reader that has gone is no error. Others are, such as a full disk.
pub fn print(text: &str) -> io::Result<()> {
    write(&mut io::stdout().lock(), text)
}

/// Writes `text` to standard error, where it can be written: there is no other place to say that it cannot. Work that is
/// under way goes on without its spectators.
pub fn say(text: &str) {
    let _ = write(&mut io::stderr().lock(), text);
}

fn write(out: &mut impl Write, text: &str) -> io::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_no_error() {
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        assert!(write(&mut writer, "nobody reads this").is_ok());
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(write(&mut full, "nothing keeps this").unwrap_err().kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn everything_arrives() {
        let mut out = Vec::new();
        write(&mut out, "one\ntwo").unwrap();
        assert_eq!(out, b"one\ntwo");
    }
}
