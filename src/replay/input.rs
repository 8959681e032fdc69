use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use super::Line;

/// The longest line, in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// The most lines of a batch.
const BATCH_LINES_MAX: usize = 10_000;
/// Of how many lines at the beginning one has to be of an access log.
const FIRST_LINES: u64 = 100;
/// How many batches are read ahead.
const AHEAD: usize = 2;

/// How many lines of a file are done, on the terminal if there is one.
#[derive(Debug, Clone)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// Nothing is shown where nobody looks.
    pub(crate) fn new() -> Self {
        let style = "{bar:32} {percent:>3}%  {msg}  {elapsed} gone, {eta} to go";
        let style = ProgressStyle::with_template(style).expect("the template is one");
        Self(ProgressBar::new(0).with_style(style))
    }

    /// Shows nothing at all.
    pub(crate) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// So many lines more are answered, or cannot be read.
    pub(super) fn done(&self, lines: u64) {
        self.0.inc(lines);
    }

    pub(crate) fn say(&self, what: String) {
        self.0.set_message(what);
    }

    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// An access log that can be read.
pub(crate) struct Source {
    lines: Box<dyn BufRead + Send>,
}

/// A file in which no line is one of an access log.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoLog(String);

/// What was read of a file.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) minute: i64,
    /// With their numbers.
    pub(super) lines: Vec<(u64, Line)>,
    /// The numbers of lines that cannot be read, and why.
    pub(super) unread: Vec<(u64, &'static str)>,
}

impl Source {
    /// Opens a file, which may be compressed by gzip or Zstandard.
    pub(crate) fn open(path: &Path, bar: &Bar) -> Result<Self> {
        let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let metadata = file.metadata().with_context(|| format!("look at {}", path.display()))?;
        if !metadata.is_file() {
            bail!("{} is no file; name an access log", path.display());
        }
        let mut magic = [0; 4];
        let known = read_up_to(&mut file, &mut magic)
            .and_then(|read| file.seek(SeekFrom::Start(0)).map(|_| read))
            .with_context(|| format!("read {}", path.display()))?;
        let counted = file.try_clone().context("read it twice")?;
        let counted = Self::of(counted, &magic[..known])?.count();
        bar.0.set_length(counted.with_context(|| format!("read {}", path.display()))?);
        file.seek(SeekFrom::Start(0)).with_context(|| format!("read {}", path.display()))?;
        Self::of(file, &magic[..known])
    }

    /// What the program carries, compressed by Zstandard.
    pub(crate) fn carried(bytes: &'static [u8], bar: &Bar) -> Result<Self> {
        bar.0.set_length(Self::of(Cursor::new(bytes), &bytes[..4])?.count()?);
        Self::of(Cursor::new(bytes), &bytes[..4])
    }

    /// How many lines there are that are not empty: read through once before, which takes
    /// a fraction of the time that sending does.
    fn count(mut self) -> std::io::Result<u64> {
        let (mut lines, mut is_empty) = (0, true);
        loop {
            let some = self.lines.fill_buf()?;
            if some.is_empty() {
                return Ok(lines + u64::from(!is_empty));
            }
            for byte in some {
                match byte {
                    b'\n' => {
                        lines += u64::from(!is_empty);
                        is_empty = true;
                    }
                    b'\r' => {}
                    _ => is_empty = false,
                }
            }
            let read = some.len();
            self.lines.consume(read);
        }
    }

    fn of(input: impl Read + Send + 'static, magic: &[u8]) -> Result<Self> {
        let lines: Box<dyn BufRead + Send> = match magic {
            [0x1f, 0x8b, ..] => Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(input))),
            [0x28, 0xb5, 0x2f, 0xfd] => {
                let input = zstd::Decoder::new(input).context("begin to decompress")?;
                Box::new(BufReader::new(input))
            }
            _ => Box::new(BufReader::new(input)),
        };
        Ok(Self { lines })
    }

    /// Reads it on a thread of its own, and hands on what was read: batches, each of one
    /// minute, and at the end how it ended.
    pub(super) fn batches(self) -> mpsc::Receiver<Result<Batch>> {
        let (into, batches) = mpsc::channel(AHEAD);
        std::thread::spawn(move || {
            if let Err(error) = read(self.lines, &into) {
                let _ = into.blocking_send(Err(error));
            }
        });
        batches
    }
}

