//! Lines of the log, gathered for a moment and written together by a thread of their own: a write for each line of the access
//! log cost as much as the answer. Warnings and errors are written at once, with whatever came before them.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for others.
const GATHER: Duration = Duration::from_millis(10);
/// Bytes that wait to be written; whoever has more to say waits too.
const MOST: usize = 4 << 20;

type Sink = Box<dyn Write + Send>;

#[derive(Default)]
struct Buffer {
    lines: Vec<u8>,
    ended: bool,
}

struct Shared {
    buffer: Mutex<Buffer>,
    /// There is something to write, or the end.
    filled: Condvar,
    /// There is room again.
    emptied: Condvar,
    /// Held while lines are taken out and written, so that they stay in order.
    sink: Mutex<Sink>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn write_out(&self) {
        let mut sink = lock(&self.sink);
        let lines = std::mem::take(&mut lock(&self.buffer).lines);
        self.emptied.notify_all();
        // Whom should a log that cannot be written be reported to?
        let _ = sink.write_all(&lines).and_then(|()| sink.flush());
    }

    fn add(&self, line: &[u8], at_once: bool) {
        let mut buffer = lock(&self.buffer);
        while buffer.lines.len() >= MOST {
            buffer = self.emptied.wait(buffer).unwrap_or_else(PoisonError::into_inner);
        }
        let first = buffer.lines.is_empty();
        buffer.lines.extend_from_slice(line);
        let ended = buffer.ended;
        drop(buffer);
        if at_once || ended {
            self.write_out();
        } else if first {
            self.filled.notify_one();
        }
    }

    /// Writes until the end is said.
    fn run(&self) {
        loop {
            let mut buffer = lock(&self.buffer);
            while buffer.lines.is_empty() && !buffer.ended {
                buffer = self.filled.wait(buffer).unwrap_or_else(PoisonError::into_inner);
            }
            if !buffer.ended {
                let enough = |buffer: &mut Buffer| buffer.lines.len() < MOST / 2 && !buffer.ended;
                let waited = self.filled.wait_timeout_while(buffer, GATHER, enough);
                buffer = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            let ended = buffer.ended;
            drop(buffer);
            self.write_out();
            if ended {
                return;
            }
        }
    }
}

/// Where lines go; cheap to clone.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

/// Writes what is left when it is dropped; lines that come later are written one by one.
pub(crate) struct Guard {
    lines: Lines,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    /// Lines that are written to `sink`.
    ///
    /// # Errors
    /// Where the system has no thread left.
    pub(super) fn to(sink: impl Write + Send + 'static) -> io::Result<(Self, Guard)> {
        let shared = Arc::new(Shared {
            buffer: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            sink: Mutex::new(Box::new(sink)),
        });
        let lines = Self(Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("logs".into()).spawn(move || shared.run())?;
        Ok((lines.clone(), Guard { lines, thread: Some(thread) }))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        lock(&self.lines.0.buffer).ended = true;
        self.lines.0.filled.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The writer of one line.
pub(super) struct Line<'a> {
    lines: &'a Lines,
    at_once: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.0.add(line, self.at_once);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, at_once: false }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        Line { lines: self, at_once: *meta.level() <= Level::WARN }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(lock(&self.0).clone()).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn say(lines: &Lines, text: &str, at_once: bool) {
        Line { lines, at_once }.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn lines_are_written_in_order_soon_and_before_the_end() {
        let written = Written::default();
        let (lines, guard) = Lines::to(written.clone()).unwrap();
        say(&lines, "one\n", false);
        let begun = Instant::now();
        while written.text().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
        say(&lines, "two\n", false);
        say(&lines, "warning\n", true);
        assert_eq!(written.text(), "one\ntwo\nwarning\n");
        say(&lines, "three\n", false);
        drop(guard);
        assert_eq!(written.text(), "one\ntwo\nwarning\nthree\n");
        say(&lines, "late\n", false);
        assert_eq!(written.text(), "one\ntwo\nwarning\nthree\nlate\n");
    }

    #[test]
    fn nothing_is_lost_where_many_say_more_than_there_is_room_for() {
        let written = Written::default();
        let (lines, guard) = Lines::to(written.clone()).unwrap();
        let long = format!("{}\n", "x".repeat(MOST / 8));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..8).for_each(|_| say(&lines, &long, false)));
            }
        });
        drop(guard);
        assert_eq!(written.text(), long.repeat(32));
    }
}
