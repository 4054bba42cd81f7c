//! What commands print.
//!
//! Decides what becomes of a line whose reader went away (`snapgate restore-points prod | head`): it is dropped, and the
//! command ends as it would have, with the exit code of what it did. `println!` panics there.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// `println!`, but for a reader that goes away.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::say::line(&mut std::io::stdout().lock(), format_args!($($text)*)) };
}

pub fn line(out: &mut impl Write, text: Arguments<'_>) {
    match writeln!(out, "{text}") {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
        Err(e) => eprintln!("snapgate: an answer cannot be printed: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_goes_away_ends_no_command() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        line(&mut writer, format_args!("{} snapshots", 3));
        let mut reader = std::io::BufReader::new(reader);
        let mut read = String::new();
        std::io::BufRead::read_line(&mut reader, &mut read).unwrap();
        assert_eq!(read, "3 snapshots\n");
        drop(reader);
        line(&mut writer, format_args!("nobody reads this"));
    }
}