fn read_up_to(file: &mut File, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read(&mut bytes[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

fn read(mut lines: Box<dyn BufRead + Send>, into: &mpsc::Sender<Result<Batch>>) -> Result<()> {
    let mut batch = Batch::default();
    let (mut bytes, mut number, mut good) = (Vec::new(), 0_u64, 0_u64);
    loop {
        bytes.clear();
        let most = (LINE_BYTES_MAX + 1) as u64;
        number += 1;
        let at = number;
        let context = move || format!("read line {at}");
        let read = lines.by_ref().take(most).read_until(b'\n', &mut bytes).with_context(context)?;
        if read == 0 {
            break;
        }
        if bytes.len() > LINE_BYTES_MAX && bytes.last() != Some(&b'\n') {
            lines.skip_until(b'\n').with_context(context)?;
            batch.unread.push((number, "it is longer than 64 KiB"));
            continue;
        }
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        match Line::parse(line) {
            Err(why) => {
                if good == 0 && number >= FIRST_LINES {
                    return Err(no_log(number, why, line));
                }
                batch.unread.push((number, why));
            }
            Ok(line) => {
                good += 1;
                // What is older than its neighbours goes with them: time does not turn back.
                let is_next = !batch.lines.is_empty() && line.minute() > batch.minute;
                if (is_next || batch.lines.len() >= BATCH_LINES_MAX)
                    && into.blocking_send(Ok(std::mem::take(&mut batch))).is_err()
                {
                    return Ok(());
                }
                if batch.lines.is_empty() {
                    batch.minute = line.minute();
                }
                batch.lines.push((number, line));
            }
        }
    }
    if good == 0 {
        match batch.unread.last() {
            Some((number, why)) => return Err(no_log(*number, why, b"")),
            None => return Err(NoLog("the file is empty".to_owned()).into()),
        }
    }
    let _ = into.blocking_send(Ok(batch));
    Ok(())
}

fn no_log(number: u64, why: &str, line: &[u8]) -> anyhow::Error {
    let shown = String::from_utf8_lossy(&line[..line.len().min(80)]);
    let shown = if shown.is_empty() { String::new() } else { format!(": {shown:?}") };
    let told = format!(
        "the file is no access log in the combined format: no line of it is one, and of \
         line {number} {why}{shown}"
    );
    NoLog(told).into()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const LOG: &str = "\
        10.0.0.1 - - [17/May/2015:10:05:03 +0000] \"GET /1 HTTP/1.1\" 200 1 \"-\" \"-\"\n\
        nothing\n\
        10.0.0.1 - - [17/May/2015:10:05:59 +0000] \"GET /2 HTTP/1.1\" 200 1 \"-\" \"-\"\r\n\
        10.0.0.1 - - [17/May/2015:10:07:00 +0000] \"GET /3 HTTP/1.1\" 200 1 \"-\" \"-\"\n\
        10.0.0.1 - - [17/May/2015:10:06:59 +0000] \"GET /4 HTTP/1.1\" 200 1 \"-\" \"-\"";

    async fn told(bytes: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        std::fs::write(&path, bytes).unwrap();
        let bar = Bar::hidden();
        let mut batches = Source::open(&path, &bar).unwrap().batches();
        let lines = bar.0.length().unwrap();
        let (mut told, mut found) = (Vec::new(), 0);
        while let Some(batch) = batches.recv().await {
            told.push(match batch {
                Err(error) => error.to_string(),
                Ok(batch) => {
                    found += (batch.lines.len() + batch.unread.len()) as u64;
                    let lines: Vec<String> = batch
                        .lines
                        .iter()
                        .map(|(at, line)| format!("{at}{}", line.target))
                        .collect();
                    format!("{} {:?} {:?}", batch.minute % 60, lines, batch.unread)
                }
            });
        }
        assert!(told.iter().any(|told| told.starts_with("the file")) || found == lines);
        told.join("; ")
    }

    #[tokio::test]
    async fn a_file_is_read_minute_by_minute_however_it_is_compressed() {
        let expected = "5 [\"1/1\", \"3/2\"] [(2, \"it does not begin with an IP address\")]; \
                        7 [\"4/3\", \"5/4\"] []";
        assert_eq!(told(LOG.as_bytes()).await, expected);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(LOG.as_bytes()).unwrap();
        assert_eq!(told(&gz.finish().unwrap()).await, expected);
        assert_eq!(told(&zstd::encode_all(LOG.as_bytes(), 3).unwrap()).await, expected);
    }

    #[tokio::test]
    async fn what_is_no_access_log_is_refused() {
        assert_eq!(told(b"").await, "the file is empty");
        let expected = "the file is no access log in the combined format: no line of it is one, \
                        and of line 2 it does not begin with an IP address";
        assert_eq!(told(b"a,b\n1,2\n").await, expected);
        let many = "x".repeat(70_000) + "\n" + &"time,level\n".repeat(200);
        let expected = "the file is no access log in the combined format: no line of it is one, \
                        and of line 100 it does not begin with an IP address: \"time,level\"";
        assert_eq!(told(many.as_bytes()).await, expected);
    }
}
